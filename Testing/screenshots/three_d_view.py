"""The 3D view as Slicer draws it: surfaces of segments over its blue background."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from Testing.screenshots.drawn_view import DrawnView

_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
_ZOOM = 1.45


class DrawnScene(DrawnView):
    """A 3D view with a cube that shows the directions."""

    def __init__(self, node: slicer.vtkMRMLViewNode, size: tuple[int, int]) -> None:
        """Draw a 3D view node at a size (width, height) in pixels."""
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(node, size, factory, _MANAGERS)
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        node.SetOrientationMarkerType(node.OrientationMarkerTypeCube)
        node.SetOrientationMarkerSize(node.OrientationMarkerSizeMedium)

    def look_from(self, direction: Sequence[float]) -> None:
        """Turn the camera: it looks from a direction (RAS) at everything that is shown, head up."""
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*direction)
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
        camera.Zoom(_ZOOM)
        self.renderer.ResetCameraClippingRange()
