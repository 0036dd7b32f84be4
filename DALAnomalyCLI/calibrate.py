"""`dal-anomaly calibrate`: thresholds from healthy scans, into a new model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyCLI.evaluation_cases import (
    REQUIRED_COLUMNS,
    Case,
    check_sequences,
    for_each_case,
    read_cases,
    read_inputs,
    tell_of_moves,
)
from DALAnomalyCLI.model_output import check_model_output
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.calibration import TARGETS_ML
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.job import manifest
from DALAnomalyLib.job.failures import naming
from DALAnomalyLib.job.fitting_detector import FittingDetector
from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.result_folder import writing, writing_into
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from DALAnomalyLib.calibration import SequenceCalibration
    from DALAnomalyLib.calibration_fit import FalsePositives
    from DALAnomalyLib.configuration import ModelConfig
    from DALAnomalyLib.detector import Detector
    from DALAnomalyLib.model_store import Model

VOLUMES = ",".join(f"{volume:g}" for volume in TARGETS_ML)


@dataclass(frozen=True)
class CalibrateOptions:
    """What the user asked for; see the options of the command."""

    cases: Path
    output: Path
    model: Path | None = None
    device: str = "auto"
    source: str | None = None
    volumes_ml: tuple[float, float, float] = TARGETS_ML
    leave_out_warned: bool = False
    every_dataset: bool = False
    force: bool = False
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)


@dataclass(frozen=True)
class _LookedAt:
    """What a healthy scan shows, and what its user would be warned of."""

    subject: str
    dataset: str
    sequence: str
    shown: FalsePositives
    warnings: tuple[str, ...]


def calibrate(
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="HEALTHY.csv",
            readable=False,
            help=f"Table with {', '.join(REQUIRED_COLUMNS)} (empty); see evaluate.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new model file, NAME.dalmodel.")],
    model: option.Model = None,
    device: option.Device = "auto",
    source: Annotated[str | None, typer.Option(help="What scans these are, in words; kept in the model file.")] = None,
    volumes: Annotated[
        str, typer.Option(help="False ml per healthy scan that Sensitive, Balanced and Specific allow.")
    ] = VOLUMES,
    leave_out_warned: Annotated[
        bool, typer.Option("--leave-out-warned", help="Scans that come with a warning set no thresholds.")
    ] = False,
    every_dataset: Annotated[
        bool, typer.Option("--every-dataset", help="Each data set of the table keeps the volumes by itself.")
    ] = False,
    skip: option.Skip = None,
    preprocessed: option.Preprocessed = False,
    brain_extraction: option.BrainExtraction = "auto",
    registration: option.Registration = None,
    window: option.Window = None,
    second_pass: option.SecondPass = False,
    atlas: option.Atlas = None,
    no_cache: option.NoCache = False,
    force: option.Force = False,
    quiet: option.Quiet = False,
    as_json: option.Json = False,
    debug: option.Debug = False,
) -> None:
    """Set the thresholds of a model by how much it finds in healthy scans, and write it as a new model file."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        preprocessing = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, second_pass, atlas, None, not no_cache
        )
        options = CalibrateOptions(
            cases,
            output,
            model,
            device,
            source,
            parse_volumes(volumes),
            leave_out_warned,
            every_dataset,
            force,
            preprocessing,
        )
        code = run_calibrate(options, reporter)
        if code:
            raise typer.Exit(code)


def parse_volumes(text: str) -> tuple[float, float, float]:
    """Three numbers with commas between them; what they must be is checked where they are used.

    Raises:
        UsageError: they are not three numbers.
    """
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        msg = f"--volumes is {text}; give three falling numbers of ml with commas, such as {VOLUMES}"
        raise UsageError(msg) from None
    return first, second, third


def run_calibrate(options: CalibrateOptions, reporter: Reporter) -> int:
    """Look at all healthy scans, fit the thresholds and write the model with them.

    Returns:
        Exit code of the first scan that failed, 0 when all went well.
    """
    from DALAnomalyLib.calibration_fit import check_targets
    from DALAnomalyLib.model_store import load_model

    check_targets(options.volumes_ml)
    cases = _healthy_cases(options.cases)
    check_model_output(options.output, options.force)
    model = load_model(options.model)
    check_sequences(cases, model.metadata.landmarks, options.cases)
    token = CancelToken()
    with cancel_on_signals(token), writing_into(options.output.parent):
        fitting = FittingDetector(
            options.preprocessing,
            options.model,
            options.device,
            tell_of_moves(reporter),
            str(options.cases),
        )
        looked_at, failures = for_each_case(
            cases,
            lambda case: fitting.run(case.name, lambda detector: _look_at(detector, case, options, reporter, token)),
            "calibrate",
            reporter,
            token,
        )
        if not looked_at:
            raise typer.Exit(failures[0].code)
        reporter.progress("calibrate", "fitting thresholds", 1.0)
        fitted = _fit_sequences(looked_at, model.metadata.config, options, [failure.case for failure in failures])
        token.raise_if_cancelled()
        digest = _write(model, fitted, options.output)
    summary = {
        "output": str(options.output),
        "sha256": digest,
        "scans_failed": len(failures),
        "calibration": _plain(fitted),
    }
    reporter.result(str(options.cases), summary, shown_calibration(fitted))
    for name in sorted({scan.sequence for scan in looked_at} - fitted.keys()):
        reporter.notice(name, "all of its scans came with warnings and are left out; its thresholds stay as they were")
    for name, calibration in fitted.items():
        for warning in calibration.warnings:
            reporter.notice(name, warning)
    reporter.note(f"{len(looked_at)} of {len(cases)} scans done, {len(failures)} failed -> {options.output}")
    return failures[0].code if failures else 0


