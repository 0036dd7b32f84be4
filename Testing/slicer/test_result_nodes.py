import json
import tempfile
import unittest
from dataclasses import fields
from pathlib import Path

import nibabel
import numpy as np
import slicer
import vtk

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalySlicer.chosen_threshold import choice_of
from DALAnomalySlicer.heatmap_display import set_opacity_mode
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.result_nodes import ResultNodes, find_results, remove_results, stored_result, update_results
from DALAnomalySlicer.segment_labels import read_segments
from DALAnomalySlicer.segment_terms import ANOMALY, BRAIN, CSF, EDGES, GREY_MATTER, TISSUES, WHITE_MATTER
from DALAnomalySlicer.stored_result import read_stored_result
from Testing.slicer.mrml_phantom import AFFINES, add_scan, add_transform, affine, make_result, rotation

MOVED = affine(rotation(35) @ rotation(10, axis=1), (1.0, 1.0, 1.0), (7.0, -8.0, 9.0))
SEGMENTATIONS = {"tissues": TISSUES, "edges": (EDGES,), "brain_mask": (BRAIN,)}


def hierarchy() -> slicer.vtkMRMLSubjectHierarchyNode:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def path_of(node: slicer.vtkMRMLNode) -> list[str]:
    """Names of the folders that hold a node, from outside in."""
    item, names = hierarchy().GetItemByDataNode(node), []
    while item := hierarchy().GetItemParent(item):
        names.append(hierarchy().GetItemName(item))
    return names[-2::-1]


def saved_and_reopened() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scene ü.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(False)
        slicer.util.loadScene(path)


def node_count() -> int:
    return slicer.mrmlScene.GetNumberOfNodes()


class UpdateResultsTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def test_arrays_arrive_as_they_are(self) -> None:
        rng = np.random.default_rng(1)
        result = make_result()
        result = make_result(
            score=rng.random(result.score.shape, dtype=np.float32),
            pseudo_healthy=rng.random(result.score.shape, dtype=np.float32),
            tissues=rng.integers(0, 4, result.score.shape, dtype=np.uint8),
            uncertainty=rng.random(result.score.shape, dtype=np.float32),
            edges=rng.integers(0, 2, result.score.shape, dtype=np.uint8),
        )
        scan = add_scan(AFFINES["oblique"])
        nodes = update_results(scan, result)
        for name in ("heatmap", "pseudo_healthy", "uncertainty"):
            expected = getattr(result, {"heatmap": "score"}.get(name, name))
            np.testing.assert_array_equal(slicer.util.arrayFromVolume(getattr(nodes, name)), expected)
        for name, terms in SEGMENTATIONS.items():
            np.testing.assert_array_equal(read_segments(getattr(nodes, name), terms, scan), getattr(result, name))

    def test_a_model_of_one_view_leaves_no_uncertainty_of_an_earlier_result(self) -> None:
        scan = add_scan()
        self.assertIsNotNone(update_results(scan, make_result()).uncertainty)
        before = node_count()
        nodes = update_results(scan, make_result(uncertainty=None))
        self.assertIsNone(nodes.uncertainty)
        self.assertTrue(nodes.complete)
        self.assertLess(node_count(), before)
        self.assertEqual(find_results(scan), nodes)

    def test_segments_lie_where_slicer_reads_them(self) -> None:
        scan = add_scan(AFFINES["oblique"])
        scan.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        result = make_result()
        nodes = update_results(scan, result)
        for term in TISSUES:
            seen = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.tissues, term.identifier, scan)
            np.testing.assert_array_equal(seen > 0, result.tissues == term.value)

    def test_files_of_the_volumes_lie_where_the_scan_does(self) -> None:
        for name, ijk_to_ras in AFFINES.items():
            with self.subTest(grid=name), tempfile.TemporaryDirectory() as folder:
                scan = add_scan(ijk_to_ras)
                nodes = update_results(scan, make_result())
                for node in (nodes.heatmap, nodes.pseudo_healthy):
                    path = str(Path(folder) / f"{node.GetID()}.nii")
                    self.assertTrue(slicer.util.saveNode(node, path))
                    np.testing.assert_allclose(nibabel.load(path).affine, ijk_to_ras, atol=1e-4)

    def test_files_of_the_segmentations_lie_where_the_scan_does(self) -> None:
        scan = add_scan(AFFINES["flipped"])
        result = make_result()
        nodes = update_results(scan, result)
        for name, terms in SEGMENTATIONS.items():
            label_map = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
            logic = slicer.modules.segmentations.logic()
            self.assertTrue(logic.ExportAllSegmentsToLabelmapNode(getattr(nodes, name), label_map, 1))
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "labels.nii")
                self.assertTrue(slicer.util.saveNode(label_map, path))
                image = nibabel.load(path)
                labels = np.asarray(image.dataobj).transpose(2, 1, 0)
            np.testing.assert_allclose(image.affine, AFFINES["flipped"], atol=1e-4)
            np.testing.assert_array_equal(labels, getattr(result, name), err_msg=str(terms))

    def test_under_the_scans_transform(self) -> None:
        scan = add_scan()
        transform = add_transform(MOVED)
        scan.SetAndObserveTransformNodeID(transform.GetID())
        nodes = update_results(scan, make_result())
        for node in (nodes.heatmap, nodes.pseudo_healthy, nodes.tissues, nodes.edges, nodes.brain_mask, nodes.findings):
            self.assertIs(node.GetParentTransformNode(), transform)
        scan.SetAndObserveTransformNodeID(None)
        update_results(scan, make_result())
        self.assertIsNone(nodes.findings.GetParentTransformNode())

    def test_reference_geometry_is_the_scan(self) -> None:
        scan = add_scan()
        nodes = update_results(scan, make_result())
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        for node in (nodes.tissues, nodes.edges, nodes.brain_mask, nodes.findings):
            self.assertIs(node.GetNodeReference(role), scan)

    def test_pseudo_healthy_image_looks_like_the_scan(self) -> None:
        scan = add_scan()
        nodes = update_results(scan, make_result())
        display = nodes.pseudo_healthy.GetDisplayNode()
        self.assertEqual((display.GetWindow(), display.GetLevel()), (200, 100))
        self.assertFalse(display.GetAutoWindowLevel())
        scan.GetDisplayNode().SetWindowLevel(50, 70)
        update_results(scan, make_result())
        self.assertEqual((display.GetWindow(), display.GetLevel()), (50, 70))

    def test_scan_that_was_never_displayed(self) -> None:
        scan = add_scan()
        slicer.mrmlScene.RemoveNode(scan.GetDisplayNode())
        self.assertTrue(update_results(scan, make_result()).complete)

    def test_manifest(self) -> None:
        nodes = update_results(add_scan(), make_result())
        self.assertEqual(json.loads(nodes.manifest.GetText()), {"model": {"name": "phantom"}})

    def test_only_the_findings_are_displayed_at_once(self) -> None:
        nodes = update_results(add_scan(), make_result())
        self.assertTrue(nodes.findings.GetDisplayNode().GetVisibility())
        for node in (nodes.tissues, nodes.edges, nodes.brain_mask):
            self.assertFalse(node.GetDisplayNode().GetVisibility())

    def test_scan_replaced_by_one_of_another_size(self) -> None:
        scan = add_scan(array=np.ones((5, 6, 7), np.int16))
        with self.assertRaisesRegex(GeometryError, r"is \(5, 6, 7\) voxels .* detect again"):
            update_results(scan, make_result())
        self.assertIsNone(find_results(scan))

    def test_in_a_folder_beside_the_scan(self) -> None:
        scan = add_scan(name="MPRAGE")
        study = hierarchy().CreateStudyItem(hierarchy().GetSceneItemID(), "visit 1")
        hierarchy().SetItemParent(hierarchy().GetItemByDataNode(scan), study)
        nodes = update_results(scan, make_result())
        for node in vars(nodes).values():
            self.assertEqual(path_of(node), ["visit 1", "MPRAGE DAL results"])
            self.assertTrue(node.GetName().startswith("MPRAGE "))


