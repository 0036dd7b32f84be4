"""`dal-anomaly detect`: scans in, one folder of results per scan out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyCLI.cohort_summary import CohortSummary
from DALAnomalyCLI.preprocessing_files import (
    INTERMEDIATE_FILES,
    QUALITY_FILE,
    write_intermediate,
    write_quality_file,
)
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.errors import CancelledError, DALAnomalyError, ModelFileError, OutputError, UsageError
from DALAnomalyLib.file_names import refuse_missing
from DALAnomalyLib.job.failures import one_line
from DALAnomalyLib.job.findings_table import write_findings
from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.job.manifest import RESEARCH_USE, describe_input, plain, shown_name
from DALAnomalyLib.job.memory_ladder import Attempt
from DALAnomalyLib.job.outcome import Outcome
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.result_folder import writing_into
from DALAnomalyLib.job.result_layout import MANIFEST_FILE, ResultLayout
from DALAnomalyLib.job.run import FinishedRun, Listener, LoadDetector, load_detector, run_detection, wishes
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.wording import counted

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector

VOLUME_FILES = {
    "anomaly.nii.gz": "score",
    "pseudo_healthy.nii.gz": "pseudo_healthy",
    "tissues.nii.gz": "tissues",
    "edges.nii.gz": "edges",
    "brain_mask.nii.gz": "brain_mask",
    "uncertainty.nii.gz": "uncertainty",
    "findings_mask.nii.gz": "findings_mask",
}
"""File name to the field of `Detection` that it holds."""
FINDINGS_FILE, OVERVIEW_FILE = "findings.csv", "overview.png"
RESULT_FILES = (*VOLUME_FILES, FINDINGS_FILE, OVERVIEW_FILE, QUALITY_FILE, MANIFEST_FILE)
_FINDINGS_SHOWN = 5


@dataclass(frozen=True)
class DetectOptions:
    """What the user asked for, with one request per input; see the options of the command."""

    requests: tuple[DetectionRequest, ...]
    force: bool = False
    keep_intermediate: bool = False
    skip_existing: bool = False


def detect(
    inputs: Annotated[
        list[Path], typer.Argument(readable=False, help="Scans: NIfTI, NRRD, MetaImage, or a DICOM folder.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the results; with several inputs, one folder each inside it."),
    ],
    sequence: option.Sequence = "auto",
    device: option.Device = "auto",
    model: option.Model = None,
    brain_mask: option.BrainMask = None,
    threshold: Annotated[float | None, typer.Option(help="Score from which a voxel belongs to a finding.")] = None,
    sign: option.Sign = None,
    series: option.Series = None,
    skip: option.Skip = None,
    preprocessed: option.Preprocessed = False,
    brain_extraction: option.BrainExtraction = "auto",
    registration: option.Registration = None,
    window: option.Window = None,
    second_pass: option.SecondPass = False,
    atlas: option.Atlas = None,
    keep_intermediate: Annotated[
        bool, typer.Option("--keep-intermediate", help="Keep the corrected scan, the network's input, atlas space.")
    ] = False,
    no_cache: option.NoCache = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave out scans whose results are there; go on after a stop."),
    ] = False,
    force: option.Force = False,
    quiet: option.Quiet = False,
    as_json: option.Json = False,
    debug: option.Debug = False,
) -> None:
    """Find what a healthy brain would not show in T1 or T2 scans. Research use only, not for diagnosis."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        if force and skip_existing:
            msg = "--force replaces results and --skip-existing leaves them as they are; give one of them"
            raise UsageError(msg)
        preprocessing = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, second_pass, atlas, series, not no_cache
        )
        request = DetectionRequest(
            scan=inputs[0],
            output=output,
            sequence=sequence,
            brain_mask=brain_mask,
            device=device,
            model=model,
            threshold=threshold,
            sign=sign,
            preprocessing=preprocessing,
        )
        options = DetectOptions((request,), force, keep_intermediate, skip_existing)
        code = run_detect(options, reporter) if len(inputs) == 1 else _detect_all(inputs, options, reporter)
        if code:
            raise typer.Exit(code)


