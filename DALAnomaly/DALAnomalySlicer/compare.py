"""The scan against what it would look like if it were healthy: faded, flickering, subtracted."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalySlicer.colour_tables import DIFFERENCE
from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.result_builder import ResultBuilder
from DALAnomalySlicer.slice_layers import ordinary_views, show_layers
from DALAnomalySlicer.subject_folder import put_beside_scan


def fade(scan: slicer.vtkMRMLScalarVolumeNode, pseudo_healthy: slicer.vtkMRMLScalarVolumeNode, share: float) -> None:
    """Show the scan (share 0), the pseudo-healthy image (share 1) or a mixture in all ordinary slice views."""
    show_layers(background=scan, foreground=pseudo_healthy, opacity=share)


def flicker(
    scan: slicer.vtkMRMLScalarVolumeNode, pseudo_healthy: slicer.vtkMRMLScalarVolumeNode, share: float = 1.0
) -> bool:
    """Show the scan, or again the pseudo-healthy image to this share of a mixture.

    Returns:
        Whether the pseudo-healthy image is shown now.
    """
    show_healthy = not all(_shows(view, pseudo_healthy) for view in ordinary_views())
    fade(scan, pseudo_healthy, share if show_healthy else 0.0)
    return show_healthy


def show_difference(
    scan: slicer.vtkMRMLScalarVolumeNode, pseudo_healthy: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """Show the scan minus the pseudo-healthy image, 0 outside the brain, as one more node of the result."""
    build = ResultBuilder(scan, results_of(scan))
    difference = _difference(slicer.util.arrayFromVolume(scan), slicer.util.arrayFromVolume(pseudo_healthy))
    node = build.volume("difference", _("difference"), difference)
    display = node.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(DIFFERENCE.node().GetID())
    display.AutoWindowLevelOff()
    limit = _limit(difference)
    display.SetWindowLevelMinMax(-limit, limit)
    put_beside_scan(build.new_nodes, scan)
    show_layers(background=node, foreground=None, opacity=0.0)
    return node


def _shows(view: slicer.vtkMRMLSliceCompositeNode, foreground: slicer.vtkMRMLVolumeNode) -> bool:
    return view.GetForegroundVolumeID() == foreground.GetID() and view.GetForegroundOpacity() > 0


def _difference(scan: np.ndarray, pseudo_healthy: np.ndarray) -> np.ndarray:
    """Float32 (D, H, W); the pseudo-healthy image is 0 outside the brain, and only there."""
    return np.where(pseudo_healthy == 0, np.float32(0), scan.astype(np.float32) - pseudo_healthy)


def _limit(difference: np.ndarray) -> float:
    """Where the colours end: nearly the largest difference, so that one voxel does not darken all others."""
    inside = np.abs(difference[difference != 0])
    return float(np.percentile(inside, 99.5)) if inside.size else 1.0
