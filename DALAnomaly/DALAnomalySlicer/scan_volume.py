"""A volume node as the library sees a scan: an array on a grid in LPS world coordinates.

A linear parent transform moves the grid: detection happens where the user sees the scan. Its scaling becomes part of
the voxel size, its shear is refused like any other shear. A transform that bends is refused: no grid can follow it.
"""

from __future__ import annotations

import math

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from DALAnomalyLib.errors import GeometryError, InputError, UsageError
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalySlicer.node_roles import role_of

LPS_OF_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
_PERPENDICULAR_TOLERANCE = 1e-3  # of the cosine between two axes, as in DALAnomalyLib.volume.Grid


def check_scan(node: slicer.vtkMRMLNode | None) -> None:
    """Refuse a node that is no 3D scan on a rectangular grid; what its voxels hold is the library's concern.

    Raises:
        UsageError: there is no node.
        InputError: it is no scalar volume, one time point of a sequence, a result of this module, or empty.
        GeometryError: it is under a transform that bends, sheared, or has no voxel size.
    """
    if node is None:
        msg = _("No scan is chosen; load a T1 or T2 volume and choose it as input.")
        raise UsageError(msg)
    _check_kind(node)
    _check_image(node)
    _check_geometry(node)


def volume_of(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """The voxels (D, H, W) of a scan, not copied, on its grid in world coordinates; raises as `check_scan` does."""
    check_scan(node)
    return Volume(slicer.util.arrayFromVolume(node), grid_of(node))


def grid_of(node: slicer.vtkMRMLVolumeNode) -> Grid:
    """Where the voxels of a volume lie in LPS world coordinates, its linear parent transform applied."""
    affine = LPS_OF_RAS @ world_affine(node)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    width, height, depth = node.GetImageData().GetDimensions()
    return Grid(
        shape=(depth, height, width),
        spacing=tuple(spacing.tolist()),
        origin=tuple(affine[:3, 3].tolist()),
        direction=tuple((affine[:3, :3] / spacing).ravel().tolist()),
    )


def world_affine(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Float64 (4, 4): maps (i, j, k, 1) to RAS world coordinates in mm; the parent transform has to be linear."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    transform = node.GetParentTransformNode()
    if transform is None:
        return affine
    transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix) @ affine


def _check_kind(node: slicer.vtkMRMLNode) -> None:
    name = node.GetName()
    if node.GetClassName() != "vtkMRMLScalarVolumeNode":
        msg = _('"{name}" is a {kind}, not a scalar volume; choose a single 3D T1 or T2 volume.')
        raise InputError(msg.format(name=name, kind=_kind(node)))
    browser = _sequence_browser(node)
    if browser is not None:
        msg = _('"{name}" is one time point of the sequence "{sequence}"; clone the volume and choose the copy.')
        raise InputError(msg.format(name=name, sequence=browser.GetName()))
    if role_of(node) is not None:
        msg = _('"{name}" is a result of an earlier detection; choose the scan itself.')
        raise InputError(msg.format(name=name))


def _kind(node: slicer.vtkMRMLNode) -> str:
    kinds = {
        "vtkMRMLLabelMapVolumeNode": _("label map"),
        "vtkMRMLVectorVolumeNode": _("colour or vector volume"),
        "vtkMRMLDiffusionWeightedVolumeNode": _("diffusion-weighted volume"),
        "vtkMRMLDiffusionTensorVolumeNode": _("diffusion tensor volume"),
        "vtkMRMLSequenceNode": _("sequence of several time points"),
        "vtkMRMLSegmentationNode": _("segmentation"),
    }
    return kinds.get(node.GetClassName(), node.GetNodeTagName())


def _sequence_browser(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return next((browser for browser in browsers if browser.IsProxyNodeID(node.GetID())), None)


def _check_image(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    image = node.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        msg = _('"{name}" holds no image; load its file again.')
        raise InputError(msg.format(name=node.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        msg = _('"{name}" has {count} values per voxel; choose a scan with one value per voxel.')
        raise InputError(msg.format(name=node.GetName(), count=image.GetNumberOfScalarComponents()))


def _check_geometry(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    name, transform = node.GetName(), node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        msg = _('"{name}" is under the non-linear transform "{transform}"; harden it or take the scan out of it.')
        raise GeometryError(msg.format(name=name, transform=transform.GetName()))
    affine = world_affine(node)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        msg = _('"{name}" has a voxel size of {size} mm; correct its spacing and transform.')
        raise GeometryError(msg.format(name=name, size=" x ".join(f"{value:g}" for value in spacing)))
    skew = _skew(affine[:3, :3] / spacing)
    if skew > _PERPENDICULAR_TOLERANCE:
        degrees = math.degrees(math.asin(min(skew, 1.0)))
        msg = _(
            '"{name}" is sheared: its axes are {degrees:.1f} degrees off perpendicular, as after a gantry tilt; '
            "resample it to a rectangular grid (module Resample Scalar/Vector/DWI Volume) or undo the transform."
        )
        raise GeometryError(msg.format(name=name, degrees=degrees))


def _skew(axes: np.ndarray) -> float:
    """Largest cosine between two of the unit axes, the columns of (3, 3)."""
    return float(np.abs(axes.T @ axes - np.eye(3)).max())
