"""What the presets of a calibrated model show in one scan: false findings, overlap, and which lesions they hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.calibration import SequenceCalibration

if TYPE_CHECKING:
    from DALAnomalyLib.volume import Volume

LESION_SIZES = ("below_1_ml", "1_to_10_ml", "above_10_ml")
_LIMITS_ML = (1.0, 10.0)


@dataclass(frozen=True)
class PresetOutcome:
    """What the user sees of one scan at one preset: findings, without those that are too small.

    Attributes:
        preset: "sensitive", "balanced" or "specific".
        threshold: in units of the score.
        findings: how many there are.
        false_positive_ml: volume of the findings outside the lesion.
        overlap: voxels of the brain in both findings and lesion.
        found: voxels in findings.
        abnormal: voxels of the brain in the lesion.
        lesions: per size of `LESION_SIZES`, 26-connected components of the lesion mask.
        hit: per size, those of them that share a voxel with a finding.
    """

    preset: str
    threshold: float
    findings: int
    false_positive_ml: float
    overlap: int
    found: int
    abnormal: int
    lesions: tuple[int, ...]
    hit: tuple[int, ...]


def preset_outcomes(
    score: Volume, brain: Volume, calibration: SequenceCalibration, lesion: npt.NDArray[np.bool_]
) -> tuple[PresetOutcome, ...]:
    """The outcome of every preset, the most sensitive first.

    Args:
        score: anomaly map of the scan, of the kind that the calibration holds for.
        brain: where findings may lie (> 0), on the same grid.
        calibration: of the scan's sequence.
        lesion: bool (D, H, W) on the same grid; nothing but false in a healthy scan.
    """
    from scipy import ndimage

    components, count = ndimage.label(lesion, structure=np.ones((3, 3, 3), dtype=bool))
    size_ml = np.bincount(components[lesion], minlength=count + 1)[1:] * score.grid.voxel_volume_ml
    return tuple(
        _outcome(name, preset.threshold, score, brain, calibration.minimum_finding_ml, components, size_ml)
        for name, preset in calibration.presets.items()
    )


def _outcome(
    name: str,
    threshold: float,
    score: Volume,
    brain: Volume,
    minimum_finding_ml: float,
    components: npt.NDArray[np.int32],
    size_ml: npt.NDArray[np.floating[Any]],
) -> PresetOutcome:
    from DALAnomalyLib.findings import find_findings

    labels, findings = find_findings(score, brain, threshold, minimum_finding_ml)
    found, lesion = labels.array > 0, components > 0
    hit = np.zeros(size_ml.size + 1, dtype=bool)
    hit[components[found]] = True
    # a lesion of 1 ml, and one of 10, is in the middle
    sizes = np.digitize(size_ml, (_LIMITS_ML[0], np.nextafter(_LIMITS_ML[1], np.inf)))
    return PresetOutcome(
        preset=name,
        threshold=threshold,
        findings=len(findings),
        false_positive_ml=float(np.count_nonzero(found & ~lesion) * score.grid.voxel_volume_ml),
        overlap=int(np.count_nonzero(found & lesion)),
        found=int(np.count_nonzero(found)),
        abnormal=int(np.count_nonzero(lesion & (brain.array > 0))),
        lesions=_per_size(sizes),
        hit=_per_size(sizes[hit[1:]]),
    )


def _per_size(sizes: npt.NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(np.bincount(sizes, minlength=len(LESION_SIZES)).tolist())
