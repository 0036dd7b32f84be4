import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from DALAnomalyLib.evaluation.metrics import (
    average_precision,
    best_dice,
    count_detections,
    dice,
    pooled_metrics,
    precision_recall_curve,
    reconstruction_errors,
)

# Sorted: 0.9 abnormal, 0.8 normal, 0.7 both, 0.1 normal
SCORES = np.array([0.1, 0.9, 0.7, 0.8, 0.7], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0, 0], dtype=np.uint8)


def random_case(kind: str, seed: int, voxels: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random(voxels) < 0.05
    scores = generator.standard_normal(voxels) + labels
    return {
        "continuous": scores.astype(np.float32),
        "double": scores,
        "heavy ties": np.round(scores).astype(np.float32),
        "mostly zero": np.maximum(scores - 1.5, 0).astype(np.float32),
        "constant": np.zeros(voxels, dtype=np.float32),
        "half": scores.astype(np.float16),
    }[kind], labels


KINDS = ["continuous", "double", "heavy ties", "mostly zero", "constant", "half"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_average_precision_is_scikit_learns(kind: str, seed: int) -> None:
    scores, labels = random_case(kind, seed)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), rel=1e-12)


def test_average_precision_by_hand() -> None:
    # Recall 1/2 at precision 1/1, then recall 1 at precision 2/4 (the tie at 0.7 is taken whole).
    assert average_precision(SCORES, LABELS) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_a_perfect_and_an_uninformed_score() -> None:
    labels = np.arange(100) < 10
    assert average_precision(labels.astype(np.float32), labels) == 1.0
    assert best_dice(labels.astype(np.float32), labels) == (1.0, 1.0)
    assert average_precision(np.ones(100, np.float32), labels) == pytest.approx(0.1)  # the share of abnormal voxels
    assert best_dice(np.ones(100, np.float32), labels)[0] == pytest.approx(2 * 10 / 110)


def test_best_dice_by_hand() -> None:
    # 0.9: 2 * 1 / (1 + 2) = 2/3; 0.8: 2/4; 0.7: 4/6 = 2/3 as well; the highest threshold is reported.
    value, threshold = best_dice(SCORES, LABELS)
    assert value == pytest.approx(2 / 3)
    assert threshold == np.float32(0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_best_dice_is_the_best_of_all_thresholds(kind: str) -> None:
    scores, labels = random_case(kind, 3, voxels=400)
    value, threshold = best_dice(scores, labels)
    assert value == pytest.approx(max(dice(scores >= candidate, labels) for candidate in scores), rel=1e-12)
    assert dice(scores >= threshold, labels) == pytest.approx(value, rel=1e-12)


def test_dice_by_hand() -> None:
    assert dice(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])) == 0.5
    assert dice(np.array([True, False]), np.array([True, False])) == 1.0
    assert dice(np.array([1, 0]), np.array([0, 0])) == 0.0


def test_curve_is_thinned_and_keeps_its_ends() -> None:
    scores, labels = random_case("continuous", 0)
    full, thin = count_detections(scores, labels), precision_recall_curve(scores, labels, points=20)
    assert len(full.recall) > 200
    assert len(thin.recall) == 20
    assert (thin.recall[0], thin.recall[-1]) == (full.recall[0], 1.0)
    assert np.all(np.diff(thin.recall) > 0)
    assert np.diff(thin.recall).max() < 1.5 / 19  # evenly spaced
    at = np.isin(full.thresholds, thin.thresholds)
    np.testing.assert_array_equal(full.precision[at], thin.precision)


def test_curve_by_hand_is_not_thinned_when_short() -> None:
    curve = precision_recall_curve(SCORES, LABELS)
    np.testing.assert_allclose(curve.recall, [0.5, 1.0])
    np.testing.assert_allclose(curve.precision, [1.0, 0.5])
    np.testing.assert_array_equal(curve.thresholds, np.float32([0.9, 0.7]))


def test_pooled_metrics_are_those_of_all_voxels_and_the_mean_over_lesion_cases() -> None:
    cases = [random_case("continuous", seed, voxels=1000) for seed in range(3)]
    cases.append((np.full(500, 3.0, np.float32), np.zeros(500, dtype=bool)))  # a healthy case full of false alarms
    scores, labels = (np.concatenate(arrays) for arrays in zip(*cases, strict=True))
    pooled = pooled_metrics(cases, curve_points=50)
    assert pooled.average_precision == average_precision(scores, labels)
    assert (pooled.best_dice, pooled.best_threshold) == best_dice(scores, labels)
    assert pooled.mean_case_best_dice == pytest.approx(np.mean([best_dice(*case)[0] for case in cases[:3]]))
    assert pooled.average_precision < pooled_metrics(cases[:3]).average_precision
    assert len(pooled.curve.recall) <= 50


def test_reconstruction_errors_by_hand() -> None:
    image, healthy = np.float32([0.5, 0.5, 0.9, 0.1]), np.float32([0.4, 0.7, 0.3, 0.3])
    errors = reconstruction_errors(image, healthy, np.array([0, 0, 1, 1]))
    assert errors.l1_re_normal == pytest.approx((0.1 + 0.2) / 2)
    assert errors.l1_re_abnormal == pytest.approx((0.6 + 0.2) / 2)
    assert errors.l1_ratio == pytest.approx(0.4 / 0.15)


def test_reconstruction_ratio_of_a_perfect_normal_region_is_infinite() -> None:
    image = np.float32([0.5, 0.5])
    assert reconstruction_errors(image, np.float32([0.5, 0.1]), np.array([0, 1])).l1_ratio == math.inf


@pytest.mark.parametrize("metric", [average_precision, best_dice, precision_recall_curve])
def test_undefined_rankings_are_refused(metric) -> None:
    with pytest.raises(ValueError, match="no voxel is labelled abnormal"):
        metric(SCORES, np.zeros_like(LABELS))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="scores contain NaN or infinity"):
            metric(np.where(LABELS == 1, bad, SCORES), LABELS)
    with pytest.raises(ValueError, match=r"labels are \(4,\) but what they label is \(5,\)"):
        metric(SCORES, LABELS[:4])
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        metric(SCORES, LABELS * 2)


def test_undefined_dice_and_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="neither the mask nor the labels"):
        dice(np.zeros(3, dtype=bool), np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match=r"labels are \(2,\) but what they label is \(3,\)"):
        dice(np.zeros(3, dtype=bool), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="no case to evaluate"):
        pooled_metrics([])


def test_undefined_reconstruction_errors_are_refused() -> None:
    image, labels = np.float32([0.5, 0.6]), np.array([0, 1])
    for one_class in (np.zeros(2, dtype=bool), np.ones(2, dtype=bool)):
        with pytest.raises(ValueError, match="need normal and abnormal voxels"):
            reconstruction_errors(image, image, one_class)
    with pytest.raises(ValueError, match="NaN or infinity"):
        reconstruction_errors(np.float32([0.5, np.nan]), image, labels)
    with pytest.raises(ValueError, match="they must agree"):
        reconstruction_errors(image, image[:1], labels)
