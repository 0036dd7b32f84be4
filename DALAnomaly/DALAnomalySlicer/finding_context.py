"""Where findings lie: in which tissue, on which side, around which peak; and the rows of the findings table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from DALAnomalyLib.findings import Finding
from DALAnomalyLib.findings_forest import FoundVoxels
from DALAnomalyLib.volume import Grid, Volume, lps_to_ras
from DALAnomalySlicer.finding_marks import FindingStatus, PeakVoxel

Tissue = Literal["", "CSF", "grey matter", "white matter"]
Side = Literal["left", "right", "midline"]

TISSUE_NAMES: tuple[Tissue, ...] = ("", "CSF", "grey matter", "white matter")
"""By value in the tissue map; "" where it has none."""
_MIDLINE_SHARE = 0.2
"""A finding of which the smaller part across the midline is this large lies on both sides."""


@dataclass(frozen=True)
class FindingRow:
    """One row of the findings table.

    Attributes:
        number: label of the finding, 1 is the most conspicuous.
        volume_ml: millilitres.
        peak: largest score.
        mean: mean score.
        tissue: what most of its voxels are.
        side: of the brain, as the patient sees it.
        extent_mm: size of its bounding box along the grid axes (i, j, k).
        centroid_ras: world coordinates in mm.
        status: what the user made of it.
    """

    number: int
    volume_ml: float
    peak: float
    mean: float
    tissue: Tissue
    side: Side
    extent_mm: tuple[float, float, float]
    centroid_ras: tuple[float, float, float]
    status: FindingStatus


class FindingContext:
    """The anatomy of one brain, asked for each finding."""

    def __init__(self, tissues: np.ndarray, brain_mask: Volume) -> None:
        """Take the tissue map, uint8 (D, H, W): 1 CSF, 2 grey, 3 white matter, and the brain mask on the same grid."""
        self._tissues = tissues.reshape(-1)
        self._right = _right_half(brain_mask).reshape(-1)

    def tissues(self, voxels: FoundVoxels, count: int) -> list[Tissue]:
        """Per finding the tissue of most of its voxels, those without a tissue not counted."""
        kinds = len(TISSUE_NAMES)
        pairs = voxels.label.astype(np.intp) * kinds + self._tissues[voxels.index]
        counts = np.bincount(pairs, minlength=(count + 1) * kinds).reshape(-1, kinds)[1:]
        commonest = np.where(counts[:, 1:].any(axis=1), counts[:, 1:].argmax(axis=1) + 1, 0)
        return [TISSUE_NAMES[value] for value in commonest.tolist()]

    def sides(self, voxels: FoundVoxels, count: int) -> list[Side]:
        """Per finding the side of the brain it lies on."""
        right = np.bincount(voxels.label, weights=self._right[voxels.index], minlength=count + 1)[1:]
        share = right / np.bincount(voxels.label, minlength=count + 1)[1:]
        return [_side(value) for value in share.tolist()]


def peak_voxels(findings: Sequence[Finding], voxels: FoundVoxels, grid: Grid) -> list[PeakVoxel]:
    """Per finding the voxel of its largest score; of several the first in the order of the array."""
    peaks = np.array([np.inf, *(finding.peak for finding in findings)])
    at_peak = np.flatnonzero(voxels.score == peaks[voxels.label])[::-1]
    first = np.zeros(len(findings) + 1, dtype=np.intp)
    first[voxels.label[at_peak]] = voxels.index[at_peak]  # of a repeated label the last assignment stays
    return list(zip(*(axis.tolist() for axis in np.unravel_index(first[1:], grid.shape)), strict=True))


def make_rows(
    findings: Sequence[Finding],
    tissues: Sequence[Tissue],
    sides: Sequence[Side],
    statuses: Sequence[FindingStatus],
) -> tuple[FindingRow, ...]:
    """The rows of the findings table, in the order of the findings."""
    described = zip(findings, tissues, sides, statuses, strict=True)
    return tuple(_row(finding, tissue, side, status) for finding, tissue, side, status in described)


def _row(finding: Finding, tissue: Tissue, side: Side, status: FindingStatus) -> FindingRow:
    return FindingRow(
        number=finding.label,
        volume_ml=finding.volume_ml,
        peak=finding.peak,
        mean=finding.mean,
        tissue=tissue,
        side=side,
        extent_mm=finding.extent_mm,
        centroid_ras=finding.centroid_ras_mm,
        status=status,
    )


def _side(share_on_the_right: float) -> Side:
    if share_on_the_right < _MIDLINE_SHARE:
        return "left"
    return "right" if share_on_the_right > 1 - _MIDLINE_SHARE else "midline"


def _right_half(brain_mask: Volume) -> np.ndarray:
    """Bool (D, H, W): right of the sagittal plane through the centroid of the brain."""
    inside = np.nonzero(brain_mask.array)
    middle = [indices.mean() if indices.size else 0.0 for indices in inside]
    # The coordinate to the right is linear in the indices: what one step along each axis adds to it.
    origin, *ends = lps_to_ras(brain_mask.grid.index_to_physical([[0, 0, 0], *np.eye(3)]))[:, 0].tolist()
    along_axes = [
        (np.arange(size) - centre) * (end - origin)
        for size, centre, end in zip(brain_mask.grid.shape, middle, ends, strict=True)
    ]
    return sum(np.ix_(*along_axes)) > 0
