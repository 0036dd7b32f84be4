"""The colour that a slice view shows at a point, from the real compositing of slices, which needs no window."""

from __future__ import annotations

from functools import cache

import numpy as np
import slicer

ORIENTATIONS = ("Axial", "Coronal", "Sagittal")
_SIZE = 200


@cache  # as in Slicer, the logic of a slice view outlives the scene's content
def _slice_logic(name: str) -> slicer.vtkMRMLSliceLogic:
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.AddSliceNode(name)
    slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
    return logic


class SliceView:
    """A slice view of its own, beside those of the layout."""

    def __init__(self, orientation: str) -> None:
        self._logic = _slice_logic(f"Test{orientation}")
        self._logic.ResizeSliceNode(_SIZE, _SIZE)
        self.node = self._logic.GetSliceNode()
        self.node.SetOrientation(orientation)

    @property
    def layers(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self._logic.GetSliceCompositeNode()

    def fit(self) -> None:
        self._logic.FitSliceToAll()

    def colour_at(self, point: tuple[float, float, float]) -> tuple[int, int, int]:
        """Red, green, blue (0 to 255) at a point in RAS mm."""
        self.fit()
        self.node.JumpSliceByOffsetting(*point)
        self._logic.UpdatePipeline()
        connection = self._logic.GetImageDataConnection()
        connection.GetProducer().Update()
        image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
        x, y, _z, _w = np.linalg.solve(slicer.util.arrayFromVTKMatrix(self.node.GetXYToRAS()), (*point, 1.0))
        red, green, blue = (
            int(image.GetScalarComponentAsFloat(round(x), round(y), 0, channel)) for channel in range(3)
        )
        return red, green, blue
