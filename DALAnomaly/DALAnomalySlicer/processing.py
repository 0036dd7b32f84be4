"""Detection from Python: one call, blocking or with callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer
import vtk

from DALAnomalyLib.errors import CancelledError, DALAnomalyError
from DALAnomalySlicer.detection_run import DetectionRun, RunOptions
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.result_nodes import ResultNodes, find_results, update_results

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.finding_context import FindingRow

RESULT_EVENT = vtk.vtkCommand.UserEvent + 109
"""Invoked on a scan when `process` has put its result into the scene."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Detected:
    """What was found in a scan.

    Attributes:
        nodes: the results in the scene.
        rows: the findings, the most conspicuous first.
        sequence: "T1" or "T2".
        threshold: score at and above which voxels belong to findings; at least a quarter of the model's.
        warnings: what may make the result less reliable, and what happened on the way.
    """

    nodes: ResultNodes
    rows: tuple[FindingRow, ...]
    sequence: str
    threshold: float
    warnings: tuple[str, ...]


class RunFailedError(DALAnomalyError):
    """The worker failed; `details` are the last lines that it printed beside its messages."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


Progress = Callable[[str, float], None]
Done = Callable[["Detected | DALAnomalyError"], None]


def process(
    scan: slicer.vtkMRMLScalarVolumeNode,
    sequence: str = "auto",
    *,
    brain_mask: slicer.vtkMRMLNode | None = None,
    mode: str = "full",
    device: str = "auto",
    threshold: float | None = None,
    minimum_volume_ml: float | None = None,
    on_progress: Progress | None = None,
    on_done: Done | None = None,
) -> Detected | None:
    """Detect anomalies in a volume of the scene, and put the results beside it.

    Args:
        scan: T1 or T2 scan of a head.
        sequence: "T1", "T2" or "auto".
        brain_mask: segmentation or label map of the brain; without one the brain is looked for.
        mode: "full" or "quick".
        device: "auto", "cpu" or "cuda:<number>".
        threshold: on the score; without one, the model's for the sequence.
        minimum_volume_ml: smaller findings are dropped; without it, the model's.
        on_progress: called with a stage's name and the share (0 to 1) that is done; what it raises stops the run.
        on_done: if given, `process` returns None at once, and this is called with the result or the error as soon as
            the event loop of Slicer has it.

    Raises:
        DALAnomalyError: the scan cannot be used or, without `on_done`, the run failed.
    """
    listener = _Listener(scan, threshold, minimum_volume_ml, on_progress, on_done)
    run = DetectionRun(scan, RunOptions(sequence, mode, device, brain_mask), listener)
    run.start()
    if on_done is not None:
        _poll_by_timer(run)
        return None
    while run.running:
        with _stopped_by_errors(run):
            time.sleep(_POLL_SECONDS)
            run.poll()
    if isinstance(listener.outcome, DALAnomalyError):
        raise listener.outcome
    return listener.outcome


def show_findings(
    nodes: ResultNodes, result: DetectionResult, threshold: float | None = None, minimum_volume_ml: float | None = None
) -> LiveFindings:
    """Fill the findings segmentation and table of a result; without wishes, as chosen last or recommended.

    A threshold below `LiveFindings.lowest` is raised to it; `choice` of what is returned says what was used.
    """
    return find_at(LiveFindings(nodes, result), threshold, minimum_volume_ml)


def find_at(live: LiveFindings, threshold: float | None, minimum_volume_ml: float | None) -> LiveFindings:
    """The same, with None for no wish."""
    live.update(
        max(live.choice.threshold if threshold is None else threshold, live.lowest),
        live.choice.minimum_volume_ml if minimum_volume_ml is None else minimum_volume_ml,
    )
    return live


def _poll_by_timer(run: DetectionRun) -> None:
    import qt  # absent where Slicer's Python runs alone

    def poll() -> None:
        with _stopped_by_errors(run):
            run.poll()
        if run.running:
            qt.QTimer.singleShot(round(1000 * _POLL_SECONDS), poll)

    qt.QTimer.singleShot(0, poll)


@contextmanager
def _stopped_by_errors(run: DetectionRun) -> Iterator[None]:
    """Leave no worker behind when the caller's own callback raises, or someone interrupts."""
    try:
        yield
    except BaseException:
        run.cancel()
        raise


class _Listener:
    """Turns the end of a run into an outcome."""

    def __init__(
        self,
        scan: slicer.vtkMRMLScalarVolumeNode,
        threshold: float | None,
        minimum_volume_ml: float | None,
        on_progress: Progress | None,
        on_done: Done | None,
    ) -> None:
        self.outcome: Detected | DALAnomalyError | None = None
        self._scan = scan
        self._wishes = (threshold, minimum_volume_ml)
        self._on_progress = on_progress
        self._on_done = on_done

    def on_progress(self, stage: str, fraction: float) -> None:
        if self._on_progress is not None:
            self._on_progress(stage, fraction)

    def on_notice(self, message: str) -> None:
        """What is worth a notice is among the result's warnings, too."""

    def on_result(self, result: DetectionResult) -> None:
        try:
            nodes = update_results(self._scan, result, find_results(self._scan))
            live = show_findings(nodes, result, *self._wishes)
            self._scan.InvokeEvent(RESULT_EVENT)
        except DALAnomalyError as error:  # such as a scan that was replaced meanwhile
            self._end(error)
        else:
            self._end(Detected(nodes, live.rows, result.sequence, live.choice.threshold, result.warnings))

    def on_failure(self, message: str, details: str) -> None:
        self._end(RunFailedError(message, details))

    def on_cancelled(self) -> None:
        self._end(CancelledError("the run was cancelled"))

    def _end(self, outcome: Detected | DALAnomalyError) -> None:
        self.outcome = outcome
        if self._on_done is not None:
            self._on_done(outcome)
