"""The logics of Slicer's own modules: the real ones of slicer-core, reached as `slicer.modules.<name>.logic()`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import slicer

# Module name -> class of its logic. The order is that of construction: Volumes and Segmentations look up Colors.
LOGIC_CLASSES = {
    "Colors": "vtkSlicerColorLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Sequences": "vtkSlicerSequencesLogic",
}


def add_module_logics(application_logic: Any, scene: Any) -> list[Any]:
    """Makes every logic, ties it to the scene and the application logic, and fills `slicer.modules`."""
    slicer.modules = SimpleNamespace()
    slicer.moduleNames = SimpleNamespace()
    return [_add_module(name, class_name, application_logic, scene) for name, class_name in LOGIC_CLASSES.items()]


def _add_module(name: str, class_name: str, application_logic: Any, scene: Any) -> Any:
    logic = getattr(slicer, class_name)()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.SetModuleLogic(name, logic)
    if name == "Colors":
        application_logic.SetColorLogic(logic)
    logic.SetMRMLScene(scene)
    module = SimpleNamespace(name=name, title=name, logic=lambda: logic)
    setattr(slicer.modules, name.lower(), module)
    setattr(slicer.moduleNames, name, name)
    return logic
