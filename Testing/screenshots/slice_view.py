"""A slice view as Slicer draws it: blended layers, outlines of segments, cross-hair and colour legend."""

from __future__ import annotations

import slicer
import vtk

from Testing.screenshots.directions import rim_letters, slice_position
from Testing.screenshots.drawn_view import DrawnView, Picture

_MANAGERS = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)

_FONT = 17
_RIM = 0.018
"""Distance of the letters from the rim, as a share of the view's size."""
_RIMS = {
    "left": (_RIM, 0.5, vtk.VTK_TEXT_LEFT, vtk.VTK_TEXT_CENTERED),
    "right": (1 - _RIM, 0.5, vtk.VTK_TEXT_RIGHT, vtk.VTK_TEXT_CENTERED),
    "top": (0.5, 1 - _RIM, vtk.VTK_TEXT_CENTERED, vtk.VTK_TEXT_TOP),
    "bottom": (0.5, _RIM, vtk.VTK_TEXT_CENTERED, vtk.VTK_TEXT_BOTTOM),
}
"""Where a letter stands in the view, x and y upwards from 0 to 1, and how it is aligned there."""


class DrawnSlice(DrawnView):
    """A slice view with the patient's directions at its rims."""

    def __init__(self, logic: slicer.vtkMRMLSliceLogic, size: tuple[int, int]) -> None:
        """Draw the slice of a logic that the application logic knows, at a size (width, height) in pixels."""
        self._logic = logic
        logic.ResizeSliceNode(*size)
        self._image = _image_mapper()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(logic.GetSliceNode(), size, factory, _MANAGERS, _image_actor(self._image))
        self._letters = {side: _letter_actor(side) for side in _RIMS}
        for actor in self._letters.values():
            self.renderer.AddViewProp(actor)

    @property
    def position(self) -> str:
        """Where the slice lies, such as `S: 12.50mm`."""
        return slice_position(slicer.util.arrayFromVTKMatrix(self.node.GetSliceToRAS()))

    @property
    def share(self) -> float:
        """Where the slice lies between the first (0) and the last one (1) of the volume."""
        bounds = [0.0] * 6
        self._logic.GetLowestVolumeSliceBounds(bounds)
        first, last = bounds[4:]
        return (self._logic.GetSliceOffset() - first) / (last - first)

    def fit(self) -> None:
        """Show all of the volume."""
        self._logic.FitSliceToAll()

    def picture(self) -> Picture:
        """What the view shows now."""
        self._logic.UpdatePipeline()
        self._image.SetInputConnection(self._logic.GetImageDataConnection())
        letters = rim_letters(slicer.util.arrayFromVTKMatrix(self.node.GetXYToRAS()))
        for side, actor in self._letters.items():
            actor.SetInput(getattr(letters, side))
        return super().picture()


def _image_mapper() -> vtk.vtkImageMapper:
    """Shows the blended slice as it is, pixel by pixel."""
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    return mapper


def _image_actor(mapper: vtk.vtkImageMapper) -> vtk.vtkActor2D:
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    return actor


def _letter_actor(side: str) -> vtk.vtkTextActor:
    x, y, horizontal, vertical = _RIMS[side]
    actor = vtk.vtkTextActor()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(x, y)
    style = actor.GetTextProperty()
    style.SetJustification(horizontal)
    style.SetVerticalJustification(vertical)
    style.SetFontSize(_FONT)
    style.BoldOn()
    style.ShadowOn()
    return actor
