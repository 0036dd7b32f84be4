"""The figures of an evaluation, per case and pooled over groups of cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from DALAnomalyCLI.evaluation_cases import ALL
from DALAnomalyCLI.evaluation_scores import Labels, ScoredCase, ScoredVoxels
from DALAnomalyLib.evaluation import metrics

BASELINE = "intensity"
"""The score kind that uses no network, so that it has no reconstruction errors."""
_CURVE_POINTS = 500

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
            **_overlap(voxels, case),
            "threshold": voxels.threshold,
            "findings": voxels.findings,
            "false_positive_ml": voxels.false_positive_ml,
            **_errors(kind, case.error_normal, case.error_abnormal),
            "warnings": "; ".join(case.warnings),
        }
        for kind, voxels in case.by_kind.items()
    ]


def _overlap(voxels: ScoredVoxels, case: ScoredCase) -> Row:
    if not case.has_lesion:
        names = ("average_precision", "best_dice", "best_threshold", "dice_at_threshold")
        return dict.fromkeys(names, math.nan)
    if not case.labels.any():
        return {"average_precision": 0.0, "best_dice": 0.0, "best_threshold": math.nan, "dice_at_threshold": 0.0}
    counts = metrics.count_detections(voxels.scores, case.labels)
    dice, threshold = counts.best_dice()
    return {
        "average_precision": counts.average_precision(),
        "best_dice": dice,
        "best_threshold": threshold,
        "dice_at_threshold": _dice(_counts_at_threshold(voxels, case.labels)),
    }


def _errors(kind: str, normal: float, abnormal: float) -> Row:
    if kind == BASELINE:
        normal = abnormal = math.nan
    return {"l1_re_n": normal, "l1_re_a": abnormal, "l1_ratio": abnormal / normal if normal > 0 else math.nan}


def _counts_at_threshold(voxels: ScoredVoxels, labels: Labels) -> npt.NDArray[np.int64]:
    """True positives, predicted and abnormal voxels at the model's own threshold."""
    predicted = voxels.scores >= voxels.threshold
    return np.array([np.count_nonzero(predicted & labels), np.count_nonzero(predicted), np.count_nonzero(labels)])


def _dice(counts: npt.NDArray[np.int64]) -> float:
    """0 where nothing is predicted and the brain mask leaves the lesion out."""
    true_positives, predicted, abnormal = counts
    return float(2 * true_positives / max(predicted + abnormal, 1))


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
    columns that begin with `healthy`, so that adding healthy scans changes no average precision. Voxels outside the
    brain mask are in no figure; a case whose lesion lies there entirely counts as one with a Dice of 0.
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
    visible = sum(bool(case.labels.any()) for case in cases)
    if not visible:
        missed: Row = dict.fromkeys((*names, *fixed_names), 0.0 if cases else math.nan)
        return missed | {"best_threshold": math.nan}, None
    pooled = metrics.pooled_metrics([(case.by_kind[kind].scores, case.labels) for case in cases], _CURVE_POINTS)
    at_threshold = np.array([_counts_at_threshold(case.by_kind[kind], case.labels) for case in cases])
    fixed = (_dice(at_threshold.sum(axis=0)), float(np.mean([_dice(counts) for counts in at_threshold])))
    row: Row = {name: getattr(pooled, name) for name in names}
    row["mean_case_best_dice"] = pooled.mean_case_best_dice * visible / len(cases)
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
    counted = weights > 0
    return float(np.average(np.array(values)[counted], weights=weights[counted])) if counted.any() else math.nan


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
