"""What someone drew in a findings segmentation, kept before the next threshold or result is written over it."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalySlicer.segment_labels import read_segments
from DALAnomalySlicer.segment_terms import ANOMALY
from DALAnomalySlicer.subject_folder import put_beside_scan

_SHOWN = "DALAnomaly.shown"
_KEPT = "DALAnomaly.kept"


def remember_shown(findings: slicer.vtkMRMLSegmentationNode, voxels: np.ndarray) -> None:
    """Note which voxels (flat indices in any order) the segment holds as long as nobody draws in it."""
    findings.SetAttribute(_SHOWN, _fingerprint(voxels))


def keep_drawing(
    findings: slicer.vtkMRMLSegmentationNode,
    grid: slicer.vtkMRMLScalarVolumeNode,
    scan: slicer.vtkMRMLScalarVolumeNode,
) -> None:
    """Copy the segmentation if it holds other voxels than were shown last; an emptied one is not worth a copy.

    Args:
        findings: the segmentation that is about to be overwritten.
        grid: a volume on the grid that the indices of `remember_shown` are of.
        scan: beside which the copy is put.
    """
    held = np.flatnonzero(read_segments(findings, (ANOMALY,), grid))
    if held.size and _fingerprint(held) != findings.GetAttribute(_SHOWN):
        findings.SetNodeReferenceID(_KEPT, _copy(findings, scan).GetID())


def newly_kept(findings: slicer.vtkMRMLSegmentationNode | None) -> slicer.vtkMRMLSegmentationNode | None:
    """The last copy of what someone drew in this segmentation, once, to tell the user; afterwards None."""
    if findings is None:
        return None
    copy = findings.GetNodeReference(_KEPT)
    findings.SetNodeReferenceID(_KEPT, None)
    return copy


def _fingerprint(voxels: np.ndarray) -> str:
    """The same for the same voxels in any order, without sorting them at every step of a slider."""
    numbers = voxels.astype(np.uint64)
    return " ".join(str(value) for value in (numbers.size, numbers.sum(), (numbers * numbers).sum()))


def _copy(findings: slicer.vtkMRMLSegmentationNode, scan: slicer.vtkMRMLNode) -> slicer.vtkMRMLSegmentationNode:
    """A hidden segmentation of the same segments that is nobody's result."""
    name = _("{findings}, edited").format(findings=findings.GetName())
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name))
    copy.GetSegmentation().DeepCopy(findings.GetSegmentation())
    copy.SetAndObserveTransformNodeID(findings.GetTransformNodeID())
    copy.CreateDefaultDisplayNodes()
    copy.GetDisplayNode().SetVisibility(False)
    put_beside_scan((copy,), scan)
    return copy
