import unittest

import numpy as np
import slicer

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer import heatmap_display
from DALAnomalySlicer.colour_tables import HEAT
from DALAnomalySlicer.heatmap_overlay import find_overlay
from DALAnomalySlicer.result_nodes import find_results, update_results
from DALAnomalySlicer.score_range import colour_maximum
from Testing.slicer.mrml_phantom import SMALL_LESION, add_scan, make_result
from Testing.slicer.test_result_nodes import saved_and_reopened


def legend_of(volume: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLColorLegendDisplayNode:
    return slicer.modules.colors.logic().GetColorLegendDisplayNode(volume)


class HeatmapDisplayTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.scan = add_scan()
        self.result = make_result()
        self.heatmap = update_results(self.scan, self.result).heatmap

    def overlay_alpha(self) -> np.ndarray:
        return slicer.util.arrayFromVolume(find_overlay(self.heatmap))[..., 3]

    def test_own_colours_fixed_to_scores(self) -> None:
        display = self.heatmap.GetDisplayNode()
        self.assertIs(display.GetColorNode(), HEAT.node())
        seen = [display.GetColorNode().GetLookupTable().GetTableValue(entry)[:3] for entry in range(256)]
        np.testing.assert_allclose(seen, HEAT.colours(), atol=1 / 255)
        self.assertEqual(display.GetWindowLevelMin(), 0.0)
        self.assertAlmostEqual(display.GetWindowLevelMax(), colour_maximum(self.result))
        heatmap_display.show_threshold(self.heatmap, 0.4)
        self.assertAlmostEqual(display.GetWindowLevelMax(), colour_maximum(self.result))

    def test_begins_at_the_recommended_threshold(self) -> None:
        display = self.heatmap.GetDisplayNode()
        self.assertTrue(display.GetApplyThreshold())
        self.assertAlmostEqual(display.GetLowerThreshold(), 0.25)
        self.assertGreaterEqual(display.GetUpperThreshold(), 1.0)

    def test_two_results_share_their_colours(self) -> None:
        other = update_results(add_scan(name="T2 head"), make_result()).heatmap
        self.assertIs(other.GetDisplayNode().GetColorNode(), self.heatmap.GetDisplayNode().GetColorNode())

    def test_legend(self) -> None:
        legend = legend_of(self.heatmap)
        self.assertTrue(legend.GetVisibility())
        self.assertEqual(legend.GetTitleText(), "Score")
        self.assertFalse(legend.GetUseColorNamesForLabels())
        self.assertIs(legend.GetPrimaryDisplayNode(), self.heatmap.GetDisplayNode())
        heatmap_display.show_heatmap_legend(self.heatmap, False)
        self.assertFalse(legend.GetVisibility())
        update_results(self.scan, self.result)
        self.assertFalse(legend.GetVisibility())
        self.assertEqual(self.heatmap.GetNumberOfDisplayNodes(), 2)

    def test_legend_of_the_fading_heatmap_names_its_colours_by_score(self) -> None:
        heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        overlay = find_overlay(self.heatmap)
        legend, colours = legend_of(overlay), overlay.GetDisplayNode().GetColorNode()
        self.assertTrue(legend.GetUseColorNamesForLabels())
        names = [colours.GetColorName(entry) for entry in range(colours.GetNumberOfColors())]
        self.assertEqual(names, ["0", "0.1", "0.2", "0.3", "0.4", "0.5"])
        np.testing.assert_allclose(colours.GetLookupTable().GetTableValue(5)[:3], HEAT.colours()[-1], atol=1 / 255)
        heatmap_display.show_heatmap_legend(self.heatmap, False)
        self.assertFalse(legend.GetVisibility())

    def test_opacity_mode_is_kept_with_the_heatmap(self) -> None:
        self.assertEqual(heatmap_display.opacity_mode(self.heatmap), "constant")
        heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        self.assertEqual(heatmap_display.opacity_mode(self.heatmap), "proportional")
        self.assertIs(heatmap_display.shown_node(self.heatmap), find_overlay(self.heatmap))
        heatmap_display.set_opacity_mode(self.heatmap, "constant")
        self.assertIs(heatmap_display.shown_node(self.heatmap), self.heatmap)

    def test_fading_heatmap_is_that_of_the_newest_result(self) -> None:
        heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        self.assertTrue(self.overlay_alpha()[SMALL_LESION].all())
        score = self.result.score.copy()
        score[SMALL_LESION] = 0.01
        score[0, 0, 0] = 0.4  # beyond where there was any score before
        update_results(self.scan, make_result(score=score))
        self.assertFalse(self.overlay_alpha()[SMALL_LESION].any())
        self.assertGreater(self.overlay_alpha()[0, 0, 0], 0)

    def test_fading_heatmap_of_a_reopened_scene(self) -> None:
        heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        before = slicer.util.arrayFromVolume(find_overlay(self.heatmap)).copy()
        saved_and_reopened()
        self.heatmap = find_results(slicer.util.getNode("T1 head")).heatmap
        self.assertEqual(heatmap_display.opacity_mode(self.heatmap), "proportional")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(find_overlay(self.heatmap)), before)
        heatmap_display.show_threshold(self.heatmap, 0.45)
        np.testing.assert_array_equal(self.overlay_alpha() > 0, self.result.score >= 0.45)

    def test_a_score_of_zero_everywhere(self) -> None:
        update_results(self.scan, make_result(score=self.result.score * 0))
        heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        heatmap_display.show_threshold(self.heatmap, 0.1)
        self.assertFalse(self.overlay_alpha().any())

    def test_nothing_to_fade_over(self) -> None:
        slicer.mrmlScene.RemoveNode(self.scan)
        with self.assertRaisesRegex(InputError, "scan of .* was removed"):
            heatmap_display.set_opacity_mode(self.heatmap, "proportional")
        self.assertEqual(heatmap_display.opacity_mode(self.heatmap), "constant")
        heatmap_display.show_threshold(self.heatmap, 0.4)


if __name__ == "__main__":
    unittest.main()
