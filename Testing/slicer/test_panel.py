"""The panel from the click to the saved scene, with the shipped model and real worker processes."""

import errno
import os
import signal
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
import slicer.util

from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.sample_scans import load_sample
from Testing.slicer.panel_driver import close_panel, open_panel, run_folders, run_to_end, wait_until

RUNS_IN_SLICER = True


class PanelTestCase(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.panel = open_panel()
        self.ui = self.panel.ui

    def tearDown(self) -> None:
        close_panel()
        self.assertEqual(run_folders(), [])

    def detect_sample(self) -> slicer.vtkMRMLScalarVolumeNode:
        self.ui.sampleButton.click()
        run_to_end(self.panel)
        self.assertIsNotNone(self.panel.findings.live, self.ui.statusLabel.text)
        return self.panel.parameters.inputVolume

    def anomaly_voxels(self, scan: slicer.vtkMRMLScalarVolumeNode) -> int:
        findings = results_of(scan)["findings"]
        segment = findings.GetSegmentation().GetNthSegmentID(0)
        return np.count_nonzero(slicer.util.arrayFromSegmentBinaryLabelmap(findings, segment, scan))

    def table_text(self, row: int, column: int) -> str:
        return self.ui.findingsTable.item(row, column).text()


class FromClickToSavedSceneTest(PanelTestCase):
    def test_click_slider_table_export_save_and_reopen(self) -> None:
        scan = self.detect_sample()
        self.assertEqual(self.ui.detectButton.text, "Detect anomalies")
        self.assertIn("T2", self.ui.statusLabel.text)
        self.assert_threshold_changes_the_mask(scan)
        self.assert_rows_can_be_judged()
        self.assert_results_can_be_taken_away()
        self.assert_saved_scene_is_picked_up_again(scan)

    def assert_threshold_changes_the_mask(self, scan: slicer.vtkMRMLScalarVolumeNode) -> None:
        recommended = self.anomaly_voxels(scan)
        volume = float(self.table_text(0, 1))
        self.ui.thresholdSlider.value *= 2
        self.assertLess(self.anomaly_voxels(scan), recommended)
        self.assertLess(float(self.table_text(0, 1)), volume)
        heatmap = results_of(scan)["heatmap"]
        self.assertAlmostEqual(
            heatmap.GetScalarVolumeDisplayNode().GetLowerThreshold(), self.ui.thresholdSlider.value, places=4
        )
        self.ui.sensitiveButton.click()
        sensitive = self.anomaly_voxels(scan)
        self.ui.specificButton.click()
        self.assertLess(self.anomaly_voxels(scan), sensitive)
        self.ui.resetButton.click()
        self.assertEqual(self.anomaly_voxels(scan), recommended)

    def assert_rows_can_be_judged(self) -> None:
        self.ui.nextButton.click()
        centre = self.panel.findings.live.rows[0].centroid_ras
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        self.assertAlmostEqual(red.GetSliceOffset(), centre[2], delta=3)
        self.ui.markButton.click()
        self.assertIn("\N{BLACK STAR}", self.table_text(0, 0))
        self.ui.dismissButton.click()
        self.assertIn("dismissed", self.ui.totalsLabel.text)
        self.ui.copyButton.click()
        self.assertIn("dismissed", slicer.app.clipboard().text())
        self.ui.dismissButton.click()
        self.assertNotIn("dismissed", self.ui.totalsLabel.text)
        self.ui.markButton.click()

    def assert_results_can_be_taken_away(self) -> None:
        with tempfile.TemporaryDirectory(prefix="ü ö ") as folder:
            self.panel.export.ask_folder = lambda title: folder
            self.panel.export.ask_file = lambda title, name, kind: str(Path(folder) / name)
            self.ui.exportImagesButton.click()
            self.assertIn("Written", self.ui.exportLabel.text)
            self.ui.imageFormatSelector.currentIndex = 1
            self.ui.exportImagesButton.click()
            self.assertIn("score.nrrd", os.listdir(Path(folder, "DALAnomaly images 2")))
            self.ui.imageFormatSelector.currentIndex = 0
            self.ui.exportReportButton.click()
            self.assertIn("Written", self.ui.exportLabel.text)
            self.ui.exportDicomButton.click()
            self.assertIn("DICOM", self.ui.exportLabel.text)
            self.assertNotIn("Written", self.ui.exportLabel.text)
            images = {path.name for path in Path(folder, "DALAnomaly images").iterdir()}
            self.assertTrue({"score.nii.gz", "findings.nii.gz", "findings.csv", "manifest.json"} <= images, images)
            report = Path(folder, "DALAnomaly report.html").read_text(encoding="utf-8")
            self.assertIn("Research use only", report)
        self.ui.diagnosticsButton.click()
        self.assertNotIn("Sample T2", slicer.app.clipboard().text())

    def assert_saved_scene_is_picked_up_again(self, scan: slicer.vtkMRMLScalarVolumeNode) -> None:
        self.ui.thresholdSlider.value *= 1.5
        threshold, voxels = self.panel.findings.live.choice.threshold, self.anomaly_voxels(scan)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "scene.mrb"))
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear(False)
            self.assertFalse(self.ui.findingsSection.enabled)
            slicer.util.loadScene(path)
        slicer.app.processEvents()
        self.assertTrue(self.ui.findingsSection.enabled, self.ui.statusLabel.text)
        self.assertAlmostEqual(self.panel.findings.live.choice.threshold, threshold, places=6)
        reopened = self.panel.parameters.inputVolume
        self.assertEqual(reopened.GetName(), "Sample T2")
        self.assertEqual(self.anomaly_voxels(reopened), voxels)
        self.assertIn("\N{BLACK STAR}", self.table_text(0, 0))

    def test_running_again_updates_the_nodes(self) -> None:
        scan = self.detect_sample()
        first = {role: node.GetID() for role, node in results_of(scan).items()}
        self.ui.detectButton.click()
        run_to_end(self.panel)
        self.assertEqual({role: node.GetID() for role, node in results_of(scan).items()}, first)

    def test_views_compare(self) -> None:
        scan = self.detect_sample()
        results = results_of(scan)
        composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        self.assertEqual(composite.GetBackgroundVolumeID(), scan.GetID())
        self.ui.healthyButton.click()
        self.assertEqual(composite.GetForegroundVolumeID(), results["pseudo_healthy"].GetID())
        self.ui.fadeSlider.value = 0.25
        self.assertAlmostEqual(composite.GetForegroundOpacity(), 0.25)
        self.ui.heatmapButton.click()
        self.assertIn(composite.GetForegroundVolumeID(), {results["heatmap"].GetID(), results["overlay"].GetID()})
        self.ui.flickerButton.click()
        self.assertEqual(composite.GetForegroundOpacity(), 0)
        self.ui.flickerButton.click()
        self.assertAlmostEqual(composite.GetForegroundOpacity(), 0.25)
        self.ui.differenceButton.click()
        self.assertEqual(composite.GetBackgroundVolumeID(), results_of(scan)["difference"].GetID())
        layout = slicer.app.layoutManager().layout
        self.ui.sideBySideButton.click()
        self.assertNotEqual(slicer.app.layoutManager().layout, layout)
        self.ui.sideBySideButton.click()
        self.assertEqual(slicer.app.layoutManager().layout, layout)


