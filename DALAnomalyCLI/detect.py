"""`dal-anomaly detect`: scans in, one folder of results per scan out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from DALAnomalyCLI import manifest, reporting
from DALAnomalyCLI.outputs import result_folder, unique_stems, writing
from DALAnomalyCLI.preprocessing_files import (
    INTERMEDIATE_FILES,
    QUALITY_FILE,
    write_intermediate,
    write_quality_file,
)
from DALAnomalyCLI.preprocessing_options import (
    AtlasFolder,
    BrainExtraction,
    NoCache,
    Preprocessed,
    PreprocessingOptions,
    Registration,
    SecondPass,
    Series,
    Skip,
    Window,
)
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.errors import CancelledError, OutputError, UsageError
from DALAnomalyLib.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.scoring.score_config import SignChoice
    from DALAnomalyLib.volume import Volume

LoadDetector: TypeAlias = "Callable[[Path | None, str], Detector]"

VOLUME_FILES = {
    "anomaly.nii.gz": "score",
    "pseudo_healthy.nii.gz": "pseudo_healthy",
    "tissues.nii.gz": "tissues",
    "edges.nii.gz": "edges",
    "brain_mask.nii.gz": "brain_mask",
    "findings_mask.nii.gz": "findings_mask",
}
"""File name to the field of `Detection` that it holds."""
SIGNS = ("absolute", "typical")
RESULT_FILES = (*VOLUME_FILES, "findings.csv", "overview.png", QUALITY_FILE, "manifest.json")
FINDING_COLUMNS = (
    "id",
    "volume_ml",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "extent_i_mm",
    "extent_j_mm",
    "extent_k_mm",
    "peak",
    "mean",
)
_READ_SHARE, _WRITE_SHARE = 0.03, 0.12
_FINDINGS_SHOWN = 5


@dataclass(frozen=True)
class DetectOptions:
    """What the user asked for; see the options of the command."""

    inputs: tuple[Path, ...]
    output: Path
    sequence: str = "auto"
    device: str = "auto"
    model: Path | None = None
    brain_mask: Path | None = None
    threshold: float | None = None
    sign: str | None = None
    force: bool = False
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    keep_intermediate: bool = False

    def __post_init__(self) -> None:
        """Refuse what can be refused before anything is read."""
        if self.brain_mask is not None and len(self.inputs) > 1:
            msg = f"--brain-mask belongs to one scan but {len(self.inputs)} inputs are given; run them one by one"
            raise UsageError(msg)
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0):
            msg = f"--threshold is {self.threshold}; give a positive number in units of the anomaly score"
            raise UsageError(msg)
        check_sign(self.sign)


def detect(
    inputs: Annotated[list[Path], typer.Argument(help="Scans: NIfTI, NRRD, MetaImage, or a DICOM folder.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the results; with several inputs, one folder each inside it."),
    ],
    sequence: Annotated[str, typer.Option(help="auto, T1 or T2.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<number>.")] = "auto",
    model: Annotated[Path | None, typer.Option(help="Model file instead of the one that is shipped.")] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask on the scan's own grid.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score from which a voxel belongs to a finding.")] = None,
    sign: Annotated[
        str | None, typer.Option(help="typical (bright on T2, dark on T1) or absolute (all differences).")
    ] = None,
    series: Series = None,
    skip: Skip = None,
    preprocessed: Preprocessed = False,
    brain_extraction: BrainExtraction = "auto",
    registration: Registration = None,
    window: Window = None,
    second_pass: SecondPass = False,
    atlas: AtlasFolder = None,
    keep_intermediate: Annotated[
        bool, typer.Option("--keep-intermediate", help="Keep the corrected scan, the network's input, atlas space.")
    ] = False,
    no_cache: NoCache = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older result.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line: progress, results, errors.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    """Find what a healthy brain would not show in T1 or T2 scans. Research use only, not for diagnosis."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        preprocessing = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, second_pass, atlas, series, not no_cache
        )
        options = DetectOptions(
            tuple(inputs),
            output,
            sequence,
            device,
            model,
            brain_mask,
            threshold,
            sign,
            force,
            preprocessing,
            keep_intermediate,
        )
        code = run_detect(options, reporter)
        if code:
            raise typer.Exit(code)


def check_sign(sign: str | None) -> None:
    """Refuse a sign that the commands do not offer."""
    if sign not in (None, *SIGNS):
        msg = f"--sign is {sign}; choose one of {', '.join(SIGNS)}"
        raise UsageError(msg)