def _detect_all(inputs: Sequence[Path], options: DetectOptions, reporter: Reporter) -> int:
    """The one request for every input; results lie in a folder each below the output, with a table beside them."""
    (request,) = options.requests
    if request.brain_mask is not None:
        msg = f"--brain-mask belongs to one scan but {len(inputs)} inputs are given; run them one by one"
        raise UsageError(msg)
    summary = CohortSummary(request.output, inputs)
    with writing_into(request.output), summary:
        requests = tuple(
            replace(request, scan=scan, output=request.output / folder) for scan, folder in summary.folders.items()
        )
        return run_detect(replace(options, requests=requests), reporter, summary=summary)


def run_detect(
    options: DetectOptions,
    reporter: Reporter,
    load: LoadDetector = load_detector,
    summary: CohortSummary | None = None,
) -> int:
    """Work through the inputs; one that fails does not keep the others from being done.

    Args:
        options: what is asked for.
        reporter: is told how it goes.
        load: makes the detector.
        summary: the table of several inputs.

    Returns:
        Exit code of the first failure, 0 when all went well.
    """
    import DALAnomalyCLI.overview  # noqa: F401  (without matplotlib, fail before the network runs)

    token = CancelToken()
    model = _LoadedOnce(load)
    codes: list[int] = []
    done = failed = 0
    with cancel_on_signals(token):
        for request in options.requests:
            try:
                token.raise_if_cancelled()
                record = _done_before(request, token) if options.skip_existing else None
                if record is not None:
                    reporter.note(f"{request.scan}: done before, in {request.output}{_otherwise(record, request)}")
                else:
                    _detect_one(request, options, model, reporter, token)
                done += 1
                failure = None
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                codes.append(reporter.error(str(request.scan), error))
                if isinstance(error, CancelledError | KeyboardInterrupt):
                    break
                failed += 1
                if model.failed:
                    break
                failure = error
            if summary is not None:
                try:
                    _note(summary, request, failure)
                except OutputError as error:  # the results are there all the same
                    reporter.notice(str(request.scan), f"{error} The row is kept for the next try")
    if len(options.requests) > 1:
        reporter.note(f"{done} of {len(options.requests)} inputs done, {failed} failed")
    return codes[0] if codes else 0


def _note(summary: CohortSummary, request: DetectionRequest, failure: Exception | KeyboardInterrupt | None) -> None:
    if failure is None:
        summary.done(request.scan, FINDINGS_FILE)
    elif not isinstance(failure, OutputError):  # then an older result may be there
        summary.failed(request.scan, one_line(failure))


def _done_before(request: DetectionRequest, token: CancelToken) -> dict[str, Any] | None:
    """The manifest of a result of this very scan that lies where it would be written."""
    from DALAnomalyLib.volume_io import series_to_read

    if not (request.output / FINDINGS_FILE).is_file():
        return None
    try:
        series = series_to_read(request.scan, request.preprocessing.series, request.sequence, token)
        record: dict[str, Any] = json.loads((request.output / MANIFEST_FILE).read_text(encoding="utf-8"))
        return record if record["input"]["sha256"] == describe_input(request.scan, series)["sha256"] else None
    except CancelledError:
        raise
    except (OSError, ValueError, KeyError, TypeError, DALAnomalyError):  # no result, none of ours, no scan
        return None


def _otherwise(record: Mapping[str, Any], request: DetectionRequest) -> str:
    """How the result of a manifest was asked for otherwise than now."""
    from DALAnomalyLib.model_store import model_digest

    differences = ["another model"]
    with suppress(ModelFileError):
        if record.get("model", {}).get("sha256") == model_digest(request.model):
            differences.clear()
    then = {"brain_mask": record.get("brain_mask"), **record.get("requested", {})}
    mask = None
    if request.brain_mask is not None:
        refuse_missing(request.brain_mask)
        mask = describe_input(request.brain_mask)
    if _with_effect({"brain_mask": mask, **plain(wishes(request))}) != _with_effect(then):
        differences.append("other options")
    if not differences:
        return ""
    return f" (with {' and '.join(differences)}; --force in the place of --skip-existing does it anew)"


