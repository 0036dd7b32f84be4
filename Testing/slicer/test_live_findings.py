import json
import unittest

import numpy as np
import slicer
import vtk

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.findings_surface import show_3d
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.result_nodes import find_results, update_results
from DALAnomalySlicer.segment_labels import read_segments
from DALAnomalySlicer.segment_terms import ANOMALY
from DALAnomalySlicer.stored_result import read_stored_result
from Testing.slicer.mrml_phantom import (
    AFFINES,
    LESION,
    SMALL_LESION,
    add_scan,
    add_transform,
    affine,
    make_result,
    rotation,
    world_of,
)
from Testing.slicer.test_result_nodes import saved_and_reopened

MOVED = affine(rotation(35) @ rotation(10, axis=1), (1.0, 1.0, 1.0), (7.0, -8.0, 9.0))
VOXEL_ML = 2.0 * 2.5 * 3.0 / 1000


def column(table: slicer.vtkMRMLTableNode, title: str) -> list:
    values = table.GetTable().GetColumnByName(title)
    return [values.GetValue(number) for number in range(values.GetNumberOfValues())]


class LiveFindingsTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.scan = add_scan(AFFINES["oblique"])
        self.result = make_result()
        self.nodes = update_results(self.scan, self.result)
        self.live = LiveFindings(self.nodes, self.result)

    def segment(self) -> np.ndarray:
        return read_segments(self.nodes.findings, (ANOMALY,), self.scan)

    def test_segment_follows_the_threshold_up_and_down(self) -> None:
        for threshold in (0.25, 0.45, 0.95, 2.0, 0.1, 0.25):
            self.live.update(threshold, 0.0)
            np.testing.assert_array_equal(self.segment(), self.result.score >= threshold)

    def test_findings_are_those_of_the_library(self) -> None:
        grid = self.live.labels.grid
        expected = find_findings(Volume(self.result.score, grid), Volume(self.result.brain_mask, grid), 0.25, 0.0)[1]
        self.assertEqual(self.live.update(0.25, 0.0), expected)
        self.assertEqual(len(expected), 2)

    def test_small_findings_are_in_neither_segment_nor_table(self) -> None:
        self.live.update(0.25, 40 * VOXEL_ML)
        self.assertEqual(len(self.live.rows), 1)
        expected = np.zeros_like(self.result.brain_mask)
        expected[LESION] = 1
        np.testing.assert_array_equal(self.segment(), expected)

    def test_rows(self) -> None:
        self.live.update(0.25, 0.0)
        first, second = self.live.rows
        self.assertEqual((first.number, first.peak, first.tissue, first.status), (1, 1.0, "CSF", ""))
        np.testing.assert_allclose(first.extent_mm, (12.0, 15.0, 12.0))
        self.assertAlmostEqual(first.volume_ml, 4 * 6 * 6 * VOXEL_ML)
        self.assertAlmostEqual(first.mean, (143 * 0.5 + 1.0) / 144, places=6)
        np.testing.assert_allclose(first.centroid_ras, world_of(AFFINES["oblique"], (7.5, 6.5, 6.5)), atol=1e-6)
        self.assertEqual((second.number, second.tissue), (2, "white matter"))

    def test_positions_are_those_of_the_world(self) -> None:
        self.scan.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        live = LiveFindings(update_results(self.scan, self.result), self.result)
        live.update(0.25, 0.0)
        expected = world_of(MOVED @ AFFINES["oblique"], (7.5, 6.5, 6.5))
        np.testing.assert_allclose(live.rows[0].centroid_ras, expected, atol=1e-6)

    def test_table_node(self) -> None:
        self.live.update(0.25, 0.0)
        self.live.mark(2, "marked")
        table = self.nodes.table
        self.assertEqual(column(table, "Finding"), [1, 2])
        self.assertEqual(column(table, "Tissue"), ["CSF", "white matter"])
        self.assertEqual(column(table, "Status"), ["", "marked"])
        np.testing.assert_allclose(column(table, "Volume (ml)"), [row.volume_ml for row in self.live.rows])
        np.testing.assert_allclose(column(table, "S (mm)"), [row.centroid_ras[2] for row in self.live.rows])
        self.assertTrue(table.GetLocked())
        self.live.update(2.0, 0.0)
        self.assertEqual(table.GetNumberOfRows(), 0)
        self.assertEqual(table.GetNumberOfColumns(), 13)

    def test_labels_number_the_findings(self) -> None:
        self.live.update(0.25, 0.0)
        self.assertEqual(set(np.unique(self.live.labels.array[LESION])), {1})
        self.assertEqual(set(np.unique(self.live.labels.array[SMALL_LESION])), {2})

    def test_a_threshold_below_the_slider_is_refused(self) -> None:
        self.assertAlmostEqual(self.live.lowest, 0.25 / 4)
        self.assertAlmostEqual(self.live.highest, 1.0)
        with self.assertRaises(UsageError):
            self.live.update(0.05, 0.0)

    def test_the_label_map_is_changed_in_place_and_told_once(self) -> None:
        self.live.update(0.25, 0.0)
        segmentation = self.nodes.findings.GetSegmentation()
        image = segmentation.GetSegment("anomaly").GetRepresentation("Binary labelmap")
        events = []
        segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: events.append(1))
        for steps, threshold in enumerate((0.45, 0.3, 0.5), start=1):
            self.live.update(threshold, 0.0)
            self.assertEqual(len(events), steps)
        self.assertIs(segmentation.GetSegment("anomaly").GetRepresentation("Binary labelmap"), image)

    def test_an_edited_segment_is_taken_over_again(self) -> None:
        self.live.update(0.25, 0.0)
        edited = np.ones_like(self.result.brain_mask)
        slicer.util.updateSegmentBinaryLabelmapFromArray(edited, self.nodes.findings, "anomaly", self.scan)
        self.live.update(0.45, 0.0)
        np.testing.assert_array_equal(self.segment(), self.result.score >= 0.45)
        self.nodes.findings.GetSegmentation().RemoveSegment("anomaly")
        self.live.update(0.25, 0.0)
        np.testing.assert_array_equal(self.segment(), self.result.score >= 0.25)

    def test_removed_nodes_are_left_out(self) -> None:
        self.live.update(0.25, 0.0)
        slicer.mrmlScene.RemoveNode(self.nodes.findings)
        self.assertEqual(len(self.live.update(0.3, 0.0)), 2)
        with self.assertRaisesRegex(InputError, "marks cannot be saved"):
            self.live.mark(1, "marked")
        slicer.mrmlScene.RemoveNode(self.nodes.table)
        slicer.mrmlScene.RemoveNode(self.nodes.heatmap)
        self.assertEqual(len(self.live.update(0.45, 0.0)), 2)
        slicer.mrmlScene.Clear(False)
        self.assertEqual(len(self.live.update(0.3, 0.0)), 2)

    def test_surfaces(self) -> None:
        self.live.update(0.25, 0.0)
        show_3d(self.nodes.findings, True)
        surface = vtk.vtkPolyData()
        self.assertTrue(self.nodes.findings.GetClosedSurfaceRepresentation("anomaly", surface))
        self.assertGreater(surface.GetNumberOfPoints(), 100)
        self.live.update(0.45, 0.0)  # the surface would show the old findings
        self.assertFalse(self.nodes.findings.GetSegmentation().ContainsRepresentation("Closed surface"))
        show_3d(self.nodes.findings, True)
        show_3d(self.nodes.findings, False)
        self.assertFalse(self.nodes.findings.GetDisplayNode().GetVisibility3D())
        np.testing.assert_array_equal(self.segment(), self.result.score >= 0.45)

    def test_surfaces_of_no_findings(self) -> None:
        self.live.update(2.0, 0.0)
        show_3d(self.nodes.findings, True)
        np.testing.assert_array_equal(self.segment(), 0)


class MarksTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.scan = add_scan()
        score = make_result().score
        score[8, 7, 4:22] = 0.3  # joins both lesions' surroundings at low thresholds
        score[8:13, 7:16, 19] = 0.3
        self.result = make_result(score=score)
        self.nodes = update_results(self.scan, self.result)
        self.live = LiveFindings(self.nodes, self.result)

    def statuses(self, threshold: float) -> list[str]:
        self.live.update(threshold, 0.0)
        return [row.status for row in self.live.rows]

    def test_marks_stay_with_the_peak_while_findings_merge_and_part(self) -> None:
        self.assertEqual(self.statuses(0.39), ["", ""])
        self.live.mark(1, "marked")
        self.live.mark(2, "dismissed")
        self.assertEqual([row.status for row in self.live.rows], ["marked", "dismissed"])
        self.assertEqual(self.statuses(0.95), ["marked"])
        self.assertEqual(self.statuses(0.25), ["marked"])  # one finding now: the higher one's mark
        self.assertEqual(self.statuses(0.39), ["marked", "dismissed"])

    def test_a_mark_goes_with_the_finding_when_numbers_change(self) -> None:
        self.statuses(0.39)
        self.live.mark(2, "dismissed")
        (_, small), dismissed = self.live.rows, 2
        self.assertEqual(small.number, dismissed)
        self.result.score[5:9, 3:10, 3:10] *= np.float32(0.1)  # next time the other lesion is first
        self.live = LiveFindings(update_results(self.scan, self.result), self.result)
        self.assertEqual(self.statuses(0.39)[0], "dismissed")

    def test_taking_a_mark_away(self) -> None:
        self.statuses(0.39)
        self.live.mark(1, "marked")
        self.live.mark(1, "")
        self.assertEqual([row.status for row in self.live.rows], ["", ""])
        self.assertEqual(json.loads(self.nodes.findings.GetAttribute("DALAnomaly.marks")), [])

    def test_marks_and_findings_after_reopening(self) -> None:
        self.statuses(0.39)
        self.live.mark(2, "marked")
        before = self.live.rows
        saved_and_reopened()
        nodes = find_results(slicer.util.getNode("T1 head"))
        self.assertEqual(column(nodes.table, "Status"), ["", "marked"])
        result = read_stored_result(nodes)
        live = LiveFindings(nodes, result)
        live.update(0.39, 0.0)
        self.assertEqual([(row.number, row.status) for row in live.rows], [(row.number, row.status) for row in before])
        np.testing.assert_allclose(live.rows[0].centroid_ras, before[0].centroid_ras, atol=1e-4)
        segment = read_segments(nodes.findings, (ANOMALY,), slicer.util.getNode("T1 head"))
        np.testing.assert_array_equal(segment, result.score >= 0.39)


if __name__ == "__main__":
    unittest.main()
