"""The stand-in for Slicer: it offers nothing that Slicer has not, and refuses what Slicer refuses."""

import gc
import json
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import ctk
import pytest
import qt
import run_in_slicer
import slicer
import slicer.util
import vtk
from PySide6.QtCore import Property, Signal

import slicer_standin
from slicer_standin.pythonqt import STAND_INS

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = json.loads((ROOT / "Testing" / "slicer_standin" / "contract.json").read_text(encoding="utf-8"))
KINDS = ("properties", "signals", "callable", "constants")


def kind_of(member: object) -> str:
    if isinstance(member, Property):
        return "properties"
    if isinstance(member, Signal):
        return "signals"
    return "callable" if callable(member) else "constants"


def offered_by(cls: type) -> dict[str, str]:
    """Public names that a stand-in and its bases in Python define, beyond those of Qt, with their kinds."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("slicer_standin")]
    of_qt = next(base for base in cls.__mro__ if base.__module__.startswith("PySide6"))
    members = {name: member for base in reversed(ours) for name, member in vars(base).items()}
    return {n: kind_of(m) for n, m in members.items() if not n.startswith("_") and not hasattr(of_qt, n)}


def allowed_for(name: str) -> dict[str, set[str]]:
    """What the headers of Slicer and CTK say, bases included."""
    facts, allowed = CONTRACT.get(name), {kind: set[str]() for kind in KINDS}
    while facts is not None:
        for kind in KINDS:
            allowed[kind] |= set(facts.get(kind, ()))
        facts = CONTRACT.get(facts["base"])
    return allowed


@pytest.mark.parametrize("name", sorted(STAND_INS))
def test_offers_only_what_the_real_class_has(name: str) -> None:
    allowed = allowed_for(name)
    assert any(base.__name__ == CONTRACT[name]["base"] for base in STAND_INS[name].__mro__)
    unknown = {member: kind for member, kind in offered_by(STAND_INS[name]).items() if member not in allowed[kind]}
    unknown.pop("name", None) if name == "qSlicerScriptedLoadableModule" else None
    assert unknown == {}


def test_a_property_is_no_function() -> None:
    button = qt.QPushButton("Detect")
    assert button.text == "Detect"
    with pytest.raises(TypeError):
        button.text()
    with pytest.raises(TypeError):
        ctk.ctkSliderWidget().value()


@pytest.mark.parametrize("widget_class", [qt.QPushButton, ctk.ctkSliderWidget, slicer.qMRMLNodeComboBox])
def test_unknown_attributes_are_refused(widget_class: type) -> None:
    widget = widget_class()
    with pytest.raises(AttributeError):
        widget.made_up = 1
    with pytest.raises(AttributeError):
        _ = widget.made_up
    with pytest.raises(AttributeError):
        widget.show = None  # neither can functions be replaced


def test_a_class_derived_in_python_may_have_attributes() -> None:
    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.made_up = 1
    assert panel.made_up == 1


@pytest.mark.parametrize(("name", "value"), [("text", None), ("enabled", None), ("width", 3)])
def test_properties_refuse_what_does_not_fit(name: str, value: object) -> None:
    with pytest.raises(AttributeError):
        setattr(qt.QPushButton(), name, value)


def test_plain_setters_of_cpp_are_out_of_reach() -> None:
    with pytest.raises(AttributeError):
        ctk.ctkCollapsibleButton().setCollapsed(True)
    with pytest.raises(AttributeError):
        slicer.qMRMLNodeComboBox().setNodeTypes(["vtkMRMLTableNode"])


@pytest.mark.parametrize("signal", ["pressd()", "clicked(int)", "currentNodeChanged(vtkMRMLNode*)"])
def test_unknown_signals_are_refused(signal: str) -> None:
    with pytest.raises(AttributeError, match="does not exist"):
        qt.QPushButton().connect(signal, print)


def test_a_slot_gets_what_the_signature_says() -> None:
    button, calls = qt.QPushButton(), []
    button.checkable = True
    button.connect("clicked()", lambda *arguments: calls.append(arguments))
    button.connect("clicked(bool)", lambda checked: calls.append(checked))
    button.connect("clicked(bool)", lambda: calls.append("none wanted"))
    button.click()
    assert calls == [(), True, "none wanted"]


def test_a_disconnected_slot_is_not_called() -> None:
    button, calls = qt.QPushButton(), []
    button.connect("clicked(bool)", calls.append)
    assert button.disconnect("clicked(bool)", calls.append)
    assert not button.disconnect("clicked(bool)", calls.append)
    button.click()
    assert calls == []


def test_a_list_of_texts_reads_as_a_tuple() -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLTableNode"]
    assert selector.nodeTypes == ("vtkMRMLTableNode",)
    assert qt.QTextBrowser().searchPaths == ()


def test_a_selector_that_nobody_holds_is_gone() -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLTextNode"]
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    selector.setMRMLScene(slicer.mrmlScene)
    held = weakref.ref(selector)
    del selector
    gc.collect()
    assert held() is None


def test_exceptions_in_slots_and_observers_are_found() -> None:
    def fail(*_: object) -> None:
        msg = "on purpose"
        raise ValueError(msg)

    button = qt.QPushButton()
    button.connect("clicked()", fail)
    button.click()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, fail)
    node.Modified()
    errors = slicer_standin.take_slot_errors()  # taken here, they do not fail this test
    assert len(errors) == 2
    assert all("ValueError: on purpose" in error for error in errors)


# ---------------------------------------------------------------------------------------------------------------------
# .ui files

PANEL = """
<ui version="4.0">
 <widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout">
  <item><widget class="ctkCollapsibleButton" name="section">
   <property name="text"><string>Input</string></property>
   <property name="collapsed"><bool>true</bool></property>
   <layout class="QFormLayout">
    <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="scan">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="SlicerParameterName" stdset="0"><string>scan</string></property>
    </widget></item>
    <item row="1" column="1"><widget class="ctkPathLineEdit" name="model">
     <property name="filters"><set>ctkPathLineEdit::Files|ctkPathLineEdit::Readable</set></property>
    </widget></item>
   </layout>
  </widget></item>
 </layout></widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
  <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends></customwidget>
 </customwidgets>
 <connections><connection>
  <sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>scan</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
 </connection></connections>
