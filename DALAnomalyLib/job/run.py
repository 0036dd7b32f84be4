"""One detection from its request to its folder of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from DALAnomalyLib.job import manifest
from DALAnomalyLib.job.failures import naming
from DALAnomalyLib.job.memory_ladder import Attempt, attempts_on, first_that_fits
from DALAnomalyLib.job.outcome import Outcome
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalyLib.job.result_layout import (
    PLAIN_VOLUMES,
    ResultLayout,
    write_manifest,
    write_result,
    writing_result,
)
from DALAnomalyLib.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.scoring.score_config import SignChoice
    from DALAnomalyLib.volume import Volume
    from DALAnomalyLib.volume_io import ScanDescription

LoadDetector: TypeAlias = "Callable[[DetectionRequest, Attempt], Detector]"

_READ_SHARE, _WRITE_SHARE = 0.03, 0.12


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run whose results lie in their folder."""

    request: DetectionRequest
    detection: Detection
    seconds: float
    calibration: Mapping[str, Any] | None
    """The presets that hold for the run's score and sign, as the manifest has them (`calibration.for_manifest`)."""

    def summary(self) -> dict[str, Any]:
        """The result for programs, without the findings, of which there can be thousands."""
        return {
            "output": str(self.request.output),
            "sequence": self.detection.sequence,
            "sequence_evidence": self.detection.sequence_evidence,
            "threshold": self.detection.threshold,
            "warnings": list(self.detection.warnings),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Listener:
    """Who is told about a run: stages with the finished fraction, and notices for the user."""

    progress: ProgressCallback
    notice: Callable[[str], None]


def load_detector(request: DetectionRequest, attempt: Attempt) -> Detector:
    """The detector that a request asks for, placed as the attempt says."""
    return request.preprocessing.load_detector(request.model, attempt.device, attempt.outline_device)


def run_detection(
    request: DetectionRequest,
    listener: Listener,
    cancel: CancelToken,
    layout: ResultLayout = PLAIN_VOLUMES,
    load: LoadDetector = load_detector,
    force: bool = False,
) -> FinishedRun:
    """Detect and write the results, which come when they are complete; on failure nothing is left behind.

    Args:
        request: what is asked for.
        listener: told about stages and notices.
        cancel: looked at often.
        layout: which files are written.
        load: makes the detector once the scan is known to be readable.
        force: whether an older result is replaced.

    Raises:
        DALAnomalyError: one of its subclasses, with a message for the user.
    """
    started = datetime.now(timezone.utc)
    with result_folder(request.output, layout.names, force) as folder:
        listener.progress("reading", 0.0)
        inputs = _read(request, cancel)
        detecting = replace(listener, progress=_part_of(listener.progress, _READ_SHARE, 1 - _WRITE_SHARE))
        outcome = _detect(request, inputs, detecting, cancel, load)
        with writing_result(request.output):
            write_result(folder, outcome, layout, _part_of(listener.progress, 1 - _WRITE_SHARE, 1.0), cancel)
            record = _record(request, inputs, outcome, started)
            write_manifest(folder, record)
        cancel.raise_if_cancelled()
    listener.progress("done", 1.0)
    calibration = record["model"].get("calibration", {}).get(outcome.detection.sequence)
    return FinishedRun(request, outcome.detection, record["times"]["seconds"], calibration)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What was read; `identities` are for the manifest."""

    scan: Volume
    description: ScanDescription
    mask: Volume | None
    identities: Mapping[str, Any]


def _read(request: DetectionRequest, cancel: CancelToken) -> _Inputs:
    from DALAnomalyLib.volume_io import describe_scan, read_mask, read_volume, series_to_read

    series = series_to_read(request.scan, request.preprocessing.series, request.sequence, cancel)
    scan = read_volume(request.scan, series=series, sequence=request.sequence, cancel=cancel)
    described = request.description() or describe_scan(request.scan, series, request.sequence, cancel)
    mask = None if request.brain_mask is None else read_mask(request.brain_mask, scan.grid)
    geometry = {"shape_kji": list(scan.grid.shape), "spacing_ijk_mm": list(scan.grid.spacing)}
    identities = manifest.describe_inputs(request.scan, request.brain_mask, series, request.sequence)
    identities["input"] |= geometry
    cancel.raise_if_cancelled()
    return _Inputs(scan, described, mask, identities)


def _detect(
    request: DetectionRequest, inputs: _Inputs, listener: Listener, cancel: CancelToken, load: LoadDetector
) -> Outcome:
    """Detect where memory suffices; what had to be done about memory becomes part of the warnings."""
    from DALAnomalyLib.device import resolve_device

    notices: list[str] = []

    def say(text: str) -> None:
        notices.append(text)
        listener.notice(text)

    def work(attempt: Attempt) -> Outcome:
        detector = load(request, attempt)
        cancel.raise_if_cancelled()
        return Outcome(inputs.scan, _detect_with(detector, request, inputs, listener.progress, cancel), detector)

    outcome = first_that_fits(attempts_on(str(resolve_device(request.device))), work, say)
    return replace(outcome, detection=replace(outcome.detection, warnings=(*outcome.detection.warnings, *notices)))


def _detect_with(
    detector: Detector, request: DetectionRequest, inputs: _Inputs, progress: ProgressCallback, cancel: CancelToken
) -> Detection:
    with naming(request.scan):
        return detector.detect(
            inputs.scan,
            sequence=request.sequence,
            brain_mask=inputs.mask,
            threshold=request.threshold,
            sign=cast("SignChoice | None", request.sign),
            progress=progress,
            cancel=cancel,
            description=inputs.description,
            extraction=request.preprocessing.extraction_method,
            preprocessing=request.preprocessing_over(detector.metadata.config.preprocessing),
        )


def wishes(request: DetectionRequest) -> dict[str, Any]:
    """What was asked for beside the scan and the model, as the manifest has it under `requested`."""
    return {
        "sequence": request.sequence,
        "device": request.device,
        "mode": request.mode,
        "threshold": request.threshold,
        "sign": request.sign,
        "preprocessing": asdict(request.preprocessing),
    }


def _record(request: DetectionRequest, inputs: _Inputs, outcome: Outcome, started: datetime) -> dict[str, Any]:
    """Everything but the outputs' digests that the manifest says about this run."""
    detection = outcome.detection
    provenance = detection.provenance
    result = {
        "parameters": provenance["parameters"],
        "steps": provenance["steps"],
        "findings": len(detection.findings),
        "warnings": detection.warnings,
        "out_of_distribution": provenance["out_of_distribution"],
    }
    record = manifest.run_record(outcome.detector, inputs.identities, wishes(request), result, started)
    record["model"] = {**record["model"], **_calibration(request, outcome)}
    record["times"]["stages_seconds"] = provenance["seconds"]
    return record


def _calibration(request: DetectionRequest, outcome: Outcome) -> dict[str, Any]:
    """The presets that hold for the scores of this run, by sequence; nothing if there are none."""
    from DALAnomalyLib.calibration import applying, for_manifest

    metadata, detection = outcome.detector.metadata, outcome.detection
    parameters = detection.provenance["parameters"]
    score = replace(metadata.config.score, kind=parameters["score"], sign=parameters["sign"])
    calibration = applying(metadata.calibration, detection.sequence, score)
    if calibration is None:
        return {}
    preprocessing = request.preprocessing_over(metadata.config.preprocessing)
    return {"calibration": manifest.plain({detection.sequence: for_manifest(calibration, preprocessing)})}


def _part_of(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Let a part of the work count its own 0 to 1 while the user sees `start` to `end`."""
    return lambda stage, fraction: progress(stage, start + (end - start) * min(max(fraction, 0.0), 1.0))