class FaultTest(PanelTestCase):
    def start(self) -> slicer.vtkMRMLScalarVolumeNode:
        scan = load_sample("T1")
        self.panel.parameters.inputVolume = scan
        self.ui.detectButton.click()
        wait_until(lambda: self.ui.progressBar.value > 0)
        return scan

    def worker_id(self) -> int:
        return self.panel.run._run._worker._process.pid

    def assert_usable(self) -> None:
        self.assertFalse(self.panel.run.running)
        self.assertEqual(self.ui.detectButton.text, "Detect anomalies")
        self.assertEqual(run_folders(), [])

    def test_cancel_ends_the_worker_within_two_seconds(self) -> None:
        self.start()
        worker = self.worker_id()
        self.assertEqual(self.ui.detectButton.text, "Cancel")
        self.ui.detectButton.click()
        self.assertLess(wait_until(lambda: not _alive(worker)), 2)
        self.assertEqual(self.ui.statusLabel.text, "Cancelled.")
        self.assert_usable()

    @unittest.skipIf(sys.platform == "win32", "Windows has no SIGKILL")
    def test_killed_worker_gives_one_message(self) -> None:
        self.start()
        os.kill(self.worker_id(), signal.SIGKILL)
        wait_until(lambda: not self.panel.run.running)
        self.assertIn("killed", self.ui.statusLabel.text)
        self.assert_usable()

    def test_removed_scan_gives_one_message(self) -> None:
        scan = self.start()
        slicer.mrmlScene.RemoveNode(scan)
        wait_until(lambda: not self.panel.run.running)
        self.assertIn("removed", self.ui.statusLabel.text)
        self.assert_usable()

    def test_closing_the_scene_stops_the_run(self) -> None:
        self.start()
        worker = self.worker_id()
        slicer.mrmlScene.Clear(False)
        self.assertLess(wait_until(lambda: not _alive(worker)), 2)
        self.assert_usable()

    def test_quitting_or_reloading_stops_the_run(self) -> None:
        self.start()
        worker = self.worker_id()
        slicer.modules.DALAnomalyWidget.cleanup()
        self.assertLess(wait_until(lambda: not _alive(worker)), 2)
        self.assert_usable()
        slicer.modules.dalanomaly.widgetRepresentation().reload()
        slicer.modules.dalanomaly.widgetRepresentation().enter()
        self.assertFalse(slicer.modules.DALAnomalyWidget.panel.run.running)

    def test_another_module_may_be_shown_meanwhile(self) -> None:
        scan = self.start()
        slicer.modules.dalanomaly.widgetRepresentation().exit()
        wait_until(lambda: not self.panel.run.running)
        self.assertIn("heatmap", results_of(scan))
        slicer.modules.dalanomaly.widgetRepresentation().enter()
        self.assertTrue(self.ui.findingsSection.enabled)

    def test_without_a_scan_nothing_starts(self) -> None:
        self.ui.detectButton.click()
        self.assertIn("choose", self.ui.statusLabel.text)
        self.assert_usable()

    def test_full_disk_is_said_and_nothing_starts(self) -> None:
        self.panel.parameters.inputVolume = load_sample("T1")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with mock.patch("DALAnomalySlicer.detection_run.make_run_folder", side_effect=full):
            self.ui.detectButton.click()
        self.assertIn("make room", self.ui.statusLabel.text)
        self.assert_usable()

    def test_missing_torch_is_said_and_nothing_is_installed_unasked(self) -> None:
        self.panel.parameters.inputVolume = load_sample("T1")
        self.panel.confirm = lambda question: False
        with (
            mock.patch("DALAnomalySlicer.preflight.torch_version", return_value=None),
            mock.patch.dict(sys.modules, {"PyTorchUtils": types.ModuleType("PyTorchUtils")}),
        ):
            self.ui.detectButton.click()
            self.assertIn("not installed", self.ui.preflightLabel.text)
        self.assert_usable()

    def test_scan_under_a_bending_transform_is_refused(self) -> None:
        scan = load_sample("T1")
        bend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bend")
        scan.SetAndObserveTransformNodeID(bend.GetID())
        self.panel.parameters.inputVolume = scan
        self.assertIn("non-linear", self.ui.preflightLabel.text)
        self.ui.detectButton.click()
        self.assertIn("non-linear", self.ui.statusLabel.text)
        self.assert_usable()

    def test_noise_is_refused_by_the_library_in_words(self) -> None:
        rng = np.random.default_rng(1)
        scan = slicer.util.addVolumeFromArray(rng.normal(100, 5, (40, 40, 40)).astype(np.float32), name="noise")
        self.panel.parameters.inputVolume = scan
        self.ui.detectButton.click()
        run_to_end(self.panel)
        self.assertIn("noise", self.ui.statusLabel.text)
        self.assertNotIn("scan.nii", self.ui.statusLabel.text)
        self.assertIsNone(self.panel.findings.live)
        self.assert_usable()