</ui>
"""


def load(folder: Path, source: str) -> qt.QWidget:
    file = folder / "panel.ui"
    file.write_text(source, encoding="utf-8")
    return slicer.util.loadUI(str(file))


def test_a_ui_file_is_loaded(tmp_path: Path) -> None:
    panel = load(tmp_path, PANEL)
    ui = slicer.util.childWidgetVariables(panel)
    assert type(ui.section) is ctk.ctkCollapsibleButton
    assert ui.section.collapsed
    assert ui.scan.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.scan.property("SlicerParameterName") == "scan"
    assert ui.model.filters == ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Readable


def test_the_scene_reaches_the_widgets_of_a_ui_file(tmp_path: Path) -> None:
    panel = load(tmp_path, PANEL)
    panel.setMRMLScene(slicer.mrmlScene)
    assert slicer.util.childWidgetVariables(panel).scan.mrmlScene() is slicer.mrmlScene


@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        ('class="ctkPathLineEdit"', 'class="ctkPathLine"'),
        ("<class>ctkPathLineEdit</class>", "<class>ctkMatrixWidget</class>"),
        ("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)"),
        ("setMRMLScene(vtkMRMLScene*)", "setScene(vtkMRMLScene*)"),
    ],
)
def test_mistakes_in_a_ui_file_are_refused(tmp_path: Path, correct: str, wrong: str) -> None:
    source = PANEL.replace(correct, wrong)
    if "Matrix" in wrong:
        source = source.replace('class="ctkPathLineEdit"', 'class="ctkMatrixWidget"')
    with pytest.raises((RuntimeError, AttributeError)):
        load(tmp_path, source)


def test_the_header_of_a_collapsible_button_is_drawn(tmp_path: Path) -> None:
    panel = load(tmp_path, PANEL)
    section = slicer.util.childWidgetVariables(panel).section
    panel.resize(300, 120)
    pictures = []
    for collapsed in (True, False):
        section.collapsed = collapsed
        pictures.append(section.grab(qt.QRect(0, 0, 200, 24)).toImage())
    assert len({pictures[0].pixel(190, y) for y in range(24)}) > 3  # right of the text: frame and shading of a button
    assert pictures[0] != pictures[1]  # the arrow


# ---------------------------------------------------------------------------------------------------------------------
# modules

MODULE = """
import qt
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

