"""The modules `qt` and `ctk`, as Slicer's Python has them."""

from __future__ import annotations

from types import ModuleType

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import STAND_INS, install
from .ui_loader import QUiLoader

PARTS = (QtCore, QtGui, QtWidgets)


def qt_module() -> ModuleType:
    """Everything of Qt's core, GUI and widgets in one module, behaving as under PythonQt."""
    install(PARTS)
    module = ModuleType("qt")
    for part in PARTS:
        vars(module).update({name: getattr(part, name) for name in dir(part) if name.startswith("Q")})
    module.QUiLoader = QUiLoader
    return module


def ctk_module() -> ModuleType:
    """The stand-ins for CTK's widgets."""
    from . import ctk_buttons, ctk_inputs  # noqa: F401 -- importing them fills STAND_INS

    module = ModuleType("ctk")
    vars(module).update({name: cls for name, cls in STAND_INS.items() if name.startswith("ctk")})
    return module
