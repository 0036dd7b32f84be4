"""Takes all views to a place in the scan."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import slicer

Point: TypeAlias = tuple[float, float, float]
"""RAS world coordinates in mm."""


def jump_to(point: Point) -> None:
    """Show a point in all slice views and turn the 3D views around it."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        _jump_slice(view, point)
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        _centre_camera(camera, point)


def _jump_slice(view: slicer.vtkMRMLSliceNode, point: Point) -> None:
    """Go to the slice through the point; move within it only where the point lies outside the zoomed view."""
    view.JumpSliceByOffsetting(*point)
    if not _is_in_view(view, point):
        view.JumpSliceByCentering(*point)


def _is_in_view(view: slicer.vtkMRMLSliceNode, point: Point) -> bool:
    xy_to_ras = slicer.util.arrayFromVTKMatrix(view.GetXYToRAS())
    x, y, _z, _w = np.linalg.solve(xy_to_ras, (*point, 1.0))
    width, height, _depth = view.GetDimensions()
    return bool(0 <= x <= width and 0 <= y <= height)


def _centre_camera(camera: slicer.vtkMRMLCameraNode, point: Point) -> None:
    """Look at the point from the same direction and distance."""
    focus, position = camera.GetFocalPoint(), camera.GetPosition()
    moved = [place + target - old for place, target, old in zip(position, point, focus, strict=True)]
    camera.SetFocalPoint(*point)
    camera.SetPosition(*moved)
    camera.ResetClippingRange()
