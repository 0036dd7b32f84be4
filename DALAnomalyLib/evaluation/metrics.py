"""Agreement of anomaly scores with lesion labels, voxel by voxel (paper section 4.2.2 and Table 4).

Everything takes flat arrays of the voxels that count, normally those inside the brain. A voxel is predicted abnormal
where score >= threshold. Pass scores as float32: sorting them is nearly all of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DetectionCounts:
    """Counts at every threshold that matters: the distinct scores of abnormal voxels, in descending order.

    Between two of them a lower threshold only adds false positives, so neither AP nor the best Dice needs the others.

    Attributes:
        thresholds: (T,) dtype of the scores, descending.
        true_positives: (T,) abnormal voxels with score >= threshold; the last is all of them.
        predicted: (T,) voxels with score >= threshold.
    """

    thresholds: Array
    true_positives: Array
    predicted: Array

    @property
    def precision(self) -> Array:
        """Float64 (T,), TP / (TP + FP)."""
        precision: Array = self.true_positives / self.predicted
        return precision

    @property
    def recall(self) -> Array:
        """Float64 (T,), TP / (TP + FN), ascending up to 1."""
        recall: Array = self.true_positives / self.true_positives[-1]
        return recall

    def average_precision(self) -> float:
        """Area under the precision-recall curve, as a step function: sum of precision times gain in recall."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    def best_dice(self) -> tuple[float, float]:
        """Largest Dice over all thresholds, and the (highest) threshold that reaches it."""
        scores = 2 * self.true_positives / (self.predicted + self.true_positives[-1])
        best = int(np.argmax(scores))
        return float(scores[best]), float(self.thresholds[best])

    def thinned(self, points: int) -> DetectionCounts:
        """At most `points` of the thresholds, evenly spaced in recall, both ends kept: enough to plot the curve."""
        wanted = np.linspace(self.recall[0], 1.0, points)
        keep = np.unique(np.searchsorted(self.recall, wanted))
        return DetectionCounts(self.thresholds[keep], self.true_positives[keep], self.predicted[keep])


def count_detections(scores: Array, labels: Array) -> DetectionCounts:
    """Sort the scores once; average precision, best Dice and the curve follow from the result.

    Args:
        scores: (N,) float, higher is more abnormal.
        labels: (N,) bool or 0/1.

    Raises:
        ValueError: the lengths differ, a score is not finite, a label is neither 0 nor 1, or no voxel is abnormal.
    """
    labels = _checked_labels(labels, np.shape(scores))
    if not np.isfinite(scores).all():
        msg = "scores contain NaN or infinity; no metric can rank them"
        raise ValueError(msg)
    if not labels.any():
        msg = "no voxel is labelled abnormal; average precision and best Dice are undefined, leave such cases out"
        raise ValueError(msg)
    ascending = np.sort(scores, axis=None)
    thresholds, multiplicity = np.unique(scores[labels], return_counts=True)
    predicted = ascending.size - np.searchsorted(ascending, thresholds)
    return DetectionCounts(thresholds[::-1], np.cumsum(multiplicity[::-1]), predicted[::-1])


def average_precision(scores: Array, labels: Array) -> float:
    """Equals `sklearn.metrics.average_precision_score(labels, scores)`; arguments as `count_detections`."""
    return count_detections(scores, labels).average_precision()


def best_dice(scores: Array, labels: Array) -> tuple[float, float]:
    """Largest Dice over all thresholds and the threshold that reaches it; arguments as `count_detections`."""
    return count_detections(scores, labels).best_dice()


def precision_recall_curve(scores: Array, labels: Array, points: int = 1000) -> DetectionCounts:
    """Precision-recall curve thinned for plotting; arguments as `count_detections`, `points` at most are kept."""
    return count_detections(scores, labels).thinned(points)