def run_detect(options: DetectOptions, reporter: Reporter, load: LoadDetector | None = None) -> int:
    """Work through the inputs; one that fails does not keep the others from being done.

    Returns:
        Exit code of the first failure, 0 when all went well.
    """
    import DALAnomalyCLI.overview  # noqa: F401  (without matplotlib, fail before the network runs)

    token = CancelToken()
    load = load or options.preprocessing.load_detector
    model = _OnFirstUse(lambda: load(options.model, options.device))
    codes: list[int] = []
    done = 0
    with reporting.cancel_on_signals(token):
        for source, final in zip(options.inputs, _result_folders(options), strict=True):
            try:
                _detect_one(source, final, options, model, reporter, token)
                done += 1
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                codes.append(reporter.error(str(source), error))
                if model.failed or isinstance(error, CancelledError | KeyboardInterrupt):
                    break
    if len(options.inputs) > 1:
        reporter.note(f"{done} of {len(options.inputs)} inputs done, {len(codes)} failed")
    return codes[0] if codes else 0


class _OnFirstUse:
    """The detector, loaded when the first input is known to be readable; `failed` when it cannot be loaded."""

    def __init__(self, load: Callable[[], Detector]) -> None:
        self._load = load
        self._detector: Detector | None = None
        self.failed = False

    def get(self) -> Detector:
        if self._detector is None:
            self.failed = True
            self._detector = self._load()
            self.failed = False
        return self._detector


def _result_folders(options: DetectOptions) -> list[Path]:
    if len(options.inputs) == 1:
        return [options.output]
    return [options.output / stem for stem in unique_stems(options.inputs)]


def _detect_one(
    source: Path, final: Path, options: DetectOptions, model: _OnFirstUse, reporter: Reporter, token: CancelToken
) -> None:
    from DALAnomalyLib.volume_io import describe_scan, read_mask, read_volume

    wishes = options.preprocessing
    started = datetime.now(timezone.utc)

    def progress(stage: str, fraction: float) -> None:
        reporter.progress(str(source), stage, fraction)

    with result_folder(final, (*RESULT_FILES, *INTERMEDIATE_FILES), options.force) as folder:
        progress("reading", 0.0)
        scan = read_volume(source, series=wishes.series, sequence=options.sequence, cancel=token)
        description = describe_scan(source, wishes.series, options.sequence, token)
        mask = None if options.brain_mask is None else read_mask(options.brain_mask, scan.grid)
        token.raise_if_cancelled()
        detector = model.get()
        token.raise_if_cancelled()
        with reporting.naming(source):
            detection = detector.detect(
                scan,
                sequence=options.sequence,
                brain_mask=mask,
                threshold=options.threshold,
                sign=cast("SignChoice | None", options.sign),
                progress=_part_of(progress, _READ_SHARE, 1 - _WRITE_SHARE),
                cancel=token,
                description=description,
                extraction=wishes.extraction_method,
                preprocessing=wishes.over(detector.metadata.config.preprocessing),
            )
        writing_progress = _part_of(progress, 1 - _WRITE_SHARE, 1.0)
        with _writing_results(final):
            write_detection(folder, scan, detection, manifest.shown_name(source), writing_progress, token)
            assert detection.prepared is not None
            write_quality_file(folder, detection.prepared, detector, manifest.shown_name(source))
            if options.keep_intermediate:
                write_intermediate(folder, detection.prepared, detector)
            record = _record(source, options, scan, detection, started)
            _write_json(folder / "manifest.json", {**record, "outputs": manifest.file_digests(folder)})
        token.raise_if_cancelled()
    progress("done", 1.0)
    seconds = record["times"]["seconds"]
    reporter.result(str(source), _summary(final, detection, seconds), _text(source, final, detection, seconds))


