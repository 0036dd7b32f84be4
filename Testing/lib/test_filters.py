import numpy as np
import pytest
import torch
from scipy import ndimage

from DALAnomalyLib.errors import GeometryError, UsageError
from DALAnomalyLib.scoring.filters import erode_mask, guided_filter, mean_filter, minimum_filter, weighted_mean

SHAPE = (11, 14, 12)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
    ),
]


def random_score(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


def batch(array: np.ndarray, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(array)[None, None].to(device)


def single(tensor: torch.Tensor) -> np.ndarray:
    return tensor[0, 0].cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [3, 5, 7])
def test_minimum_filter_is_scipys(size: int, device: str) -> None:
    score = random_score()
    np.testing.assert_array_equal(
        single(minimum_filter(batch(score, device), size)), ndimage.minimum_filter(score, size)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [3, 9, 15])
def test_mean_filter_is_scipys_up_to_float32_rounding(size: int, device: str) -> None:
    score = random_score()
    expected = ndimage.uniform_filter(score.astype(np.float64), size)
    np.testing.assert_allclose(single(mean_filter(batch(score, device), size)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_weighted_mean_is_scipys_gaussian(device: str) -> None:
    score = random_score()
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    expected = ndimage.gaussian_filter(score.astype(np.float64), 1.5, radius=5)
    result = single(weighted_mean(batch(score, device), (taps / taps.sum()).tolist()))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_weighted_mean_leaves_its_input_unchanged_and_is_differentiable() -> None:
    score = batch(random_score()).requires_grad_()
    before = score.detach().clone()
    weighted_mean(score, (0.25, 0.5, 0.25)).square().sum().backward()
    assert torch.equal(score, before)
    # A symmetric, reflecting filter is its own transpose: the gradient of |Fx|^2 is 2 F F x.
    twice = weighted_mean(weighted_mean(before, (0.25, 0.5, 0.25)), (0.25, 0.5, 0.25))
    torch.testing.assert_close(score.grad, 2 * twice, rtol=0, atol=1e-6)


def test_mean_filter_by_hand() -> None:
    score = np.zeros(SHAPE, dtype=np.float32)
    score[5, 5, 5] = 27.0
    smooth = single(mean_filter(batch(score), 3))
    expected = np.zeros(SHAPE, dtype=np.float32)
    expected[4:7, 4:7, 4:7] = 1.0
    np.testing.assert_allclose(smooth, expected, atol=1e-6)


def test_minimum_filter_removes_what_is_narrower_than_the_cube() -> None:
    score = np.zeros(SHAPE, dtype=np.float32)
    score[2:4, 3:9, 3:9] = 1.0  # two voxels thick: gone
    score[6:9, 3:6, 3:6] = 2.0  # exactly the cube: its centre stays
    kept = single(minimum_filter(batch(score), 3))
    assert np.argwhere(kept).tolist() == [[7, 4, 4]]
    assert kept[7, 4, 4] == 2.0


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_erode_mask_takes_a_shell_off(dtype: torch.dtype) -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:9, 3:8, 4:9] = 1
    eroded = erode_mask(batch(mask).to(dtype), 3)
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[3:8, 4:7, 5:8] = 1
    assert eroded.dtype == dtype
    np.testing.assert_array_equal(single(eroded), expected)


def test_erode_mask_takes_nothing_off_where_the_grid_cuts_the_brain() -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[:6] = 1
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[:5] = 1
    np.testing.assert_array_equal(single(erode_mask(batch(mask), 3)), expected)


@pytest.mark.parametrize("apply", [minimum_filter, mean_filter, erode_mask])
@pytest.mark.parametrize("size", [0, 1])
def test_size_0_or_1_is_off(apply, size: int) -> None:
    score = batch(random_score())
    assert torch.equal(apply(score, size), score)


@pytest.mark.parametrize("apply", [minimum_filter, mean_filter, erode_mask])
@pytest.mark.parametrize("size", [-1, 2, 8])
def test_size_must_be_odd(apply, size: int) -> None:
    with pytest.raises(UsageError, match=f"kernel size is {size}; give an odd number"):
        apply(batch(random_score()), size)


@pytest.mark.parametrize("apply", [minimum_filter, mean_filter])
def test_a_grid_smaller_than_half_the_kernel_is_refused(apply) -> None:
    with pytest.raises(GeometryError, match=r"grid is \(11, 14, 12\) voxels, too small for a kernel of 25"):
        apply(batch(random_score()), 25)


def test_volumes_of_a_batch_do_not_mix() -> None:
    first, second = batch(random_score(1)), batch(random_score(2))
    for apply in (minimum_filter, mean_filter):
        together = apply(torch.cat((first, second)), 3)
        assert torch.equal(together, torch.cat((apply(first, 3), apply(second, 3))))


def ellipsoid() -> np.ndarray:
    centred = [(index - (size - 1) / 2) / (size / 2 - 1) for index, size in zip(np.indices(SHAPE), SHAPE, strict=True)]
    return sum(axis**2 for axis in centred) <= 1


def guided(
    score: np.ndarray, *guides: np.ndarray, brain: np.ndarray, size: int = 5, epsilon: float = 0.01
) -> np.ndarray:
    together = torch.cat([batch(guide) for guide in guides], dim=1)
    return single(guided_filter(batch(score), together, batch(brain), size, epsilon))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("size", "epsilon", "count"), [(3, 0.01, 1), (7, 1e-4, 1), (9, 1.0, 1), (5, 0.01, 2), (7, 1e-3, 3)]
)
def test_guided_filter_fits_a_linear_function_in_every_cube(size: int, epsilon: float, count: int, device: str) -> None:
    """Against the definition, voxel by voxel: least squares with a ridge on the slopes alone, then the mean of fits."""
    score, brain = random_score(1), ellipsoid()
    guides = [random_score(2 + index) for index in range(count)]
    # column 0 is the offset, which the ridge leaves alone
    ridge = np.diag([0.0] + [epsilon] * count)
    fits = {}
    radius = size // 2
    for at in map(tuple, np.argwhere(brain).tolist()):
        cube = tuple(slice(max(i - radius, 0), i + radius + 1) for i in at)
        inside = brain[cube]
        columns = np.stack([np.ones(inside.sum()), *(guide[cube][inside] for guide in guides)], axis=1)
        right = columns.T @ score[cube][inside] / len(columns)
        fits[at] = np.linalg.solve(columns.T @ columns / len(columns) + ridge, right)
    expected = np.zeros(SHAPE)
    for at in fits:
        near = [fit for other, fit in fits.items() if max(abs(a - b) for a, b in zip(at, other, strict=True)) <= radius]
        offset, *slopes = np.mean(near, axis=0)
        expected[at] = max(offset + sum(slope * guide[at] for slope, guide in zip(slopes, guides, strict=True)), 0)
    # a rim without brain, so that there is none to mirror
    padded = [batch(np.pad(array, radius), device) for array in (score, *guides, brain)]
    filtered = guided_filter(padded[0], torch.cat(padded[1:-1], dim=1), padded[-1], size, epsilon)
    result = single(filtered)[(slice(radius, -radius),) * 3]
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5)
    assert np.count_nonzero(result) > 0.9 * brain.sum()


