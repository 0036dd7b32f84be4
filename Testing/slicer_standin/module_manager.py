"""The list of modules."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import QObject, Signal

from .pythonqt import cpp_class


@cpp_class
class qSlicerModuleFactoryManager(QObject):
    """What was loaded."""

    def loadedModuleNames(self) -> tuple[str, ...]:
        return tuple(vars(slicer.moduleNames))


@cpp_class
class qSlicerModuleManager(QObject):
    """Finds modules by name, and tells when one comes or goes."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._factory_manager = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory_manager

    def modulesNames(self) -> tuple[str, ...]:
        return self._factory_manager.loadedModuleNames()

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)