class AgainTest(unittest.TestCase):
    """Running again, removing nodes, saving and reopening."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)
        self.scan = add_scan(AFFINES["oblique"])
        self.scan.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())

    def test_nothing_found_before(self) -> None:
        self.assertIsNone(find_results(self.scan))

    def test_running_again_updates(self) -> None:
        first = update_results(self.scan, make_result())
        count = node_count()
        changed = make_result(score=make_result().score * np.float32(2), manifest={"second": True})
        second = update_results(self.scan, changed)
        self.assertEqual(second, first)
        self.assertEqual(node_count(), count)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(first.heatmap), changed.score)
        self.assertEqual(json.loads(first.manifest.GetText()), {"second": True})
        self.assertEqual(first.tissues.GetSegmentation().GetNumberOfSegments(), 3)

    def test_running_again_keeps_what_the_user_has_set_up(self) -> None:
        nodes = update_results(self.scan, make_result())
        nodes.heatmap.SetName("my heatmap")
        nodes.tissues.GetDisplayNode().SetVisibility(True)
        nodes.tissues.GetDisplayNode().SetSegmentVisibility("csf", False)
        folder = hierarchy().CreateFolderItem(hierarchy().GetSceneItemID(), "mine")
        hierarchy().SetItemParent(hierarchy().GetItemByDataNode(nodes.heatmap), folder)
        update_results(self.scan, make_result())
        self.assertEqual(nodes.heatmap.GetName(), "my heatmap")
        self.assertTrue(nodes.tissues.GetDisplayNode().GetVisibility())
        self.assertFalse(nodes.tissues.GetDisplayNode().GetSegmentVisibility("csf"))
        self.assertEqual(path_of(nodes.heatmap), ["mine"])

    def test_two_scans_have_results_of_their_own(self) -> None:
        first = update_results(self.scan, make_result())
        other = add_scan(name="T2 head")
        second = update_results(other, make_result())
        self.assertFalse(set(vars(first).values()) & set(vars(second).values()))
        self.assertEqual(find_results(self.scan), first)
        self.assertEqual(find_results(other), second)

    def test_a_clone_of_the_scan_has_no_results(self) -> None:
        update_results(self.scan, make_result())
        clone = slicer.modules.volumes.logic().CloneVolume(self.scan, "clone")
        self.assertIsNone(find_results(clone))

    def test_a_removed_node_is_missed_and_made_again(self) -> None:
        for field in fields(ResultNodes):
            with self.subTest(removed=field.name):
                before = update_results(self.scan, make_result())
                slicer.mrmlScene.RemoveNode(getattr(before, field.name))
                found = find_results(self.scan)
                self.assertIsNone(getattr(found, field.name))
                self.assertEqual(found.complete, field.name == "uncertainty", "which not every model gives")
                after = update_results(self.scan, make_result(), before)
                self.assertNotIn(None, vars(after).values())
                others = [other.name for other in fields(ResultNodes) if other.name != field.name]
                for name in others:
                    self.assertIs(getattr(after, name), getattr(before, name))

    def test_a_removed_segment_is_made_again(self) -> None:
        nodes = update_results(self.scan, make_result())
        nodes.tissues.GetSegmentation().RemoveSegment("grey_matter")
        update_results(self.scan, make_result())
        np.testing.assert_array_equal(read_segments(nodes.tissues, TISSUES, self.scan), make_result().tissues)

    def test_remove_results(self) -> None:
        update_results(add_scan(name="T2 head"), make_result())
        nodes = update_results(self.scan, make_result())
        set_opacity_mode(nodes.heatmap, "proportional")
        saved_and_reopened()  # from now on there are storage nodes as well
        scan, other = slicer.util.getNode("T1 head"), slicer.util.getNode("T2 head")
        remove_results(scan)
        self.assertIsNone(find_results(scan))
        self.assertTrue(find_results(other).complete)
        self.assertFalse(hierarchy().GetItemByName("T1 head DAL results"))
        remove_results(other)
        self.assertFalse(hierarchy().GetItemByName("T2 head DAL results"))
        kinds = ("vtkMRMLSegmentationDisplayNode", "vtkMRMLColorLegendDisplayNode", "vtkMRMLSegmentationStorageNode")
        for kind in kinds:
            self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass(kind), 0, kind)

    def test_a_folder_that_holds_more_stays(self) -> None:
        nodes = update_results(self.scan, make_result())
        note = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "note")
        folder = hierarchy().GetItemParent(hierarchy().GetItemByDataNode(nodes.heatmap))
        hierarchy().SetItemParent(hierarchy().GetItemByDataNode(note), folder)
        remove_results(self.scan)
        self.assertEqual(path_of(note), ["T1 head DAL results"])

    def test_reopened_scene_is_complete(self) -> None:
        result = make_result()
        update_results(self.scan, result)
        saved_and_reopened()
        scan = slicer.util.getNode("T1 head")
        nodes = find_results(scan)
        self.assertTrue(nodes.complete)
        self.assertIs(nodes.heatmap.GetParentTransformNode(), scan.GetParentTransformNode())
        self.assertEqual(path_of(nodes.findings), ["T1 head DAL results"])
        stored = read_stored_result(nodes)
        for field in fields(result):
            expected = getattr(result, field.name)
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(getattr(stored, field.name), expected, err_msg=field.name)
            else:
                self.assertEqual(getattr(stored, field.name), expected)
        count = node_count()
        self.assertEqual(update_results(scan, result), nodes)
        self.assertEqual(node_count(), count)

    def test_reopened_heatmap_looks_as_before(self) -> None:
        nodes = update_results(self.scan, make_result())
        colours = [nodes.heatmap.GetDisplayNode().GetColorNode().GetLookupTable().GetTableValue(i) for i in range(256)]
        saved_and_reopened()
        display = find_results(slicer.util.getNode("T1 head")).heatmap.GetDisplayNode()
        reopened = [display.GetColorNode().GetLookupTable().GetTableValue(i) for i in range(256)]
        np.testing.assert_allclose(reopened, colours, atol=1 / 255)
        self.assertTrue(display.GetApplyThreshold())
        self.assertAlmostEqual(display.GetLowerThreshold(), 0.25)

    def test_incomplete_stored_result_is_refused(self) -> None:
        nodes = update_results(self.scan, make_result())
        slicer.mrmlScene.RemoveNode(nodes.brain_mask)
        with self.assertRaisesRegex(InputError, "lacks brain mask; detect"):
            read_stored_result(find_results(self.scan))

    def test_a_stored_result_whose_files_are_gone_is_refused_and_left_as_it_is(self) -> None:
        nodes = update_results(self.scan, make_result())
        LiveFindings(nodes, make_result()).update(0.3, 0.0)
        shown = nodes.table.GetNumberOfRows()
        self.assertGreater(shown, 0)
        images = {role: getattr(nodes, role).GetImageData() for role in ("heatmap", "pseudo_healthy")}
        for role, image in images.items():
            getattr(nodes, role).SetAndObserveImageData(None)
            with self.assertRaisesRegex(InputError, f"lacks {role.replace('_', ' ')}; detect"):
                stored_result(self.scan, nodes)
            getattr(nodes, role).SetAndObserveImageData(image)
        for role, name in (("tissues", "tissues"), ("brain_mask", "brain mask")):
            nodes = update_results(self.scan, make_result(), nodes)
            LiveFindings(nodes, make_result()).update(0.3, 0.0)
            getattr(nodes, role).GetSegmentation().RemoveAllSegments()
            with self.assertRaisesRegex(InputError, f"lacks {name}; detect"):
                stored_result(self.scan, nodes)
            self.assertEqual(nodes.table.GetNumberOfRows(), shown)

    def test_what_a_stored_result_can_do_without_may_have_lost_its_file(self) -> None:
        uncertainty = np.ones_like(make_result().score)
        nodes = update_results(self.scan, make_result(uncertainty=uncertainty))
        nodes.uncertainty.SetAndObserveImageData(None)
        for text in ("", "half a mani", "[1]"):
            nodes.manifest.SetText(text)
            stored = read_stored_result(nodes)
            self.assertIsNone(stored.uncertainty)
            self.assertEqual(stored.manifest, {})

    def test_under_a_transform_that_bends_or_shears_a_stored_result_stays_as_it_is(self) -> None:
        nodes = update_results(self.scan, make_result())
        LiveFindings(nodes, make_result()).update(0.3, 0.0)
        rows, choice = nodes.table.GetNumberOfRows(), choice_of(nodes.heatmap, make_result())
        self.assertGreater(rows, 0)
        sheared = np.eye(4)
        sheared[0, 1] = 0.2
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
        bent.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
        for transform in (add_transform(sheared), bent):
            self.scan.SetAndObserveTransformNodeID(transform.GetID())
            with self.assertRaises(GeometryError):
                stored_result(self.scan, nodes)
            with self.assertRaises(GeometryError):
                update_results(self.scan, make_result(), nodes)
            self.assertEqual(nodes.table.GetNumberOfRows(), rows)
            self.assertEqual(choice_of(nodes.heatmap, make_result()), choice)
        self.scan.SetAndObserveTransformNodeID(None)
        self.assertEqual(stored_result(self.scan, nodes)[0], nodes)

    def test_stored_result_without_its_manifest(self) -> None:
        nodes = update_results(self.scan, make_result())
        slicer.mrmlScene.RemoveNode(nodes.manifest)
        self.assertEqual(read_stored_result(find_results(self.scan)).threshold, 0.25)


class SegmentTermsTest(unittest.TestCase):
    def test_terms_are_what_dicom_says(self) -> None:
        from pydicom.sr.codedict import codes

        expected = {
            CSF: codes.SCT.CerebrospinalFluid,
            GREY_MATTER: codes.SCT.GrayMatter,
            WHITE_MATTER: codes.SCT.WhiteMatter,
            BRAIN: codes.SCT.Brain,
            ANOMALY: codes.SCT.Lesion,
        }
        for term, code in expected.items():
            self.assertEqual(term.kind, (code.value, code.meaning))
        self.assertEqual(ANOMALY.category[0], codes.SCT.MorphologicallyAbnormalStructure.value)
        self.assertEqual(CSF.category, (codes.SCT.BodySubstance.value, codes.SCT.BodySubstance.meaning))

    def test_slicer_reads_the_terms_from_the_segments(self) -> None:
        slicer.mrmlScene.Clear(False)
        nodes = update_results(add_scan(), make_result())
        reader = slicer.vtkSlicerTerminologiesModuleLogic()
        for node, term in ((nodes.tissues, CSF), (nodes.brain_mask, BRAIN), (nodes.findings, ANOMALY)):
            segment = node.GetSegmentation().GetSegment(term.identifier)
            entry = slicer.vtkSlicerTerminologyEntry()
            tag = vtk.reference("")
            self.assertTrue(segment.GetTag(segment.GetTerminologyEntryTagName(), tag))
            self.assertTrue(reader.DeserializeTerminologyEntry(str(tag), entry))
            self.assertEqual(entry.GetTypeObject().GetCodeMeaning(), term.kind[1])
            self.assertEqual(entry.GetCategoryObject().GetCodeValue(), term.category[0])
            self.assertEqual(segment.GetName(), term.name)
            np.testing.assert_allclose(segment.GetColor(), term.colour)


if __name__ == "__main__":
    unittest.main()
