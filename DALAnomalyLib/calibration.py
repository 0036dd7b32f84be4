"""Thresholds with a stated price: how many millilitres of false findings a healthy scan shows at each of them.

They are fitted by `calibration_fit.py` and travel in the model file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from DALAnomalyLib.configuration import PreprocessingConfig, to_dictionary
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.score_config import ScoreConfig

PRESETS = ("sensitive", "balanced", "specific")
TARGETS_ML = (3.0, 0.5, 0.05)
"""Mean volume of false findings per healthy scan that each of them allows, ml."""
RECOMMENDED = "balanced"
"""The preset at which detection begins."""


@dataclass(frozen=True)
class CalibratedPreset:
    """A threshold and what it costs on the healthy scans that it was measured on.

    Attributes:
        target_ml: the mean volume of false findings that it may cost, ml per scan.
        threshold: in units of the score.
        threshold_interval: where 90 % of thresholds fall when the subjects are drawn anew.
        false_positive_ml: mean volume of false findings at the threshold, ml per scan.
        false_positive_ml_interval: where 90 % of the means fall when the subjects are drawn anew.
        false_positives_per_scan: mean number of false findings at the threshold.
        left_out_ml: mean volume of false findings of a scan at the threshold that the scans of other subjects give, ml;
            what a healthy scan of the same kind that took no part costs. None for one subject, and in files that do not
            tell it.

    Raises:
        UsageError: a number is not finite, negative, or a threshold is 0.
    """

    target_ml: float
    threshold: float
    threshold_interval: tuple[float, float]
    false_positive_ml: float
    false_positive_ml_interval: tuple[float, float]
    false_positives_per_scan: float
    left_out_ml: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no calibration can have measured."""
        positive = (self.target_ml, self.threshold, *self.threshold_interval)
        others = (
            self.false_positive_ml,
            *self.false_positive_ml_interval,
            self.false_positives_per_scan,
            self.left_out_ml or 0.0,
        )
        if not all(math.isfinite(value) for value in (*positive, *others)) or min(positive) <= 0 or min(others) < 0:
            msg = (
                f"preset with threshold {self.threshold} for {self.target_ml} ml is no calibrated one; calibrate again"
            )
            raise UsageError(msg)


@dataclass(frozen=True)
class SequenceCalibration:
    """The presets of one sequence, and what they hold for.

    Attributes:
        source: which scans, for people to read.
        scans: how many they were.
        score: how the score was made, the sign resolved for the sequence; of other scores the presets say nothing.
        minimum_finding_ml: smaller findings did not count.
        preprocessing: how the scans were preprocessed.
        presets: "sensitive", "balanced" and "specific".
        warnings: why the figures may be off, for people to read.

    Raises:
        UsageError: a preset is missing or unknown, their thresholds fall, or there is no scan.
    """

    source: str
    scans: int
    score: ScoreConfig
    minimum_finding_ml: float
    preprocessing: PreprocessingConfig
    presets: dict[str, CalibratedPreset]
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse what no calibration can have made."""
        if sorted(self.presets) != sorted(PRESETS) or self.scans < 1:
            msg = f"{self.scans} scans, presets {', '.join(self.presets)}; a calibration needs {', '.join(PRESETS)}"
            raise UsageError(msg)
        thresholds = [self.presets[name].threshold for name in PRESETS]
        if thresholds != sorted(thresholds):
            msg = f"thresholds of {', '.join(PRESETS)} are {thresholds}; they must not fall"
            raise UsageError(msg)


def applying(
    calibration: Mapping[str, SequenceCalibration], sequence: str, score: ScoreConfig
) -> SequenceCalibration | None:
    """The calibration of a sequence, if it holds for `score`, whose sign is resolved."""
    found = calibration.get(sequence)
    return found if found is not None and found.score == score else None


def for_manifest(calibration: SequenceCalibration, preprocessing: PreprocessingConfig) -> dict[str, Any]:
    """A calibration for the record of a run: every preset by its name, and `about`, what they were measured on.

    Args:
        calibration: that holds for the run's score.
        preprocessing: the run's own; where it is another one, its false positives may differ from the calibration's.
    """
    plain = to_dictionary(calibration)
    about: dict[str, Any] = {name: plain[name] for name in ("source", "scans", "minimum_finding_ml", "warnings")}
    about["score"], about["sign"] = calibration.score.kind, calibration.score.sign
    about["same_preprocessing"] = calibration.preprocessing == preprocessing
    return {**plain["presets"], "about": about}
