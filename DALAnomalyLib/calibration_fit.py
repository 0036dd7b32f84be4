"""Fit thresholds to what healthy scans show.

In a healthy scan every finding is false. What the user would see there at a threshold, 26-connected findings of at
least the model's smallest volume, is measured in every scan of a healthy group; a preset is the smallest threshold at
and above which the mean volume stays within what the preset allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.calibration import PRESETS, TARGETS_ML, CalibratedPreset, SequenceCalibration
from DALAnomalyLib.configuration import PreprocessingConfig
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.findings_forest import FindingsForest
from DALAnomalyLib.scoring.score_config import ScoreConfig
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.wording import counted

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

FEWEST_SUBJECTS = 10
"""With fewer the mean is told with a warning: one unusual subject can move it by half."""
CONFIDENCE = 0.9
RESAMPLES = 2000
SEED = 0

_STEP = 1.005
"""Thresholds are looked for among the powers of this number, half a per cent apart, the same for every scan."""
_REACH_ML = 200.0
"""A scan is looked at down to where this much of its brain lies above the threshold, far more than a preset allows,"""
_DEPTH = 1000.0
"""... and no further than to this part of its highest score."""


@dataclass(frozen=True, eq=False)
class FalsePositives:
    """What a healthy scan shows at descending thresholds.

    Attributes:
        thresholds: float64 (t,), descending.
        volume_ml: float64 (t,), volume of all findings there.
        count: int64 (t,), how many they are.
        known_from: nothing is known of thresholds below this one; 0 if no voxel lies below.
    """

    thresholds: Floats
    volume_ml: Floats
    count: npt.NDArray[np.int64]
    known_from: float = 0.0

    def at(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """Volume in ml and number of findings, both float64, at any thresholds from `known_from` on.

        Between two of the thresholds the higher one's hold: a threshold just above a score leaves its voxel out.
        """
        above = self.thresholds.size - np.searchsorted(self.thresholds[::-1], thresholds, side="left")
        volume, count = (np.concatenate([[0.0], values]) for values in (self.volume_ml, self.count))
        return volume[above], count[above]


@dataclass(frozen=True)
class CalibrationSettings:
    """What a fit needs to know besides the scans; see `SequenceCalibration`."""

    source: str
    score: ScoreConfig
    minimum_finding_ml: float
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    targets_ml: tuple[float, float, float] = TARGETS_ML
    """Per preset, falling."""
    remarks: tuple[str, ...] = ()
    """Warnings about the scans themselves."""

    def __post_init__(self) -> None:
        """Refuse volumes that no threshold could keep, or that are in another order than the presets."""
        check_targets(self.targets_ml)


def check_targets(targets_ml: tuple[float, float, float]) -> None:
    """Refuse volumes that are not three falling numbers above 0 (UsageError)."""
    first, second, third = targets_ml
    if not math.isfinite(first) or not first > second > third > 0:
        msg = f"volumes are {first:g}, {second:g}, {third:g} ml; give three falling numbers above 0, such as 3,0.5,0.05"
        raise UsageError(msg)


def false_positives(score: Volume, brain: Volume, minimum_finding_ml: float) -> FalsePositives:
    """What a healthy scan shows at every threshold, down to where 200 ml of its brain or nearly all scores lie above.

    Args:
        score: anomaly map, float (D, H, W).
        brain: where findings may lie (> 0), on the same grid.
        minimum_finding_ml: smaller findings are not shown.

    Raises:
        GeometryError: score and brain are on different grids.
        InputError: the score is NaN in the brain.
    """
    inside = score.array[brain.array > 0] if score.grid.is_close(brain.grid) else score.array
    positive = np.sort(inside[inside > 0])
    reach = round(_REACH_ML / score.grid.voxel_volume_ml)
    lowest = float(max(positive[-reach:][0], positive[-1] / _DEPTH)) if positive.size else 1.0
    if positive.size and positive[0] >= lowest:
        lowest /= _STEP**2  # the levels must reach below all that is known, or the last of it would never count
    forest = FindingsForest(score, brain, lowest)  # also says what is wrong with score or brain
    if not positive.size:
        return FalsePositives(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    thresholds = _levels(lowest, float(positive[-1]))
    volume_ml, count = forest.totals(thresholds, minimum_finding_ml)
    return FalsePositives(thresholds, volume_ml, count, float(thresholds[-1]) if positive[0] < lowest else 0.0)


def _levels(lowest: float, highest: float) -> Floats:
    """The thresholds to try from just above `highest` down to the last one that is not below `lowest`, (t,)."""
    top, bottom = math.floor(_exponent(highest)) + 2, math.ceil(_exponent(lowest)) - 1
    levels = np.array([_short(_STEP**power) for power in range(top, bottom - 1, -1)])
    return levels[levels >= lowest]


def _exponent(threshold: float) -> float:
    return math.log(threshold) / math.log(_STEP)


def fit(
    scans: Sequence[FalsePositives],
    settings: CalibrationSettings,
    datasets: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
) -> SequenceCalibration:
    """Fit the presets of one sequence.

    Going down from above the highest score, the thresholds at which the mean volume stays within the target end where
    it first exceeds it. The volume of a scan only grows on the way down, because a finding that is large enough at one
    threshold lies within one at every lower threshold; the number of findings also falls, where they grow together.

    Args:
        scans: what each healthy scan shows.
        settings: what the presets hold for.
        datasets: of each scan, such as its scanner; every one of them must keep within the target by itself, and the
            figures are the largest among them. One for all if None.
        subjects: whose scan each is, for intervals and what is left out: scans of one subject say little of other
            people. Everybody has one scan if None.

    Raises:
        InputError: there is no scan, or none has a score above 0.
    """
    highest = max((float(scan.thresholds[0]) for scan in scans if scan.thresholds.size), default=0.0)
    if highest <= 0:
        msg = f"{counted(len(scans), 'healthy scan')} without any score above 0; give healthy scans of this sequence"
        raise InputError(msg)
    known_from = max(scan.known_from for scan in scans)
    lowest = known_from or min(float(scan.thresholds[-1]) for scan in scans if scan.thresholds.size)
    levels = _levels(max(lowest, highest / _DEPTH), highest)
    measured = [scan.at(levels) for scan in scans]
    volumes, counts = (np.stack([pair[part] for pair in measured]) for part in (0, 1))
    members = _members(datasets or [""] * len(scans))
    _, whose = np.unique(subjects or range(len(scans)), return_inverse=True)
    mean_volume, mean_count = (_largest_mean(values, members) for values in (volumes, counts))
    resampled = _resampled(volumes, members, whose)
    presets, warnings = {}, [*settings.remarks, *_too_few(whose)]
    for name, target in zip(PRESETS, settings.targets_ml, strict=True):
        place = int(_last_within(mean_volume, target))
        presets[name] = CalibratedPreset(
            target_ml=target,
            threshold=float(levels[place]),
            threshold_interval=_interval(levels[_last_within(resampled, target)]),
            false_positive_ml=_short(mean_volume[place]),
            false_positive_ml_interval=_interval(resampled[:, place]),
            false_positives_per_scan=_short(mean_count[place]),
            left_out_ml=_left_out(volumes, members, whose, target),
        )
        deciding = _largest(volumes[:, min(place + 1, levels.size - 1)], members)
        if _subjects(whose[deciding]) < min(FEWEST_SUBJECTS, _subjects(whose)):
            warnings.append(f"{name}: set by a data set of only {_scans_of(whose[deciding])}")
        if target * deciding.size < settings.minimum_finding_ml:
            warnings.append(
                f"{name}: {target:g} ml per scan is less than one smallest finding in {counted(deciding.size, 'scan')}"
            )
        if place == levels.size - 1:
            warnings.append(f"{name}: even the lowest threshold looked at costs less than {target:g} ml per scan")
    return SequenceCalibration(
        settings.source,
        len(scans),
        settings.score,
        settings.minimum_finding_ml,
        settings.preprocessing,
        presets,
        tuple(warnings),
    )


def _members(datasets: Sequence[str]) -> list[Indices]:
    """Which scans belong to each data set."""
    return [np.flatnonzero([name == one for name in datasets]) for one in dict.fromkeys(datasets)]


def _largest_mean(values: npt.NDArray[Any], members: Sequence[Indices]) -> Floats:
    """Mean of values (scans, t) over each data set, the largest of them: (t,)."""
    largest: Floats = np.max([values[scans].mean(axis=0) for scans in members], axis=0)
    return largest


def _largest(volumes: Floats, members: Sequence[Indices]) -> Indices:
    """The scans of the data set with the largest mean of volumes (scans,)."""
    return max(members, key=lambda scans: float(volumes[scans].mean()))


def _resampled(volumes: Floats, members: Sequence[Indices], whose: Indices) -> Floats:
    """Largest mean (draws, t) of data sets of as many subjects, drawn with replacement and with all of their scans."""
    random = np.random.default_rng(SEED)
    largest = np.zeros((RESAMPLES, volumes.shape[1]))
    for scans in members:
        _, subject = np.unique(whose[scans], return_inverse=True)
        subjects = subject.max() + 1
        draws = random.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES)[:, subject]
        np.maximum(largest, draws / draws.sum(axis=1, keepdims=True) @ volumes[scans], out=largest)
    return largest


def _last_within(volumes: Floats, target: float) -> Indices:
    """Index of the last of descending thresholds before the volume (..., t) first exceeds the target."""
    exceeds = volumes > target * (1 + 1e-9)
    first = np.where(exceeds.any(axis=-1), exceeds.argmax(axis=-1), volumes.shape[-1])
    last: Indices = np.maximum(first - 1, 0)
    return last


def _left_out(volumes: Floats, members: Sequence[Indices], whose: Indices, target: float) -> float | None:
    """What the volumes (scans, t) of every subject are where the others stay in the target; see `CalibratedPreset`."""
    if _subjects(whose) == 1:
        return None
    shown = np.empty((len(volumes), 1))
    for subject in range(_subjects(whose)):
        others = [left for scans in members if (left := scans[whose[scans] != subject]).size]
        own = whose == subject
        shown[own, 0] = volumes[own, _last_within(_largest_mean(volumes, others), target)]
    return _short(float(_largest_mean(shown, members)[0]))


def _subjects(whose: Indices) -> int:
    return np.unique(whose).size


def _scans_of(whose: Indices) -> str:
    """Such as "3 healthy scans", or "3 healthy scans of 2 subjects"."""
    scans = counted(whose.size, "healthy scan")
    return scans if _subjects(whose) == whose.size else f"{scans} of {counted(_subjects(whose), 'subject')}"


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return _short(low), _short(high)


def _short(value: float) -> float:
    """Five digits: more than the scans can tell, few enough for people to read in a model file."""
    return float(f"{value:.5g}")


def _too_few(whose: Indices) -> list[str]:
    if _subjects(whose) >= FEWEST_SUBJECTS:
        return []
    return [
        f"measured on only {_scans_of(whose)}, and {FEWEST_SUBJECTS} subjects are needed for a mean to be relied on"
    ]
