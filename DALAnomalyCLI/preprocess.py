"""`dal-anomaly preprocess`: the way of a raw scan to the network, without the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyCLI.preprocessing_files import (
    INTERMEDIATE_FILES,
    QUALITY_FILE,
    write_intermediate,
    write_quality_file,
)
from DALAnomalyLib.job import manifest
from DALAnomalyLib.job.failures import naming
from DALAnomalyLib.job.fitting_detector import FittingDetector
from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalyLib.job.result_layout import MANIFEST_FILE, write_manifest, writing_result
from DALAnomalyLib.progress import CancelToken

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector
    from DALAnomalyLib.preprocessing.pipeline import PreparedScan

MASK_FILE = "brain_mask.nii.gz"
RESULT_FILES = (MASK_FILE, *INTERMEDIATE_FILES, QUALITY_FILE, MANIFEST_FILE)


@dataclass(frozen=True)
class PreprocessOptions:
    """What the user asked for; see the options of the command."""

    scan: Path
    output: Path
    sequence: str = "auto"
    brain_mask: Path | None = None
    model: Path | None = None
    device: str = "auto"
    force: bool = False
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)


def preprocess(
    scan: Annotated[Path, typer.Argument(readable=False, help="Raw scan: NIfTI, NRRD, MetaImage, or a DICOM folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    sequence: option.Sequence = "auto",
    brain_mask: option.BrainMask = None,
    series: option.Series = None,
    skip: option.Skip = None,
    preprocessed: option.Preprocessed = False,
    brain_extraction: option.BrainExtraction = "auto",
    registration: option.Registration = None,
    window: option.Window = None,
    atlas: option.Atlas = None,
    model: option.Model = None,
    device: option.Device = "auto",
    no_cache: option.NoCache = False,
    force: option.Force = False,
    quiet: option.Quiet = False,
    as_json: option.Json = False,
    debug: option.Debug = False,
) -> None:
    """Bring a raw scan to the model's grid and scale: brain mask, bias field, atlas space, intensities, qc.png."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        preprocessing = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, False, atlas, series, not no_cache
        )
        options = PreprocessOptions(scan, output, sequence, brain_mask, model, device, force, preprocessing)
        _preprocess(options, reporter)


def _preprocess(options: PreprocessOptions, reporter: reporting.Reporter) -> None:
    import DALAnomalyCLI.quality_picture  # noqa: F401  (without matplotlib, fail before the work is done)
    from DALAnomalyLib.preprocessing.chain import ScanRequest
    from DALAnomalyLib.volume_io import describe_scan, read_mask, read_volume, series_to_read

    started, token = datetime.now(timezone.utc), CancelToken()
    source, wishes = options.scan, options.preprocessing
    with cancel_on_signals(token), result_folder(options.output, RESULT_FILES, options.force) as folder:
        reporter.progress(str(source), "reading", 0.0)
        series = series_to_read(source, wishes.series, options.sequence, token)
        volume = read_volume(source, series=series, sequence=options.sequence, cancel=token)
        request = ScanRequest(
            volume=volume,
            sequence=options.sequence,
            brain_mask=None if options.brain_mask is None else read_mask(options.brain_mask, volume.grid),
            description=describe_scan(source, series, options.sequence, token),
            extraction=wishes.extraction_method,
        )
        inputs = manifest.describe_inputs(source, options.brain_mask, series, options.sequence)
        fitting = FittingDetector(wishes, options.model, options.device, reporter.notice, str(source))
        config = wishes.over(fitting.metadata.config.preprocessing)
        with naming(source):
            prepared = fitting.run(
                str(source),
                lambda detector: detector.prepare(
                    request,
                    config,
                    lambda stage, part: reporter.progress(str(source), stage, 0.05 + 0.75 * part),
                    token,
                ),
            )
        detector = fitting.detector
        reporter.progress(str(source), "writing", 0.8)
        with writing_result(options.output):
            _write_volumes(folder, prepared, detector, source)
            record = _record(options, inputs, prepared, detector, started)
            write_manifest(folder, record)
        token.raise_if_cancelled()
    summary = {key: record[key] for key in ("sequence", "steps", "warnings")} | {"output": str(options.output)}
    reporter.result(str(source), summary, _text(options, prepared, record["times"]["seconds"]))


def _write_volumes(folder: Path, prepared: PreparedScan, detector: Detector, source: Path) -> None:
    from DALAnomalyLib.volume_io import write_volume

    write_volume(prepared.brain_mask, folder / MASK_FILE)
    write_intermediate(folder, prepared, detector)
    write_quality_file(folder / QUALITY_FILE, prepared, detector, manifest.shown_name(source))


def _record(
    options: PreprocessOptions, inputs: dict[str, Any], prepared: PreparedScan, detector: Detector, started: datetime
) -> dict[str, Any]:
    requested = {
        "sequence": options.sequence,
        "device": options.device,
        "preprocessing": asdict(options.preprocessing),
    }
    outcome = {
        "sequence": prepared.sequence,
        "steps": [asdict(step) for step in prepared.steps],
        "warnings": prepared.warnings,
    }
    return manifest.run_record(detector, inputs, requested, outcome, started)


def _text(options: PreprocessOptions, prepared: PreparedScan, seconds: float) -> str:
    """The result for people: what each step found, where the files are."""
    lines = [f"{manifest.shown_name(options.scan)}: {prepared.sequence}, {seconds:.0f} s"]
    lines += [f"  {step.name.replace('_', ' ')}: {step.evidence}" for step in prepared.steps if step.evidence]
    lines += [f"  warning: {warning}" for warning in prepared.warnings]
    return "\n".join([*lines, f"  -> {options.output}"])
