"""`dal-anomaly evaluate`: how well the score finds known lesions, next to simpler scores."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import typer

from DALAnomalyCLI import manifest, reporting
from DALAnomalyCLI.detect import LoadDetector, load_detector
from DALAnomalyCLI.outputs import result_folder, writing
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.errors import CancelledError, InputError
from DALAnomalyLib.evaluation import metrics
from DALAnomalyLib.progress import CancelToken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.volume import Volume

Scores: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.bool_]

RESULT_FILES = ("metrics.csv", "cases.csv", "metrics.json", "pr_curve.png")
REQUIRED_COLUMNS = ("subject", "dataset", "sequence", "image", "lesion")
BASELINE = "intensity"
"""The score kind that uses no network, so that it has no reconstruction errors."""
ALL = "all"
_CURVE_POINTS = 500
_CURVE_COLOURS = ("#0a7d77", "#3b6fb6", "#8a5fb0", "#d1711f")
_MOST_PANELS = 12


@dataclass(frozen=True)
class Case:
    """One row of the table of cases; without a lesion mask it is a healthy scan."""

    subject: str
    dataset: str
    sequence: str
    image: Path
    lesion: Path | None = None
    brain_mask: Path | None = None


@dataclass(frozen=True, eq=False)
class ScoredVoxels:
    """One kind of score of one case.

    Attributes:
        scores: float32 (N,), the voxels inside the brain mask.
        threshold: the model's own for this kind of score; NaN when it has none.
        findings: how many there are at that threshold.
        false_positive_ml: volume of the findings outside the lesion.
    """

    scores: Scores
    threshold: float
    findings: int
    false_positive_ml: float


@dataclass(frozen=True, eq=False)
class ScoredCase:
    """What the metrics need of one case.

    Attributes:
        case: the row it comes from.
        sequence: as used; the row may say auto.
        labels: bool (N,), the voxels inside the brain mask, true in the lesion.
        lesion_ml: volume of the whole lesion mask.
        lesion_outside_brain_ml: volume of its part that no metric sees.
        by_kind: kind of score to its voxels.
        error_normal: mean |x - x_r| over the N voxels that are normal, as a fraction of the scan's 99th percentile.
        error_abnormal: the same over the lesion; NaN without one.
        warnings: what the detector had to say about the scan.
    """

    case: Case
    sequence: str
    labels: Labels
    lesion_ml: float
    lesion_outside_brain_ml: float
    by_kind: Mapping[str, ScoredVoxels]
    error_normal: float
    error_abnormal: float
    warnings: tuple[str, ...]

    @property
    def has_lesion(self) -> bool:
        """Whether any voxel inside the brain is labelled."""
        return bool(self.labels.any())


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for; see the options of the command."""

    cases: Path
    output: Path
    model: Path | None = None
    device: str = "auto"
    force: bool = False


