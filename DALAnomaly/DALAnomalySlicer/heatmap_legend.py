"""Colour legends of the heatmap; slice views show the legend of the volume that they show."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalySlicer.colour_tables import HEAT, TABLE, add_colour_node, set_colours

_LABELS = 6
_SIZE, _POSITION = (0.1, 0.3), (0.97, 0.9)
"""Share of the view, and where in it: small enough to cover no brain."""
_TITLE_POINTS, _LABEL_POINTS = 13, 12
_STEPS = "heat steps"


def add_heatmap_legend(heatmap: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLColorLegendDisplayNode:
    """The legend of the heatmap, made if it has none: its colours with scores beside them."""
    legend = _legend(heatmap)
    legend.SetUseColorNamesForLabels(False)
    legend.SetNumberOfLabels(_LABELS)
    legend.SetLabelFormat("%.2g")
    return legend


def add_overlay_legend(overlay: slicer.vtkMRMLVectorVolumeNode, highest: float) -> slicer.vtkMRMLColorLegendDisplayNode:
    """The legend of the fading heatmap, whose voxels hold colours: steps of colour, named by their scores.

    Args:
        overlay: the volume of colours.
        highest: score of the brightest colour.
    """
    overlay.GetDisplayNode().SetAndObserveColorNodeID(_steps(overlay, highest).GetID())
    legend = _legend(overlay)
    legend.SetUseColorNamesForLabels(True)
    return legend


def show_legend(volume: slicer.vtkMRMLVolumeNode, shown: bool) -> None:
    """Show or hide the legend of a heatmap or its overlay."""
    _legend(volume).SetVisibility(shown)


def refresh_legend(volume: slicer.vtkMRMLVolumeNode) -> None:
    """Let the views look again which legend belongs to what they show: they do not notice a change of layers."""
    _legend(volume).Modified()


def _legend(volume: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLColorLegendDisplayNode:
    logic = slicer.modules.colors.logic()
    legend = logic.GetColorLegendDisplayNode(volume)
    if legend is None:
        legend = logic.AddDefaultColorLegendDisplayNode(volume)
        legend.SetTitleText(_("Score"))
        legend.SetSize(*_SIZE)
        legend.SetPosition(*_POSITION)
        for text, points in (
            (legend.GetTitleTextProperty(), _TITLE_POINTS),
            (legend.GetLabelTextProperty(), _LABEL_POINTS),
        ):
            text.SetFontSize(points)
            text.SetFontFamilyToArial()
            text.BoldOff()
            text.ItalicOff()
    return legend


def _steps(overlay: slicer.vtkMRMLVectorVolumeNode, highest: float) -> slicer.vtkMRMLColorTableNode:
    colours = HEAT.colours(_LABELS)
    names = [f"{score:.2g}" for score in np.linspace(0.0, highest, _LABELS).tolist()]
    node = overlay.GetDisplayNode().GetColorNode()
    if node is None or node.GetAttribute(TABLE) != _STEPS:
        return add_colour_node(_STEPS, overlay.GetName(), colours, names)
    set_colours(node, colours, names)
    return node