class Probe(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Probe module")
        parent.categories = ["Testing"]

class ProbeWidget(ScriptedLoadableModuleWidget):
    calls = []
    def setup(self):
        super().setup()
        self.calls.append("setup")
        self.button = qt.QPushButton(_("Run"))
        self.layout.addWidget(self.button)
    def enter(self): self.calls.append("enter")
    def exit(self): self.calls.append("exit")
    def cleanup(self): self.calls.append("cleanup")

class ProbeLogic(ScriptedLoadableModuleLogic):
    pass
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "Probe.py"
    file.write_text(MODULE, encoding="utf-8")
    yield slicer_standin.load_module(file)
    slicer_standin.unload_module("Probe")
    sys.modules.pop("Probe")


def test_a_module_lives_as_in_slicer(probe) -> None:
    assert slicer.modules.probe is probe
    assert (probe.title, probe.categories) == ("Probe module", ("Testing",))
    widget = slicer.util.getModuleWidget("Probe")
    assert widget is slicer.modules.ProbeWidget
    probe.widgetRepresentation().enter()
    probe.widgetRepresentation().exit()
    assert widget.calls == ["setup", "enter", "exit"]
    assert Path(widget.resourcePath("UI/Probe.ui")) == Path(probe.path).parent / "Resources" / "UI" / "Probe.ui"


def test_a_module_is_cleaned_up_when_slicer_quits(probe) -> None:
    widget = slicer.util.getModuleWidget("Probe")
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit("Another")
    assert widget.calls == ["setup"]
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit("Probe")
    assert widget.calls == ["setup", "cleanup"]


def test_a_module_is_cleaned_up_and_made_anew_when_reloaded(probe) -> None:
    before = slicer.util.getModuleWidget("Probe")
    slicer.util.reloadScriptedModule("Probe")
    after = slicer.util.getModuleWidget("Probe")
    assert before.calls[-1] == "cleanup"
    assert after is not before
    assert after.calls == ["setup"]  # its class is new, too
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit("Probe")
    assert before.calls.count("cleanup") == 1


def test_the_parameter_node_is_one_per_scene(probe) -> None:
    logic = sys.modules["Probe"].ProbeLogic()
    node = logic.getParameterNode()
    assert node.GetAttribute("ModuleName") == "Probe"
    assert logic.getParameterNode() is node
    slicer.mrmlScene.Clear(False)
    assert logic.getParameterNode() is node


# ---------------------------------------------------------------------------------------------------------------------
# starting, and the runner for real Slicer

MARKED = """
    import unittest
    import slicer
    RUNS_IN_SLICER = True
    class Case(unittest.TestCase):
        def test_case(self):
            {body}
"""


def test_starting_again_changes_nothing() -> None:
    assert slicer_standin.start() is slicer.app


def test_slicer_takes_in_no_file_of_this_folder() -> None:
    """The package of slicer-core would import every file here, since Testing is on the path."""
    assert str(ROOT / "Testing") in sys.path
    assert not [path for path in slicer.__path__ if Path(path) == Path(__file__).parent]


def run_marked(folder: Path, body: str, *names: str) -> None:
    (folder / "test_marked.py").write_text(textwrap.dedent(MARKED).format(body=body), encoding="utf-8")
    (folder / "test_unmarked.py").write_text("raise AssertionError('not to be imported')", encoding="utf-8")
    run_in_slicer.run(names)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_in_slicer, "TESTS", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_the_runner_runs_marked_files(empty_folder: Path) -> None:
    run_marked(empty_folder, "self.assertTrue(True)")


def test_the_runner_raises_for_a_failure(empty_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="1 of 1 tests failed"):
        run_marked(empty_folder, "self.fail()")


def test_the_runner_raises_for_an_exception_in_an_observer(empty_folder: Path) -> None:
    body = "node = slicer.vtkMRMLTextNode(); node.AddObserver('ModifiedEvent', lambda *_: 1 / 0); node.SetText('new')"
    with pytest.raises(RuntimeError, match="1 of 1 tests failed"):
        run_marked(empty_folder, body)


def test_the_runner_raises_if_it_finds_nothing(empty_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="no tests were found"):
        run_marked(empty_folder, "pass", "test_unmarked.py")


def test_the_runner_in_a_process_of_its_own() -> None:
    code = """
        import runpy, sys, slicer_standin
        slicer_standin.start()
        sys.argv = ["run_in_slicer.py", "test_slicer_behaviour.py"]
        runpy.run_path("run_in_slicer.py", run_name="__main__")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT / "Testing", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "test_blends_two_volumes" in done.stderr
    assert done.stderr.rstrip().endswith("OK")