def evaluate(
    cases: Annotated[
        Path,
        typer.Argument(metavar="CASES.csv", help=f"Table with {', '.join(REQUIRED_COLUMNS)}, optional brain_mask."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    model: Annotated[Path | None, typer.Option(help="Model file instead of the one that is shipped.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<number>.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an older result.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    """Measure detection on scans with known lesions, and false alarms on healthy ones (rows without a lesion)."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        code = run_evaluate(EvaluateOptions(cases, output, model, device, force), reporter)
        if code:
            raise typer.Exit(code)


def run_evaluate(options: EvaluateOptions, reporter: Reporter, load: LoadDetector = load_detector) -> int:
    """Score all cases and write the metrics of those that could be scored.

    Returns:
        Exit code of the first case that failed, 0 when all went well.
    """
    started = datetime.now(timezone.utc)
    cases = read_cases(options.cases)
    token = CancelToken()
    with (
        reporting.cancel_on_signals(token),
        result_folder(options.output, RESULT_FILES, options.force) as folder,
    ):
        detector = load(options.model, options.device)
        scored, codes = _score_all(detector, cases, reporter, token)
        if not scored:
            raise typer.Exit(codes[0])
        groups = [measure(*group) for group in groups_of(scored)]
        rows = [row for group in groups for row in group.rows]
        case_rows = [row for case in scored for row in case_metrics(case)]
        record = {
            "tool": "DALAnomaly",
            "versions": manifest.versions(),
            "model": _identity(detector),
            "device": str(detector.device),
            "cases_sha256": manifest.describe_input(options.cases)["sha256"],
            "cases_failed": len(codes),
            "times": manifest.describe_times(started),
            "metrics": rows,
            "cases": case_rows,
        }
        with writing(options.output):
            _write_table(folder / "metrics.csv", rows)
            _write_table(folder / "cases.csv", case_rows)
            text = json.dumps(manifest.plain(record), indent=2, allow_nan=False)
            (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
            draw_curves(folder / "pr_curve.png", groups)
        token.raise_if_cancelled()
    summary = {"output": str(options.output), "metrics": manifest.plain(rows)}
    reporter.result(str(options.cases), summary, _shown_table(rows))
    reporter.note(f"{len(scored)} of {len(cases)} cases done, {len(codes)} failed -> {options.output}")
    return codes[0] if codes else 0


def _identity(detector: Detector) -> dict[str, str]:
    return {"name": detector.metadata.config.name, "version": detector.metadata.version, "sha256": detector.digest}


# --- the table of cases -----------------------------------------------------------------------------------------------


def read_cases(path: Path) -> list[Case]:
    """Read the table of cases; relative paths in it start at its own folder.

    Raises:
        InputError: unreadable, a column or a value is missing, or there is no row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            missing = [name for name in REQUIRED_COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                msg = f"{path}: column {', '.join(missing)} is missing; it needs {', '.join(REQUIRED_COLUMNS)}"
                raise InputError(msg)
            cases = [_case(row, path, table.line_num) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a CSV text file in UTF-8"
        msg = f"{path}: cannot be read as a table of cases ({reason}); check the path and the format"
        raise InputError(msg) from error
    if not cases:
        msg = f"{path}: holds no case; add one row per scan"
        raise InputError(msg)
    return cases


def _case(row: Mapping[str, str | None], path: Path, line: int) -> Case:
    values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    empty = [name for name in REQUIRED_COLUMNS if name != "lesion" and not values[name]]
    if empty:
        msg = f"{path}: line {line} has no {', '.join(empty)}; only lesion and brain_mask may be empty"
        raise InputError(msg)
    image, lesion, mask = (
        path.parent / value if value else None
        for value in (values["image"], values["lesion"], values.get("brain_mask", ""))
    )
    assert image is not None
    return Case(values["subject"], values["dataset"], values["sequence"], image, lesion, mask)


# --- scores of one case -----------------------------------------------------------------------------------------------


def _score_all(
    detector: Detector, cases: Sequence[Case], reporter: Reporter, token: CancelToken
) -> tuple[list[ScoredCase], list[int]]:
    """Score what can be scored; the exit codes are those of the cases that cannot."""
    scored: list[ScoredCase] = []
    codes: list[int] = []
    for number, case in enumerate(cases):
        token.raise_if_cancelled()
        reporter.progress("evaluate", f"{case.subject} {case.sequence}", number / len(cases))
        try:
            scored.append(score_case(detector, case, token))
        except (CancelledError, BrokenPipeError):
            raise
        except Exception as error:
            codes.append(reporter.error(f"{case.subject} {case.sequence}", error))
    reporter.progress("evaluate", "metrics", 1.0)
    return scored, codes


def score_case(detector: Detector, case: Case, cancel: CancelToken) -> ScoredCase:
    """Run the network once on a case and keep its scores inside the brain."""
    from DALAnomalyLib.volume_io import read_mask, read_volume

    scan = read_volume(case.image)
    lesion = None if case.lesion is None else read_mask(case.lesion, scan.grid).array > 0
    mask = None if case.brain_mask is None else read_mask(case.brain_mask, scan.grid)
    cancel.raise_if_cancelled()
    with reporting.naming(case.image):
        detections = detector.detect_all_scores(scan, case.sequence, mask, cancel=cancel)
    first = next(iter(detections.values()))
    brain = first.brain_mask.array > 0
    if lesion is None:
        lesion = np.zeros(brain.shape, dtype=bool)
    voxel_ml = scan.grid.voxel_volume_ml
    normal, abnormal = _reconstruction_errors(scan, first, brain, lesion)
    return ScoredCase(
        case=case,
        sequence=first.sequence,
        labels=lesion[brain],
        lesion_ml=np.count_nonzero(lesion) * voxel_ml,
        lesion_outside_brain_ml=np.count_nonzero(lesion & ~brain) * voxel_ml,
        by_kind={
            kind: ScoredVoxels(
                scores=detection.score.array[brain].astype(np.float32, copy=False),
                threshold=detection.threshold,
                findings=len(detection.findings),
                false_positive_ml=np.count_nonzero((detection.findings_mask.array > 0) & ~lesion) * voxel_ml,
            )
            for kind, detection in detections.items()
        },
        error_normal=normal,
        error_abnormal=abnormal,
        warnings=detection_warnings(detections.values()),
    )


def detection_warnings(detections: Iterable[Detection]) -> tuple[str, ...]:
    """The warnings of several detections of one scan, each once, in order."""
    return tuple(dict.fromkeys(warning for detection in detections for warning in detection.warnings))


def _reconstruction_errors(scan: Volume, detection: Detection, brain: Labels, lesion: Labels) -> tuple[float, float]:
    """Mean |x - x_r| over normal and over lesion voxels of the brain, relative to the scan's 99th percentile there."""
    scale = float(np.percentile(scan.array[brain], 99))
    if scale <= 0:
        return math.nan, math.nan
    image, healthy = scan.array[brain] / scale, detection.pseudo_healthy.array[brain] / scale
    labels = lesion[brain]
    if not labels.any() or labels.all():
        mean = float(np.mean(np.abs(image - healthy), dtype=np.float64))
        return (math.nan, mean) if labels.any() else (mean, math.nan)
    errors = metrics.reconstruction_errors(image, healthy, labels)
    return errors.l1_re_normal, errors.l1_re_abnormal


# --- metrics ----------------------------------------------------------------------------------------------------------

Row: TypeAlias = "dict[str, str | int | float]"


def case_metrics(case: ScoredCase) -> list[Row]:
    """One row per kind of score; what is undefined (a healthy scan has no Dice) is NaN."""
    return [
        {
            "subject": case.case.subject,
            "dataset": case.case.dataset,
            "sequence": case.sequence,
            "score": kind,
            "lesion_ml": case.lesion_ml,
            "lesion_outside_brain_ml": case.lesion_outside_brain_ml,
            **_overlap(voxels, case.labels),
            "threshold": voxels.threshold,
            "findings": voxels.findings,
            "false_positive_ml": voxels.false_positive_ml,
            **_errors(kind, case.error_normal, case.error_abnormal),
            "warnings": "; ".join(case.warnings),
        }
        for kind, voxels in case.by_kind.items()
    ]


def _overlap(voxels: ScoredVoxels, labels: Labels) -> Row:
    if not labels.any():
        names = ("average_precision", "best_dice", "best_threshold", "dice_at_threshold")
        return dict.fromkeys(names, math.nan)
    counts = metrics.count_detections(voxels.scores, labels)
    dice, threshold = counts.best_dice()
    return {
        "average_precision": counts.average_precision(),
        "best_dice": dice,
        "best_threshold": threshold,
        "dice_at_threshold": _dice(_counts_at_threshold(voxels, labels)),
    }


def _errors(kind: str, normal: float, abnormal: float) -> Row:
    if kind == BASELINE:
        normal = abnormal = math.nan
    return {"l1_re_n": normal, "l1_re_a": abnormal, "l1_ratio": abnormal / normal if normal > 0 else math.nan}


def _counts_at_threshold(voxels: ScoredVoxels, labels: Labels) -> npt.NDArray[np.float64]:
    """True positives, predicted and abnormal voxels at the model's own threshold, NaN when it has none."""
    predicted = voxels.scores >= voxels.threshold
    counts = np.array([np.count_nonzero(predicted & labels), np.count_nonzero(predicted), np.count_nonzero(labels)])
    return counts if math.isfinite(voxels.threshold) else counts * math.nan


def _dice(counts: npt.NDArray[np.float64]) -> float:
    true_positives, predicted, abnormal = counts
    return float(2 * true_positives / (predicted + abnormal))


@dataclass(frozen=True, eq=False)
class Group:
    """The cases that are pooled into one set of figures."""

    dataset: str
    sequence: str
    rows: list[Row]
    curves: Mapping[str, metrics.DetectionCounts]
    """Kind of score to its pooled precision-recall curve; empty for healthy scans."""


def groups_of(cases: Sequence[ScoredCase]) -> list[tuple[str, str, list[ScoredCase]]]:
    """Dataset, sequence and cases: each pair, then all datasets per sequence, then everything."""
    keys = sorted({(case.case.dataset, case.sequence) for case in cases})
    keys += [(ALL, sequence) for sequence in sorted({case.sequence for case in cases})]
    keys.append((ALL, ALL))
    return [
        (dataset, sequence, [case for case in cases if _matches(case, dataset, sequence)]) for dataset, sequence in keys
    ]


def _matches(case: ScoredCase, dataset: str, sequence: str) -> bool:
    return dataset in (ALL, case.case.dataset) and sequence in (ALL, case.sequence)


def measure(dataset: str, sequence: str, cases: Sequence[ScoredCase]) -> Group:
    """Figures of a group, one row per kind of score.

    Cases with a lesion give the detection figures and the reconstruction errors; scans without one give only the
    columns that begin with `healthy`, so that adding healthy scans changes no average precision.
    """
    lesioned = [case for case in cases if case.has_lesion]
    healthy = [case for case in cases if not case.has_lesion]
    rows: list[Row] = []
    curves: dict[str, metrics.DetectionCounts] = {}
    for kind in cases[0].by_kind:
        row: Row = {"dataset": dataset, "sequence": sequence, "score": kind, "cases": len(lesioned)}
        detection, curve = _detection_figures(kind, lesioned)
        row |= detection | _errors(kind, *_pooled_errors(lesioned)) | _healthy_figures(kind, healthy)
        rows.append(row)
        if curve is not None:
            curves[kind] = curve
    return Group(dataset, sequence, rows, curves)


def _detection_figures(kind: str, cases: Sequence[ScoredCase]) -> tuple[Row, metrics.DetectionCounts | None]:
    names = ("average_precision", "best_dice", "best_threshold", "mean_case_best_dice")
    fixed_names = ("dice_at_threshold", "mean_case_dice_at_threshold")
    if not cases:
        return dict.fromkeys((*names, *fixed_names), math.nan), None
    pooled = metrics.pooled_metrics([(case.by_kind[kind].scores, case.labels) for case in cases], _CURVE_POINTS)
    at_threshold = np.array([_counts_at_threshold(case.by_kind[kind], case.labels) for case in cases])
    fixed = (_dice(at_threshold.sum(axis=0)), float(np.mean([_dice(counts) for counts in at_threshold])))
    row: Row = {name: getattr(pooled, name) for name in names}
    return row | dict(zip(fixed_names, fixed, strict=True)), pooled.curve


def _pooled_errors(cases: Sequence[ScoredCase]) -> tuple[float, float]:
    """Mean errors over all normal and over all lesion voxels of the cases."""
    abnormal = np.array([np.count_nonzero(case.labels) for case in cases], dtype=np.float64)
    normal = np.array([case.labels.size for case in cases]) - abnormal
    return (
        _weighted_mean([case.error_normal for case in cases], normal),
        _weighted_mean([case.error_abnormal for case in cases], abnormal),
    )


def _weighted_mean(values: Sequence[float], weights: npt.NDArray[np.float64]) -> float:
    return float(np.dot(values, weights) / weights.sum()) if weights.sum() > 0 else math.nan


def _healthy_figures(kind: str, cases: Sequence[ScoredCase]) -> Row:
    """What the model raises in scans where there is nothing to find, per scan."""
    voxels = [case.by_kind[kind] for case in cases]
    error = math.nan if kind == BASELINE else _mean([case.error_normal for case in cases])
    return {
        "healthy_cases": len(cases),
        "healthy_mean_findings": _mean([item.findings for item in voxels]),
        "healthy_mean_false_positive_ml": _mean([item.false_positive_ml for item in voxels]),
        "healthy_l1_re": error,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


# --- what is written and shown ----------------------------------------------------------------------------------------


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(rows[0])
        table.writerows([_cell(value, "", "{:.6g}") for value in row.values()] for row in rows)


def _cell(value: str | int | float, undefined: str, number: str) -> str:
    if isinstance(value, float):
        return number.format(value) if math.isfinite(value) else undefined
    return str(value)


_SHOWN = {
    "dataset": "dataset",
    "sequence": "seq",
    "score": "score",
    "cases": "n",
    "average_precision": "AP",
    "best_dice": "Dice",
    "mean_case_best_dice": "/case",
    "dice_at_threshold": "@thr",
    "l1_re_n": "RE_N",
    "l1_re_a": "RE_A",
    "l1_ratio": "ratio",
    "healthy_mean_findings": "FP n",
    "healthy_mean_false_positive_ml": "FP ml",
}
"""Column of a row to its heading in the terminal, where 80 characters must do."""
_SHOWN_LEFT = ("dataset", "sequence", "score")


def _shown_table(rows: Sequence[Row]) -> Table:
    """The metrics as a table for the terminal; columns that say nothing about these cases are left out."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    shown = [name for name in _SHOWN if any(_cell(row[name], "", "{:.3f}") not in ("", "0") for row in rows)]
    for name in shown:
        table.add_column(_SHOWN[name], justify="left" if name in _SHOWN_LEFT else "right", no_wrap=True)
    for number, row in enumerate(rows):
        last = number + 1 == len(rows) or rows[number + 1]["score"] == rows[0]["score"]
        table.add_row(*(_cell(row[name], "", "{:.3f}") for name in shown), end_section=last)
    return table


def draw_curves(path: Path, groups: Sequence[Group]) -> None:
    """Precision over recall, a panel per group with lesions; a dot marks the best Dice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [group for group in groups if group.curves][:_MOST_PANELS]
    columns = min(max(len(drawn), 1), 3)
    lines = max(math.ceil(len(drawn) / columns), 1)
    figure = Figure(figsize=(4.6 * columns, 4.2 * lines + 0.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if not drawn:
        figure.text(0.5, 0.5, "no case with a lesion: no curve", ha="center")
    for number, group in enumerate(drawn, start=1):
        axes = figure.add_subplot(lines, columns, number)
        _draw_panel(axes, group)
    figure.supxlabel(reporting.RESEARCH_USE, fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: Axes, group: Group) -> None:
    for kind, colour in zip(group.curves, _CURVE_COLOURS, strict=False):
        curve = group.curves[kind]
        row = next(row for row in group.rows if row["score"] == kind)
        label = f"{kind}   AP {row['average_precision']:.3f}"
        style: dict[str, Any] = {"linestyle": "--"} if kind == BASELINE else {}
        recall, precision = curve.recall, curve.precision
        axes.plot(recall, precision, color=colour, linewidth=1.6, label=label, **style)
        best = int(np.argmax(2 * precision * recall / (precision + recall)))
        axes.plot(recall[best], precision[best], "o", color=colour, markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"{group.dataset} · {group.sequence}  (n = {group.rows[0]['cases']})", fontsize=11)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="best")
