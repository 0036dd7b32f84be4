"""The findings as surfaces in the 3D views."""

from __future__ import annotations

import slicer


def show_3d(findings: slicer.vtkMRMLSegmentationNode, shown: bool) -> None:
    """Make and show the surfaces of the findings, or take them away.

    A change of the findings drops their surfaces, which are too slow to follow a slider: call this again when it rests.
    """
    if shown:
        findings.CreateClosedSurfaceRepresentation()
    else:
        findings.RemoveClosedSurfaceRepresentation()
    findings.GetDisplayNode().SetVisibility3D(shown)
