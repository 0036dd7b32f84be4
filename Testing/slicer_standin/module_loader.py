"""Loading a scripted module, as qSlicerScriptedLoadableModule and its widget do it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import shiboken6
import slicer
import slicer.util
from PySide6.QtCore import Property, QObject
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout, QWidget

from .mrml_widgets import qSlicerWidget
from .properties import stored_property
from .pythonqt import cpp_class


@cpp_class
class qSlicerScriptedLoadableModule(QObject):
    """What Slicer's list of modules holds for a scripted module."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)
        self._name = path.stem
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        """The panel, made and set up when it is asked for first."""
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        widget = qSlicerScriptedLoadableModuleWidget()
        widget.setMRMLScene(slicer.mrmlScene)
        widget._set_python_source(self._path)
        return widget

    path = Property(str, lambda self: self._path)
    name = Property(str, lambda self: self._name)
    title = stored_property(str, "title", "")
    categories = stored_property("QStringList", "categories", ())
    dependencies = stored_property("QStringList", "dependencies", ())
    contributors = stored_property("QStringList", "contributors", ())
    helpText = stored_property(str, "helpText", "")
    acknowledgementText = stored_property(str, "acknowledgementText", "")
    icon = stored_property(QIcon, "icon", None)
    hidden = stored_property(bool, "hidden", False)


@cpp_class
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The Qt side of a module's panel: it holds the Python side and passes on what happens to the panel."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        QVBoxLayout(self)
        self._python: Any = None
        self._source = ""
        self._entered = False

    def _set_python_source(self, path: str) -> None:
        """Makes and sets up the Python widget <ModuleName>Widget of the file."""
        name = Path(path).stem
        self._source = path
        self._python = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def reload(self) -> None:
        self._set_python_source(self._source)

    def self(self) -> Any:
        return self._python

    def enter(self) -> None:
        self._entered = True
        self._call("enter")

    def exit(self) -> None:
        self._entered = False
        self._call("exit")

    def _call(self, method: str) -> None:
        if hasattr(self._python, method):
            getattr(self._python, method)()

    moduleName = Property(str, lambda self: Path(self._source).stem)
    isEntered = Property(bool, lambda self: self._entered)


def load_module(path: str | Path) -> qSlicerScriptedLoadableModule:
    """Makes a scripted module known to `slicer.modules`, once per file."""
    source = Path(path).resolve()
    loaded = getattr(slicer.modules, source.stem.lower(), None)
    if loaded is None or loaded.path != str(source):
        loaded = qSlicerScriptedLoadableModule(source)
        setattr(slicer.modules, source.stem.lower(), loaded)
        setattr(slicer.moduleNames, source.stem, source.stem)
        instance = getattr(_import(source), source.stem)(loaded)
        setattr(slicer.modules, f"{source.stem}Instance", instance)
        slicer.app.moduleManager().moduleLoaded.emit(source.stem)
    return loaded


def unload_module(name: str) -> None:
    """What happens to a module when Slicer quits: its panel is cleaned up and deleted."""
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
    module = vars(slicer.modules).pop(name.lower())
    if module._widget is not None:
        shiboken6.delete(module._widget)
    for attribute in (f"{name}Widget", f"{name}Instance"):
        vars(slicer.modules).pop(attribute, None)
    vars(slicer.moduleNames).pop(name)


def _import(source: Path) -> ModuleType:
    if str(source.parent) not in sys.path:
        sys.path.insert(0, str(source.parent))
    return importlib.import_module(source.stem)
