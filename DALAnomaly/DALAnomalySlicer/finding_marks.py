"""What the user made of the findings, saved with the scene as an attribute of the findings node.

A mark belongs to the finding's peak voxel: unlike its number and its extent, the peak stays while the threshold moves.
Where two findings merge, the mark of the higher one counts, and the other returns when they part again.
"""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

import slicer

FindingStatus = Literal["", "marked", "dismissed"]
PeakVoxel: TypeAlias = tuple[int, int, int]
"""(k, j, i)."""

_MARKS = "DALAnomaly.marks"


def read_marks(findings: slicer.vtkMRMLSegmentationNode) -> dict[PeakVoxel, FindingStatus]:
    """Status by peak voxel; findings without a mark are not listed."""
    stored = json.loads(findings.GetAttribute(_MARKS) or "[]")
    return {(k, j, i): status for k, j, i, status in stored}


def set_mark(findings: slicer.vtkMRMLSegmentationNode, peak: PeakVoxel, status: FindingStatus) -> None:
    """Mark the finding with this peak, or take its mark away with ""."""
    marks = read_marks(findings) | {peak: status}
    stored = [[*voxel, mark] for voxel, mark in marks.items() if mark]
    findings.SetAttribute(_MARKS, json.dumps(stored))
