"""The IO manager behind `slicer.util.loadVolume`, `saveNode` and their like, with the real storage nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6.QtCore import QObject

from .pythonqt import cpp_class

# What the ending of a file name says about its content; the first that fits counts.
FILE_TYPES = {
    ".mrb": "SceneFile",
    ".mrml": "SceneFile",
    ".seg.nrrd": "SegmentationFile",
    ".seg.nhdr": "SegmentationFile",
    ".ctbl": "ColorTableFile",
    ".tsv": "TableFile",
    ".csv": "TableFile",
    ".json": "MarkupsFile",
    ".txt": "TextFile",
    ".vtk": "ModelFile",
    ".vtp": "ModelFile",
    ".stl": "ModelFile",
    ".ply": "ModelFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
}

NODE_CLASSES = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "ModelFile": "vtkMRMLModelNode",
    "TransformFile": "vtkMRMLTransformNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
}

# Options of vtkSlicerVolumesLogic::AddArchetypeVolume
LABELMAP, CENTER_IMAGE, SINGLE_FILE, AUTO_WINDOW_LEVEL, DISCARD_ORIENTATION = 1, 2, 4, 8, 16


@cpp_class
class qSlicerCoreIOManager(QObject):
    """Readers and writers by file type."""

    def fileType(self, file_name: str) -> str:
        name = str(file_name).lower()
        return next((kind for ending, kind in FILE_TYPES.items() if name.endswith(ending)), "VolumeFile")

    def fileWriterFileType(self, node: Any) -> str:
        return next((kind for kind, class_name in NODE_CLASSES.items() if node.IsA(class_name)), "VolumeFile")

    def fileWriterExtensions(self, node: Any) -> tuple[str, ...]:
        """Formats such as `NRRD (.nrrd)` that the node can be written in."""
        types = _new_storage_node(node).GetSupportedWriteFileTypes()
        return tuple(types.GetValue(i) for i in range(types.GetNumberOfValues()))

    def extractKnownExtension(self, file_name: str, node: Any) -> str:
        extension_of = slicer.vtkDataFileFormatHelper.GetFileExtensionFromFormatString
        known = [extension_of(text) for text in self.fileWriterExtensions(node)]
        return max((ending for ending in known if file_name.lower().endswith(ending)), key=len, default="")

    def loadNodes(self, file_type: str, properties: Mapping[str, Any], nodes: Any = None, messages: Any = None) -> bool:
        path = Path(properties["fileName"])
        if not path.is_file():
            return _failed(messages, f"File not found: {path}")
        if file_type == "SceneFile":
            return _load_scene(path, bool(properties.get("clear")), messages)
        node = _load_volume(path, properties) if file_type == "VolumeFile" else _load_node(path, file_type, properties)
        if node is None:
            return _failed(messages, f"Not readable as {file_type}: {path}")
        if nodes is not None:
            nodes.AddItem(node)
        return True

    def loadScene(self, file_name: str, clear: bool = True) -> bool:
        return self.loadNodes("SceneFile", {"fileName": file_name, "clear": clear})

    def saveNodes(self, file_type: str, properties: Mapping[str, Any], messages: Any = None) -> bool:
        path = Path(properties["fileName"])
        if file_type == "SceneFile":
            return _save_scene(path, messages)
        return _save_node(slicer.mrmlScene.GetNodeByID(properties["nodeID"]), path)

    def saveScene(self, file_name: str, screen_shot: Any = None) -> bool:
        return self.saveNodes("SceneFile", {"fileName": file_name})

    def exportNodes(
        self, node_ids: list[str], file_names: list[str], properties: Any, harden: bool, messages: Any = None
    ) -> bool:
        """Writes copies: unlike with saveNodes the nodes do not remember the files."""
        return all(
            _export_node(slicer.mrmlScene.GetNodeByID(node_id), name, harden)
            for node_id, name in zip(node_ids, file_names, strict=True)
        )

    def addDefaultStorageNodes(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
            node.AddDefaultStorageNode()


def _failed(messages: Any, text: str) -> bool:
    if messages is not None:
        messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
    return False


def _new_storage_node(node: Any) -> Any:
    storage = node.CreateDefaultStorageNode()
    storage.UnRegister(None)  # the caller of CreateDefault... owns a reference more than Python counts
    storage.SetScene(slicer.mrmlScene)  # without one it knows no file types
    return storage


def _load_scene(path: Path, clear: bool, messages: Any) -> bool:
    scene = slicer.mrmlScene
    if path.suffix == ".mrb":
        return bool(scene.ReadFromMRB(str(path), clear, messages))
    scene.SetURL(str(path))
    read: Callable[[Any], int] = scene.Connect if clear else scene.Import
    return bool(read(messages))


def _load_volume(path: Path, properties: Mapping[str, Any]) -> Any:
    options = {
        "labelmap": LABELMAP,
        "center": CENTER_IMAGE,
        "singleFile": SINGLE_FILE,
        "autoWindowLevel": AUTO_WINDOW_LEVEL,
        "discardOrientation": DISCARD_ORIENTATION,
    }
    chosen = sum(flag for name, flag in options.items() if properties.get(name, name == "autoWindowLevel"))
    logic = slicer.modules.volumes.logic()
    node = logic.AddArchetypeVolume(str(path), properties.get("name") or _base_name(path), chosen)
    if node is not None and properties.get("show", True):
        _show_volume(node)
    return node


def _show_volume(node: Any) -> None:
    selection = slicer.app.applicationLogic().GetSelectionNode()
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        selection.SetActiveLabelVolumeID(node.GetID())
    else:
        selection.SetActiveVolumeID(node.GetID())
    slicer.app.applicationLogic().PropagateVolumeSelection()


def _load_node(path: Path, file_type: str, properties: Mapping[str, Any]) -> Any:
    name = slicer.mrmlScene.GenerateUniqueName(properties.get("name") or _base_name(path))
    node = slicer.mrmlScene.AddNewNodeByClass(NODE_CLASSES[file_type], name)
    node.AddDefaultStorageNode(str(path))
    if not node.GetStorageNode().ReadData(node):
        slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        slicer.mrmlScene.RemoveNode(node)
        return None
    if hasattr(node, "CreateDefaultDisplayNodes"):
        node.CreateDefaultDisplayNodes()
    return node


def _base_name(path: Path) -> str:
    """The file's name without its ending, `.nii.gz` and `.seg.nrrd` as a whole."""
    return Path(path.name.removesuffix(".gz")).stem.removesuffix(".seg")


def _save_scene(path: Path, messages: Any) -> bool:
    scene = slicer.mrmlScene
    if path.suffix == ".mrb":
        return bool(scene.WriteToMRB(str(path), None, messages))
    if path.suffix == ".mrml":
        scene.SetURL(str(path))
        scene.SetRootDirectory(str(path.parent))
        return bool(scene.Commit(str(path), messages))
    return bool(scene.SaveSceneToSlicerDataBundleDirectory(str(path), None, messages))


def _save_node(node: Any, path: Path) -> bool:
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode(str(path))
    storage = node.GetStorageNode()
    if storage is None:  # short texts have none: they are kept in the scene's own file
        return False
    storage.SetFileName(str(path))
    return bool(storage.WriteData(node))


def _export_node(node: Any, file_name: str, harden: bool) -> bool:
    storage = _new_storage_node(node)
    storage.SetFileName(file_name)
    return bool(storage.WriteData(_hardened_copy(node) if harden else node))


def _hardened_copy(node: Any) -> Any:
    copy = node.CreateNodeInstance()
    copy.UnRegister(None)
    copy.Copy(node)
    transform = node.GetParentTransformNode()
    if transform is not None:
        copy.ApplyTransform(transform.GetTransformToParent())
    return copy
