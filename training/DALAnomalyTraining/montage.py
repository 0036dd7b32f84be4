"""Validation montages: what the network makes of each case, as one picture."""

from __future__ import annotations

from pathlib import Path

from DALAnomalyTraining.validation import Picture

COLUMNS = ("image", "pseudo_healthy", "tissues", "edges", "score", "lesion")


def save_montage(pictures: list[Picture], path: Path, heading: str) -> None:
    """Write one row per picture: image, pseudo-healthy image, tissues, edges, score and lesion in an axial slice."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(pictures), len(COLUMNS), figsize=(2 * len(COLUMNS), 2.1 * len(pictures)), squeeze=False
    )
    for row, picture in zip(axes, pictures, strict=True):
        # the slice with most of the lesion
        index = int(picture.lesion.sum(dim=(1, 2)).argmax())
        for axis, name in zip(row, COLUMNS, strict=True):
            values = getattr(picture, name)[index].float().cpu().numpy()
            colours, highest = ("inferno", None) if name == "score" else ("gray", 1)
            axis.imshow(values, cmap=colours, vmin=0, vmax=highest)
            axis.set_axis_off()
            axis.set_title(name.replace("_", "-"), fontsize=7)
        row[0].set_title(picture.title, fontsize=7)
    figure.suptitle(heading, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
