"""The folder of the subject hierarchy that results lie in, beside their scan."""

from __future__ import annotations

from collections.abc import Iterable

import slicer
import vtk
from slicer.i18n import tr as _


def put_beside_scan(nodes: Iterable[slicer.vtkMRMLNode], scan: slicer.vtkMRMLNode) -> None:
    """Put new nodes into the folder "<scan> DAL results" in the folder, study or patient that holds the scan."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = None
    for node in nodes:
        folder = folder or _results_folder(hierarchy, scan)
        hierarchy.SetItemParent(_item(hierarchy, node), folder)


def remove_empty_folder(scan: slicer.vtkMRMLNode) -> None:
    """Remove the scan's results folder if nothing is in it."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.GetItemChildWithName(_parent(hierarchy, scan), _folder_name(scan))
    if not folder:
        return
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, children)
    if not children.GetNumberOfIds():
        hierarchy.RemoveItem(folder)


def _results_folder(hierarchy: slicer.vtkMRMLSubjectHierarchyNode, scan: slicer.vtkMRMLNode) -> int:
    parent, name = _parent(hierarchy, scan), _folder_name(scan)
    return hierarchy.GetItemChildWithName(parent, name) or hierarchy.CreateFolderItem(parent, name)


def _folder_name(scan: slicer.vtkMRMLNode) -> str:
    return _("{scan} DAL results").format(scan=scan.GetName())


def _parent(hierarchy: slicer.vtkMRMLSubjectHierarchyNode, scan: slicer.vtkMRMLNode) -> int:
    return hierarchy.GetItemParent(_item(hierarchy, scan))


def _item(hierarchy: slicer.vtkMRMLSubjectHierarchyNode, node: slicer.vtkMRMLNode) -> int:
    # Slicer makes the items of new nodes by itself, but not where its subject hierarchy plugins are not loaded.
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
