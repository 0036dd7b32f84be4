"""The choice of the scan and of how it is worked on, and what will happen on this machine."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.detection_run import RunOptions
from DALAnomalySlicer.parameter_node import DALAnomalyParameterNode
from DALAnomalySlicer.preflight import Preflight, look
from DALAnomalySlicer.scan_volume import check_scan


class ScanSection:
    """Fills the list of devices, and says before a run what stands against it."""

    def __init__(self, ui: Any) -> None:
        """Keep the panel's widgets; the machine is looked at when the panel is entered, see `look_again`."""
        self._ui = ui
        self._parameters: DALAnomalyParameterNode | None = None
        self._preflight: Preflight | None = None
        ui.deviceSelector.connect("currentIndexChanged(int)", self._on_device_chosen)
        ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_mask_chosen)

    @property
    def torch_installed(self) -> bool:
        return self._preflight is not None and self._preflight.torch is not None

    def use(self, parameters: DALAnomalyParameterNode | None) -> None:
        """Show another set of choices."""
        self._parameters = parameters
        if parameters is not None:
            self.look_again()

    def look_again(self) -> None:
        """Look at the machine: torch may have been installed, memory freed."""
        self._preflight = look()
        selector = self._ui.deviceSelector
        parameters, self._parameters = self._parameters, None
        selector.clear()
        for device in self._preflight.devices:
            selector.addItem(self._preflight.device_label(device))
        self._parameters = parameters
        self.refresh()

    def options(self) -> RunOptions:
        """What the user chose."""
        parameters = self._parameters
        return RunOptions(parameters.sequence.value, parameters.mode.value, self._device(), parameters.brainMask)

    def remember_seconds(self, seconds: float, asked: RunOptions) -> None:
        """Keep how long a run took, to tell before the next one of its kind."""
        slicer.app.settings().setValue(_seconds_setting(asked.device, asked.mode), round(seconds))

    def refresh(self) -> None:
        """Say what will happen, or why nothing can."""
        if self._parameters is None or self._preflight is None:
            return
        self._ui.maskSelector.setCurrentNode(self._parameters.brainMask)
        self._ui.deviceSelector.currentIndex = self._preflight.devices.index(self._device())
        self._ui.preflightLabel.text = " ".join(self._sentences())
        self._ui.preflightLabel.toolTip = self._preflight.details()

    def _sentences(self) -> list[str]:
        scan = self._parameters.inputVolume
        if scan is not None:
            try:
                check_scan(scan)
            except DALAnomalyError as error:
                return [str(error)]
        return [*self._preflight.sentences(self._device()), *self._expected_time()]

    def _expected_time(self) -> list[str]:
        setting = _seconds_setting(self._device(), self._parameters.mode.value)
        seconds = slicer.app.settings().value(setting)
        if seconds is None:
            return [_("A head takes about half a minute on two cores, less on a graphics card.")]
        return [_("The last run took {seconds} s.").format(seconds=seconds)]

    def _device(self) -> str:
        """The chosen device where it exists; a scene may come from another machine."""
        device = self._parameters.device
        return device if device in self._preflight.devices else "auto"

    def _on_device_chosen(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._parameters.device = self._preflight.devices[index]

    def _on_mask_chosen(self, node: slicer.vtkMRMLDisplayableNode | None) -> None:
        if self._parameters is not None:
            self._parameters.brainMask = node


def _seconds_setting(device: str, mode: str) -> str:
    return f"DALAnomaly/Seconds/{device}/{mode}"
