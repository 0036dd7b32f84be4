"""Tolerance 5e-5 (absolute, on a score of up to 2) on CPU and GPU, against scikit-image and SciPy in float64.

Float32 rounding comes closest to it in windows where image and pseudo-healthy image are two different constants.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.filters import guided_filter
from DALAnomalyLib.scoring.score_config import ScoreConfig, Sign
from DALAnomalyLib.scoring.score_map import score_map

SHAPE = (18, 22, 20)
TOLERANCE = 5e-5
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, cuda])]
GAUSSIAN = {"gaussian_weights": True, "use_sample_covariance": False}


def case(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, pseudo-healthy image and an ellipsoidal brain, 0 outside it."""
    generator = np.random.default_rng(seed)
    centred = [(index - (size - 1) / 2) / (size / 2 - 1) for index, size in zip(np.indices(SHAPE), SHAPE, strict=True)]
    brain = sum(axis**2 for axis in centred) <= 1
    image = generator.random(SHAPE, dtype=np.float32) * brain
    healthy = np.clip(image + 0.3 * generator.standard_normal(SHAPE, dtype=np.float32), 0, 1) * brain
    return image, healthy, brain


def batch(array: np.ndarray, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(array)[None, None].to(device)


def ours(image: np.ndarray, healthy: np.ndarray, brain: np.ndarray, config: ScoreConfig, device="cpu") -> np.ndarray:
    score = score_map(batch(image, device), batch(healthy, device), batch(brain, device), config)
    assert score.dtype == torch.float32
    return score[0, 0].cpu().numpy()


def reference(image: np.ndarray, healthy: np.ndarray, brain: np.ndarray, config: ScoreConfig) -> np.ndarray:
    x, y = image.astype(np.float64), healthy.astype(np.float64)
    options = GAUSSIAN if config.ssim_window == "gaussian11" else {}
    dissimilarity = 1 - metrics.structural_similarity(x, y, data_range=1, full=True, **options)[1]
    difference = {"absolute": np.abs(x - y), "positive": np.maximum(x - y, 0), "negative": np.maximum(y - x, 0)}
    signed = difference[config.sign]
    score = {
        "hybrid": signed * dissimilarity,
        "l1": signed,
        "ssim": dissimilarity if config.sign == "absolute" else dissimilarity * (signed > 0),
        "intensity": 1 - x if config.sign == "negative" else x,
    }[config.kind] * brain
    score = ndimage.minimum_filter(score, config.minimum_filter) if config.minimum_filter else score
    score = ndimage.uniform_filter(score, config.mean_filter) if config.mean_filter else score
    return score * (ndimage.minimum_filter(brain, config.mask_erosion) if config.mask_erosion else brain)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sign", ["absolute", "positive", "negative"])
@pytest.mark.parametrize("kind", ["hybrid", "l1", "ssim", "intensity"])
def test_every_kind_and_sign_without_minimum(kind, sign, device: str) -> None:
    # A minimum filter leaves next to nothing of noise; without it every voxel of the brain is compared.
    config = ScoreConfig(kind=kind, sign=sign, minimum_filter=0, mean_filter=5, mask_erosion=3)
    expected = reference(*case(), config)
    assert expected.max() > 500 * TOLERANCE
    np.testing.assert_allclose(ours(*case(), config, device), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("window", ["uniform7", "gaussian11"])
@pytest.mark.parametrize("sizes", [(3, 9, 3), (0, 0, 0), (5, 3, 0), (3, 0, 5)])
def test_every_filter_size_and_window(sizes: tuple[int, int, int], window, device: str) -> None:
    minimum, mean, erosion = sizes
    config = ScoreConfig(ssim_window=window, minimum_filter=minimum, mean_filter=mean, mask_erosion=erosion)
    image, healthy, brain = case()
    image[6:13, 7:14, 6:13] = 0.1  # a solid lesion, so that the minimum filter leaves something
    healthy[6:13, 7:14, 6:13] = 0.9
    expected = reference(image, healthy, brain, config)
    assert expected.max() > 500 * TOLERANCE
    np.testing.assert_allclose(ours(image, healthy, brain, config, device), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.gpu
@cuda
def test_cpu_and_gpu_agree_on_the_models_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    image, other = torch.rand(2, 1, 1, 112, 160, 112, generator=generator)
    healthy, brain = (image + 0.1 * other).clamp(0, 1), torch.ones_like(image)
    on_cpu = score_map(image, healthy, brain, ScoreConfig())
    on_gpu = score_map(image.cuda(), healthy.cuda(), brain.cuda(), ScoreConfig()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=TOLERANCE)


def test_identical_images_score_exactly_0() -> None:
    image, _, brain = case()
    for kind in ("hybrid", "l1", "ssim"):
        assert np.count_nonzero(ours(image, image, brain, ScoreConfig(kind=kind))) == 0


def test_a_single_deviating_voxel_is_removed_by_the_minimum_and_spread_by_the_mean_alone() -> None:
    image, brain = np.full(SHAPE, 0.5, np.float32), np.ones(SHAPE, dtype=bool)
    healthy = image.copy()
    healthy[9, 11, 10] = 0.0
    assert np.count_nonzero(ours(image, healthy, brain, ScoreConfig(kind="l1"))) == 0
    # Mean before minimum would leave a cube of 7 voxels here.
    spread = ours(image, healthy, brain, ScoreConfig(kind="l1", minimum_filter=0))
    assert np.count_nonzero(spread) == 9**3
    np.testing.assert_allclose(spread.max(), 0.5 / 9**3, rtol=1e-5)


def test_the_brains_rim_is_0_and_its_inside_is_not() -> None:
    image, _, brain = case()
    score = ours(image, 1 - image, brain, ScoreConfig(minimum_filter=0, mean_filter=3, mask_erosion=3))
    np.testing.assert_array_equal(score > 0, ndimage.minimum_filter(brain, 3))


def test_volumes_of_a_batch_do_not_mix() -> None:
    pairs = [case(seed) for seed in (0, 1)]
    image, healthy, brain = (torch.cat([batch(pair[part]) for pair in pairs]) for part in range(3))
    config = ScoreConfig(minimum_filter=0)
    together = score_map(image, healthy, brain, config)
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(together[index, 0].numpy(), ours(*pair, config))


def test_a_sign_that_still_depends_on_the_sequence_is_refused() -> None:
    volume = torch.rand((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="for_sequence"):
        score_map(volume, volume, volume, ScoreConfig(minimum_filter=0, mean_filter=0, mask_erosion=0, sign="typical"))


def test_opening_drops_what_is_narrow_and_keeps_the_extent_of_the_rest() -> None:
    """Scikit-image has no reflected border, SciPy has: its opening is the reference."""
    image, healthy, brain = case()
    config = ScoreConfig(kind="l1", minimum_filter=3, opening=True, mean_filter=0, mask_erosion=0)
    expected = ndimage.maximum_filter(ndimage.minimum_filter(np.abs(image - healthy), 3), 3)
    np.testing.assert_allclose(ours(image, healthy, brain, config), expected * brain, atol=TOLERANCE)

    block = np.zeros(SHAPE, np.float32)
    block[6:10, 8:13, 5:8] = 0.7
    block[13, 13, 13] = 0.7
    whole = np.ones(SHAPE, bool)
    kept = ours(block, np.zeros_like(block), whole, config)
    block[13, 13, 13] = 0
    np.testing.assert_array_equal(kept, block)


def test_two_passes_of_the_mean_filter() -> None:
    image, healthy, brain = case(1)
    config = ScoreConfig(kind="l1", minimum_filter=0, mean_filter=5, mean_passes=2, mask_erosion=0)
    expected = ndimage.uniform_filter(ndimage.uniform_filter(np.abs(image - healthy).astype(np.float64), 5), 5)
    np.testing.assert_allclose(ours(image, healthy, brain, config), expected * brain, atol=TOLERANCE)


@pytest.mark.parametrize("sign", ["absolute", "positive", "negative"])
@pytest.mark.parametrize("difference_guides", [False, True])
def test_the_guided_filter_comes_last_and_is_guided_by_scan_and_difference(sign: Sign, difference_guides: bool) -> None:
    image, healthy, brain = case(3)
    config = ScoreConfig(
        kind="l1",
        minimum_filter=0,
        mean_filter=3,
        mask_erosion=3,
        guided_filter=5,
        difference_guides=difference_guides,
        sign=sign,
    )
    before = batch(ours(image, healthy, brain, replace(config, guided_filter=0)))
    difference = {"absolute": abs(image - healthy), "positive": image - healthy, "negative": healthy - image}[sign]
    guides = [image, (difference * brain).clip(min=0)] if difference_guides else [image]
    together = torch.cat([batch(guide.astype(np.float32)) for guide in guides], dim=1)
    expected = guided_filter(before, together, batch(brain), 5, config.guided_epsilon)[0, 0].numpy()
    result = ours(image, healthy, brain, config)
    np.testing.assert_array_equal(result, expected)
    assert (result > 0).sum() > (before > 0).sum()  # the rim has a score again


def test_the_image_alone_guides_the_score_that_needs_no_model() -> None:
    image, healthy, brain = case(3)
    config = ScoreConfig(kind="intensity", minimum_filter=0, mask_erosion=0, guided_filter=5, difference_guides=True)
    unguided = ours(image, healthy, brain, replace(config, difference_guides=False))
    np.testing.assert_array_equal(ours(image, healthy, brain, config), unguided)


def test_no_signal_at_all_is_no_dark_lesion() -> None:
    healthy = np.full(SHAPE, 0.6, np.float32)
    image = healthy.copy()
    lesion, drop_out = np.s_[4:8, 4:9, 4:9], np.s_[11:16, 12:18, 11:16]
    image[lesion], image[drop_out] = 0.15, 0.02
    image[6, 6, 6] = 0.0  # noise
    whole = np.ones(SHAPE, bool)
    plain = ScoreConfig(kind="l1", minimum_filter=0, mean_filter=0, mask_erosion=0, sign="negative")
    score = ours(image, healthy, whole, replace(plain, signal_floor=0.08))
    unchanged = ours(image, healthy, whole, plain)
    np.testing.assert_array_equal(score[lesion], unchanged[lesion])
    assert (unchanged[drop_out] > 0.5).all()
    assert not score[12:15, 13:17, 12:15].any()
    absolute = replace(plain, sign="absolute")
    # blood and calcium are looked for there
    np.testing.assert_array_equal(
        ours(image, healthy, whole, replace(absolute, signal_floor=0.08)), ours(image, healthy, whole, absolute)
    )


def test_a_dark_voxel_beside_the_outside_is_not_taken_for_drop_out() -> None:
    brain = np.zeros(SHAPE, bool)
    brain[5:12, 5:12, 5:12] = True
    healthy, image = 0.6 * brain.astype(np.float32), 0.1 * brain.astype(np.float32)
    floored = ScoreConfig(
        kind="l1", minimum_filter=0, mean_filter=0, mask_erosion=0, signal_floor=0.08, sign="negative"
    )
    assert (ours(image, healthy, brain, floored)[brain] > 0.4).all()


@pytest.mark.parametrize("kind", ["hybrid", "l1"])
def test_the_power_applies_to_the_difference_alone(kind: str) -> None:
    image, healthy, brain = case(2)
    plain = ScoreConfig(kind=kind, minimum_filter=0, mean_filter=0, mask_erosion=0)
    squared = ours(image, healthy, brain, replace(plain, difference_power=2.0))
    np.testing.assert_allclose(squared, ours(image, healthy, brain, plain) * np.abs(image - healthy), atol=TOLERANCE)
