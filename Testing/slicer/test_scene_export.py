"""Exports from a script, of what the scene holds."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer.export.volumes import write_volumes
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.result_nodes import update_results
from DALAnomalySlicer.scene_export import export_context
from Testing.slicer.mrml_phantom import LESION, SMALL_LESION, THRESHOLD, add_scan, make_result

RUNS_IN_SLICER = True


class ExportContextFromSceneTest(unittest.TestCase):
    def setUp(self) -> None:
        self.scan = add_scan()
        self.result = make_result()
        self.nodes = update_results(self.scan, self.result)

    def test_the_models_recommendation_is_taken(self) -> None:
        context = export_context(self.scan)
        self.assertEqual(context.threshold, self.result.threshold)
        self.assertEqual(context.minimum_volume_ml, self.result.minimum_finding_ml)
        lesions = np.zeros_like(context.labels.array)
        lesions[LESION], lesions[SMALL_LESION] = 1, 2
        np.testing.assert_array_equal(context.labels.array, lesions)
        np.testing.assert_array_equal(context.scan.array, slicer.util.arrayFromVolume(self.scan))
        self.assertEqual(context.name, "")

    def test_threshold_and_smallest_volume_are_heeded(self) -> None:
        larger = export_context(self.scan, THRESHOLD).rows[0].volume_ml
        context = export_context(self.scan, threshold=0.3, minimum_volume_ml=0.9 * larger)
        self.assertEqual((context.threshold, context.minimum_volume_ml), (0.3, 0.9 * larger))
        self.assertEqual([row.volume_ml for row in context.rows], [larger])

    def test_what_the_user_dismissed_is_left_out_of_the_files(self) -> None:
        live = LiveFindings(self.nodes, self.result)
        live.update(THRESHOLD, 0.0)
        live.mark(1, "dismissed")
        context = export_context(self.scan)
        self.assertEqual([row.status for row in context.rows], ["dismissed", ""])
        with tempfile.TemporaryDirectory() as folder:
            names = write_volumes(context, Path(folder) / "results")
            self.assertIn("findings.nii.gz", names)
            from DALAnomalyLib.volume_io import read_map

            written = read_map(Path(folder) / "results" / "findings.nii.gz").array
        self.assertEqual(written[LESION].max(), 0)
        self.assertEqual(written[SMALL_LESION].min(), 2)

    def test_a_scan_without_results_is_refused(self) -> None:
        with self.assertRaisesRegex(InputError, "other.*no result"):
            export_context(add_scan(name="other"))

    def test_a_result_that_is_not_whole_is_refused(self) -> None:
        slicer.mrmlScene.RemoveNode(self.nodes.pseudo_healthy)
        with self.assertRaisesRegex(InputError, "pseudo healthy"):
            export_context(self.scan)
