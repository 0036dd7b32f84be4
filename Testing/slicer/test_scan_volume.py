import tempfile
import unittest
from pathlib import Path

import nibabel
import numpy as np
import slicer
import vtk

from DALAnomalyLib.errors import DALAnomalyError, GeometryError, InputError, UsageError
from DALAnomalyLib.volume import Grid
from DALAnomalySlicer.result_nodes import update_results
from DALAnomalySlicer.scan_volume import check_scan, grid_of, volume_of
from Testing.slicer.mrml_phantom import AFFINES, SHAPE, add_scan, add_transform, affine, make_result, rotation

MOVED = affine(rotation(35) @ rotation(10, axis=1), (1.0, 1.0, 1.0), (7.0, -8.0, 9.0))


def ras_affine(grid: Grid) -> np.ndarray:
    return np.diag((-1.0, -1.0, 1.0, 1.0)) @ grid.affine


def affine_nibabel_reads(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The affine of the file that Slicer itself writes, with every transform hardened, as another program reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(str(path))
        assert storage.WriteData(node)
        return nibabel.load(path).affine


class VolumeOfTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def test_grid_is_where_nibabel_sees_the_file(self) -> None:
        for name, ijk_to_ras in AFFINES.items():
            with self.subTest(grid=name):
                node = add_scan(ijk_to_ras)
                grid = volume_of(node).grid
                np.testing.assert_allclose(ras_affine(grid), affine_nibabel_reads(node), atol=1e-4)
                np.testing.assert_allclose(ras_affine(grid), ijk_to_ras, atol=1e-9)

    def test_parent_transforms_move_the_grid(self) -> None:
        node = add_scan(AFFINES["oblique"])
        inner, outer = add_transform(MOVED), add_transform(affine(rotation(20, axis=0), (1.0, 1.0, 1.0), (1, 2, 3)))
        inner.SetAndObserveTransformNodeID(outer.GetID())
        node.SetAndObserveTransformNodeID(inner.GetID())
        moved = volume_of(node).grid
        self.assertTrue(node.HardenTransform())
        np.testing.assert_allclose(ras_affine(moved), affine_nibabel_reads(node), atol=1e-4)

    def test_scaling_becomes_voxel_size(self) -> None:
        node = add_scan(AFFINES["LPS"])
        node.SetAndObserveTransformNodeID(add_transform(np.diag((2.0, 1.0, 0.5, 1.0))).GetID())
        np.testing.assert_allclose(volume_of(node).grid.spacing, (4.0, 2.5, 1.5))

    def test_voxels_are_the_nodes_own_in_kji_order(self) -> None:
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        node = add_scan(array=array)
        volume = volume_of(node)
        np.testing.assert_array_equal(volume.array, array)
        k, j, i = 3, 5, 7
        self.assertEqual(volume.array[k, j, i], node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0))
        self.assertEqual(volume.grid.shape, SHAPE)

    def test_grid_of_a_result_is_the_scans(self) -> None:
        node = add_scan(AFFINES["flipped"])
        node.SetAndObserveTransformNodeID(add_transform(MOVED).GetID())
        nodes = update_results(node, make_result())
        self.assertTrue(grid_of(nodes.heatmap).is_close(volume_of(node).grid))


class CheckScanTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def assert_refused(self, node: slicer.vtkMRMLNode | None, kind: type[DALAnomalyError], pattern: str) -> None:
        with self.assertRaisesRegex(kind, pattern) as caught:
            check_scan(node)
        self.assertNotIn("\n", str(caught.exception))

    def test_a_plain_scan_passes(self) -> None:
        for ijk_to_ras in AFFINES.values():
            check_scan(add_scan(ijk_to_ras))

    def test_no_scan(self) -> None:
        self.assert_refused(None, UsageError, "No scan is chosen; load")

    def test_label_map(self) -> None:
        node = slicer.util.addVolumeFromArray(
            np.ones(SHAPE, np.uint8), name="m", nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        self.assert_refused(node, InputError, '"m" is a label map, not a scalar volume; choose')

    def test_colour_and_vector_volumes(self) -> None:
        for channels in (3, 4):
            array = np.ones((*SHAPE, channels), np.uint8)
            node = slicer.util.addVolumeFromArray(array, nodeClassName="vtkMRMLVectorVolumeNode")
            self.assert_refused(node, InputError, "is a colour or vector volume")

    def test_diffusion_volumes(self) -> None:
        for class_name in ("vtkMRMLDiffusionWeightedVolumeNode", "vtkMRMLDiffusionTensorVolumeNode"):
            self.assert_refused(slicer.mrmlScene.AddNewNodeByClass(class_name), InputError, "is a diffusion")

    def test_segmentation(self) -> None:
        self.assert_refused(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"), InputError, "segmentation")

    def test_scalar_volume_with_several_values_per_voxel(self) -> None:
        node = add_scan(name="colours")
        node.GetImageData().AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        self.assert_refused(node, InputError, '"colours" has 3 values per voxel')

    def test_sequence_and_its_shown_time_point(self) -> None:
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "fMRI")
        for value in ("0", "1"):
            sequence.SetDataNodeAtValue(add_scan(), value)
        self.assert_refused(sequence, InputError, '"fMRI" is a sequence of several time points')
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "player")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(sequence)
        self.assert_refused(proxy, InputError, 'one time point of the sequence "player"; clone')

    def test_no_image(self) -> None:
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        self.assert_refused(empty, InputError, '"empty" holds no image')
        empty.SetAndObserveImageData(vtk.vtkImageData())
        self.assert_refused(empty, InputError, '"empty" holds no image')

    def test_non_linear_transform_also_further_up(self) -> None:
        scan = add_scan()
        grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "warp")
        displacements = vtk.vtkImageData()
        displacements.SetDimensions(2, 2, 2)
        displacements.AllocateScalars(vtk.VTK_DOUBLE, 3)
        displacements.GetPointData().GetScalars().Fill(1.0)
        transform = slicer.vtkOrientedGridTransform()
        transform.SetDisplacementGridData(displacements)
        grid.SetAndObserveTransformToParent(transform)
        scan.SetAndObserveTransformNodeID(grid.GetID())
        self.assert_refused(scan, GeometryError, 'under the non-linear transform "warp"; harden')
        linear = add_transform(MOVED, "outer")
        linear.SetAndObserveTransformNodeID(grid.GetID())
        scan.SetAndObserveTransformNodeID(linear.GetID())
        self.assert_refused(scan, GeometryError, "non-linear transform")

    def test_sheared_grid_and_shearing_transform(self) -> None:
        tilted = AFFINES["LPS"].copy()
        tilted[1, 2] = 3.0 * np.tan(np.radians(12))
        self.assert_refused(add_scan(tilted), GeometryError, r"sheared: its axes are 12\.0 degrees off perpendicular")
        scan, shear = add_scan(), np.eye(4)
        shear[0, 1] = 0.1
        scan.SetAndObserveTransformNodeID(add_transform(shear).GetID())
        self.assert_refused(scan, GeometryError, "sheared")

    def test_scaling_that_shears_an_oblique_grid(self) -> None:
        scan = add_scan(AFFINES["oblique"])
        scan.SetAndObserveTransformNodeID(add_transform(np.diag((2.0, 1.0, 1.0, 1.0))).GetID())
        self.assert_refused(scan, GeometryError, "sheared")

    def test_degenerate_voxel_size(self) -> None:
        for value in (0.0, float("nan"), float("inf")):
            scan = add_scan()
            squeeze = np.diag((1.0, value, 1.0, 1.0))
            scan.SetAndObserveTransformNodeID(add_transform(squeeze).GetID())
            self.assert_refused(scan, GeometryError, "has a voxel size of")

    def test_result_of_an_earlier_detection(self) -> None:
        nodes = update_results(add_scan(), make_result())
        self.assert_refused(nodes.heatmap, InputError, "is a result of an earlier detection")
        self.assert_refused(nodes.pseudo_healthy, InputError, "is a result of an earlier detection")


if __name__ == "__main__":
    unittest.main()
