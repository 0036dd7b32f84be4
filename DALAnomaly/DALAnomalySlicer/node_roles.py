"""How result nodes are known again, after re-running as after reopening a saved scene.

A result carries its role as an attribute and points to its scan. The scan points to nothing: a clone of the scan would
otherwise claim the results of the original.
"""

from __future__ import annotations

import slicer

ROLE = "DALAnomaly.result"
SCAN = "DALAnomaly.scan"


def role_of(node: slicer.vtkMRMLNode) -> str | None:
    """The role that `give_role` gave to a node."""
    return node.GetAttribute(ROLE)


def give_role(node: slicer.vtkMRMLNode, role: str, scan: slicer.vtkMRMLNode) -> None:
    """Make `node` the result of `scan` in this role."""
    node.SetAttribute(ROLE, role)
    node.SetNodeReferenceID(SCAN, scan.GetID())


def results_of(scan: slicer.vtkMRMLNode) -> dict[str, slicer.vtkMRMLNode]:
    """The results of a scan by role. Of several in one role, as after cloning a result, the oldest counts."""
    found: dict[str, slicer.vtkMRMLNode] = {}
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        role = role_of(node)
        if role is not None and node.GetNodeReferenceID(SCAN) == scan.GetID():
            found.setdefault(role, node)
    return found


def scan_of(result: slicer.vtkMRMLNode) -> slicer.vtkMRMLNode | None:
    """The scan that a result belongs to, unless it was removed."""
    return result.GetNodeReference(SCAN)
