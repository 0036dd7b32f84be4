"""What the module expects of Slicer; run in Slicer itself and with the stand-in, which has to behave the same."""

import tempfile
import unittest
from pathlib import Path
from typing import Annotated, Optional

import ctk
import numpy as np
import qt
import slicer
import slicer.util
import vtk
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from vtk.util.numpy_support import vtk_to_numpy

RUNS_IN_SLICER = True


def add_volume(name: str = "scan", value: int = 100) -> slicer.vtkMRMLScalarVolumeNode:
    """A cube of 40 mm around the origin: `value` where S > 0, else 0."""
    voxels = np.zeros((40, 40, 40), np.int16)
    voxels[20:] = value
    ijk_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    ijk_to_ras[:3, 3] = [20, 20, -20]
    node = slicer.util.addVolumeFromArray(voxels, ijk_to_ras, name)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(200, 100)
    return node


@parameterNodeWrapper
class Parameters:
    scan: slicer.vtkMRMLScalarVolumeNode
    table: Optional[slicer.vtkMRMLTableNode]  # noqa: UP045 -- Slicer's wrapper does not know X | None
    threshold: Annotated[float, WithinRange(0, 2)] = 0.5
    sequence: Annotated[str, Choice(["auto", "T1", "T2"])] = "auto"
    quick: bool = False
    number: Annotated[int, Default(3)]
    dismissed: list[int]


class BehaviourLogic(ScriptedLoadableModuleLogic):
    def parameters(self) -> Parameters:
        return Parameters(self.getParameterNode())


class ParameterNodeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.logic = BehaviourLogic()

    def test_defaults(self) -> None:
        parameters = self.logic.parameters()
        assert (parameters.threshold, parameters.sequence, parameters.quick) == (0.5, "auto", False)
        assert (parameters.number, list(parameters.dismissed)) == (3, [])
        assert parameters.scan is None
        assert parameters.table is None

    def test_refuses_invalid_values(self) -> None:
        parameters = self.logic.parameters()
        for name, value, error in (
            ("threshold", 2.5, ValueError),
            ("sequence", "PD", ValueError),
            ("threshold", "high", TypeError),
            ("number", 1.5, TypeError),
            ("quick", None, (TypeError, ValueError)),
        ):
            with self.subTest(name=name, value=value), self.assertRaises(error):
                setattr(parameters, name, value)

    def test_two_wrappers_see_each_other(self) -> None:
        first, second = self.logic.parameters(), self.logic.parameters()
        first.threshold = 0.75
        assert second.threshold == 0.75

    def test_a_list_is_stored_when_changed_in_place(self) -> None:
        parameters = self.logic.parameters()
        parameters.dismissed = [1, 2]
        parameters.dismissed.append(5)
        parameters.dismissed.remove(1)
        assert list(self.logic.parameters().dismissed) == [2, 5]

    def test_closing_the_scene_restores_the_defaults(self) -> None:
        parameters = self.logic.parameters()
        parameters.scan, parameters.threshold = add_volume(), 1.5
        slicer.mrmlScene.Clear(False)
        assert parameters.scan is None
        assert parameters.threshold == 0.5

    def test_a_removed_node_is_none(self) -> None:
        parameters = self.logic.parameters()
        parameters.scan = add_volume()
        slicer.mrmlScene.RemoveNode(parameters.scan)
        assert parameters.scan is None

    def test_survives_saving_and_loading_the_scene(self) -> None:
        parameters = self.logic.parameters()
        parameters.scan, parameters.threshold, parameters.dismissed = add_volume("kept"), 1.25, [4, 7]
        parameters.table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "rows")
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "scene.mrb"))
            assert slicer.util.saveScene(file)
            slicer.mrmlScene.Clear(False)
            slicer.util.loadScene(file)
        loaded = self.logic.parameters()
        assert (loaded.threshold, list(loaded.dismissed)) == (1.25, [4, 7])
        assert (loaded.scan.GetName(), loaded.table.GetName()) == ("kept", "rows")
        assert slicer.util.arrayFromVolume(loaded.scan).max() == 100


