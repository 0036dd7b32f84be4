"""Connected regions of an anomaly map above a threshold, measured in millilitres and millimetres."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.errors import GeometryError, InputError, UsageError
from DALAnomalyLib.volume import Grid, Volume, lps_to_ras

Array: TypeAlias = npt.NDArray[Any]

_TWENTY_SIX_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
_LARGEST_LABEL = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Finding:
    """One connected region of the thresholded anomaly map.

    Attributes:
        label: its value in the label map; 1 is the most conspicuous finding.
        volume_ml: millilitres.
        centroid_ras_mm: mean of its voxel centres, (right, anterior, superior) mm.
        extent_mm: size of its bounding box along the grid axes (i, j, k), voxel edge to voxel edge.
        peak: largest score.
        mean: mean score.
    """

    label: int
    volume_ml: float
    centroid_ras_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    peak: float
    mean: float


@dataclass(frozen=True, eq=False)
class ComponentVoxels:
    """The n voxels of all connected components, in the order of the array (k slowest, i fastest).

    Attributes:
        where: indices (k, j, i), three integer arrays (n,), as np.nonzero gives them.
        component: (n,) which component the voxel belongs to, 0 to count - 1, numbered in any way.
        score: (n,) the voxel's score.
        count: number of components.
    """

    where: tuple[Array, ...]
    component: Array
    score: Array
    count: int


def find_findings(
    score: Volume, mask: Volume, threshold: float, minimum_volume_ml: float
) -> tuple[Volume, tuple[Finding, ...]]:
    """Group the voxels with score >= threshold into findings, the largest peak * volume first.

    Voxels that share a face, an edge or a corner belong together (26-connectivity).

    Args:
        score: anomaly map, float (D, H, W).
        mask: where findings may lie (> 0), bool or uint8 on the same grid.
        threshold: positive, in units of the score.
        minimum_volume_ml: smaller findings are dropped; 0 keeps all.

    Returns:
        Label map, uint16 (D, H, W), 0 or the label of a finding, and the findings ordered by label 1, 2, ...

    Raises:
        UsageError: the threshold is not positive, the volume is negative, or more findings than a label map can number.
        GeometryError: score and mask are on different grids.
        InputError: the score is NaN inside the mask.
    """
    check_limits(threshold, minimum_volume_ml)
    above = candidates(score, mask, threshold)
    components, count = ndimage.label(above, structure=_TWENTY_SIX_NEIGHBOURS)
    where = np.nonzero(components)
    voxels = ComponentVoxels(where, components[where] - 1, score.array[where], count)
    label_of_component, findings = list_findings(voxels, score.grid, threshold, minimum_volume_ml)
    labels = np.zeros(score.grid.shape, dtype=np.uint16)
    labels[where] = label_of_component[voxels.component]
    return score.with_array(labels), findings


def candidates(score: Volume, mask: Volume, threshold: float) -> Array:
    """Where score >= threshold inside the mask, bool (D, H, W); raises as `find_findings` does."""
    if not score.grid.is_close(mask.grid):
        msg = f"anomaly map ({score.grid.shape}) and mask ({mask.grid.shape}) are on different grids; resample the mask"
        raise GeometryError(msg)
    inside = mask.array > 0
    if np.isnan(score.array[inside]).any():
        msg = (
            "the anomaly map is NaN inside the mask, so findings cannot be told from background; check the input image"
        )
        raise InputError(msg)
    return inside & (score.array >= threshold)


def list_findings(
    voxels: ComponentVoxels, grid: Grid, threshold: float, minimum_volume_ml: float
) -> tuple[Array, tuple[Finding, ...]]:
    """Measure components, drop those that are too small and number the rest, the largest peak * volume first.

    Args:
        voxels: what belongs to which component.
        grid: the grid of the array that `voxels.where` points into.
        threshold: what made the components.
        minimum_volume_ml: smaller findings are dropped; 0 keeps all.

    Returns:
        The label of every component, uint16 (count,), 0 for those dropped, and the findings ordered by label.

    Raises:
        UsageError: more findings than a label map can number.
    """
    regions = _measure(voxels)
    kept = _most_conspicuous_first(regions, grid.voxel_volume_ml, minimum_volume_ml)
    if len(kept) > _LARGEST_LABEL:
        msg = (
            f"threshold {threshold:g} leaves {len(kept)} findings, more than the {_LARGEST_LABEL} that a label map can"
            " number; raise the threshold or the smallest volume"
        )
        raise UsageError(msg)
    labels = np.zeros(voxels.count, dtype=np.uint16)
    labels[kept] = np.arange(1, len(kept) + 1)
    return labels, tuple(_findings(regions, kept, grid))


@dataclass(frozen=True, eq=False)
class _Regions:
    """Per component: voxels (N,), centre and size (N, 3) in voxels ordered (k, j, i), peak, mean, first voxel (N,)."""

    voxels: Array
    centre: Array
    size: Array
    peak: Array
    mean: Array
    first: Array


def _measure(voxels: ComponentVoxels) -> _Regions:
    component, count = voxels.component, voxels.count
    score = voxels.score.astype(np.float64)
    number = np.bincount(component, minlength=count)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, component, score)
    first = np.empty(count, dtype=np.intp)
    first[component[::-1]] = np.arange(component.size)[::-1]  # of a repeated index the last assignment stays

    def mean(weights: Array) -> Array:
        return np.bincount(component, weights=weights, minlength=count) / number

    size = np.stack([_extent(indices, component, count) for indices in voxels.where], axis=-1)
    centre = np.stack([mean(indices) for indices in voxels.where], axis=-1)
    return _Regions(number, centre, size, peak, mean(score), first)


def _extent(indices: Array, component: Array, count: int) -> Array:
    """How many voxels each component spans along one axis (N,)."""
    low = np.full(count, np.iinfo(indices.dtype).max, dtype=indices.dtype)
    high = np.full(count, -1, dtype=indices.dtype)
    np.minimum.at(low, component, indices)
    np.maximum.at(high, component, indices)
    return high - low + 1


def _most_conspicuous_first(regions: _Regions, voxel_ml: float, minimum_volume_ml: float) -> Array:
    large_enough = np.flatnonzero(regions.voxels >= smallest_finding(minimum_volume_ml, voxel_ml))
    weight = regions.peak[large_enough] * regions.voxels[large_enough]
    return large_enough[np.lexsort((regions.first[large_enough], -weight))]


def _findings(regions: _Regions, kept: Array, grid: Grid) -> Iterator[Finding]:
    volumes = (regions.voxels[kept] * grid.voxel_volume_ml).tolist()
    centroids = lps_to_ras(grid.index_to_physical(regions.centre[kept])).tolist()
    extents = (regions.size[kept][:, ::-1] * np.asarray(grid.spacing)).tolist()
    peaks, means = regions.peak[kept].tolist(), regions.mean[kept].tolist()
    rows = zip(volumes, centroids, extents, peaks, means, strict=True)
    for label, (volume, (x, y, z), (width, height, depth), peak, mean) in enumerate(rows, start=1):
        yield Finding(label, volume, (x, y, z), (width, height, depth), peak, mean)


def smallest_finding(minimum_volume_ml: float, voxel_ml: float) -> int:
    """How many voxels a finding needs, with a little slack: 8 voxels of 0.001 ml must pass a minimum of 0.008 ml."""
    return max(1, math.ceil(minimum_volume_ml / voxel_ml - 1e-6))


def check_limits(threshold: float, minimum_volume_ml: float) -> None:
    """Refuse a threshold that is not positive or a smallest volume that is negative (UsageError)."""
    if not math.isfinite(threshold) or threshold <= 0:
        msg = f"threshold is {threshold}; give a positive number in units of the anomaly score"
        raise UsageError(msg)

    if not math.isfinite(minimum_volume_ml) or minimum_volume_ml < 0:
        msg = f"smallest volume is {minimum_volume_ml} ml; give 0 or a positive number"
        raise UsageError(msg)
