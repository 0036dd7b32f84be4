import unittest

import numpy as np
import slicer

from DALAnomalySlicer.compare import fade, flicker, show_difference
from DALAnomalySlicer.heatmap_display import set_opacity_mode, show_in_slices, shown_node
from DALAnomalySlicer.result_nodes import find_results, remove_results, update_results
from DALAnomalySlicer.side_by_side import (
    is_side_by_side,
    leave_side_by_side,
    register_layout,
    show_side_by_side,
)
from Testing.slicer.mrml_phantom import AFFINES, add_scan, make_result, world_of
from Testing.slicer.slice_pixels import ORIENTATIONS, SliceView

INSIDE, OUTSIDE_BRAIN = (8, 7, 7), (0, 0, 0)
SCAN_GREY, HEALTHY_GREY = 127, 102  # 100 and 80 in a window from 0 to 200
COMPARISON = ("DALScan", "DALHealthy", "DALHeatmap")


def layout_node() -> slicer.vtkMRMLLayoutNode:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def composites() -> dict[str, slicer.vtkMRMLSliceCompositeNode]:
    return {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}


def slices() -> dict[str, slicer.vtkMRMLSliceNode]:
    return {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}


class CompareTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        array = np.full((20, 24, 28), 100, np.int16)
        array[8, 7, 20] = 150
        self.scan = add_scan(AFFINES["oblique"], array)
        self.nodes = update_results(self.scan, make_result())
        self.view = SliceView("Axial")

    def assert_grey(self, voxel: tuple[int, int, int], grey: float) -> None:
        colour = self.view.colour_at(world_of(AFFINES["oblique"], voxel))
        np.testing.assert_allclose(colour, grey, atol=2)

    def test_fading_from_scan_to_pseudo_healthy(self) -> None:
        for share in (0.0, 0.25, 1.0):
            fade(self.scan, self.nodes.pseudo_healthy, share)
            self.assert_grey(INSIDE, (1 - share) * SCAN_GREY + share * HEALTHY_GREY)
        self.assert_grey(OUTSIDE_BRAIN, 0)

    def test_flickering(self) -> None:
        show_in_slices(self.scan, self.nodes.heatmap)
        shown = [flicker(self.scan, self.nodes.pseudo_healthy) for _ in range(3)]
        self.assertEqual(shown, [True, False, True])
        self.assert_grey(INSIDE, HEALTHY_GREY)
        flicker(self.scan, self.nodes.pseudo_healthy)
        self.assert_grey(INSIDE, SCAN_GREY)

    def test_difference(self) -> None:
        node = show_difference(self.scan, self.nodes.pseudo_healthy)
        difference = slicer.util.arrayFromVolume(node)
        self.assertEqual((difference[INSIDE], difference[OUTSIDE_BRAIN], difference[8, 7, 20]), (20, 0, 70))
        red, _green, blue = self.view.colour_at(world_of(AFFINES["oblique"], INSIDE))
        self.assertGreater(red, blue)  # brighter than expected: orange
        self.assert_grey(OUTSIDE_BRAIN, 0)

    def test_the_difference_is_made_once_and_removed_with_the_results(self) -> None:
        first = show_difference(self.scan, self.nodes.pseudo_healthy)
        self.assertIs(show_difference(self.scan, self.nodes.pseudo_healthy), first)
        self.assertEqual(find_results(self.scan), self.nodes)
        remove_results(self.scan)
        self.assertIsNone(first.GetScene())

    def test_heatmap_in_all_ordinary_views(self) -> None:
        show_in_slices(self.scan, self.nodes.heatmap, 0.4)
        for name in ("Red", "Green", "Yellow"):
            view = composites()[name]
            self.assertEqual(view.GetBackgroundVolumeID(), self.scan.GetID())
            self.assertEqual(view.GetForegroundVolumeID(), self.nodes.heatmap.GetID())
            self.assertAlmostEqual(view.GetForegroundOpacity(), 0.4)


class SideBySideTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.scan = add_scan(AFFINES["oblique"])
        self.nodes = update_results(self.scan, make_result())
        layout_node().SetViewArrangement(layout_node().SlicerLayoutConventionalView)
        self.addCleanup(leave_side_by_side)

    def test_three_views_of_one_orientation_with_an_image_each(self) -> None:
        for orientation in ORIENTATIONS:
            self.assertTrue(show_side_by_side(self.scan, self.nodes, orientation, 0.3))
            shown = [(v.GetBackgroundVolumeID(), v.GetForegroundVolumeID()) for v in map(composites().get, COMPARISON)]
            scan, healthy, heatmap = self.scan.GetID(), self.nodes.pseudo_healthy.GetID(), self.nodes.heatmap.GetID()
            self.assertEqual(shown, [(scan, None), (healthy, None), (scan, heatmap)])
            self.assertEqual({slices()[name].GetOrientation() for name in COMPARISON}, {orientation})
            self.assertAlmostEqual(composites()["DALHeatmap"].GetForegroundOpacity(), 0.3)

    def test_the_views_are_linked_with_one_another_alone(self) -> None:
        show_side_by_side(self.scan, self.nodes)
        self.assertEqual({slices()[name].GetViewGroup() for name in COMPARISON}, {5109})
        self.assertNotEqual(slices()["Red"].GetViewGroup(), 5109)
        for name in COMPARISON:
            self.assertTrue(composites()[name].GetLinkedControl())
            self.assertTrue(composites()[name].GetHotLinkedControl())

    def test_the_views_show_the_same_place(self) -> None:
        show_side_by_side(self.scan, self.nodes)
        fields = [slices()[name].GetFieldOfView() for name in COMPARISON]
        matrices = [slicer.util.arrayFromVTKMatrix(slices()[name].GetSliceToRAS()) for name in COMPARISON]
        for field, matrix in zip(fields, matrices, strict=True):
            np.testing.assert_allclose(field, fields[0])
            np.testing.assert_allclose(matrix, matrices[0])

    def test_back_to_the_earlier_layout(self) -> None:
        show_side_by_side(self.scan, self.nodes)
        self.assertTrue(is_side_by_side())
        show_side_by_side(self.scan, self.nodes, "Coronal")
        leave_side_by_side()
        self.assertFalse(is_side_by_side())
        self.assertEqual(layout_node().GetViewArrangement(), layout_node().SlicerLayoutConventionalView)

    def test_leaving_does_not_undo_a_layout_of_the_users(self) -> None:
        show_side_by_side(self.scan, self.nodes)
        layout_node().SetViewArrangement(layout_node().SlicerLayoutOneUpRedSliceView)
        leave_side_by_side()
        self.assertEqual(layout_node().GetViewArrangement(), layout_node().SlicerLayoutOneUpRedSliceView)

    def test_other_comparisons_leave_these_views_alone(self) -> None:
        show_side_by_side(self.scan, self.nodes)
        fade(self.scan, self.nodes.pseudo_healthy, 0.5)
        self.assertEqual(composites()["DALHealthy"].GetBackgroundVolumeID(), self.nodes.pseudo_healthy.GetID())
        self.assertIsNone(composites()["DALScan"].GetForegroundVolumeID())

    def test_the_fading_heatmap_is_compared_as_well(self) -> None:
        set_opacity_mode(self.nodes.heatmap, "proportional")
        show_side_by_side(self.scan, self.nodes)
        self.assertEqual(composites()["DALHeatmap"].GetForegroundVolumeID(), shown_node(self.nodes.heatmap).GetID())
        set_opacity_mode(self.nodes.heatmap, "constant")
        self.assertEqual(composites()["DALHeatmap"].GetForegroundVolumeID(), self.nodes.heatmap.GetID())

    def test_a_removed_node_leaves_its_view_empty(self) -> None:
        slicer.mrmlScene.RemoveNode(self.nodes.pseudo_healthy)
        self.assertTrue(show_side_by_side(self.scan, find_results(self.scan)))
        self.assertIsNone(composites()["DALHealthy"].GetBackgroundVolumeID())

    def test_without_a_layout_nothing_happens(self) -> None:
        node = layout_node()
        slicer.mrmlScene.RemoveNode(node)
        self.addCleanup(slicer.mrmlScene.AddNode, node)
        register_layout()
        self.assertFalse(show_side_by_side(self.scan, self.nodes))
        self.assertFalse(is_side_by_side())
        leave_side_by_side()


if __name__ == "__main__":
    unittest.main()
