"""Which scores a display spans, and from where to where a threshold goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult

_SHARE_OF_RECOMMENDED = 0.25
_MOST_VOXELS = 150_000
"""With more voxels than these above the threshold, a step of the slider would take longer than 50 ms."""


def brain_scores(result: DetectionResult) -> np.ndarray:
    """The scores inside the brain, float32 (n,)."""
    return result.score[result.brain_mask > 0]


def colour_maximum(result: DetectionResult) -> float:
    """The score of the brightest colour: nearly the highest, so that one voxel does not darken all others."""
    scores = brain_scores(result)
    highest = float(np.percentile(scores, 99.9)) if scores.size else 0.0
    return max(highest, 2 * result.threshold)


def threshold_limits(result: DetectionResult) -> tuple[float, float]:
    """Lowest and highest threshold that a user can choose.

    The lowest is a quarter of the recommended threshold, or more where so many voxels would lie above it that a slider
    became slow; never above the recommended threshold. Nothing lies above the highest.
    """
    scores = brain_scores(result)
    lowest = _SHARE_OF_RECOMMENDED * result.threshold
    if np.count_nonzero(scores >= lowest) > _MOST_VOXELS:
        quick_enough = float(np.partition(scores, -_MOST_VOXELS)[-_MOST_VOXELS])
        lowest = min(max(lowest, quick_enough), result.threshold)
    return lowest, max(float(scores.max(initial=0.0)), result.threshold)
