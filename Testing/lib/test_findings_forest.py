import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from DALAnomalyLib.errors import GeometryError, InputError, UsageError
from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.findings_forest import FindingsForest
from DALAnomalyLib.volume import Grid, Volume

OBLIQUE = Grid((11, 13, 12), (1.0, 2.0, 5.0), (3.0, 4.0, 5.0), (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
LARGER = Grid((40, 44, 36), (0.9, 1.1, 1.3), (-10.0, 20.0, -30.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))


def volume(array: npt.NDArray[np.generic], grid: Grid = OBLIQUE) -> Volume:
    return Volume(array, grid)


def whole(grid: Grid = OBLIQUE) -> Volume:
    return Volume(np.ones(grid.shape, dtype=bool), grid)


def noise(seed: int, grid: Grid = OBLIQUE, smooth: float = 0.0) -> Volume:
    """Scores between 0 and 1, mean 0.5, with a given smoothness in voxels."""
    values = np.random.default_rng(seed).random(grid.shape)
    values = ndimage.gaussian_filter(values, smooth) if smooth else values
    return Volume(((values - values.min()) / np.ptp(values)).astype(np.float32), grid)


def assert_same(score: Volume, mask: Volume, forest: FindingsForest, threshold: float, minimum_ml: float) -> None:
    expected_labels, expected = find_findings(score, mask, threshold, minimum_ml)
    labels, findings = forest.findings(threshold, minimum_ml)
    assert findings == expected  # every number to the last bit, and the order
    np.testing.assert_array_equal(labels.array, expected_labels.array)
    assert labels.array.dtype == np.uint16
    assert labels.grid == score.grid


@pytest.mark.parametrize("smooth", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("grid", [OBLIQUE, LARGER], ids=["small", "larger"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_find_findings_up_and_down_the_slider(seed: int, grid: Grid, smooth: float) -> None:
    score = noise(seed, grid, smooth)
    mask = volume((noise(seed + 100, grid, 2.0).array > 0.3).astype(np.uint8), grid)
    forest = FindingsForest(score, mask, 0.2)
    thresholds = [0.2, 0.9, 0.5, 0.65, 0.3, 0.999, 2.0, 0.7]
    for threshold, minimum_ml in itertools.product(thresholds, (0.0, 0.05)):
        assert_same(score, mask, forest, threshold, minimum_ml)


@pytest.mark.parametrize("seed", range(10))
def test_equal_scores_and_equal_findings_keep_their_order(seed: int) -> None:
    steps = volume(np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 0.75], OBLIQUE.shape).astype(np.float32))
    sparse = volume(np.where(noise(seed + 50).array > 0.8, steps.array, np.float32(0)))
    forest = FindingsForest(sparse, whole(), 0.25)
    for threshold in (0.25, 0.5, 0.75):
        assert len(forest.findings(threshold, 0.0)[1]) > 5
        assert_same(sparse, whole(), forest, threshold, 0.0)


def test_memory_order_of_the_arrays_does_not_matter() -> None:
    steps = volume(np.where(noise(3).array > 0.85, np.float32(0.5), np.float32(0)))
    turned = volume(np.asfortranarray(steps.array))
    mask = volume(np.asfortranarray(whole().array))
    assert find_findings(turned, mask, 0.25, 0.0)[1] == find_findings(steps, whole(), 0.25, 0.0)[1]
    assert_same(turned, mask, FindingsForest(turned, mask, 0.25), 0.25, 0.0)


def test_thresholds_are_compared_in_the_precision_of_the_score() -> None:
    score = volume(np.full(OBLIQUE.shape, 0.7, dtype=np.float32))  # as float64 a little less than 0.7
    assert float(score.array[0, 0, 0]) < 0.7
    forest = FindingsForest(score, whole(), 0.1)
    assert len(forest.findings(0.7, 0.0)[1]) == 1
    assert_same(score, whole(), forest, 0.7, 0.0)


def test_all_of_an_image_up_to_its_borders() -> None:
    score = volume(np.ones(OBLIQUE.shape, dtype=np.float32))
    forest = FindingsForest(score, whole(), 1.0)
    assert_same(score, whole(), forest, 1.0, 0.0)


def test_a_bridge_parts_two_findings_when_the_threshold_passes_its_lowest_voxel() -> None:
    score = volume(np.zeros(OBLIQUE.shape, dtype=np.float32))
    score.array[5, 6, 2:9] = [0.9, 0.8, 0.5, 0.4, 0.6, 0.7, 0.95]
    forest = FindingsForest(score, whole(), 0.1)
    assert [len(forest.findings(threshold, 0.0)[1]) for threshold in (0.4, 0.41, 0.91, 0.96)] == [1, 2, 1, 0]


def test_voxels_of_the_findings_in_the_order_of_the_array() -> None:
    score = noise(1, smooth=0.7)
    forest = FindingsForest(score, whole(), 0.3)
    forest.findings(0.3, 0.0)
    labels, findings = forest.findings(0.75, 0.02)
    assert len(findings) > 1
    expected = np.flatnonzero(labels.array)
    np.testing.assert_array_equal(forest.voxels.index, expected)
    np.testing.assert_array_equal(forest.voxels.label, labels.array.reshape(-1)[expected])
    np.testing.assert_array_equal(forest.voxels.score, score.array.reshape(-1)[expected])


def test_label_map_is_written_in_place() -> None:
    forest = FindingsForest(noise(2), whole(), 0.3)
    first, _ = forest.findings(0.4, 0.0)
    second, _ = forest.findings(0.9, 0.0)
    assert first.array is second.array
    assert forest.labels.array is second.array


@pytest.mark.parametrize("mask", [whole(), volume(np.zeros(OBLIQUE.shape, dtype=bool))], ids=["whole", "empty"])
def test_nothing_to_find(mask: Volume) -> None:
    forest = FindingsForest(volume(np.zeros(OBLIQUE.shape, dtype=np.float32)), mask, 0.1)
    labels, findings = forest.findings(0.5, 0.0)
    assert findings == ()
    assert not labels.array.any()


def test_threshold_below_the_lowest_is_refused() -> None:
    forest = FindingsForest(noise(2), whole(), 0.3)
    with pytest.raises(UsageError, match=r"threshold is 0\.29, but findings were prepared from 0\.3 on"):
        forest.findings(0.29, 0.0)


def test_refuses_what_find_findings_refuses() -> None:
    score = noise(2)
    with pytest.raises(UsageError, match="threshold is 0"):
        FindingsForest(score, whole(), 0.0)
    with pytest.raises(GeometryError, match="different grids"):
        FindingsForest(score, whole(LARGER), 0.3)
    with pytest.raises(InputError, match="NaN inside the mask"):
        FindingsForest(volume(np.full(OBLIQUE.shape, np.nan)), whole(), 0.3)
    forest = FindingsForest(score, whole(), 0.3)
    with pytest.raises(UsageError, match="smallest volume is -1"):
        forest.findings(0.5, -1.0)
    with pytest.raises(UsageError, match="threshold is nan"):
        forest.findings(float("nan"), 0.0)
