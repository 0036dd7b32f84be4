"""What a scan and its restoration look like in a handful of numbers: to compare a scan with those of training.

Each figure is nearly blind to a lesion, however large, and changes with what concerns the whole scan: its contrast,
noise and artefacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.network.dal_network import Restoration
from DALAnomalyLib.network.one_hot import class_index

TISSUES = ("CSF", "grey matter", "white matter")
"""Tissues 1, 2 and 3."""
SMOOTHEST = 0.2
"""Share of the brain taken for smooth: away from the borders of tissues, differences of neighbours are noise."""


@dataclass(frozen=True, eq=False)
class ScanFigures:
    """One scan in numbers."""

    modality: Tensor
    """M, float32 (m,), on the CPU."""
    plain: dict[str, float]
    """By name, unitless; the names are the keys of `FIGURES` in `out_of_distribution`."""


def scan_figures(
    image: Tensor, brain: Tensor, restoration: Restoration, template: Tensor, tissue_of_class: Sequence[int]
) -> ScanFigures:
    """Measure one scan.

    Args:
        image: x, float32 (1, 1, D, H, W) in [0, 1] on the standard scale, 0 outside the brain.
        brain: M_brain, (1, 1, D, H, W), 0 or 1, not empty.
        restoration: What the network made of it.
        template: Mean image of the sequence that the scan is taken for, (D, H, W), 0 outside the mean brain.
        tissue_of_class: See `ModelMetadata`.
    """
    inside = brain > 0.5
    values, healthy = image[inside], restoration.pseudo_healthy[inside]
    of_class = torch.tensor([0, *tissue_of_class], device=image.device)
    tissues = of_class[class_index(restoration.anatomy.image, len(tissue_of_class))][inside]
    shared = inside & (template > 0)
    share = {name: float((tissues == number).float().mean()) for number, name in enumerate(TISSUES, 1)}
    level = {name: _median(values[tissues == number]) for number, name in enumerate(TISSUES, 1)}
    plain = {f"share of {name}": value for name, value in share.items()}
    plain |= {
        "grey matter less CSF": level["grey matter"] - level["CSF"],
        "white matter less CSF": level["white matter"] - level["CSF"],
        "white matter less grey matter": level["white matter"] - level["grey matter"],
        "edge density": float(restoration.edges[inside].float().mean()),
        "median residual": _median((values - healthy).abs()),
        "correlation with the mean image": _correlation(image[shared], template.expand_as(image)[shared]),
        "correlation with the healthy image": _correlation(values, healthy),
        "roughness": _roughness(image, brain),
    }
    return ScanFigures(restoration.modality[0].float().cpu(), plain)


def _median(values: Tensor) -> float:
    """0 where there is nothing: a tissue that is missing shows by its share."""
    return float(values.median()) if values.numel() else 0.0


def _correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's; 0 where one of them is constant or empty."""
    if first.numel() < 2:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    scale = float(first.norm() * second.norm())
    return float(first @ second) / scale if scale > 0 else 0.0


def _roughness(image: Tensor, brain: Tensor) -> float:
    """Difference between a voxel inside the brain and the mean of the 26 around it, where the image is smooth."""
    count = 27
    core = functional.avg_pool3d(brain, 3, 1, 1) * count > count - 0.5
    around = (functional.avg_pool3d(image, 3, 1, 1) * count - image) / (count - 1)
    differences = (image - around)[core].abs().sort().values
    return float(differences[int(SMOOTHEST * len(differences))]) if len(differences) else 0.0
