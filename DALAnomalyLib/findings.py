"""Connected regions of an anomaly map above a threshold, measured in millilitres and millimetres."""

from __future__ import annotations

import math
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
    _check(score, mask, threshold, minimum_volume_ml)
    inside = mask.array > 0
    if np.isnan(score.array[inside]).any():
        msg = (
            "the anomaly map is NaN inside the mask, so findings cannot be told from background; check the input image"
        )
        raise InputError(msg)
    components, count = ndimage.label(inside & (score.array >= threshold), structure=_TWENTY_SIX_NEIGHBOURS)
    regions = _measure(components, count, score)
    kept = _most_conspicuous_first(regions, score.grid.voxel_volume_ml, minimum_volume_ml)
    if len(kept) > _LARGEST_LABEL:
        msg = (
            f"threshold {threshold:g} leaves {len(kept)} findings, more than the {_LARGEST_LABEL} that a label map can"
            " number; raise the threshold or the smallest volume"
        )
        raise UsageError(msg)
    renumbered = np.zeros(count + 1, dtype=np.uint16)
    renumbered[kept + 1] = np.arange(1, len(kept) + 1)
    findings = tuple(_finding(label, regions, row, score.grid) for label, row in enumerate(kept, start=1))
    return score.with_array(renumbered[components]), findings


@dataclass(frozen=True, eq=False)
class _Regions:
    """Row r describes component r + 1: voxels (N,), centre and size (N, 3) in voxels ordered (k, j, i), peak, mean."""

    voxels: Array
    centre: Array
    size: Array
    peak: Array
    mean: Array


def _measure(components: Array, count: int, score: Volume) -> _Regions:
    where = np.nonzero(components)
    row = components[where] - 1
    values = score.array[where].astype(np.float64)
    voxels = np.bincount(row, minlength=count)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, row, values)

    def mean(weights: Array) -> Array:
        return np.bincount(row, weights=weights, minlength=count) / voxels

    boxes = ndimage.find_objects(components)
    size = np.array([[axis.stop - axis.start for axis in box] for box in boxes]).reshape(count, 3)
    centre = np.stack([mean(indices) for indices in where], axis=-1)
    return _Regions(voxels, centre, size, peak, mean(values))


def _most_conspicuous_first(regions: _Regions, voxel_ml: float, minimum_volume_ml: float) -> Array:
    # Compared in voxels with a little slack: 8 voxels of 0.001 ml must pass a minimum of 0.008 ml.
    large_enough = np.flatnonzero(regions.voxels >= minimum_volume_ml / voxel_ml - 1e-6)
    weight = regions.peak[large_enough] * regions.voxels[large_enough]
    return large_enough[np.argsort(-weight, kind="stable")]


def _finding(label: int, regions: _Regions, row: int, grid: Grid) -> Finding:
    x, y, z = lps_to_ras(grid.index_to_physical(regions.centre[row])).tolist()
    depth, height, width = regions.size[row].tolist()
    return Finding(
        label=label,
        volume_ml=float(regions.voxels[row] * grid.voxel_volume_ml),
        centroid_ras_mm=(x, y, z),
        extent_mm=(width * grid.spacing[0], height * grid.spacing[1], depth * grid.spacing[2]),
        peak=float(regions.peak[row]),
        mean=float(regions.mean[row]),
    )


def _check(score: Volume, mask: Volume, threshold: float, minimum_volume_ml: float) -> None:
    if not score.grid.is_close(mask.grid):
        msg = f"anomaly map ({score.grid.shape}) and mask ({mask.grid.shape}) are on different grids; resample the mask"
        raise GeometryError(msg)
    if not math.isfinite(threshold) or threshold <= 0:
        msg = f"threshold is {threshold}; give a positive number in units of the anomaly score"
        raise UsageError(msg)
    if not math.isfinite(minimum_volume_ml) or minimum_volume_ml < 0:
        msg = f"smallest volume is {minimum_volume_ml} ml; give 0 or a positive number"
        raise UsageError(msg)