def dice(mask: Array, labels: Array) -> float:
    """Overlap 2 TP / (2 TP + FP + FN) of two binary arrays of one shape.

    Raises:
        ValueError: the shapes differ, a value is neither 0 nor 1, or both are empty.
    """
    labels = _checked_labels(labels, np.shape(mask))
    mask = _checked_labels(mask, labels.shape)
    total = np.count_nonzero(mask) + np.count_nonzero(labels)
    if total == 0:
        msg = "neither the mask nor the labels have a voxel; their Dice is undefined"
        raise ValueError(msg)
    return 2 * np.count_nonzero(mask & labels) / total


@dataclass(frozen=True)
class PooledMetrics:
    """What the paper reports for a data set, and the mean over its cases.

    Attributes:
        average_precision: of all voxels of all cases pooled.
        best_dice: at the one threshold that is best for the pooled voxels.
        best_threshold: that threshold.
        mean_case_best_dice: mean over the cases with a lesion, each at its own best threshold.
        curve: the pooled precision-recall curve, thinned for plotting.
    """

    average_precision: float
    best_dice: float
    best_threshold: float
    mean_case_best_dice: float
    curve: DetectionCounts


def pooled_metrics(cases: Sequence[tuple[Array, Array]], curve_points: int = 1000) -> PooledMetrics:
    """Pool the voxels of several cases, each given as (scores, labels) of its voxels inside the brain.

    A case without abnormal voxels counts in the pooled figures, where it can only lower them, and not in the mean.

    Raises:
        ValueError: as `count_detections`, for the pooled voxels.
    """
    if not cases:
        msg = "there is no case to evaluate"
        raise ValueError(msg)
    counts = count_detections(
        np.concatenate([np.ravel(scores) for scores, _ in cases]),
        np.concatenate([np.ravel(labels) for _, labels in cases]),
    )
    overlap, threshold = counts.best_dice()
    per_case = [best_dice(scores, labels)[0] for scores, labels in cases if np.any(labels)]
    return PooledMetrics(
        counts.average_precision(), overlap, threshold, float(np.mean(per_case)), counts.thinned(curve_points)
    )


@dataclass(frozen=True)
class ReconstructionErrors:
    """Reconstruction quality of the pseudo-healthy image (Table 4, which prints the first two times 100).

    Attributes:
        l1_re_normal: mean |x - x_r| over normal voxels; low is good.
        l1_re_abnormal: mean |x - x_r| over abnormal voxels; high is good.
    """

    l1_re_normal: float
    l1_re_abnormal: float

    @property
    def l1_ratio(self) -> float:
        """Abnormal over normal error; infinite if normal voxels are reconstructed without error."""
        return self.l1_re_abnormal / self.l1_re_normal if self.l1_re_normal > 0 else float("inf")


def reconstruction_errors(image: Array, healthy: Array, labels: Array) -> ReconstructionErrors:
    """Mean absolute error of normal and of abnormal voxels.

    Args:
        image: x, (N,) float, standardised to [0, 1], voxels inside the brain only.
        healthy: x_r, the same shape and units.
        labels: the same shape, bool or 0/1.

    Raises:
        ValueError: the shapes differ, a value is not finite, or there is no normal or no abnormal voxel.
    """
    if np.shape(image) != np.shape(healthy):
        msg = f"image is {np.shape(image)} but its pseudo-healthy image is {np.shape(healthy)}; they must agree"
        raise ValueError(msg)
    labels = _checked_labels(labels, np.shape(image))
    if not labels.any() or labels.all():
        msg = "reconstruction errors need normal and abnormal voxels; leave such cases out"
        raise ValueError(msg)
    error = np.abs(image - healthy)
    if not np.isfinite(error).all():
        msg = "image or pseudo-healthy image contains NaN or infinity; its reconstruction error is undefined"
        raise ValueError(msg)
    return ReconstructionErrors(float(np.mean(error[~labels])), float(np.mean(error[labels])))


def _checked_labels(labels: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if np.shape(labels) != shape:
        msg = f"labels are {np.shape(labels)} but what they label is {shape}; they must agree"
        raise ValueError(msg)
    if labels.dtype == np.bool_:
        return labels
    binary: npt.NDArray[np.bool_] = labels == 1
    if np.any(labels[~binary] != 0):
        msg = "labels hold values other than 0 and 1; merge the lesion classes first"
        raise ValueError(msg)
    return binary
