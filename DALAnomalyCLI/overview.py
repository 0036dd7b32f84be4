"""The picture of a result: three slices through the largest finding, from the scan to the mask.

Slices are cut in patient space, so every scan is shown upright and in radiological order (the patient's right at the
left of the picture) with true proportions, however its file stores the axes. Only the command line draws; it needs
matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.ndimage import map_coordinates

from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalyLib.volume import Points, Volume, lps_to_ras

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection

FloatImage = npt.NDArray[np.float32]

_BACKGROUND, _TEXT, _DIM, _ACCENT = "#0b0d10", "#e8eaed", "#8b939c", "#35e0d0"
_TISSUES = {"CSF": "#3f7fd0", "GM": "#b9848a", "WM": "#f3e9d2"}
_MARGIN_MM = 6.0
_TILE_INCHES = 2.35
_DPI = 150


@dataclass(frozen=True)
class Plane:
    """One slice in patient space.

    Attributes:
        name: axial, coronal or sagittal.
        points: float64 (H, W, 3), LPS mm of every pixel; row 0 is the top of the picture, column 0 its left side.
        size: (height, width) in mm.
        letters: anatomical directions at the left, right, top and bottom of the picture.
        position: where the slice lies in RAS, such as `z = 23 mm`.
    """

    name: str
    points: Points
    size: tuple[float, float]
    letters: tuple[str, str, str, str]
    position: str


_PLANES = (
    # name, axis across the picture, axis down the picture (LPS axis, sign), letters
    ("axial", (0, 1), (1, 1), ("R", "L", "A", "P")),
    ("coronal", (0, 1), (2, -1), ("R", "L", "S", "I")),
    ("sagittal", (1, 1), (2, -1), ("A", "P", "S", "I")),
)


def focus_point(detection: Detection) -> Points:
    """LPS mm of the voxel of the largest finding nearest to its centre; without findings, the peak of the score."""
    if not detection.findings:
        peak = np.unravel_index(int(np.argmax(detection.score.array)), detection.score.array.shape)
        return detection.score.grid.index_to_physical(np.array(peak))
    largest = max(detection.findings, key=lambda finding: finding.volume_ml)
    labels = detection.findings_mask
    points = labels.grid.index_to_physical(np.argwhere(labels.array == largest.label))
    nearest: Points = points[np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1))]
    return nearest


def planes_through(point: Points, brain: Volume) -> tuple[Plane, Plane, Plane]:
    """Axial, coronal and sagittal slices through `point` (LPS mm) that show all of the brain mask."""
    inside = brain.grid.index_to_physical(np.argwhere(brain.array > 0))
    low = np.minimum(inside.min(axis=0), point) - _MARGIN_MM
    high = np.maximum(inside.max(axis=0), point) + _MARGIN_MM
    step = float(np.clip(min(brain.grid.spacing), 0.5, 1.5))
    axial, coronal, sagittal = (_plane(point, low, high, step, *layout) for layout in _PLANES)
    return axial, coronal, sagittal


def _plane(
    point: Points,
    low: Points,
    high: Points,
    step: float,
    name: str,
    across: tuple[int, int],
    down: tuple[int, int],
    letters: tuple[str, str, str, str],
) -> Plane:
    ranges = [np.arange(low[axis], high[axis] + step, step)[::sign] for axis, sign in (across, down)]
    points = np.empty((ranges[1].size, ranges[0].size, 3))
    points[:] = point
    points[..., across[0]] = ranges[0]
    points[..., down[0]] = ranges[1][:, None]
    normal = 3 - across[0] - down[0]
    position = f"{'xyz'[normal]} = {lps_to_ras(point)[normal]:.0f} mm"
    size = (ranges[1].size * step, ranges[0].size * step)
    return Plane(name, points, size, letters, position)


def sample(volume: Volume, plane: Plane, nearest: bool = False) -> FloatImage:
    """Values of a volume on a slice, float32 (H, W), 0 outside the volume; linear unless `nearest`."""
    indices = np.moveaxis(volume.grid.physical_to_index(plane.points), -1, 0)
    values: FloatImage = map_coordinates(volume.array, indices, np.float32, order=0 if nearest else 1)
    return values


def write_overview(path: Path, scan: Volume, detection: Detection, name: str) -> None:
    """Draw the overview of a detection as a PNG.

    Args:
        path: where the picture goes.
        scan: the input, on the detection's grid.
        detection: what was found in it.
        name: how the scan is called in the title.
    """
    planes = planes_through(focus_point(detection), detection.brain_mask)
    figure, axes, bar_axes = _layout(planes, _title(detection, name), _subtitle(detection))
    in_brain = detection.brain_mask.array > 0
    grey = {"cmap": "gray", **_window(scan.array[in_brain])}
    heat = _Heat.of(detection.score.array[in_brain], detection.threshold)
    tissue_colours = ListedColormap(["black", *_TISSUES.values()])
    for plane, row in zip(planes, axes, strict=True):
        background = sample(scan, plane)
        _show(row[0], plane, background, **grey)
        _show(row[1], plane, sample(detection.pseudo_healthy, plane), **grey)
        _show(row[2], plane, sample(detection.tissues, plane, nearest=True), cmap=tissue_colours, vmin=0, vmax=3)
        _show(row[3], plane, sample(detection.edges, plane), cmap="gray", vmin=0, vmax=1)
        _show(row[4], plane, background, **grey)
        _show(row[4], plane, sample(detection.score, plane), cmap=heat.colours, norm=heat.norm)
        _show(row[5], plane, background, **grey)
        _contours(row[5], plane, detection)
    _headings(axes[0], detection.sequence)
    _crosshair(axes, planes)
    _scale_bar(axes[0][0], planes[0])
    heat.draw_bar(figure, bar_axes, detection.threshold)
    figure.savefig(path, dpi=_DPI, facecolor=_BACKGROUND)


def _title(detection: Detection, name: str) -> str:
    return f"{name}   ·   {detection.sequence}   ·   threshold {detection.threshold:.3g}"


def _subtitle(detection: Detection) -> str:
    count = len(detection.findings)
    if not count:
        return "no finding above the threshold; slices through the highest score"
    volume = sum(finding.volume_ml for finding in detection.findings)
    return f"{count} finding{'s' * (count > 1)}, {volume:.1f} ml in all; slices through the largest"


def _window(values: npt.NDArray[Any]) -> dict[str, float]:
    low, high = np.percentile(values, (1, 99.5))
    return {"vmin": float(low), "vmax": float(max(high, low + 1e-6))}


def _layout(planes: tuple[Plane, Plane, Plane], title: str, subtitle: str) -> tuple[Figure, list[list[Axes]], Axes]:
    """Six tiles per plane, all on one scale (inches per mm), with room for texts and, at the right, the colour bar."""
    columns, gap, left, right, top, bottom = 6, 0.04, 0.42, 1.1, 1.05, 0.42
    widest = max(plane.size[1] for plane in planes)
    heights = [_TILE_INCHES * plane.size[0] / widest for plane in planes]
    width = left + columns * _TILE_INCHES + (columns - 1) * gap + right
    height = top + sum(heights) + 2 * gap + bottom
    figure = Figure(figsize=(width, height), facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    rows: list[list[Axes]] = []
    ceiling = height - top
    for plane, tall in zip(planes, heights, strict=True):
        row = []
        for column in range(columns):
            x = left + column * (_TILE_INCHES + gap)
            row.append(figure.add_axes((x / width, (ceiling - tall) / height, _TILE_INCHES / width, tall / height)))
            _prepare(row[-1], plane, widest, all_letters=column == 0)
        figure.text(
            left * 0.5 / width,
            (ceiling - tall / 2) / height,
            f"{plane.name}   {plane.position}",
            rotation=90,
            ha="center",
            va="center",
            color=_DIM,
            fontsize=9,
        )
        rows.append(row)
        ceiling -= tall + gap
    bar = figure.add_axes(
        ((width - right + 0.3) / width, bottom / height, 0.13 / width, (height - top - bottom) / height)
    )
    heading: dict[str, Any] = {"fontsize": 14, "va": "center", "weight": "bold", "parse_math": False}
    figure.text(left / width, 1 - 0.27 / height, title, color=_TEXT, **heading)
    figure.text(left / width, 1 - 0.52 / height, subtitle, color=_DIM, fontsize=10, va="center")
    figure.text(left / width, 0.2 / height, RESEARCH_USE, color=_TEXT, fontsize=10, va="center", weight="bold")
    figure.text(
        (width - right) / width,
        0.2 / height,
        "radiological order: the patient's right is at the left",
        color=_DIM,
        fontsize=8.5,
        va="center",
        ha="right",
    )
    return figure, rows, bar


def _prepare(axes: Axes, plane: Plane, widest: float, all_letters: bool) -> None:
    axes.set(xlim=(-widest / 2, widest / 2), ylim=(plane.size[0] / 2, -plane.size[0] / 2), xticks=[], yticks=[])
    axes.set_facecolor("black")
    axes.spines[:].set_visible(False)
    left, right, top, bottom = plane.letters
    places = {left: (0.05, 0.5, "left", "center"), right: (0.95, 0.5, "right", "center")}
    if all_letters:
        places |= {top: (0.5, 0.945, "center", "top"), bottom: (0.5, 0.055, "center", "bottom")}
    for letter, (x, y, horizontal, vertical) in places.items():
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=horizontal,
            va=vertical,
            color=_TEXT,
            fontsize=9,
            weight="bold",
            path_effects=[withStroke(linewidth=2, foreground="black")],
            zorder=10,
        )


def _extent(plane: Plane) -> tuple[float, float, float, float]:
    height, width = plane.size
    return (-width / 2, width / 2, height / 2, -height / 2)


def _show(axes: Axes, plane: Plane, image: FloatImage, **style: Any) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    kind = "nearest" if isinstance(style.get("cmap"), ListedColormap) and "vmax" in style else "bilinear"
    axes.imshow(image, extent=_extent(plane), aspect="auto", interpolation=kind, **style)
    axes.set(xlim=limits[0], ylim=limits[1])


def _headings(row: list[Axes], sequence: str) -> None:
    for axes, text in zip(
        row, (f"input ({sequence})", "pseudo-healthy", "", "edges", "score", "findings"), strict=True
    ):
        axes.set_title(text, color=_TEXT, fontsize=11, pad=6)
    places = np.linspace(0.5, 0.86, 3)
    above: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "baseline",
        "annotation_clip": False,
    }
    row[2].annotate("tissues", (0.08, 1.0), xytext=(0, 6), color=_TEXT, fontsize=11, **above)
    for place, (name, colour) in zip(places, _TISSUES.items(), strict=True):
        row[2].annotate(
            name, (place, 1.0), xytext=(0, 6), color=colour, fontsize=9.5, ha="center", weight="bold", **above
        )


def _contours(axes: Axes, plane: Plane, detection: Detection) -> None:
    """Outline the findings that the slice meets; the number is the finding's id."""
    largest = max(detection.findings, key=lambda finding: finding.volume_ml, default=None)
    labels = sample(detection.findings_mask, plane, nearest=True)
    height, width = plane.size
    columns = np.linspace(-width / 2, width / 2, labels.shape[1])
    rows = np.linspace(-height / 2, height / 2, labels.shape[0])
    for label in np.unique(labels[labels > 0]).astype(int):
        mask = detection.findings_mask.with_array((detection.findings_mask.array == label).astype(np.float32))
        inside = sample(mask, plane)
        thick = 1.6 if largest is not None and label == largest.label else 0.9
        axes.contour(columns, rows, inside, levels=[0.5], colors=[_ACCENT], linewidths=thick)
        row, column = np.argwhere(labels == label)[0]
        axes.annotate(
            str(label),
            (columns[column], rows[row]),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            color=_ACCENT,
            fontsize=8,
            path_effects=[withStroke(linewidth=1.5, foreground="black")],
        )


