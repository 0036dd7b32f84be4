import unittest

import numpy as np
import slicer

from DALAnomalySlicer.navigation import jump_to
from Testing.slicer.mrml_phantom import add_scan
from Testing.slicer.slice_pixels import ORIENTATIONS, SliceView

POINT = (7.0, -12.0, 23.0)


def pixel_of(view: SliceView, point: tuple[float, float, float]) -> np.ndarray:
    """Column, row and depth of a point in a slice view; its slice is at depth 0."""
    return np.linalg.solve(slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS()), (*point, 1.0))[:3]


class NavigationTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.views = [SliceView(orientation) for orientation in ORIENTATIONS]
        scan = add_scan()
        for view in self.views:
            view.layers.SetBackgroundVolumeID(scan.GetID())
            view.fit()

    def test_all_slices_pass_through_the_point(self) -> None:
        jump_to(POINT)
        for view in self.views:
            self.assertAlmostEqual(pixel_of(view, POINT)[2], 0.0, places=4)

    def test_a_view_that_shows_the_point_does_not_move_within_its_slice(self) -> None:
        near = (1.0, 2.0, 3.0)
        before = [pixel_of(view, near)[:2] for view in self.views]
        jump_to(near)
        for view, place in zip(self.views, before, strict=True):
            np.testing.assert_allclose(pixel_of(view, near)[:2], place, atol=1e-4)

    def test_a_zoomed_view_is_centred(self) -> None:
        for view in self.views:
            view.node.SetFieldOfView(5.0, 5.0, view.node.GetFieldOfView()[2])
        jump_to(POINT)
        for view in self.views:
            width, height, _ = view.node.GetDimensions()
            np.testing.assert_allclose(pixel_of(view, POINT), (width / 2, height / 2, 0), atol=1)

    def test_cameras_look_at_the_point_from_where_they_looked(self) -> None:
        camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
        camera.SetFocalPoint(1.0, 2.0, 3.0)
        camera.SetPosition(1.0, 502.0, 3.0)
        jump_to(POINT)
        np.testing.assert_allclose(camera.GetFocalPoint(), POINT)
        np.testing.assert_allclose(np.subtract(camera.GetPosition(), POINT), (0.0, 500.0, 0.0))


if __name__ == "__main__":
    unittest.main()
