import math

import numpy as np
import pytest

from DALAnomalyLib.errors import GeometryError, InputError, UsageError
from DALAnomalyLib.findings import Finding, find_findings
from DALAnomalyLib.volume import Grid, Volume

# Axes (i, j, k) run to the patient's left, posterior, superior (LPS).
GRID = Grid(shape=(10, 12, 14), spacing=(1.0, 2.0, 5.0), origin=(-7.0, 4.0, 30.0))
VOXEL_ML = 0.01
Box = tuple[slice, slice, slice]


def score_with(boxes: list[tuple[Box, float]], grid: Grid = GRID) -> Volume:
    array = np.zeros(grid.shape, dtype=np.float32)
    for region, value in boxes:
        array[region] = value
    return Volume(array, grid)


def whole(grid: Grid = GRID) -> Volume:
    return Volume(np.ones(grid.shape, dtype=np.uint8), grid)


def box(k: int, j: int, i: int, size: tuple[int, int, int] = (1, 1, 1)) -> Box:
    return slice(k, k + size[0]), slice(j, j + size[1]), slice(i, i + size[2])


def test_one_finding_by_hand() -> None:
    score = score_with([(box(2, 3, 4, (2, 3, 4)), 0.5), (box(2, 3, 4), 0.75)])
    labels, findings = find_findings(score, whole(), 0.25, 0.0)
    # 24 voxels; centre at index k 2.5, j 4, i 5.5, which is LPS (-7 + 5.5, 4 + 2 * 4, 30 + 5 * 2.5)
    assert findings == (
        Finding(
            label=1,
            volume_ml=pytest.approx(24 * VOXEL_ML),
            centroid_ras_mm=pytest.approx((1.5, -12.0, 42.5)),
            extent_mm=pytest.approx((4.0, 6.0, 10.0)),
            peak=0.75,
            mean=pytest.approx((23 * 0.5 + 0.75) / 24),
        ),
    )
    assert labels.array.dtype == np.uint16
    assert labels.grid == GRID
    np.testing.assert_array_equal(labels.array, score.array > 0)


def test_centroid_follows_an_oblique_grid() -> None:
    turned = Grid((10, 12, 14), (1.0, 2.0, 5.0), (3.0, 4.0, 5.0), (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
    _, (finding,) = find_findings(score_with([(box(1, 2, 3), 1.0)], turned), whole(turned), 0.5, 0.0)
    # i, j, k = 3, 2, 1: LPS = origin + 3 * 1 * (.6, .8, 0) + 2 * 2 * (-.8, .6, 0) + 1 * 5 * (0, 0, 1)
    assert finding.centroid_ras_mm == pytest.approx((-(3 + 1.8 - 3.2), -(4 + 2.4 + 2.4), 10.0))
    assert finding.extent_mm == (1.0, 2.0, 5.0)


def test_voxels_sharing_a_corner_are_one_finding() -> None:
    _, findings = find_findings(score_with([(box(2, 2, 2), 1.0), (box(3, 3, 3), 1.0)]), whole(), 0.5, 0.0)
    assert [finding.volume_ml for finding in findings] == pytest.approx([2 * VOXEL_ML])
    _, findings = find_findings(score_with([(box(2, 2, 2), 1.0), (box(4, 4, 4), 1.0)]), whole(), 0.5, 0.0)
    assert len(findings) == 2


def test_most_conspicuous_first() -> None:
    # peak * volume: 0.5 * 4 = 2, 1.0 * 3 = 3, 0.9 * 1 = 0.9; neither volume, peak nor place alone gives this order.
    first, second, third = box(8, 8, 8, (1, 1, 3)), box(4, 4, 4, (1, 1, 4)), box(0, 0, 0)
    labels, findings = find_findings(score_with([(third, 0.9), (second, 0.5), (first, 1.0)]), whole(), 0.25, 0.0)
    assert [finding.label for finding in findings] == [1, 2, 3]
    assert [finding.peak for finding in findings] == pytest.approx([1.0, 0.5, 0.9])
    for label, region in enumerate((first, second, third), start=1):
        assert np.all(labels.array[region] == label)
    assert np.count_nonzero(labels.array) == 8


def test_small_findings_are_dropped_and_the_rest_renumbered() -> None:
    score = score_with([(box(0, 0, 0), 100.0), (box(5, 5, 5, (1, 1, 7)), 1.0)])  # the lone voxel would be first
    labels, (finding,) = find_findings(score, whole(), 0.5, minimum_volume_ml=0.07)
    assert finding.label == 1
    assert finding.volume_ml == pytest.approx(0.07)  # exactly the minimum stays, although 7 * 0.01 > 0.07 in float64
    assert labels.array[0, 0, 0] == 0
    assert np.count_nonzero(labels.array) == 7
    assert find_findings(score, whole(), 0.5, minimum_volume_ml=0.0701)[1] == ()


def test_threshold_is_inclusive_and_the_mask_limits() -> None:
    score = score_with([(box(2, 2, 2), 0.5), (box(6, 6, 6), 0.49), (box(8, 8, 8), 0.5)])
    mask = whole()
    mask.array[8] = 0
    labels, findings = find_findings(score, mask, 0.5, 0.0)
    assert np.argwhere(labels.array).tolist() == [[2, 2, 2]]
    assert len(findings) == 1


def test_mask_splits_a_region() -> None:
    score = score_with([(box(2, 2, 2, (1, 1, 5)), 1.0)])
    mask = Volume(np.ones(GRID.shape, dtype=bool), GRID)
    mask.array[:, :, 4] = False
    assert len(find_findings(score, mask, 0.5, 0.0)[1]) == 2


def test_nothing_found() -> None:
    labels, findings = find_findings(score_with([]), whole(), 0.5, 0.0)
    assert findings == ()
    assert labels.array.dtype == np.uint16
    assert not labels.array.any()


def test_more_findings_than_labels_are_refused_unless_dropped_as_small() -> None:
    grid = Grid((82, 82, 82), (1.0, 1.0, 1.0))
    score = score_with([], grid)
    score.array[::2, ::2, ::2] = 1.0
    score.array[0, 0, 0:2] = 1.0  # joins two of the lone voxels
    with pytest.raises(UsageError, match=r"threshold 0\.5 leaves 68920 findings, more than the 65535"):
        find_findings(score, whole(grid), 0.5, 0.0)
    _, findings = find_findings(score, whole(grid), 0.5, 0.002)
    assert len(findings) == 1


def test_other_grid_is_refused() -> None:
    moved = Grid(GRID.shape, GRID.spacing, (0.0, 4.0, 30.0))
    with pytest.raises(GeometryError, match="different grids; resample the mask"):
        find_findings(score_with([]), whole(moved), 0.5, 0.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_threshold_must_be_positive(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"threshold is .*; give a positive number"):
        find_findings(score_with([]), whole(), threshold, 0.0)


@pytest.mark.parametrize("volume", [-0.1, math.nan, math.inf])
def test_smallest_volume_must_not_be_negative(volume: float) -> None:
    with pytest.raises(UsageError, match=r"smallest volume is .* ml"):
        find_findings(score_with([]), whole(), 0.5, volume)


def test_nan_inside_the_mask_is_not_silently_healthy() -> None:
    score, mask = score_with([(box(2, 2, 2), np.nan)]), whole()
    with pytest.raises(InputError, match="anomaly map is NaN inside the mask"):
        find_findings(score, mask, 0.5, 0.0)
    mask.array[2, 2, 2] = 0
    assert find_findings(score, mask, 0.5, 0.0)[1] == ()