def _crosshair(axes: list[list[Axes]], planes: tuple[Plane, Plane, Plane]) -> None:
    """Short marks at the rim of the input tiles show where the two other slices cut."""
    axial, coronal, sagittal = planes
    point = np.array([sagittal.points[0, 0, 0], coronal.points[0, 0, 1], axial.points[0, 0, 2]])
    for row, plane in zip(axes, planes, strict=True):
        height, width = plane.size
        distance = np.linalg.norm(plane.points - point, axis=-1)
        down, across = np.unravel_index(int(np.argmin(distance)), distance.shape)
        x = (across + 0.5) / distance.shape[1] * width - width / 2
        y = (down + 0.5) / distance.shape[0] * height - height / 2
        mark = 7.0
        style: dict[str, Any] = {"color": _ACCENT, "linewidth": 1.1}
        half = row[0].get_xlim()[1]
        row[0].plot([x, x], [-height / 2, -height / 2 + mark], **style)
        row[0].plot([x, x], [height / 2 - mark, height / 2], **style)
        row[0].plot([-half, -half + mark], [y, y], **style)
        row[0].plot([half - mark, half], [y, y], **style)


def _scale_bar(axes: Axes, plane: Plane) -> None:
    half = axes.get_xlim()[1]
    right, y = half - 6, plane.size[0] / 2 - 7
    axes.plot([right - 50, right], [y, y], color=_TEXT, linewidth=2, solid_capstyle="butt")
    axes.text(right - 25, y - 3, "5 cm", color=_TEXT, fontsize=8, ha="center", va="bottom")