def _healthy_cases(path: Path) -> list[Case]:
    cases = read_cases(path)
    lesioned = [case.subject for case in cases if case.lesion is not None]
    if lesioned:
        msg = (
            f"{path}: {lesioned[0]} has a lesion ({len(lesioned)} of {len(cases)} rows have one), but thresholds are "
            "set on healthy scans alone; take such rows out"
        )
        raise InputError(msg)
    return cases


def _look_at(
    detector: Detector, case: Case, options: CalibrateOptions, reporter: Reporter, token: CancelToken
) -> _LookedAt:
    """What is found in a scan on its own grid; what the detector warns of is said."""
    from DALAnomalyLib.calibration_fit import false_positives

    inputs = read_inputs(case, token)
    config, preprocessing = detector.metadata.config, options.preprocessing
    with naming(case.image):
        detection = detector.detect(
            inputs.scan,
            case.sequence,
            inputs.brain_mask,
            cancel=token,
            description=inputs.description,
            extraction=preprocessing.extraction_method,
            preprocessing=preprocessing.over(config.preprocessing),
        )
        for warning in detection.warnings:
            fate = "left out: " if options.leave_out_warned else ""
            reporter.notice(case.name, fate + warning)
        shown = false_positives(detection.score, detection.brain_mask, config.minimum_finding_ml)
        return _LookedAt(case.subject, case.dataset, detection.sequence, shown, detection.warnings)


def _fit_sequences(
    looked_at: Sequence[_LookedAt], config: ModelConfig, options: CalibrateOptions, failed: Sequence[Case]
) -> dict[str, SequenceCalibration]:
    """The thresholds of every sequence that has scans to set them."""
    from DALAnomalyLib.preprocessing.sequence import AUTOMATIC

    fitted = {}
    for sequence in sorted({scan.sequence for scan in looked_at}):
        scans = [scan for scan in looked_at if scan.sequence == sequence]
        warned = sum(bool(scan.warnings) for scan in scans)
        lost = sum(case.sequence in (sequence, AUTOMATIC) for case in failed)
        remarks = [f"{counted(lost, 'scan')} could not be scored and took no part"] if lost else []
        if warned:
            fate = "took no part" if options.leave_out_warned else "took part"
            remarks.append(f"{warned} of {counted(len(scans), 'scan')} came with warnings and {fate}")
        setting = [scan for scan in scans if not (options.leave_out_warned and scan.warnings)]
        if setting:
            fitted[sequence] = _fitted(sequence, setting, config, options, tuple(remarks))
    if not fitted:
        msg = (
            f"{options.cases}: no scan came without warnings, and none is left to set thresholds by; look at what is "
            "warned of, or calibrate without --leave-out-warned"
        )
        raise InputError(msg)
    return fitted


def _fitted(
    sequence: str,
    scans: Sequence[_LookedAt],
    config: ModelConfig,
    options: CalibrateOptions,
    remarks: tuple[str, ...],
) -> SequenceCalibration:
    from DALAnomalyLib.calibration_fit import CalibrationSettings, fit

    source = options.source if options.source is not None else f"healthy scans of {options.cases.name}"
    datasets = [scan.dataset for scan in scans] if options.every_dataset else None
    if datasets and len(set(datasets)) > 1:
        source += f"; each of {len(set(datasets))} data sets keeps the volumes"
    settings = CalibrationSettings(
        source=source,
        score=config.score.for_sequence(sequence),
        minimum_finding_ml=config.minimum_finding_ml,
        preprocessing=options.preprocessing.over(config.preprocessing),
        targets_ml=options.volumes_ml,
        remarks=remarks,
    )
    subjects = [f"{scan.dataset}: {scan.subject}" for scan in scans]  # two sites may both have a subject 1
    return fit([scan.shown for scan in scans], settings, datasets, subjects)


def _write(model: Model, fitted: Mapping[str, SequenceCalibration], output: Path) -> str:
    """Write the model with the new calibration; that of other sequences stays. Returns the file's SHA256."""
    from DALAnomalyLib.model_store import list_if_shipped, save_model

    calibration = {**model.metadata.calibration, **fitted}
    with writing(output):
        digest = save_model(
            output, replace(model.metadata, calibration=calibration), model.network, model.templates, model.reference
        )
        list_if_shipped(output)
    return digest


def _plain(calibration: Mapping[str, SequenceCalibration]) -> dict[str, Any]:
    from DALAnomalyLib.configuration import to_dictionary

    return {name: manifest.plain(to_dictionary(value)) for name, value in calibration.items()}


def shown_calibration(calibration: Mapping[str, SequenceCalibration]) -> Table:
    """The presets as a table for the terminal."""
    from rich import box
    from rich.table import Table

    from DALAnomalyLib.calibration import PRESETS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("preset", no_wrap=True)
    for title in ("n", "threshold", "90 %", "ml/scan", "left out", "findings"):
        table.add_column(title, justify="right", no_wrap=True)
    for sequence, entry in calibration.items():
        for name in PRESETS:
            preset = entry.presets[name]
            table.add_row(
                f"{sequence} {name}",
                str(entry.scans),
                f"{preset.threshold:.4g}",
                "{:.3g} to {:.3g}".format(*preset.threshold_interval),
                f"{preset.false_positive_ml:.2f}",
                "" if preset.left_out_ml is None else f"{preset.left_out_ml:.2f}",
                f"{preset.false_positives_per_scan:.2f}",
                end_section=name == PRESETS[-1],
            )
    return table
