"""Tolerance 1e-5 (absolute, on a result in [-1, 1]) on CPU and GPU, against scikit-image in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics

from DALAnomalyLib.errors import GeometryError, UsageError
from DALAnomalyLib.scoring.structural_similarity import structural_similarity

SHAPE = (16, 20, 18)
TOLERANCE = 1e-5
WINDOWS: list[tuple[str, int, dict[str, Any]]] = [
    ("uniform", 7, {}),
    ("uniform", 5, {"win_size": 5}),
    ("gaussian", 11, {"gaussian_weights": True, "use_sample_covariance": False}),
]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
    ),
]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


def smooth(seed: int) -> np.ndarray:
    return (0.5 + 4 * (ndimage.gaussian_filter(noise(seed), 2) - 0.5)).astype(np.float32)


IMAGES = {
    "noise": (noise(0), noise(1)),
    "nearly equal": (noise(0), np.clip(noise(0) + 0.05 * noise(1), 0, 1)),
    "bright, flat, shifted": (0.9 + 1e-3 * noise(0), 0.95 + 1e-3 * noise(1)),
    "smooth": (smooth(0), smooth(1)),
}


def batch(array: np.ndarray, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(array)[None, None].to(device)


def ours(x: np.ndarray, y: np.ndarray, window: int, kind: Any, device: str = "cpu", **options: float) -> np.ndarray:
    return structural_similarity(batch(x, device), batch(y, device), window, kind, **options)[0, 0].cpu().numpy()


def reference(x: np.ndarray, y: np.ndarray, data_range: float = 1, **options: Any) -> np.ndarray:
    return metrics.structural_similarity(
        x.astype(np.float64), y.astype(np.float64), data_range=data_range, full=True, **options
    )[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize(("kind", "window", "options"), WINDOWS)
def test_equals_scikit_image_border_included(
    kind: str, window: int, options: dict[str, Any], images: str, device: str
) -> None:
    x, y = IMAGES[images]
    difference = np.abs(ours(x, y, window, kind, device) - reference(x, y, **options))
    radius = window // 2
    interior = (slice(radius, -radius),) * 3
    assert difference[interior].max() < TOLERANCE
    difference[interior] = 0
    assert difference.max() < TOLERANCE, "at the border"


def test_data_range_scales_the_constants() -> None:
    x, y = 0.1 * noise(0), 0.1 * noise(1)  # dark, so that both constants weigh
    np.testing.assert_allclose(
        ours(x, y, 7, "uniform", data_range=0.1), reference(x, y, data_range=0.1), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize(("kind", "window"), [("uniform", 7), ("gaussian", 11)])
def test_constant_images_by_hand(kind: str, window: int) -> None:
    x, y = np.full(SHAPE, 0.2, np.float32), np.full(SHAPE, 0.6, np.float32)
    # No variance: (2 * 0.2 * 0.6 + 0.01^2) / (0.2^2 + 0.6^2 + 0.01^2) = 0.2401 / 0.4001
    np.testing.assert_allclose(ours(x, y, window, kind), 0.2401 / 0.4001, rtol=0, atol=TOLERANCE)


def test_opposite_structure_is_negative_by_hand() -> None:
    x = np.indices(SHAPE).sum(axis=0).astype(np.float32) % 2  # a checkerboard of 0 and 1
    similarity = ours(x, 1 - x, 3, "uniform")
    # 27 voxels, 13 or 14 of them 1: means 13/27 and 14/27, sample variance and covariance 13 * 14 / (27 * 26) = 7/27.
    luminance = (2 * 13 * 14 / 27**2 + 1e-4) / ((13**2 + 14**2) / 27**2 + 1e-4)
    structure = (-2 * 7 / 27 + 9e-4) / (2 * 7 / 27 + 9e-4)
    np.testing.assert_allclose(similarity[1:-1, 1:-1, 1:-1], luminance * structure, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("kind", "window"), [("uniform", 7), ("gaussian", 11)])
def test_identical_images_are_exactly_1(kind: str, window: int) -> None:
    for image in (noise(3), smooth(3), np.zeros(SHAPE, np.float32)):
        assert np.all(ours(image, image, window, kind) == 1.0)


def test_never_exceeds_1() -> None:
    x = smooth(4)
    for step in (1e-7, 1e-5, 1e-3, 0.1, 0.5):
        assert ours(x, x + np.float32(step), 7, "uniform").max() <= 1.0


def test_low_precision_images_are_compared_in_float32() -> None:
    x, y = batch(noise(0)).bfloat16(), batch(noise(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        similarity = structural_similarity(x, y)
    assert similarity.dtype == torch.float32
    assert torch.equal(similarity, structural_similarity(x.float(), y.float()))


def test_volumes_of_a_batch_do_not_mix() -> None:
    x, y = torch.cat((batch(noise(0)), batch(noise(1)))), torch.cat((batch(noise(2)), batch(noise(3))))
    together = structural_similarity(x, y)
    assert torch.equal(together, torch.cat((structural_similarity(x[:1], y[:1]), structural_similarity(x[1:], y[1:]))))


def test_bad_arguments_are_refused() -> None:
    x = batch(noise(0))
    with pytest.raises(GeometryError, match=r"images are \(1, 1, 16, 20, 18\) and \(1, 1, 16, 20, 1\)"):
        structural_similarity(x, x[..., :1])
    for window in (1, 4):
        with pytest.raises(UsageError, match=f"window is {window}; give an odd number"):
            structural_similarity(x, x, window)
    with pytest.raises(GeometryError, match=r"grid is \(16, 20, 18\) voxels, smaller than .* window of 17"):
        structural_similarity(x, x, 17)