class LookTest(PanelTestCase):
    def test_every_control_has_a_tooltip(self) -> None:
        for name in _controls(self.ui):
            with self.subTest(name):
                self.assertNotEqual(getattr(self.ui, name).toolTip, "")

    def test_no_button_is_cut_at_380_pixels(self) -> None:
        widget = slicer.modules.dalanomaly.widgetRepresentation()
        self.ui.exportSection.collapsed = False
        widget.resize(380, 1200)
        widget.show()
        slicer.app.processEvents()
        for name in _controls(self.ui):
            control = getattr(self.ui, name)
            with self.subTest(name):
                self.assertLessEqual(control.minimumSizeHint.width(), control.width)
        self.assertLessEqual(widget.minimumSizeHint.width(), 380)


class PreflightTest(PanelTestCase):
    def test_device_of_another_machine_falls_back(self) -> None:
        self.panel.parameters.device = "cuda:7"
        self.assertEqual(self.ui.deviceSelector.currentIndex, 0)
        self.assertEqual(self.panel.scan.options().device, "auto")

    def test_choices_are_saved_with_the_scene(self) -> None:
        self.ui.sequenceSelector.currentIndex = 2
        self.ui.modeSelector.currentIndex = 1
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "choices.mrb"))
            slicer.util.saveScene(path)
            slicer.mrmlScene.Clear(False)
            self.assertEqual(self.ui.sequenceSelector.currentIndex, 0)
            slicer.util.loadScene(path)
        self.assertEqual((self.ui.sequenceSelector.currentIndex, self.ui.modeSelector.currentIndex), (2, 1))


def _controls(ui: object) -> list[str]:
    return [name for name in vars(ui) if name.endswith(("Button", "Selector", "Slider", "Table"))]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
