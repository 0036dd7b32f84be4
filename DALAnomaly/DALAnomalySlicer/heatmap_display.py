"""The anomaly score over the scan: colours, threshold and opacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import slicer

from DALAnomalySlicer.colour_tables import HEAT
from DALAnomalySlicer.heatmap_legend import add_heatmap_legend, refresh_legend, show_legend
from DALAnomalySlicer.heatmap_overlay import fade, find_overlay, update_overlay
from DALAnomalySlicer.score_range import colour_maximum
from DALAnomalySlicer.slice_layers import replace_foreground, show_layers, views_showing

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult

OpacityMode = Literal["constant", "proportional"]
_OPACITY_MODE = "DALAnomaly.opacity"


def display_heatmap(heatmap: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult) -> None:
    """Give the heatmap its colours, fixed to scores so that a colour always means the same, and its legend."""
    display = heatmap.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(HEAT.node().GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, colour_maximum(result))
    display.AutoThresholdOff()
    display.SetThreshold(result.threshold, max(float(result.score.max()), result.threshold))
    display.ApplyThresholdOn()
    add_heatmap_legend(heatmap)
    if find_overlay(heatmap) is not None:
        update_overlay(heatmap)


def show_threshold(heatmap: slicer.vtkMRMLScalarVolumeNode, threshold: float) -> None:
    """Make everything below `threshold` transparent."""
    heatmap.GetScalarVolumeDisplayNode().SetLowerThreshold(threshold)
    shown = shown_node(heatmap)
    if shown is not heatmap:
        fade(shown, heatmap)


def opacity_mode(heatmap: slicer.vtkMRMLScalarVolumeNode) -> OpacityMode:
    """How opaque the heatmap is where it is not transparent."""
    return "proportional" if heatmap.GetAttribute(_OPACITY_MODE) == "proportional" else "constant"


def set_opacity_mode(heatmap: slicer.vtkMRMLScalarVolumeNode, mode: OpacityMode) -> None:
    """Show all voxels above the threshold alike, or the more opaque the higher their score.

    Raises:
        InputError: the scan was removed, so there is nothing to fade over.
    """
    before = shown_node(heatmap)
    if mode == "proportional":
        update_overlay(heatmap)
    heatmap.SetAttribute(_OPACITY_MODE, mode)
    replace_foreground(before, shown_node(heatmap))
    refresh_legend(shown_node(heatmap))


def shown_node(heatmap: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLVolumeNode:
    """What slice views show for the heatmap: itself, or its fading overlay."""
    overlay = find_overlay(heatmap) if opacity_mode(heatmap) == "proportional" else None
    return overlay or heatmap


def show_in_slices(
    scan: slicer.vtkMRMLScalarVolumeNode, heatmap: slicer.vtkMRMLScalarVolumeNode, opacity: float = 0.6
) -> None:
    """Show the heatmap over the scan in all ordinary slice views."""
    show_layers(background=scan, foreground=shown_node(heatmap), opacity=opacity)
    refresh_legend(shown_node(heatmap))


def set_opacity(heatmap: slicer.vtkMRMLScalarVolumeNode, opacity: float) -> None:
    """Set the opacity (0 to 1) in every slice view that shows the heatmap over another image."""
    for view in views_showing(foreground=shown_node(heatmap)):
        view.SetForegroundOpacity(opacity)


def show_heatmap_legend(heatmap: slicer.vtkMRMLScalarVolumeNode, shown: bool) -> None:
    """Show or hide the colour legend in the views that show the heatmap."""
    show_legend(shown_node(heatmap), shown)