def _part_of(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Let a part of the work count its own 0 to 1 while the user sees `start` to `end`."""
    return lambda stage, fraction: progress(stage, start + (end - start) * min(max(fraction, 0.0), 1.0))


def write_detection(
    folder: Path,
    scan: Volume,
    detection: Detection,
    name: str,
    progress: ProgressCallback,
    cancel: CancelToken,
) -> None:
    """Write every result but the manifest into an existing folder.

    Args:
        folder: where to write.
        scan: the input.
        detection: what was found in it, on the same grid.
        name: how the scan is called in the overview.
        progress: told about each file.
        cancel: looked at before each file.
    """
    from DALAnomalyCLI.overview import write_overview
    from DALAnomalyLib.volume_io import write_volume

    def begin(file: str, number: int) -> Path:
        cancel.raise_if_cancelled()
        progress(f"writing {file}", number / len(RESULT_FILES))
        return folder / file

    for number, (file, result) in enumerate(VOLUME_FILES.items()):
        write_volume(getattr(detection, result), begin(file, number))
    write_findings(begin("findings.csv", len(VOLUME_FILES)), detection)
    write_overview(begin("overview.png", len(VOLUME_FILES) + 1), scan, detection, name)


def write_findings(path: Path, detection: Detection) -> None:
    """One row per finding; volumes in ml, centroids in RAS mm, extents in mm along the axes of the scan's grid."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(FINDING_COLUMNS)
        for finding in detection.findings:
            numbers = (finding.volume_ml, *finding.centroid_ras_mm, *finding.extent_mm, finding.peak, finding.mean)
            table.writerow([finding.label, *(f"{number:.6g}" for number in numbers)])


@contextmanager
def _writing_results(final: Path) -> Iterator[None]:
    """Say which result could not be written: the library only knows the hidden folder that stands for it."""
    with writing(final):
        try:
            yield
        except OutputError as error:
            msg = f"{final}: could not be written completely; free some disk space or choose another folder with -o"
            raise OutputError(msg) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _record(
    source: Path, options: DetectOptions, scan: Volume, detection: Detection, started: datetime
) -> dict[str, Any]:
    """Everything but the outputs' digests that the manifest says about this run."""
    provenance = manifest.plain(detection.provenance)
    return {
        "tool": "DALAnomaly",
        "manifest_version": manifest.MANIFEST_VERSION,
        "notice": reporting.RESEARCH_USE,
        "versions": manifest.versions(),
        "model": provenance["model"],
        "device": provenance["device"],
        "input": {**manifest.describe_input(source), **_geometry(scan)},
        "brain_mask": None if options.brain_mask is None else manifest.describe_input(options.brain_mask),
        "requested": {
            "sequence": options.sequence,
            "device": options.device,
            "threshold": options.threshold,
            "sign": options.sign,
        },
        "parameters": provenance["parameters"],
        "steps": provenance["steps"],
        "findings": len(detection.findings),
        "warnings": manifest.plain(detection.warnings),
        "times": {**manifest.describe_times(started), "stages_seconds": provenance["seconds"]},
    }


def _geometry(scan: Volume) -> dict[str, Any]:
    return {"shape_kji": list(scan.grid.shape), "spacing_ijk_mm": list(scan.grid.spacing)}


def _summary(final: Path, detection: Detection, seconds: float) -> dict[str, Any]:
    """The result for programs."""
    return {
        "output": str(final),
        "sequence": detection.sequence,
        "sequence_evidence": detection.sequence_evidence,
        "threshold": detection.threshold,
        "findings": [
            {
                "id": finding.label,
                "volume_ml": finding.volume_ml,
                "centroid_ras_mm": list(finding.centroid_ras_mm),
                "extent_ijk_mm": list(finding.extent_mm),
                "peak": finding.peak,
                "mean": finding.mean,
            }
            for finding in detection.findings
        ],
        "warnings": list(detection.warnings),
        "seconds": seconds,
    }


def _text(source: Path, final: Path, detection: Detection, seconds: float) -> str:
    """The result for people: what was found, where it lies, where the files are."""
    count, volume = len(detection.findings), sum(finding.volume_ml for finding in detection.findings)
    lines = [
        f"{source.name}: {count} finding{'' if count == 1 else 's'}, {volume:.1f} ml"
        f" ({detection.sequence}, threshold {detection.threshold:.3g}, {seconds:.0f} s)"
    ]
    for finding in detection.findings[:_FINDINGS_SHOWN]:
        centre = ", ".join(f"{value:.0f}" for value in finding.centroid_ras_mm)
        lines.append(
            f"  {finding.label:>3}  {finding.volume_ml:8.2f} ml  at RAS ({centre}) mm  peak {finding.peak:.3g}"
        )
    if count > _FINDINGS_SHOWN:
        lines.append(f"  ... and {count - _FINDINGS_SHOWN} more in findings.csv")
    lines += [f"  warning: {warning}" for warning in detection.warnings]
    return "\n".join([*lines, f"  -> {final}", f"  {reporting.RESEARCH_USE}"])