def _with_effect(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What changes a result: not where it is worked out, what is kept for the next run, or how a mask is called."""
    mask, preprocessing = asked["brain_mask"], asked.get("preprocessing", {})
    return {
        **{name: value for name, value in asked.items() if name != "device"},
        "brain_mask": mask and mask["sha256"],
        "preprocessing": {name: value for name, value in preprocessing.items() if name != "cache"},
    }


class _LoadedOnce:
    """One detector for all inputs, loaded when the first is known to be readable; `failed` when it cannot be."""

    def __init__(self, load: LoadDetector) -> None:
        self._load = load
        self._detector: Detector | None = None
        self._attempt: Attempt | None = None
        self.failed = False

    def __call__(self, request: DetectionRequest, attempt: Attempt) -> Detector:
        if self._detector is None or attempt != self._attempt:
            self._detector = None  # out of memory before the next one comes
            self.failed = True
            self._detector = self._load(request, attempt)
            self._attempt = attempt
            self.failed = False
        return self._detector


def _detect_one(
    request: DetectionRequest, options: DetectOptions, model: LoadDetector, reporter: Reporter, token: CancelToken
) -> None:
    source = str(request.scan)
    listener = Listener(
        lambda stage, fraction: reporter.progress(source, stage, fraction),
        lambda message: reporter.notice(source, message),
    )
    layout = _layout(shown_name(request.scan), options.keep_intermediate)
    finished = run_detection(request, listener, token, layout, model, options.force)
    reporter.result(source, _summary(finished), _text(finished))


def _layout(name: str, keep_intermediate: bool) -> ResultLayout:
    """Compressed volumes with a table and pictures; `name` is how the scan is called there."""

    def write_more(folder: Path, outcome: Outcome, begin: Callable[[str], Path]) -> None:
        from DALAnomalyCLI.overview import write_overview

        detection = outcome.detection
        write_findings(begin(FINDINGS_FILE), detection.findings)
        write_overview(begin(OVERVIEW_FILE), outcome.scan, detection, name)
        assert detection.prepared is not None
        write_quality_file(begin(QUALITY_FILE), detection.prepared, outcome.detector, name)
        if keep_intermediate:
            write_intermediate(folder, detection.prepared, outcome.detector)

    # an older result that is replaced may hold the intermediate files, whether or not this one will
    return ResultLayout(VOLUME_FILES, (FINDINGS_FILE, OVERVIEW_FILE, QUALITY_FILE, *INTERMEDIATE_FILES), write_more)


def _summary(finished: FinishedRun) -> dict[str, Any]:
    """The result for programs."""
    findings = [
        {
            "id": finding.label,
            "volume_ml": finding.volume_ml,
            "centroid_ras_mm": list(finding.centroid_ras_mm),
            "extent_ijk_mm": list(finding.extent_mm),
            "peak": finding.peak,
            "mean": finding.mean,
        }
        for finding in finished.detection.findings
    ]
    return {**finished.summary(), "findings": findings}


def _reservations(finished: FinishedRun) -> list[str]:
    """Why the model's own threshold may not keep false findings as rare here as it was set for."""
    if finished.request.threshold is not None:
        return []
    if finished.calibration is None:
        return ["not calibrated on healthy scans for this score and sign"]
    if not finished.calibration["about"]["same_preprocessing"]:
        return ["calibrated with other preprocessing; `dal-anomaly calibrate` sets it for yours"]
    return []


def _text(finished: FinishedRun) -> str:
    """The result for people: what was found, where it lies, where the files are."""
    detection = finished.detection
    count, volume = len(detection.findings), sum(finding.volume_ml for finding in detection.findings)
    lines = [
        f"{finished.request.scan.name}: {counted(count, 'finding')}, {volume:.1f} ml"
        f" ({detection.sequence}, threshold {detection.threshold:.3g}, {finished.seconds:.0f} s)"
    ]
    for finding in detection.findings[:_FINDINGS_SHOWN]:
        centre = ", ".join(f"{value:.0f}" for value in finding.centroid_ras_mm)
        lines.append(
            f"  {finding.label:>3}  {finding.volume_ml:8.2f} ml  at RAS ({centre}) mm  peak {finding.peak:.3g}"
        )
    if count > _FINDINGS_SHOWN:
        lines.append(f"  ... and {count - _FINDINGS_SHOWN} more in findings.csv")
    lines += [f"  warning: {warning}" for warning in detection.warnings]
    lines += [f"  threshold: {reservation}" for reservation in _reservations(finished)]
    return "\n".join([*lines, f"  -> {finished.request.output}", f"  {RESEARCH_USE}"])
