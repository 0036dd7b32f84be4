"""One detection of one scan node: written to a file, worked on by another process, and read back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError, OutputError
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.brain_mask_file import mask_on_scan
from DALAnomalySlicer.detection_result import DetectionResult, read_result
from DALAnomalySlicer.python_environment import worker_command, worker_environment
from DALAnomalySlicer.run_folder import make_run_folder, remove_run_folder
from DALAnomalySlicer.scan_description import description_of
from DALAnomalySlicer.scan_volume import check_scan, volume_of
from DALAnomalySlicer.worker_process import WorkerProcess

SILENT_SECONDS = 60.0
"""A worker says something every two seconds; one that is silent for so long hangs."""


_SCAN = "scan.nii"
_TELLING_FRACTION = 0.15
"""Before, the start of the worker counts for too much."""


@dataclass(frozen=True)
class RunOptions:
    """What the user chose beside the scan; see `DetectionRequest`."""

    sequence: str = "auto"
    mode: str = "full"
    device: str = "auto"
    brain_mask: slicer.vtkMRMLNode | None = None


class RunListener(Protocol):
    """Who is told how a run goes; exactly one of the last three is called, once."""

    def on_progress(self, stage: str, fraction: float) -> None: ...

    def on_notice(self, message: str) -> None: ...

    def on_result(self, result: DetectionResult) -> None: ...

    def on_failure(self, message: str, details: str) -> None: ...

    def on_cancelled(self) -> None: ...


class DetectionRun:
    """A run that is polled; it never blocks and leaves no file behind."""

    def __init__(self, scan: slicer.vtkMRMLScalarVolumeNode, options: RunOptions, listener: RunListener) -> None:
        """Check the scan; see `start`.

        Raises:
            DALAnomalyError: the scan or the mask cannot be used; nothing was started.
        """
        check_scan(scan)
        self.scan_id: str = scan.GetID()
        self._scan = scan
        self._options = options
        self._listener = listener
        self._folder: Path | None = None
        self._worker: WorkerProcess | None = None
        self._began = 0.0
        self._fraction = 0.0
        self._failure: tuple[str, str] | None = None

    @property
    def running(self) -> bool:
        """Whether the listener has still to be told how it ended."""
        return self._worker is not None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the share that is done; None while that says little."""
        if self._fraction < _TELLING_FRACTION:
            return None
        return self.seconds * (1 - self._fraction) / self._fraction

    @property
    def log_tail(self) -> str:
        """The last lines of what the worker said beside its messages."""
        return self._worker.log_tail if self._worker is not None else ""

    def start(self) -> None:
        """Write the scan and start the worker.

        Raises:
            DALAnomalyError: nothing was started and nothing left behind.
        """
        try:
            self._folder = make_run_folder(Path(slicer.app.temporaryPath))
            request = self._write_request(self._folder)
        except OSError as error:
            self._clean()
            msg = _("The scan could not be handed to the worker ({reason}); make room in {folder}.")
            raise OutputError(msg.format(reason=error.strerror or error, folder=slicer.app.temporaryPath)) from error
        except BaseException:
            self._clean()
            raise
        self._began = time.monotonic()
        self._worker = WorkerProcess(worker_command(request), worker_environment(), SILENT_SECONDS)
        self._worker.start()

    def poll(self) -> None:
        """Pass on what the worker said since the last call; call it several times a second."""
        if self._worker is None:
            return
        running = self._worker.running  # before the events: once it ended, they hold the last one
        for event in self._worker.poll():
            self._heed(event)
        if not running:
            self._finish()

    def cancel(self) -> None:
        """Stop the worker with all its children and remove its files."""
        if self._worker is not None:
            self._clean()
            self._listener.on_cancelled()

    def _write_request(self, folder: Path) -> Path:
        from DALAnomalyLib.volume_io import write_volume

        volume = volume_of(self._scan)
        scan, mask = folder / _SCAN, None
        write_volume(volume, scan)
        if self._options.brain_mask is not None:
            mask = folder / "brain_mask.nii"
            write_volume(Volume(mask_on_scan(self._options.brain_mask, self._scan), volume.grid), mask)
        request = DetectionRequest(
            scan=scan,
            output=folder / "result",
            sequence=self._options.sequence,
            brain_mask=mask,
            device=self._options.device,
            mode=self._options.mode,
            described=description_of(self._scan),
        )
        request.write(folder / "request.json")
        return folder / "request.json"

    def _heed(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress":
            self._fraction = float(event["fraction"])
            self._listener.on_progress(str(event["stage"]), self._fraction)
        elif kind == "notice":
            self._listener.on_notice(str(event["message"]))
        elif kind == "error":
            self._failure = self._about_scan(str(event["message"])), self.log_tail

    def _about_scan(self, message: str) -> str:
        """The worker knows the scan by its temporary file only."""
        return message.replace(str(self._folder / _SCAN), f'"{self._scan.GetName()}"')

    def _finish(self) -> None:
        result, failure = self._read(), self._failure
        self._clean()
        if slicer.mrmlScene.GetNodeByID(self.scan_id) is not self._scan:
            self._listener.on_failure(_("The scan was removed while it was worked on; its result is dropped."), "")
        elif isinstance(result, DALAnomalyError):
            self._listener.on_failure(str(result), "")
        elif result is None:
            self._listener.on_failure(*failure)
        else:
            self._listener.on_result(result)

    def _read(self) -> DetectionResult | DALAnomalyError | None:
        """The result, why it cannot be read, or None if there is none."""
        if self._failure is not None:
            return None
        try:
            return read_result(self._folder / "result")
        except DALAnomalyError as error:
            return error

    def _clean(self) -> None:
        """Also ends the worker, so that nothing writes into the folder any more."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        if self._folder is not None:
            remove_run_folder(self._folder)
            self._folder = None
