"""The outlines of the findings in the views: of one result at a time, for all look alike."""

from __future__ import annotations

import slicer

from DALAnomalySlicer.node_roles import results_of, role_of, scan_of

_HIDDEN = "DALAnomaly.hidden"
"""Attribute of findings that were hidden here; those that the user has hidden stay so."""


def show_outline_alone(findings: slicer.vtkMRMLSegmentationNode | None) -> None:
    """Hide the findings of all other results, and show those of this one again if they were hidden so."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node is not findings and _is_of_a_result(node):
            hide_outline(node)
    if findings is not None and findings.GetAttribute(_HIDDEN) is not None:
        findings.RemoveAttribute(_HIDDEN)
        findings.SetDisplayVisibility(True)


def hide_outline(findings: slicer.vtkMRMLSegmentationNode) -> None:
    """Hide the findings of a result until it is shown."""
    if findings.GetDisplayVisibility():
        findings.SetAttribute(_HIDDEN, "1")
        findings.SetDisplayVisibility(False)


def _is_of_a_result(node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether it is the findings node of a scan, and no clone of one that the user made."""
    if role_of(node) != "findings":
        return False
    scan = scan_of(node)
    return scan is None or results_of(scan).get("findings") is node
