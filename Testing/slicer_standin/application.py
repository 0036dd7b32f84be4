"""`slicer.app`: a real QApplication with what scripted modules use of qSlicerApplication, around a real scene."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import Property, QProcessEnvironment, QSettings, Signal
from PySide6.QtWidgets import QApplication

from .io_manager import qSlicerCoreIOManager
from .layout import qSlicerLayoutManager
from .module_logics import add_module_logics
from .module_manager import qSlicerModuleManager
from .pythonqt import cpp_class
from .subject_hierarchy import keep_subject_hierarchy

GENERIC_COLORS = """# Color table file
0 background 0 0 0 0
1 tissue 128 174 128 255
2 bone 241 214 145 255
"""
"""Start of the colour file that label maps look for; slicer-core brings none of Slicer's."""


@cpp_class
class qSlicerApplication(QApplication):
    """The application in testing mode, without a main window."""

    startupCompleted = Signal()

    def __init__(self) -> None:
        super().__init__(["Slicer", "--testing"])
        self._temporary = tempfile.mkdtemp(prefix="slicer-standin-")
        atexit.register(shutil.rmtree, self._temporary, ignore_errors=True)
        self._write_color_files(Path(self.slicerHome, "share", "ColorFiles"))
        QSettings.setDefaultFormat(QSettings.IniFormat)  # never the settings of the user's own Slicer
        QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, self._temporary)
        self.setOrganizationName("slicer_standin")
        self.setApplicationName("Slicer")
        self._settings = QSettings()
        self._module_manager = qSlicerModuleManager()
        self._io_manager = qSlicerCoreIOManager()

    def _write_color_files(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "GenericColors.txt").write_text(GENERIC_COLORS, encoding="ascii")

    def _build_scene(self) -> None:
        """The scene and its logics, in the order in which Slicer makes them."""
        slicer.mrmlScene = self._scene = slicer.vtkMRMLScene()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetTemporaryPath(self._temporary)
        self._logic.SetHomeDirectory(self.slicerHome)
        self._logic.SetShareDirectory("share")
        self._scene.AddNode(slicer.vtkMRMLCrosshairNode())
        self._logic.SetMRMLScene(self._scene)
        self._module_logics = add_module_logics(self._logic, self._scene)
        keep_subject_hierarchy(self._scene)
        self._add_file_transfer()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)
        self._layout_manager = qSlicerLayoutManager(self._logic, self._scene)

    def _add_file_transfer(self) -> None:
        """Storage nodes ask the scene for a cache manager before they read a file."""
        cache = Path(self._temporary, "cache")
        cache.mkdir()
        (cache / ".slicer-cache").touch()  # without it the cache manager warns that it deletes nothing
        self._remote_io = slicer.vtkMRMLRemoteIOLogic()
        self._remote_io.SetMRMLApplicationLogic(self._logic)
        self._remote_io.SetMRMLScene(self._scene)
        self._remote_io.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._remote_io.AddDataIOToScene()

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def layoutManager(self) -> qSlicerLayoutManager:
        return self._layout_manager

    def moduleManager(self) -> qSlicerModuleManager:
        return self._module_manager

    def coreIOManager(self) -> qSlicerCoreIOManager:
        return self._io_manager

    ioManager = coreIOManager

    def userSettings(self) -> QSettings:
        return self._settings

    settings = revisionUserSettings = userSettings

    def startupEnvironment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def testingEnabled(self) -> bool:
        return True

    def pauseRender(self) -> None:
        """Nothing is rendered."""

    def resumeRender(self) -> None:
        """Nothing is rendered."""

    def restart(self) -> None:
        msg = "the module asked for a restart of Slicer"
        raise AssertionError(msg)

    temporaryPath = Property(str, lambda self: self._temporary)
    slicerHome = Property(str, lambda self: f"{self._temporary}/home")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    os = Property(str, lambda self: "linux")
    isInstalled = Property(bool, lambda self: True)


def start_application() -> qSlicerApplication:
    """Makes the one application of this process and the scene."""
    app = qSlicerApplication()
    app._build_scene()
    slicer.app = app
    return app
