"""`dal-anomaly evaluate`: how well the score finds known lesions, next to simpler scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyCLI.evaluation_cases import (
    ALL,
    REQUIRED_COLUMNS,
    check_sequences,
    for_each_case,
    read_cases,
    tell_of_moves,
)
from DALAnomalyCLI.evaluation_measures import Group, Row, case_metrics, groups_of, measure
from DALAnomalyCLI.evaluation_preset_table import preset_rows
from DALAnomalyCLI.evaluation_report import LEGEND, LEGEND_OF_PRESETS, draw_curves, shown_tables, write_table
from DALAnomalyCLI.evaluation_scores import ScoredCase, score_case
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.job import manifest
from DALAnomalyLib.job.fitting_detector import FittingDetector
from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.request import check_sign
from DALAnomalyLib.job.result_folder import result_folder, writing
from DALAnomalyLib.progress import CancelToken

PRESETS_FILE = "presets.csv"
"""Written for models with a calibration only."""
RESULT_FILES = ("metrics.csv", "cases.csv", PRESETS_FILE, "pr_curve.png", "metrics.json")


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for; see the options of the command."""

    cases: Path
    output: Path
    model: Path | None = None
    device: str = "auto"
    sign: str | None = None
    force: bool = False
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)

    def __post_init__(self) -> None:
        """Refuse an unknown sign before anything is read."""
        check_sign(self.sign)


def evaluate(
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="CASES.csv", readable=False, help=f"Table with {', '.join(REQUIRED_COLUMNS)}, optional brain_mask."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    model: option.Model = None,
    device: option.Device = "auto",
    sign: option.Sign = None,
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
    """Measure detection on scans with known lesions, and false alarms on healthy ones (rows without a lesion)."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        preprocessing = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, second_pass, atlas, None, not no_cache
        )
        code = run_evaluate(EvaluateOptions(cases, output, model, device, sign, force, preprocessing), reporter)
        if code:
            raise typer.Exit(code)


def run_evaluate(options: EvaluateOptions, reporter: Reporter) -> int:
    """Score all cases and write the metrics of those that could be scored.

    Returns:
        Exit code of the first case that failed, 0 when all went well.
    """
    started = datetime.now(timezone.utc)
    cases = read_cases(options.cases)
    table = manifest.describe_input(options.cases)  # now, for it may be edited or moved during the run
    token = CancelToken()
    with (
        cancel_on_signals(token),
        result_folder(options.output, RESULT_FILES, options.force) as folder,
    ):
        fitting = FittingDetector(
            options.preprocessing,
            options.model,
            options.device,
            tell_of_moves(reporter),
            str(options.cases),
        )
        check_sequences(cases, fitting.metadata.landmarks, options.cases)
        scored, failures = for_each_case(
            cases,
            lambda case: fitting.run(
                case.name, lambda detector: score_case(detector, case, options.sign, token, options.preprocessing)
            ),
            "evaluate",
            reporter,
            token,
        )
        reporter.progress("evaluate", "metrics", 1.0)
        if not scored:
            raise typer.Exit(failures[0].code)
        grouped = groups_of(scored)
        groups = [measure(*group) for group in grouped]
        presets = _presets(grouped, groups, fitting.metadata.config.score.kind)
        rows = [row for group in groups for row in group.rows]
        case_rows = [row for case in scored for row in case_metrics(case)]
        record = {
            "tool": "DALAnomaly",
            "versions": manifest.versions(),
            "model": fitting.identity,
            "device": ", ".join(fitting.devices),
            "requested_sign": options.sign,
            "preprocessing": asdict(options.preprocessing.over(fitting.metadata.config.preprocessing)),
            "cases_sha256": table["sha256"],
            "cases_failed": len(failures),
            "failures": [failure.record for failure in failures],
            "times": manifest.describe_times(started),
            "metrics": rows,
            "cases": case_rows,
            "presets": presets,
        }
        with writing(options.output):
            write_table(folder / "metrics.csv", rows)
            write_table(folder / "cases.csv", case_rows)
            if presets:
                write_table(folder / PRESETS_FILE, presets)
            text = json.dumps(manifest.plain(record), indent=2, allow_nan=False)
            (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
            draw_curves(folder / "pr_curve.png", groups)
        token.raise_if_cancelled()
    summary = {"output": str(options.output), "metrics": manifest.plain(rows), "presets": manifest.plain(presets)}
    reporter.result(str(options.cases), summary, shown_tables(rows, presets))
    reporter.note(f"{LEGEND}; {LEGEND_OF_PRESETS}" if presets else LEGEND)
    reporter.note(f"{len(scored)} of {len(cases)} cases done, {len(failures)} failed -> {options.output}")
    return failures[0].code if failures else 0


def _presets(grouped: Sequence[tuple[str, str, list[ScoredCase]]], groups: Sequence[Group], kind: str) -> list[Row]:
    """The rows of `presets.csv`: per data set and sequence, and per sequence; no preset is of two sequences."""
    rows: list[Row] = []
    for (dataset, sequence, cases), group in zip(grouped, groups, strict=True):
        if sequence != ALL:
            best = next(row["best_dice"] for row in group.rows if row["score"] == kind)
            rows += preset_rows(dataset, sequence, cases, float(best))
    return rows
