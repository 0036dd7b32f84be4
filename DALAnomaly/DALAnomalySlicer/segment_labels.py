"""Label arrays into segmentation nodes and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DALAnomalySlicer.segment_terms import SegmentTerm

BINARY_LABELMAP = "Binary labelmap"


def write_segments(
    node: slicer.vtkMRMLSegmentationNode,
    labels: np.ndarray,
    terms: Sequence[SegmentTerm],
    scan: slicer.vtkMRMLScalarVolumeNode,
) -> np.ndarray:
    """Fill a segmentation node; segments that exist keep how they are displayed.

    All segments share one label map of the scan's whole grid: a third of the memory of a label map for each tissue.

    Args:
        node: under the scan's parent transform.
        labels: (D, H, W) on the scan's grid, 0 or the value of a segment.
        terms: the segments.
        scan: gives the reference geometry.

    Returns:
        The voxels of the label map, uint8 (D, H, W), not copied: see `show_changes`.
    """
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    image = _empty_image(scan)
    voxels = _voxels(image)
    voxels[...] = labels
    for term in terms:
        segment = _segment(node.GetSegmentation(), term)
        segment.SetLabelValue(term.value)
        segment.AddRepresentation(BINARY_LABELMAP, image)
        segment.Modified()  # only now does the segmentation observe the new image
    return voxels


def read_segments(
    node: slicer.vtkMRMLSegmentationNode, terms: Sequence[SegmentTerm], scan: slicer.vtkMRMLScalarVolumeNode
) -> np.ndarray:
    """The label map of a segmentation, uint8 (D, H, W) on the scan's grid; what a user has removed is missing.

    Reads label maps of any extent: saving a scene crops them.
    """
    grid = _empty_image(scan)
    labels = np.zeros_like(_voxels(grid))
    for term in terms:
        if node.GetSegmentation().GetSegment(term.identifier) is not None:
            labels[_voxels(_on_grid(_segment_image(node, term), grid)) > 0] = term.value
    return labels


def holds_image_of(node: slicer.vtkMRMLSegmentationNode, term: SegmentTerm, voxels: np.ndarray) -> bool:
    """Whether a segment's label map is still the one that `write_segments` returned the voxels of."""
    segment = node.GetSegmentation().GetSegment(term.identifier)
    image = None if segment is None else segment.GetRepresentation(BINARY_LABELMAP)
    return image is not None and np.shares_memory(_voxels(image), voxels)


def show_changes(node: slicer.vtkMRMLSegmentationNode, term: SegmentTerm) -> None:
    """Tell the views that the voxels of a segment have changed; a 3D surface made from them is dropped."""
    segment = node.GetSegmentation().GetSegment(term.identifier)
    segment.GetRepresentation(BINARY_LABELMAP).Modified()  # drops the surface
    segment.Modified()  # without it slice views go on showing the old outline


def _voxels(image: vtk.vtkImageData) -> np.ndarray:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(tuple(reversed(image.GetDimensions())))


def _segment_image(node: slicer.vtkMRMLSegmentationNode, term: SegmentTerm) -> slicer.vtkOrientedImageData:
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(term.identifier, image)
    return image


def _on_grid(image: slicer.vtkOrientedImageData, grid: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    resampled = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, resampled)
    return resampled


def _empty_image(scan: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkOrientedImageData:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(scan.GetImageData().GetDimensions())
    matrix = vtk.vtkMatrix4x4()
    scan.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)  # the segmentation's world: the parent transform comes on top of it
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    return image


def _segment(segmentation: slicer.vtkSegmentation, term: SegmentTerm) -> slicer.vtkSegment:
    existing = segmentation.GetSegment(term.identifier)
    if existing is not None:
        return existing
    segment = slicer.vtkSegment()
    segment.SetName(term.name)
    segment.SetColor(term.colour)
    if term.terminology is not None:
        segment.SetTag(segment.GetTerminologyEntryTagName(), term.terminology)
    segmentation.AddSegment(segment, term.identifier)
    return segmentation.GetSegment(term.identifier)
