"""The outlines of the findings in the views: of one result at a time, for all look alike."""

from __future__ import annotations

import slicer

from DALAnomalySlicer.node_roles import role_of


def show_outline_alone(findings: slicer.vtkMRMLSegmentationNode | None) -> None:
    """Show the findings of one result, and hide those of all others."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if role_of(node) == "findings" and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(node is findings)
