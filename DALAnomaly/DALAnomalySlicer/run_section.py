"""The Detect button, which becomes Cancel, and what is said while a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.detection_result import DetectionResult
from DALAnomalySlicer.detection_run import DetectionRun, RunOptions

_POLL_MS = 100
_LONG_SECONDS = 20.0
"""Shorter remaining times are not worth a number."""


class RunSection:
    """Starts, shows and stops one run at a time. It is the run's listener.

    Attributes:
        last_failure: what the last run failed with, for a report of the problem; "" if it did not.
        searched: name of the scan of the last run, which that message may hold.
    """

    def __init__(
        self, ui: Any, on_result: Callable[[slicer.vtkMRMLScalarVolumeNode, DetectionResult, float], None]
    ) -> None:
        """Keep the panel's widgets.

        Args:
            ui: the widgets by name.
            on_result: called with the scan, what was found in it, and the seconds it took.
        """
        self._ui = ui
        self._on_result = on_result
        self._run: DetectionRun | None = None
        self._scan: slicer.vtkMRMLScalarVolumeNode | None = None
        self._notices: list[str] = []
        self._warnings: tuple[str, ...] = ()
        self._said = ("", "")
        self._announced = ""
        self.last_failure = self.searched = ""
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._poll)
        self._ui.logText.visible = False
        self._show_idle()
        self.show_warnings(())

    @property
    def running(self) -> bool:
        return self._run is not None

    def start(self, scan: slicer.vtkMRMLScalarVolumeNode, options: RunOptions) -> None:
        """Begin a run; what hinders it is shown, and nothing is started."""
        self._notices, self.last_failure = [], ""
        self.searched = "" if scan is None else scan.GetName()
        self.withdraw()
        self._refresh_warnings()
        try:
            run = DetectionRun(scan, options, self)
            run.start()
        except DALAnomalyError as error:
            self.on_failure(str(error), "")
            return
        self._run, self._scan = run, scan
        self._ui.detectButton.text = _("Cancel")
        self._ui.progressBar.visible = self._ui.statusLabel.visible = True
        self.on_progress(_("starting"), 0.0)
        self._timer.start()

    def cancel(self) -> None:
        """Stop what is running, if anything is."""
        if self._run is not None:
            self._run.cancel()

    def show_warnings(self, warnings: tuple[str, ...]) -> None:
        """Show beside the result what may make it less reliable; what a run says meanwhile stands below."""
        self._warnings = warnings
        if not self.running:
            self._notices = []
        self._refresh_warnings()

    def say(self, status: str, explanation: str = "") -> None:
        """Say something about the result that is shown; what a run says or was announced stands in its place.

        Args:
            status: one line; "" for nothing.
            explanation: its tooltip.
        """
        self._said = (status, explanation)
        self._refresh_status()

    def announce(self, text: str) -> None:
        """Say something that stands until the next run or `withdraw`, as how a run failed does."""
        self._announced = text
        self._refresh_status()

    def withdraw(self) -> None:
        """Take back what was announced or how the last run failed, with its log."""
        self._announced = self._ui.logText.plainText = ""
        self._ui.logText.visible = False
        self._refresh_status()

    def on_progress(self, stage: str, fraction: float) -> None:
        self._ui.progressBar.value = round(100 * fraction)
        left = None if self._run is None else self._run.seconds_left
        if left is not None and left > _LONG_SECONDS:
            stage = _("{stage}, about {seconds:.0f} s left").format(stage=stage, seconds=left)
        self._ui.statusLabel.text = stage[:1].upper() + stage[1:]

    def on_notice(self, message: str) -> None:
        self._notices.append(message)
        self._refresh_warnings()

    def on_result(self, result: DetectionResult) -> None:
        scan, seconds = self._scan, 0.0 if self._run is None else self._run.seconds
        self._notices = []  # what is worth a notice is among the result's warnings, too
        self._show_idle()
        with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
            self._on_result(scan, result, seconds)

    def on_failure(self, message: str, details: str) -> None:
        self.last_failure = self._announced = message
        self._show_idle()
        self._ui.logText.plainText = details
        self._ui.logText.visible = bool(details)

    def on_cancelled(self) -> None:
        self._notices = []
        self._show_idle()
        self._show_status(_("Cancelled."))

    def _poll(self) -> None:
        if self._run is not None:
            self._ui.progressBar.toolTip = self._run.log_tail or _("Share of the run that is done.")
            self._run.poll()

    def _show_idle(self) -> None:
        self._timer.stop()
        self._run = self._scan = None
        self._ui.detectButton.text = _("Detect anomalies")
        self._ui.progressBar.visible = False
        self._refresh_status()
        self._refresh_warnings()

    def _refresh_warnings(self) -> None:
        texts = list(dict.fromkeys((*self._warnings, *self._notices)))  # a run may warn of what the last one did
        self._ui.warningLabel.text = "\n".join(f"\N{WARNING SIGN} {text}" for text in texts)
        self._ui.warningLabel.visible = bool(texts)

    def _refresh_status(self) -> None:
        if not self.running:
            self._show_status(*((self._announced,) if self._announced else self._said))

    def _show_status(self, status: str, explanation: str = "") -> None:
        self._ui.statusLabel.text = status
        self._ui.statusLabel.toolTip = explanation
        self._ui.statusLabel.visible = bool(status)