def test_guided_filter_keeps_a_score_that_follows_the_scan_and_evens_out_one_on_a_flat_scan() -> None:
    guide, brain = random_score(3), np.ones(SHAPE, bool)
    np.testing.assert_allclose(guided(0.5 * guide, guide, brain=brain, epsilon=1e-6), 0.5 * guide, atol=1e-4)
    score = random_score(4)
    expected = ndimage.uniform_filter(ndimage.uniform_filter(score, 5), 5)
    np.testing.assert_allclose(guided(score, np.full(SHAPE, 0.5, np.float32), brain=brain), expected, atol=1e-5)


def test_guided_filter_brings_a_blurred_score_back_to_the_edges_of_the_scan_up_to_the_brains_rim() -> None:
    brain = np.zeros(SHAPE, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    lesion = np.zeros(SHAPE, bool)
    lesion[1:6, 4:10, 3:9] = True  # it touches the rim
    scan = np.where(lesion, 0.9, 0.4).astype(np.float32) * brain
    rimless = single(erode_mask(batch(brain), 3))
    blurred = ndimage.uniform_filter(lesion.astype(np.float32), 5) * rimless
    result = guided(blurred, scan, brain=brain)

    def contrast(score: np.ndarray) -> float:
        return score[4, 4:10, 5].mean() / score[4, [3, 10], 5].mean()

    assert contrast(result) > 1.5 * contrast(blurred) > 1.5 * contrast(ndimage.uniform_filter(blurred, 5))
    assert result[1, 6, 5] > 0.3 > blurred[1, 6, 5] == 0
    assert not result[~brain].any()


def test_a_second_guide_ends_the_score_where_the_first_shows_no_edge() -> None:
    """A lesion that is as bright as its neighbour of another tissue: only the difference shows where it ends."""
    brain = np.ones(SHAPE, bool)
    lesion, alike = np.zeros((2, *SHAPE), np.float32)
    lesion[4:9, 4:9, 3:8] = 1
    alike[4:9, 9:14, 3:8] = 1
    scan, difference = 0.4 + 0.5 * (lesion + alike), 0.3 * lesion
    blurred = ndimage.uniform_filter(lesion, 5)

    def contrast(score: np.ndarray) -> float:
        return score[6, 8, 5] / score[6, 9, 5]

    assert contrast(guided(blurred, scan, difference, brain=brain)) > 1.3 * contrast(guided(blurred, scan, brain=brain))


def test_guided_filter_refuses_like_the_others() -> None:
    score = batch(random_score())
    assert torch.equal(guided_filter(score, score, score, 0, 0.01), score)
    with pytest.raises(UsageError, match="kernel size is 4"):
        guided_filter(score, score, score, 4, 0.01)
    with pytest.raises(GeometryError, match="too small for a kernel of 25"):
        guided_filter(score, score, score, 25, 0.01)
