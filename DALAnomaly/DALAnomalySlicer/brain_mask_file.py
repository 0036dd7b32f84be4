"""The brain mask that the user chose, as a library volume on the scan's voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt


def mask_on_scan(node: slicer.vtkMRMLNode, scan: slicer.vtkMRMLScalarVolumeNode) -> npt.NDArray[np.uint8]:
    """Voxels of a mask node on the scan's grid.

    Args:
        node: segmentation, all of whose segments count as brain, or label map with the scan's grid.
        scan: the scan.

    Returns:
        uint8 (k, j, i), 1 inside.

    Raises:
        InputError: the mask is empty or lies on another grid.
    """
    array = _of_segmentation(node, scan) if node.IsA("vtkMRMLSegmentationNode") else _of_label_map(node, scan)
    if not array.any():
        msg = _('The brain mask "{name}" is empty on this scan; choose another one or none.').format(
            name=node.GetName()
        )
        raise InputError(msg)
    return array.astype(np.uint8)


def _of_segmentation(
    node: slicer.vtkMRMLSegmentationNode, scan: slicer.vtkMRMLScalarVolumeNode
) -> npt.NDArray[np.bool_]:
    segmentation = node.GetSegmentation()
    inside = np.zeros(scan.GetImageData().GetDimensions()[::-1], dtype=bool)
    for number in range(segmentation.GetNumberOfSegments()):
        segment = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentation.GetNthSegmentID(number), scan)
        if segment is not None:
            inside |= segment > 0
    return inside


def _of_label_map(
    node: slicer.vtkMRMLLabelMapVolumeNode, scan: slicer.vtkMRMLScalarVolumeNode
) -> npt.NDArray[np.bool_]:
    logic = slicer.modules.volumes.logic()
    difference = logic.CheckForLabelVolumeValidity(scan, node)
    if difference:
        msg = _('The brain mask "{name}" does not lie on the scan\'s voxels; resample it onto "{scan}" first.')
        raise InputError(msg.format(name=node.GetName(), scan=scan.GetName()))
    return slicer.util.arrayFromVolume(node) > 0
