"""The subject hierarchy keeps up with the scene, which in Slicer is the work of a plugin of its user interface."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

Scene = slicer.vtkMRMLScene

# Nodes that some plugin of Slicer claims. Nodes that are hidden from editors never get an item.
CLAIMED = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLSequenceNode",
)


def keep_subject_hierarchy(scene: Any) -> None:
    """Gives new nodes an item, and removes the items of nodes that go."""
    _hierarchy(scene)
    scene.AddObserver(Scene.NodeAddedEvent, _on_node_added)
    scene.AddObserver(Scene.NodeAboutToBeRemovedEvent, _on_node_about_to_be_removed)
    scene.AddObserver(Scene.EndImportEvent, lambda scene, event: _add_missing_items(scene))
    scene.AddObserver(Scene.EndCloseEvent, lambda scene, event: _hierarchy(scene))


def _hierarchy(scene: Any) -> Any:
    """The one subject hierarchy node, made or merged where needed."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _on_node_added(scene: Any, event: str, node: Any) -> None:
    if node.IsA("vtkMRMLSubjectHierarchyNode"):
        _hierarchy(scene)
    elif not scene.IsImporting():  # what is imported brings its items along
        _add_item(scene, node)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _on_node_about_to_be_removed(scene: Any, event: str, node: Any) -> None:
    if scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
        return
    hierarchy = _hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.RemoveItem(item, False, False)


def _add_missing_items(scene: Any) -> None:
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode", scene):
        _add_item(scene, node)


def _add_item(scene: Any, node: Any) -> None:
    hierarchy = _hierarchy(scene)
    claimed = not node.GetHideFromEditors() and any(node.IsA(class_name) for class_name in CLAIMED)
    if claimed and not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
