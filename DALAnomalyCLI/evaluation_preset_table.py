"""The figures of a model's presets, pooled over groups of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from DALAnomalyCLI.evaluation_measures import Row
from DALAnomalyCLI.evaluation_presets import LESION_SIZES, PresetOutcome
from DALAnomalyCLI.evaluation_scores import ScoredCase


def preset_rows(dataset: str, sequence: str, cases: Sequence[ScoredCase], best_dice: float) -> list[Row]:
    """One row per preset; none where the model has no calibration for the cases, which are all of one sequence.

    Args:
        dataset: what the cases are called.
        sequence: theirs.
        cases: healthy scans and scans with a lesion.
        best_dice: of the latter, pooled, over all thresholds.
    """
    columns = zip(*(case.presets for case in cases), strict=True)
    rows: list[Row] = []
    for outcomes in columns:
        pairs = list(zip(cases, outcomes, strict=True))
        healthy = [outcome for case, outcome in pairs if not case.has_lesion]
        lesioned = [outcome for case, outcome in pairs if case.has_lesion]
        rows.append(
            {
                "dataset": dataset,
                "sequence": sequence,
                "preset": outcomes[0].preset,
                "threshold": outcomes[0].threshold,
                **_healthy_figures(healthy),
                **_lesion_figures(lesioned, best_dice),
            }
        )
    return rows


def _healthy_figures(outcomes: Sequence[PresetOutcome]) -> Row:
    volumes = [outcome.false_positive_ml for outcome in outcomes]
    return {
        "healthy_cases": len(outcomes),
        "healthy_mean_false_positive_ml": _mean(volumes),
        "healthy_worst_false_positive_ml": max(volumes, default=math.nan),
        "healthy_mean_findings": _mean([outcome.findings for outcome in outcomes]),
        "healthy_worst_findings": max((outcome.findings for outcome in outcomes), default=math.nan),
    }


def _lesion_figures(outcomes: Sequence[PresetOutcome], best_dice: float) -> Row:
    overlap, found, abnormal = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("overlap", "found", "abnormal")
    )
    row: Row = {
        "cases": len(outcomes),
        # 0 where nothing is found and the brain mask leaves the lesions out
        "dice": 2 * overlap / max(found + abnormal, 1) if outcomes else math.nan,
        "best_dice": best_dice,
        "mean_false_positive_ml": _mean([outcome.false_positive_ml for outcome in outcomes]),
    }
    for place, size in enumerate(LESION_SIZES):
        hit, lesions = (sum(getattr(outcome, name)[place] for outcome in outcomes) for name in ("hit", "lesions"))
        row[f"lesions_{size}"] = f"{hit}/{lesions}"
    return row


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