class GuiTest(unittest.TestCase):
    """A parameter node and widgets that show it."""

    def setUp(self) -> None:
        self.parameters = BehaviourLogic().parameters()
        self.selector, self.slider = slicer.qMRMLNodeComboBox(), ctk.ctkSliderWidget()
        self.sequence, self.quick = qt.QComboBox(), qt.QCheckBox()
        self.slider.decimals, self.slider.singleStep = 2, 0.01
        self.selector.noneEnabled = True
        self.selector.setMRMLScene(slicer.mrmlScene)
        widgets = {"scan": self.selector, "threshold": self.slider, "sequence": self.sequence, "quick": self.quick}
        self.tag = self.parameters.connectParametersToGui(widgets)

    def tearDown(self) -> None:
        self.parameters.disconnectGui(self.tag)

    def test_widgets_show_the_parameters(self) -> None:
        scan = add_volume()
        self.parameters.scan, self.parameters.threshold = scan, 1.25
        self.parameters.sequence, self.parameters.quick = "T2", True
        assert self.selector.currentNodeID == scan.GetID()
        assert abs(self.slider.value - 1.25) <= 1e-9
        assert (self.sequence.currentText, self.quick.checked) == ("T2", True)

    def test_widgets_change_the_parameters(self) -> None:
        scan = add_volume()
        self.selector.setCurrentNode(scan)
        self.slider.value = 0.33
        self.sequence.setCurrentIndex(1)
        self.quick.click()
        assert self.parameters.scan.GetID() == scan.GetID()
        assert abs(self.parameters.threshold - 0.33) <= 1e-9
        assert (self.parameters.sequence, self.parameters.quick) == ("T1", True)

    def test_a_disconnected_widget_is_left_alone(self) -> None:
        self.parameters.disconnectGui(self.tag)
        self.slider.value = 0.33
        assert self.parameters.threshold == 0.5
        self.parameters.threshold = 1.0
        assert abs(self.slider.value - 0.33) <= 1e-9

    def test_annotations_configure_the_widgets(self) -> None:
        assert (self.slider.minimum, self.slider.maximum, self.sequence.count) == (0, 2, 3)
        assert self.selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)


class NodeSelectorTest(unittest.TestCase):
    def setUp(self) -> None:
        self.selector = slicer.qMRMLNodeComboBox()
        self.selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.selector.addEnabled = self.selector.removeEnabled = False
        self.changes = []
        self.selector.connect("currentNodeChanged(vtkMRMLNode*)", self.changes.append)

    def test_is_disabled_without_a_scene(self) -> None:
        assert not self.selector.enabled
        self.selector.setMRMLScene(slicer.mrmlScene)
        assert self.selector.enabled

    def test_lists_nodes_of_its_types(self) -> None:
        add_volume()
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
        self.selector.setMRMLScene(slicer.mrmlScene)
        assert self.selector.nodeCount() == 1
        second = add_volume()
        assert self.selector.nodeCount() == 2
        slicer.mrmlScene.RemoveNode(second)
        assert self.selector.nodeCount() == 1

    def test_chooses_the_first_node_by_itself(self) -> None:
        self.selector.setMRMLScene(slicer.mrmlScene)
        scan = add_volume()
        assert self.selector.currentNode() == scan
        assert self.changes == [scan]

    def test_with_none_enabled_it_waits_for_the_user(self) -> None:
        self.selector.noneEnabled = True
        self.selector.setMRMLScene(slicer.mrmlScene)
        add_volume()
        assert self.selector.currentNode() is None

    def test_with_actions_on_offer_it_waits_for_the_user(self) -> None:
        self.selector.addEnabled = True
        self.selector.setMRMLScene(slicer.mrmlScene)
        add_volume()
        assert self.selector.currentNode() is None

    def test_a_neighbour_follows_the_removed_node(self) -> None:
        self.selector.setMRMLScene(slicer.mrmlScene)
        first, second = add_volume("a"), add_volume("b")
        slicer.mrmlScene.RemoveNode(first)
        assert self.selector.currentNode() == second
        slicer.mrmlScene.RemoveNode(second)
        assert self.selector.currentNode() is None

    def test_only_nodes_with_the_required_attribute(self) -> None:
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.selector.addAttribute("vtkMRMLScalarVolumeNode", "DAL.Role", "heatmap")
        add_volume()
        assert self.selector.nodeCount() == 0
        heatmap = add_volume()
        heatmap.SetAttribute("DAL.Role", "heatmap")
        assert self.selector.nodeCount() == 1
        assert self.selector.currentNode() == heatmap


