"""Widgets that are told the scene."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from .ctk_inputs import ctkSliderWidget
from .pythonqt import cpp_class


class _SceneHolder(QWidget):
    """A widget that is told the scene, and tells it to those connected to `mrmlSceneChanged`."""

    _SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@cpp_class
class qSlicerWidget(_SceneHolder):
    """The usual root of a panel."""


@cpp_class
class qMRMLWidget(_SceneHolder):
    """The usual root of a .ui file: its connections hand the scene on to the widgets inside."""

    def mrmlScene(self) -> Any:
        return self._scene


@cpp_class
class qMRMLSliderWidget(ctkSliderWidget):
    """A slider in units of the scene; the stand-in leaves the units to `suffix`."""

    def setMRMLScene(self, scene: Any) -> None:
        """Nothing: the units would come from the scene."""
