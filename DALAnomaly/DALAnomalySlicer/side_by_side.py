"""A layout of three linked slice views: scan, pseudo-healthy image, and heatmap over the scan.

Works on the layout node of the scene, which the layout manager follows. Without a window there is neither.
"""

from __future__ import annotations

from typing import Literal

import slicer
from slicer.i18n import tr as _

from DALAnomalySlicer.heatmap_display import shown_node
from DALAnomalySlicer.navigation import Point
from DALAnomalySlicer.result_nodes import ResultNodes
from DALAnomalySlicer.slice_layers import COMPARISON_PREFIX, set_layers

Orientation = Literal["Axial", "Coronal", "Sagittal"]

_LAYOUT = 5109  # any number that no other module has; Slicer's own are below 500
_EARLIER = "DALAnomaly.earlierLayout"
_VIEW_GROUP = 5109  # linking reaches the views of one group
_SCAN, _HEALTHY, _HEATMAP = (f"{COMPARISON_PREFIX}{name}" for name in ("Scan", "Healthy", "Heatmap"))


def register_layout() -> None:
    """Make the layout known, also to a saved scene that was left in it; call it when the module is set up."""
    node = _layout_node()
    if node is not None and not node.IsLayoutDescription(_LAYOUT):
        node.AddLayoutDescription(_LAYOUT, _description())


def show_side_by_side(
    scan: slicer.vtkMRMLScalarVolumeNode, nodes: ResultNodes, orientation: Orientation = "Axial", opacity: float = 0.6
) -> bool:
    """Show the three images beside one another; a node that the user has removed leaves its view empty.

    Args:
        scan: the input.
        nodes: its results.
        orientation: of all three views.
        opacity: of the heatmap, 0 to 1.

    Returns:
        Whether there are views to show them in.
    """
    node = _layout_node()
    if node is None:
        return False
    register_layout()
    if node.GetViewArrangement() != _LAYOUT:
        node.SetAttribute(_EARLIER, str(node.GetViewArrangement()))
    node.SetViewArrangement(_LAYOUT)
    heatmap = None if nodes.heatmap is None else shown_node(nodes.heatmap)
    layers = {_SCAN: (scan, None), _HEALTHY: (nodes.pseudo_healthy, None), _HEATMAP: (scan, heatmap)}
    place = _place(orientation)
    for name, (background, foreground) in layers.items():
        view = _composite_node(name)
        set_layers(view, background, foreground, opacity)
        view.SetLinkedControl(True)
        view.SetHotLinkedControl(True)
        _turn(name, orientation, place)
    return True


def leave_side_by_side() -> None:
    """Go back to the layout that was shown before, if the side-by-side layout still is."""
    node = _layout_node()
    if node is not None and node.GetViewArrangement() == _LAYOUT:
        node.SetViewArrangement(int(node.GetAttribute(_EARLIER) or node.SlicerLayoutFourUpView))


def is_side_by_side() -> bool:
    """Whether the side-by-side layout is shown."""
    node = _layout_node()
    return node is not None and node.GetViewArrangement() == _LAYOUT


def _layout_node() -> slicer.vtkMRMLLayoutNode | None:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _composite_node(name: str) -> slicer.vtkMRMLSliceCompositeNode:
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(view for view in views if view.GetLayoutName() == name)


def _place(orientation: Orientation) -> Point | None:
    """Where the ordinary slice view of this orientation stands, RAS mm."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if view.GetOrientation() == orientation and not view.GetLayoutName().startswith(COMPARISON_PREFIX):
            return tuple(view.GetSliceToRAS().GetElement(row, 3) for row in range(3))
    return None


def _turn(name: str, orientation: Orientation, place: Point | None) -> None:
    view = next(view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode") if view.GetLayoutName() == name)
    view.SetViewGroup(_VIEW_GROUP)  # closing a scene resets what the layout set
    view.SetOrientation(orientation)
    slicer.app.applicationLogic().GetSliceLogic(view).FitSliceToAll()
    if place is not None:
        view.JumpSliceByOffsetting(*place)


def _description() -> str:
    views = (
        (_SCAN, _("Scan"), "#5B8FB9"),
        (_HEALTHY, _("Pseudo-healthy"), "#6BAF6B"),
        (_HEATMAP, _("Heatmap"), "#D9822B"),
    )
    return f'<layout type="horizontal" split="true">{"".join(_view(*view) for view in views)}</layout>'


def _view(name: str, label: str, colour: str) -> str:
    properties = {"orientation": "Axial", "viewlabel": label, "viewcolor": colour, "viewgroup": str(_VIEW_GROUP)}
    described = "".join(
        f'<property name="{key}" action="default">{value}</property>' for key, value in properties.items()
    )
    return f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">{described}</view></item>'