@dataclass(frozen=True)
class _Heat:
    """Colours of the score: clear at 0, opaque from the threshold on."""

    colours: ListedColormap
    norm: Normalize
    beyond: bool

    @staticmethod
    def of(scores: npt.NDArray[Any], threshold: float) -> _Heat:
        peak = float(scores.max())
        top = max(float(np.percentile(scores, 99.95)), 1.5 * threshold, 1e-6)
        values = np.linspace(0, top, 256)
        colours = colormaps["inferno"](0.2 + 0.8 * values / top)
        opacity = np.clip(values / threshold, 0, 1) if threshold > 0 else np.ones(256)
        colours[:, 3] = 0.9 * opacity**2
        return _Heat(ListedColormap(colours), Normalize(0, top), peak > top)

    def draw_bar(self, figure: Figure, axes: Axes, threshold: float) -> None:
        mappable = ScalarMappable(self.norm, self.colours)
        bar = figure.colorbar(mappable, cax=axes, extend="max" if self.beyond else "neither", extendfrac=0.02)
        axes.set_facecolor("black")
        bar.outline.set_edgecolor(_DIM)
        axes.tick_params(colors=_TEXT, labelsize=8.5)
        axes.set_title("score", color=_TEXT, fontsize=10, pad=8)
        axes.axhline(threshold, color=_ACCENT, linewidth=2)
        axes.annotate(
            "threshold",
            (0, threshold),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="center",
            color=_ACCENT,
            fontsize=8.5,
        )
