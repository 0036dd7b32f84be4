"""Makes or updates the nodes of one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import slicer

from DALAnomalySlicer.node_roles import give_role
from DALAnomalySlicer.segment_labels import write_segments
from DALAnomalySlicer.segment_terms import SegmentTerm


@dataclass(frozen=True)
class SegmentationLook:
    """How a new segmentation is displayed in slice views: opacity of its areas, and whether it is shown at all."""

    fill: float = 0.0
    visible: bool = False


class ResultBuilder:
    """Nodes of the results of one scan, taken from those known or added to the scene.

    Attributes:
        new_nodes: those that were added.
    """

    def __init__(self, scan: slicer.vtkMRMLScalarVolumeNode, known: Mapping[str, slicer.vtkMRMLNode]) -> None:
        self.new_nodes: list[slicer.vtkMRMLNode] = []
        self._scan = scan
        self._known = known

    def node(self, role: str, title: str, class_name: str) -> slicer.vtkMRMLNode:
        """The node in this role, under the scan's parent transform if it is one that can be transformed."""
        node = self._known.get(role) or self._add(role, title, class_name)
        if node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(self._scan.GetTransformNodeID())
        return node

    def volume(
        self, role: str, title: str, array: np.ndarray, class_name: str = "vtkMRMLScalarVolumeNode"
    ) -> slicer.vtkMRMLVolumeNode:
        """A volume on the scan's grid with these voxels (D, H, W) or (D, H, W, channels)."""
        node = self.node(role, title, class_name)
        slicer.util.updateVolumeFromArray(node, array)
        node.CopyOrientation(self._scan)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        return node

    def segmentation(
        self, role: str, title: str, labels: np.ndarray, terms: Sequence[SegmentTerm], look: SegmentationLook
    ) -> slicer.vtkMRMLSegmentationNode:
        """A segmentation of the scan with these labels (D, H, W); a user's own display settings are kept."""
        node = self.node(role, title, "vtkMRMLSegmentationNode")
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetOpacity2DFill(look.fill)
            node.GetDisplayNode().SetVisibility2DOutline(look.fill < 1)
            node.GetDisplayNode().SetVisibility(look.visible)
        write_segments(node, labels, terms, self._scan)
        return node

    def _add(self, role: str, title: str, class_name: str) -> slicer.vtkMRMLNode:
        node = slicer.mrmlScene.AddNewNodeByClass(class_name, f"{self._scan.GetName()} {title}")
        give_role(node, role, self._scan)
        self.new_nodes.append(node)
        return node
