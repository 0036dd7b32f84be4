"""What a user sees: the blended colour at known points of real slice views, on grids of every orientation."""

import itertools
import unittest

import numpy as np
import slicer

from DALAnomalySlicer import heatmap_display
from DALAnomalySlicer.colour_tables import HEAT
from DALAnomalySlicer.result_nodes import update_results
from Testing.slicer.mrml_phantom import AFFINES, add_scan, add_transform, affine, make_result, rotation, world_of
from Testing.slicer.slice_pixels import ORIENTATIONS, SliceView

INSIDE = (8, 7, 7)  # amid the lesion of score 0.5, all its neighbours as well
OUTSIDE = (8, 7, 20)  # in the brain, score 0.05
BRIGHTEST = 1.25  # the score of the last colour
GREY = 127  # 100 in a window from 0 to 200
MOVED = affine(rotation(35) @ rotation(10, axis=1), (1.0, 1.0, 1.0), (7.0, -8.0, 9.0))


def heat(share: float) -> np.ndarray:
    """Colour of the heatmap at this share of its brightest, 0 to 255."""
    return HEAT.colours()[round(share * 255)] * 255


class HeatmapPixelsTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def show(self, ijk_to_ras: np.ndarray, moved: np.ndarray | None = None, opacity: float = 0.5) -> list[SliceView]:
        self.scan = add_scan(ijk_to_ras)
        if moved is not None:
            self.scan.SetAndObserveTransformNodeID(add_transform(moved).GetID())
        self.result = make_result()
        self.nodes = update_results(self.scan, self.result)
        views = [SliceView(orientation) for orientation in ORIENTATIONS]
        heatmap_display.show_in_slices(self.scan, self.nodes.heatmap, opacity)
        self.to_world = ijk_to_ras if moved is None else moved @ ijk_to_ras
        self.nodes.heatmap.GetDisplayNode().SetWindowLevelMinMax(0.0, BRIGHTEST)
        return views

    def assert_colour(self, view: SliceView, voxel: tuple[int, int, int], expected: np.ndarray | float) -> None:
        seen = np.array(view.colour_at(world_of(self.to_world, voxel)))
        message = f"voxel {voxel} in {view.node.GetName()} is {seen}, not {expected}"
        self.assertLessEqual(np.abs(seen - expected).max(), 3, message)

    def assert_lesion_is_where_it_is(self, views: list[SliceView]) -> None:
        blended = 0.5 * GREY + 0.5 * heat(0.5 / BRIGHTEST)
        for view in views:
            self.assert_colour(view, INSIDE, blended)
            self.assert_colour(view, OUTSIDE, GREY)
            for corner in itertools.product((7, 8), (6, 7), (6, 7)):
                self.assert_colour(view, corner, blended)

    def test_every_orientation_of_the_grid(self) -> None:
        for name, ijk_to_ras in AFFINES.items():
            with self.subTest(grid=name):
                slicer.mrmlScene.Clear(False)
                self.assert_lesion_is_where_it_is(self.show(ijk_to_ras))

    def test_under_a_parent_transform(self) -> None:
        for name in ("RAS", "oblique"):
            with self.subTest(grid=name):
                slicer.mrmlScene.Clear(False)
                self.assert_lesion_is_where_it_is(self.show(AFFINES[name], MOVED))

    def test_a_mirrored_heatmap_would_be_noticed(self) -> None:
        for axis in range(3):
            slicer.mrmlScene.Clear(False)
            views = self.show(AFFINES["oblique"])
            array = slicer.util.arrayFromVolume(self.nodes.heatmap)
            array[...] = np.flip(array, axis).copy()
            slicer.util.arrayFromVolumeModified(self.nodes.heatmap)
            with self.assertRaises(AssertionError):
                self.assert_lesion_is_where_it_is(views)

    def test_transparent_below_the_threshold(self) -> None:
        (view, *_others) = self.show(AFFINES["oblique"])
        heatmap_display.show_threshold(self.nodes.heatmap, 0.51)
        self.assert_colour(view, INSIDE, GREY)
        heatmap_display.show_threshold(self.nodes.heatmap, 0.49)
        self.assert_colour(view, INSIDE, 0.5 * GREY + 0.5 * heat(0.5 / BRIGHTEST))
        heatmap_display.show_threshold(self.nodes.heatmap, 0.04)
        self.assert_colour(view, OUTSIDE, 0.5 * GREY + 0.5 * heat(0.05 / BRIGHTEST))

    def test_opacity_slider(self) -> None:
        (view, *_others) = self.show(AFFINES["LPS"])
        for opacity in (0.0, 0.25, 1.0):
            heatmap_display.set_opacity(self.nodes.heatmap, opacity)
            self.assert_colour(view, INSIDE, (1 - opacity) * GREY + opacity * heat(0.5 / BRIGHTEST))

    def test_opacity_in_proportion_to_the_score(self) -> None:
        views = self.show(AFFINES["oblique"], MOVED, opacity=1.0)
        heatmap_display.set_opacity_mode(self.nodes.heatmap, "proportional")
        share = 0.5 / BRIGHTEST
        for view in views:
            self.assert_colour(view, INSIDE, (1 - share) * GREY + share * heat(share))
            self.assert_colour(view, OUTSIDE, GREY)

    def test_fading_heatmap_follows_threshold_and_opacity(self) -> None:
        (view, *_others) = self.show(AFFINES["LPS"], opacity=1.0)
        heatmap_display.set_opacity_mode(self.nodes.heatmap, "proportional")
        heatmap_display.show_threshold(self.nodes.heatmap, 0.51)
        self.assert_colour(view, INSIDE, GREY)
        heatmap_display.show_threshold(self.nodes.heatmap, 0.49)
        heatmap_display.set_opacity(self.nodes.heatmap, 0.5)
        share = 0.5 / BRIGHTEST
        self.assert_colour(view, INSIDE, (1 - share / 2) * GREY + share / 2 * heat(share))

    def test_back_to_constant_opacity(self) -> None:
        (view, *_others) = self.show(AFFINES["LPS"])
        heatmap_display.set_opacity_mode(self.nodes.heatmap, "proportional")
        heatmap_display.show_threshold(self.nodes.heatmap, 0.3)
        heatmap_display.set_opacity_mode(self.nodes.heatmap, "constant")
        self.assert_colour(view, INSIDE, 0.5 * GREY + 0.5 * heat(0.5 / BRIGHTEST))


if __name__ == "__main__":
    unittest.main()