class CollapsibleButtonTest(unittest.TestCase):
    def setUp(self) -> None:
        self.button = ctk.ctkCollapsibleButton()
        self.inside, self.hidden = qt.QLabel("inside"), qt.QLabel("hidden")
        layout = qt.QVBoxLayout(self.button)
        layout.addWidget(self.inside)
        layout.addWidget(self.hidden)
        self.hidden.hide()
        self.button.show()

    def test_hides_and_shows_its_contents(self) -> None:
        self.button.collapsed = True
        assert not self.inside.visible
        self.button.collapsed = False
        assert self.inside.visible

    def test_what_was_hidden_stays_hidden(self) -> None:
        self.button.collapsed = True
        self.button.collapsed = False
        assert not self.hidden.visible

    def test_what_is_shown_while_collapsed_appears_when_opened(self) -> None:
        self.button.collapsed = True
        self.hidden.show()
        assert not self.hidden.visible
        self.button.collapsed = False
        assert self.hidden.visible

    def test_is_checked_while_open(self) -> None:
        self.button.checked = False
        assert self.button.collapsed


class SubjectHierarchyTest(unittest.TestCase):
    def test_follows_the_scene(self) -> None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        scan = add_volume()
        item = hierarchy.GetItemByDataNode(scan)
        assert item != hierarchy.GetInvalidItemID()
        slicer.mrmlScene.RemoveNode(scan)
        assert hierarchy.GetItemDataNode(item) is None


class SliceTest(unittest.TestCase):
    """Pixels of a coronal slice through the origin."""

    def setUp(self) -> None:
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.AddSliceNode("Behaviour")
        self.logic.GetSliceNode().SetOrientation("Coronal")
        self.logic.ResizeSliceNode(100, 100)

    def tearDown(self) -> None:
        slicer.mrmlScene.RemoveNode(self.logic.GetSliceCompositeNode())
        slicer.mrmlScene.RemoveNode(self.logic.GetSliceNode())

    def grey_at(self, ras: tuple[float, float, float]) -> int:
        self.logic.UpdatePipeline()
        blend = self.logic.GetImageDataConnection().GetProducer()
        blend.Update()
        picture = blend.GetOutput()
        columns, rows, _ = picture.GetDimensions()
        pixels = vtk_to_numpy(picture.GetPointData().GetScalars()).reshape(rows, columns, -1)
        ras_to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.logic.GetSliceNode().GetXYToRAS(), ras_to_xy)
        x, y = ras_to_xy.MultiplyPoint((*ras, 1))[:2]
        return int(pixels[round(y), round(x), 0])

    def test_blends_two_volumes(self) -> None:
        background, foreground = add_volume("background", value=100), add_volume("foreground", value=200)
        composite = self.logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(background.GetID())
        self.logic.FitSliceToAll()
        assert abs(self.grey_at((0, 0, 10)) - 127) <= 1
        assert self.grey_at((0, 0, -10)) == 0
        composite.SetForegroundVolumeID(foreground.GetID())
        composite.SetForegroundOpacity(0.5)
        assert abs(self.grey_at((0, 0, 10)) - 191) <= 1
        assert self.grey_at((0, 0, -10)) == 0


class FilesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(
            self.enterContext(tempfile.TemporaryDirectory(prefix="with space \N{GREEK SMALL LETTER ALPHA} "))
        )

    def test_a_volume_comes_back_from_its_file(self) -> None:
        scan = add_volume()
        file = str(self.folder / "scan.nii.gz")
        assert slicer.util.saveNode(scan, file)
        loaded = slicer.util.loadVolume(file, {"name": "again"})
        assert loaded.GetName() == "again"
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(scan))
        np.testing.assert_allclose(ijk_to_ras(loaded), ijk_to_ras(scan))

    def test_a_missing_file_is_an_error(self) -> None:
        with self.assertRaises(RuntimeError):
            slicer.util.loadVolume(str(self.folder / "absent.nii"))

    def test_a_bundle_brings_everything_back(self) -> None:
        add_volume("scan")
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "findings")
        segmentation.GetSegmentation().AddEmptySegment("finding_1", "finding 1")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "manifest").SetText('{"model": "tiny"}')
        file = str(self.folder / "scene.mrb")
        assert slicer.util.saveScene(file)
        slicer.mrmlScene.Clear(False)
        assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
        slicer.util.loadScene(file)
        assert slicer.util.arrayFromVolume(slicer.util.getNode("scan")).max() == 100
        assert slicer.util.getNode("findings").GetSegmentation().GetNumberOfSegments() == 1
        assert slicer.util.getNode("manifest").GetText() == '{"model": "tiny"}'


def ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
