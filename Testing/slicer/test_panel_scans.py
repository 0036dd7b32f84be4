"""The panel with results of several scans in the scene, and with scans and results that were changed meanwhile."""

import dataclasses
import gc
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
import slicer.util

from DALAnomalyLib.errors import GeometryError
from DALAnomalySlicer.chosen_threshold import Choice, choice_of, store_choice
from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.parameter_node import Mode
from DALAnomalySlicer.processing import process, show_findings
from DALAnomalySlicer.result_nodes import find_results, remove_results, update_results
from DALAnomalySlicer.sample_scans import load_sample
from DALAnomalySlicer.scene_export import export_context
from DALAnomalySlicer.segment_labels import read_segments
from DALAnomalySlicer.segment_terms import ANOMALY
from Testing.slicer.mrml_phantom import AFFINES, add_scan, add_transform, affine, make_result, rotation
from Testing.slicer.panel_driver import close_panel, open_panel, run_folders, wait_until

RUNS_IN_SLICER = True
MOVED = affine(rotation(35), (1.0, 1.0, 1.0), (7.0, -8.0, 9.0))


class ScansTestCase(unittest.TestCase):
    """Two scans with a result each; the first is chosen."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.panel = open_panel()
        self.ui = self.panel.ui
        self.t1, self.t2 = add_scan(name="T1 head"), add_scan(name="T2 head")
        update_results(self.t1, make_result())
        update_results(self.t2, make_result(sequence="T2", threshold=0.35, warnings=("poor registration",)))
        self.choose(self.t1)

    def tearDown(self) -> None:
        close_panel()
        self.assertEqual(run_folders(), [])

    def choose(self, scan: slicer.vtkMRMLScalarVolumeNode) -> None:
        self.panel.parameters.inputVolume = scan

    def leave_and_enter(self) -> None:
        slicer.modules.dalanomaly.widgetRepresentation().exit()
        slicer.modules.dalanomaly.widgetRepresentation().enter()

    def shown_voxels(self, scan: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
        return read_segments(results_of(scan)["findings"], (ANOMALY,), scan)

    def score(self, scan: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
        return slicer.util.arrayFromVolume(results_of(scan)["heatmap"])


class SeveralScansTest(ScansTestCase):
    def test_each_scan_is_shown_at_its_own_threshold(self) -> None:
        self.ui.thresholdSlider.value = 0.3
        self.choose(self.t2)
        self.assertAlmostEqual(self.ui.thresholdSlider.value, 0.35, places=4)
        self.assertEqual(self.ui.presetLabel.text, "Recommended by the model.")
        np.testing.assert_array_equal(self.shown_voxels(self.t2), self.score(self.t2) >= 0.35)
        self.ui.minimumVolumeSlider.value = 1.5
        self.choose(self.t1)
        self.assertAlmostEqual(self.ui.thresholdSlider.value, 0.3, places=4)
        self.assertAlmostEqual(self.ui.minimumVolumeSlider.value, 0.1)
        self.choose(self.t2)
        self.assertAlmostEqual(self.ui.minimumVolumeSlider.value, 1.5)

    def test_thresholds_of_all_scans_are_saved_with_the_scene(self) -> None:
        self.ui.thresholdSlider.value = 0.3
        self.choose(self.t2)
        self.ui.thresholdSlider.value = 0.6
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "scene.mrb"))
            slicer.util.saveScene(path)
            slicer.mrmlScene.Clear(False)
            slicer.util.loadScene(path)
        for name, threshold in (("T1 head", 0.3), ("T2 head", 0.6)):
            self.choose(slicer.util.getNode(name))
            self.assertAlmostEqual(self.ui.thresholdSlider.value, threshold, places=4)

    def test_only_the_chosen_scans_findings_are_outlined(self) -> None:
        shown = [results_of(scan)["findings"].GetDisplayNode() for scan in (self.t1, self.t2)]
        self.assertEqual([display.GetVisibility() for display in shown], [1, 0])
        self.choose(self.t2)
        self.assertEqual([display.GetVisibility() for display in shown], [0, 1])

    def test_side_by_side_and_3d_follow_the_choice(self) -> None:
        self.ui.sideBySideButton.click()
        self.ui.show3DButton.click()
        self.choose(self.t2)
        views = {view.GetLayoutName(): view for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
        self.assertEqual(views["DALScan"].GetBackgroundVolumeID(), self.t2.GetID())
        surfaces = [
            results_of(scan)["findings"].GetSegmentation().ContainsRepresentation("Closed surface")
            for scan in (self.t1, self.t2)
        ]
        self.assertEqual(surfaces, [False, True])
        self.ui.sideBySideButton.click()

    def test_status_and_warnings_are_those_of_the_chosen_scan(self) -> None:
        self.assertEqual(self.ui.statusLabel.text, "Compared with a healthy T1.")
        self.choose(self.t2)
        self.assertEqual(self.ui.statusLabel.text, "Compared with a healthy T2.")
        self.assertIn("poor registration", self.ui.warningLabel.text)
        self.choose(add_scan(name="new"))
        self.assertEqual((self.ui.statusLabel.text, self.ui.warningLabel.text), ("", ""))

    def test_findings_that_the_user_has_hidden_stay_hidden(self) -> None:
        findings = results_of(self.t1)["findings"]
        findings.SetDisplayVisibility(False)
        self.choose(self.t2)
        self.choose(self.t1)
        self.assertFalse(findings.GetDisplayVisibility())

    def test_clones_of_findings_are_left_alone(self) -> None:
        clone = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        clone.Copy(results_of(self.t1)["findings"])
        clone.RemoveAllDisplayNodeIDs()
        clone.CreateDefaultDisplayNodes()
        clone.SetDisplayVisibility(True)
        self.choose(self.t2)
        self.assertTrue(clone.GetDisplayVisibility())

    def test_a_first_result_does_not_outline_a_scan_that_is_not_chosen(self) -> None:
        remove_results(self.t2)
        self.choose(add_scan(name="new"))
        self.panel.run._on_result(self.t2, make_result(sequence="T2"), 1.0)
        self.assertFalse(results_of(self.t2)["findings"].GetDisplayVisibility())
        self.choose(self.t2)
        self.assertTrue(results_of(self.t2)["findings"].GetDisplayVisibility())

    def test_what_a_run_announced_stands_until_its_scan_is_chosen(self) -> None:
        self.panel.run._on_result(self.t2, make_result(sequence="T2"), 1.0)
        for scan in (add_scan(name="new"), self.t1):
            self.choose(scan)
            self.leave_and_enter()
            self.assertIn('"T2 head" is done', self.ui.statusLabel.text)
        self.choose(self.t2)
        self.assertEqual(self.ui.statusLabel.text, "Compared with a healthy T2.")

    def test_how_a_run_failed_stands_until_another_scan_is_chosen(self) -> None:
        self.panel.run.on_failure("the worker ran out of memory", "a line of the log")
        self.leave_and_enter()
        self.assertEqual(self.ui.statusLabel.text, "the worker ran out of memory")
        self.assertEqual(self.ui.logText.plainText, "a line of the log")
        self.choose(self.t2)
        self.assertEqual(self.ui.statusLabel.text, "Compared with a healthy T2.")
        self.assertEqual(self.ui.logText.plainText, "")

    def test_what_one_run_noticed_is_not_said_of_the_next(self) -> None:
        self.panel.run.on_notice("run one noticed")
        self.panel.run.on_failure("and failed", "")
        self.panel.run.start(None, self.panel.scan.options())
        self.assertNotIn("run one noticed", self.ui.warningLabel.text)

    def test_looking_at_a_result_does_not_round_its_smallest_volume(self) -> None:
        heatmap = results_of(self.t1)["heatmap"]
        for volume in (0.004, 80.0):
            store_choice(heatmap, Choice(0.25, volume))
            self.leave_and_enter()
            self.assertEqual(choice_of(heatmap, make_result()).minimum_volume_ml, volume)

    def test_an_export_by_a_script_leaves_the_result_as_it_is_shown(self) -> None:
        before = self.shown_voxels(self.t1)
        exported = export_context(self.t1, np.float32(0.5), minimum_volume_ml=0)
        self.assertEqual(np.count_nonzero(exported.labels.array), np.count_nonzero(self.score(self.t1) >= 0.5))
        np.testing.assert_array_equal(self.shown_voxels(self.t1), before)
        self.assertEqual(export_context(self.t1).threshold, 0.25)

    def test_an_export_by_a_script_of_a_scan_that_was_moved_keeps_the_findings(self) -> None:
        before = self.shown_voxels(self.t1)
        self.t1.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        self.t1.HardenTransform()
        rows = export_context(self.t1).rows
        np.testing.assert_array_equal(self.shown_voxels(self.t1), before)
        self.assertEqual(results_of(self.t1)["table"].GetNumberOfRows(), len(rows))

    def test_a_finished_scan_that_was_removed_is_announced_no_more(self) -> None:
        self.panel.run._on_result(self.t2, make_result(sequence="T2"), 1.0)
        slicer.mrmlScene.RemoveNode(self.t2)
        self.choose(add_scan(name="new"))
        self.assertEqual(self.ui.statusLabel.text, "")

    def test_a_threshold_of_numpy_is_taken(self) -> None:
        live = show_findings(find_results(self.t1), make_result(), np.float32(0.5), np.float32(0.2))
        self.assertEqual(live.choice, Choice(0.5, float(np.float32(0.2))))
        self.assertEqual(choice_of(results_of(self.t1)["heatmap"], make_result()), live.choice)

    def test_a_result_that_comes_while_another_scan_is_shown_is_whole(self) -> None:
        remove_results(self.t2)
        self.panel.run._on_result(self.t2, make_result(sequence="T2", threshold=0.35), 1.0)
        self.assertEqual(results_of(self.t2)["table"].GetNumberOfRows(), 2)
        np.testing.assert_array_equal(self.shown_voxels(self.t2), self.score(self.t2) >= 0.35)
        self.assertIn('"T2 head" is done', self.ui.statusLabel.text)
        self.assertIn("rough brain mask", self.ui.warningLabel.text)  # still the first scan's
        self.assertFalse(results_of(self.t2)["findings"].GetDisplayNode().GetVisibility())
        self.assertAlmostEqual(self.ui.thresholdSlider.value, 0.25, places=4)

    def test_an_export_into_the_same_folder_replaces_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.panel.export.ask_folder = lambda title: folder
            self.ui.exportImagesButton.click()
            first = Path(folder, "DALAnomaly images", "manifest.json").read_bytes()
            self.choose(self.t2)
            self.ui.exportImagesButton.click()
            self.assertIn("DALAnomaly images 2", self.ui.exportLabel.text)
            self.assertEqual(Path(folder, "DALAnomaly images", "manifest.json").read_bytes(), first)
            self.assertTrue(Path(folder, "DALAnomaly images 2", "score.nii.gz").exists())


class ChangedMeanwhileTest(ScansTestCase):
    def test_results_follow_a_scan_that_was_moved(self) -> None:
        self.ui.thresholdSlider.value = 0.3
        self.t1.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        self.leave_and_enter()
        for role, node in results_of(self.t1).items():
            if node.IsA("vtkMRMLTransformableNode"):
                self.assertEqual(node.GetTransformNodeID(), self.t1.GetTransformNodeID(), role)
        self.assertAlmostEqual(self.ui.thresholdSlider.value, 0.3, places=4)
        self.t1.HardenTransform()
        self.leave_and_enter()
        np.testing.assert_array_equal(self.shown_voxels(self.t1), self.score(self.t1) >= 0.3)
        self.assertEqual(read_segments(results_of(self.t1)["edges"], (ANOMALY,), self.t1).shape, (20, 24, 28))
        centre = self.panel.findings.live.rows[0].centroid_ras
        expected = MOVED @ AFFINES["LPS"] @ (6.5, 6.5, 7.5, 1)
        np.testing.assert_allclose(centre, expected[:3], atol=1e-4)

    def test_a_scan_of_another_size_has_no_result_any_more(self) -> None:
        slicer.util.updateVolumeFromArray(self.t1, np.zeros((5, 6, 7), np.int16))
        self.leave_and_enter()
        self.assertIn("the scan was replaced", self.ui.warningLabel.text)
        self.assertIsNone(self.panel.findings.live)

    def test_what_was_drawn_in_the_findings_is_kept(self) -> None:
        drawn = self.draw()
        self.leave_and_enter()
        np.testing.assert_array_equal(self.shown_voxels(self.t1), self.score(self.t1) >= 0.25)
        self.assert_kept_once(drawn)

    def test_what_was_drawn_is_kept_when_the_scan_was_moved_as_well(self) -> None:
        drawn = self.draw()
        self.t1.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        self.t1.HardenTransform()
        self.leave_and_enter()
        self.assert_kept_once(drawn, add_scan(name="where it was"))

    def test_what_was_drawn_is_kept_when_the_scan_is_searched_again(self) -> None:
        drawn = self.draw()
        self.panel.run._on_result(self.t1, make_result(), 1.0)
        np.testing.assert_array_equal(self.shown_voxels(self.t1), self.score(self.t1) >= 0.25)
        self.assert_kept_once(drawn)

    def test_findings_that_nobody_drew_in_are_not_copied(self) -> None:
        for threshold in (0.3, 0.45):
            self.ui.thresholdSlider.value = threshold
            self.leave_and_enter()
        self.panel.run._on_result(self.t1, make_result(), 1.0)
        self.t1.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        self.t1.HardenTransform()
        self.leave_and_enter()
        self.assertEqual(slicer.util.getNodes("*edited*"), {})

    def draw(self) -> np.ndarray:
        """Erase half of the findings of the T1, as the Segment Editor would; what is left."""
        drawn = self.shown_voxels(self.t1)
        drawn[:8] = 0
        findings = results_of(self.t1)["findings"]
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, findings, ANOMALY.identifier, self.t1)
        return drawn

    def assert_kept_once(self, drawn: np.ndarray, grid: slicer.vtkMRMLScalarVolumeNode | None = None) -> None:
        self.assertIn('kept as "T1 head findings, edited"', self.ui.warningLabel.text)
        kept = slicer.util.getNode("T1 head findings, edited")
        np.testing.assert_array_equal(read_segments(kept, (ANOMALY,), grid or self.t1), drawn)
        self.leave_and_enter()
        self.assertNotIn("kept as", self.ui.warningLabel.text)
        self.assertEqual(len(slicer.util.getNodes("*edited*")), 1)

    def test_views_stay_as_the_user_left_them(self) -> None:
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        uncertainty = results_of(self.t1)["uncertainty"]
        red.SetBackgroundVolumeID(uncertainty.GetID())
        self.leave_and_enter()
        self.assertEqual(red.GetBackgroundVolumeID(), uncertainty.GetID())
        self.choose(self.t2)
        self.assertEqual(red.GetBackgroundVolumeID(), self.t2.GetID())

    def test_the_difference_is_shown_of_a_scan_that_was_moved(self) -> None:
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        self.ui.differenceButton.click()
        self.t1.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        self.leave_and_enter()
        shown = {red.GetBackgroundVolumeID(), red.GetForegroundVolumeID()}
        self.assertIn(results_of(self.t1)["difference"].GetID(), shown)

    def test_a_result_that_came_meanwhile_is_drawn(self) -> None:
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        self.ui.differenceButton.click()
        slicer.modules.dalanomaly.widgetRepresentation().exit()
        self.panel.run._on_result(self.t1, make_result(), 1.0)
        slicer.modules.dalanomaly.widgetRepresentation().enter()
        self.assertEqual(red.GetBackgroundVolumeID(), self.t1.GetID())

    def test_comparing_leaves_side_by_side(self) -> None:
        self.ui.sideBySideButton.click()
        self.ui.healthyButton.click()
        self.assertFalse(self.ui.sideBySideButton.checked)
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        self.ui.fadeSlider.value = 0.3
        self.ui.flickerButton.click()
        self.assertEqual(red.GetForegroundOpacity(), 0)
        self.ui.flickerButton.click()
        self.assertAlmostEqual(red.GetForegroundOpacity(), 0.3)

    def test_a_mark_that_cannot_be_kept_is_told(self) -> None:
        slicer.mrmlScene.RemoveNode(results_of(self.t1)["findings"])
        self.ui.nextButton.click()
        with mock.patch.object(slicer.util, "errorDisplay") as display:
            self.ui.markButton.click()
        self.assertIn("marks cannot be saved", display.call_args.args[0])

    def test_a_stored_result_that_is_not_whole_does_not_touch_a_run(self) -> None:
        sample = load_sample("T1")
        self.choose(sample)
        self.ui.detectButton.click()
        wait_until(lambda: self.ui.progressBar.value > 0)
        slicer.mrmlScene.RemoveNode(results_of(self.t2)["edges"])
        self.choose(self.t2)
        self.assertIn("lacks edges", self.ui.warningLabel.text)
        self.assertTrue(self.panel.run.running)
        self.assertEqual(self.ui.detectButton.text, "Cancel")
        self.ui.detectButton.click()
        self.assertFalse(self.panel.run.running)

    def test_the_sample_is_detected_without_the_choices_for_ones_own_scan(self) -> None:
        self.ui.sequenceSelector.currentIndex = 1
        self.panel.parameters.brainMask = results_of(self.t1)["brain_mask"]
        with mock.patch.object(self.panel.run, "start") as start:
            self.ui.sampleButton.click()
        (scan, options), _ = start.call_args
        self.assertEqual((scan.GetName(), options.sequence, options.brain_mask), ("Sample T2", "auto", None))

    def test_diagnostics_hold_the_last_error(self) -> None:
        self.panel.run.on_failure('"T1 head" shows nothing but noise', "a line of the log")
        self.ui.diagnosticsButton.click()
        text = slicer.app.clipboard().text()
        self.assertIn("shows nothing but noise", text)
        self.assertIn("a line of the log", text)
        self.assertNotIn("T1 head", text)

    def test_diagnostics_do_not_name_a_scan_without_a_result(self) -> None:
        scan = add_scan(name="Doe John T1")
        self.choose(scan)
        for removed in (False, True):
            self.panel.run.searched = "Doe John T1"
            self.panel.run.on_failure('"Doe John T1" shows nothing but noise', "")
            if removed:
                slicer.mrmlScene.RemoveNode(scan)
            self.ui.diagnosticsButton.click()
            self.assertIn("shows nothing but noise", slicer.app.clipboard().text())
            self.assertNotIn("Doe", slicer.app.clipboard().text())

    def test_how_long_a_run_took_is_kept_for_what_it_was_asked_for(self) -> None:
        settings = slicer.app.settings()
        for key in ("DALAnomaly/Seconds/cpu/full", "DALAnomaly/Seconds/cpu/quick"):
            settings.remove(key)
        with mock.patch.object(self.panel.run, "start"):
            self.panel.parameters.device = "cpu"
            self.ui.detectButton.click()
            self.panel.parameters.mode = Mode.QUICK
            self.panel._on_result(self.t1, make_result(), 47.0)
        self.assertEqual(int(settings.value("DALAnomaly/Seconds/cpu/full")), 47)
        self.assertIsNone(settings.value("DALAnomaly/Seconds/cpu/quick"))

    def test_diagnostics_name_no_mask_transform_or_sequence(self) -> None:
        for kind in ("vtkMRMLSegmentationNode", "vtkMRMLBSplineTransformNode", "vtkMRMLSequenceBrowserNode"):
            slicer.mrmlScene.AddNewNodeByClass(kind, f"Doe John {kind}")
            self.panel.run.on_failure(f'"Doe John {kind}" is of no use here', "")
            self.ui.diagnosticsButton.click()
            self.assertIn("is of no use here", slicer.app.clipboard().text())
            self.assertNotIn("Doe", slicer.app.clipboard().text())

    def test_a_difference_of_an_older_result_goes(self) -> None:
        self.ui.differenceButton.click()
        self.assertIn("difference", results_of(self.t1))
        self.panel.run._on_result(self.t1, dataclasses.replace(make_result(), threshold=0.3), 1.0)
        self.assertNotIn("difference", results_of(self.t1))
        self.assertIn("Compared with a healthy T1. Done in 1 s.", self.ui.statusLabel.text)


class ScriptTest(ScansTestCase):
    def test_a_scan_that_is_replaced_during_a_run_reaches_the_callback(self) -> None:
        outcomes = []
        sample = load_sample("T2")
        process(sample, "T2", mode="quick", on_done=outcomes.append)
        slicer.util.updateVolumeFromArray(sample, np.zeros((5, 6, 7), np.int16))
        wait_until(lambda: bool(outcomes))
        self.assertIsInstance(outcomes[0], GeometryError)

    def test_the_panel_shows_what_a_script_found_in_its_scan(self) -> None:
        sample = load_sample("T2")
        self.choose(sample)
        for threshold in (0.05, 0.08):  # of a first result, and of one in the place of another
            detected = process(sample, "T2", mode="quick", threshold=threshold)
            self.assertAlmostEqual(self.ui.thresholdSlider.value, threshold, places=4)
            self.assertEqual(self.ui.findingsTable.rowCount, len(detected.rows))
            self.assertEqual(self.ui.statusLabel.text, "Compared with a healthy T2.")
            self.leave_and_enter()

    def test_the_panel_shows_what_a_script_found_while_another_module_was_shown(self) -> None:
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        sample = load_sample("T2")
        self.choose(sample)
        process(sample, "T2", mode="quick")
        self.ui.differenceButton.click()
        slicer.modules.dalanomaly.widgetRepresentation().exit()
        process(sample, "T2", mode="quick", threshold=0.08)
        slicer.modules.dalanomaly.widgetRepresentation().enter()
        self.assertAlmostEqual(self.ui.thresholdSlider.value, 0.08, places=4)
        self.assertEqual(red.GetBackgroundVolumeID(), sample.GetID())

    def test_scans_that_were_removed_take_no_memory(self) -> None:
        gone: list[object] = []
        scan = add_scan(name="to be removed")
        self.choose(scan)
        scan.AddObserver("DeleteEvent", lambda *_: gone.append(1))
        self.choose(self.t1)
        slicer.mrmlScene.RemoveNode(scan)
        del scan
        gc.collect()
        self.assertEqual(len(gone), 1)


if __name__ == "__main__":
    unittest.main()
