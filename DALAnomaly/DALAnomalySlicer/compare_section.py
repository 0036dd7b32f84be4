"""What the slice views show: heatmap, pseudo-healthy image or difference over the scan, or all side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.compare import fade, flicker, show_difference
from DALAnomalySlicer.findings_outline import show_outline_alone
from DALAnomalySlicer.findings_surface import show_3d
from DALAnomalySlicer.heatmap_display import set_opacity, set_opacity_mode, show_in_slices
from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.parameter_node import OpacityMode
from DALAnomalySlicer.side_by_side import leave_side_by_side, show_side_by_side

if TYPE_CHECKING:
    from DALAnomalySlicer.parameter_node import DALAnomalyParameterNode
    from DALAnomalySlicer.result_nodes import ResultNodes

Comparison = Literal["heatmap", "healthy", "difference"]


class CompareSection:
    """Buttons and sliders over the views of one result; nodes that the user removes meanwhile end it."""

    def __init__(self, ui: Any) -> None:
        """Connect the section's widgets; it is disabled until there is a result, see `show`."""
        self._ui = ui
        self._scan: slicer.vtkMRMLScalarVolumeNode | None = None
        self._nodes: ResultNodes | None = None
        self._parameters: DALAnomalyParameterNode | None = None
        self._comparison: Comparison = "heatmap"
        self._hidden = False
        ui.heatmapButton.connect("clicked()", lambda: self._on_compare("heatmap"))
        ui.healthyButton.connect("clicked()", lambda: self._on_compare("healthy"))
        ui.differenceButton.connect("clicked()", lambda: self._on_compare("difference"))
        ui.sideBySideButton.connect("toggled(bool)", self._on_side_by_side)
        ui.flickerButton.connect("clicked()", self.flicker)
        ui.show3DButton.connect("toggled(bool)", self._on_show_3d)
        ui.fadeSlider.connect("valueChanged(double)", self._on_fade)
        ui.opacityModeSelector.connect("currentIndexChanged(int)", self._on_opacity_mode)
        self.clear()

    def show(
        self, scan: slicer.vtkMRMLScalarVolumeNode, nodes: ResultNodes, parameters: DALAnomalyParameterNode, anew: bool
    ) -> None:
        """Show a result's heatmap over its scan, and its findings alone.

        Args:
            scan: the input.
            nodes: its results.
            parameters: how opaque the heatmap is.
            anew: False if this very result may be shown already: then the views stay as the user has left them.
        """
        if not anew and (scan, nodes) == (self._scan, self._nodes):
            if self._comparison == "difference" and "difference" not in results_of(scan):  # the scan was moved
                self._draw()
            return
        self._take_surface_away()
        self._scan, self._nodes, self._parameters = scan, nodes, parameters
        self._ui.compareSection.enabled = True
        self._set_opacity_mode(parameters.opacityMode)
        self._compare("heatmap")
        show_outline_alone(nodes.findings)
        if self._ui.sideBySideButton.checked:
            self._on_side_by_side(True)
        if self._ui.show3DButton.checked:
            self._on_show_3d(True)

    def clear(self) -> None:
        """There is no result; the slice views stay as they are."""
        self._ui.sideBySideButton.checked = False
        self._ui.show3DButton.checked = False
        self._scan = self._nodes = self._parameters = None
        self._ui.compareSection.enabled = False

    def flicker(self) -> None:
        """Hide what lies over the scan, or show it again."""
        if not self._present():
            return
        self._ui.sideBySideButton.checked = False  # what flickers are the ordinary views
        if self._comparison == "healthy":
            flicker(self._scan, self._nodes.pseudo_healthy, self._ui.fadeSlider.value or 1.0)
            return
        self._hidden = not self._hidden
        self._draw()

    def findings_changed(self) -> None:
        """Surfaces do not follow a slider: they are made anew once it rests."""
        if self._ui.show3DButton.checked:
            self._on_show_3d(True)

    def _on_compare(self, comparison: Comparison) -> None:
        self._ui.sideBySideButton.checked = False
        self._compare(comparison)

    def _compare(self, comparison: Comparison) -> None:
        if self._present():
            self._comparison, self._hidden = comparison, False
            self._draw()

    def _draw(self) -> None:
        opacity = 0.0 if self._hidden else self._ui.fadeSlider.value
        if self._comparison == "heatmap":
            show_in_slices(self._scan, self._nodes.heatmap, opacity)
        elif self._comparison == "healthy":
            fade(self._scan, self._nodes.pseudo_healthy, opacity)
        elif self._hidden:
            fade(self._scan, self._nodes.pseudo_healthy, 0.0)
        else:
            show_difference(self._scan, self._nodes.pseudo_healthy)

    def _on_fade(self, opacity: float) -> None:
        if not self._present():
            return
        self._hidden = False
        if self._comparison == "heatmap":
            set_opacity(self._nodes.heatmap, opacity)
        elif self._comparison == "healthy":
            fade(self._scan, self._nodes.pseudo_healthy, opacity)

    def _on_opacity_mode(self, index: int) -> None:
        if self._present() and index >= 0:
            self._set_opacity_mode(tuple(OpacityMode)[index])  # the parameter may follow later

    def _set_opacity_mode(self, mode: OpacityMode) -> None:
        self._try(lambda: set_opacity_mode(self._nodes.heatmap, mode.value))

    def _on_side_by_side(self, shown: bool) -> None:
        if not shown:
            leave_side_by_side()
        elif self._present():
            self._try(lambda: show_side_by_side(self._scan, self._nodes, opacity=self._ui.fadeSlider.value))

    def _on_show_3d(self, shown: bool) -> None:
        if self._nodes is not None and _in_scene(self._nodes.findings):
            show_3d(self._nodes.findings, shown)

    def _take_surface_away(self) -> None:
        if self._ui.show3DButton.checked:
            self._on_show_3d(False)

    def _present(self) -> bool:
        """Whether everything that is shown still is in the scene."""
        if self._nodes is None:
            return False
        return all(_in_scene(node) for node in (self._scan, self._nodes.heatmap, self._nodes.pseudo_healthy))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except DALAnomalyError as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("Brain MRI Anomaly Detection (DAL)"))


def _in_scene(node: slicer.vtkMRMLNode | None) -> bool:
    return node is not None and node.GetScene() is not None
