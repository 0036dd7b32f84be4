import numpy as np
import pytest
import torch
from skimage import metrics

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.scoring.anomaly_scores import hybrid_score, intensity_score, l1_score, ssim_score

SHAPE = (1, 1, 14, 16, 15)
# No variance in constant images: SSIM = (2 * 0.2 * 0.6 + 0.01^2) / (0.2^2 + 0.6^2 + 0.01^2)
SSIM_OF_CONSTANTS = 0.2401 / 0.4001


def noise(seed: int) -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def cut_brain() -> torch.Tensor:
    brain = torch.zeros(SHAPE, dtype=torch.uint8)
    brain[:, :, 2:12, 2:14, 2:13] = 1
    return brain


ALL = torch.ones(SHAPE, dtype=torch.uint8)
PAIR_SCORES = [hybrid_score, l1_score, ssim_score]


def test_constant_images_by_hand() -> None:
    image, healthy = torch.full(SHAPE, 0.6), torch.full(SHAPE, 0.2)
    tolerance = {"rtol": 0, "atol": 1e-5}
    dissimilarity = 1 - SSIM_OF_CONSTANTS
    torch.testing.assert_close(l1_score(image, healthy, ALL), torch.full(SHAPE, 0.4), **tolerance)
    torch.testing.assert_close(ssim_score(image, healthy, ALL), torch.full(SHAPE, dissimilarity), **tolerance)
    torch.testing.assert_close(hybrid_score(image, healthy, ALL), torch.full(SHAPE, 0.4 * dissimilarity), **tolerance)


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_sign_keeps_brighter_or_darker_voxels_only(score) -> None:
    image, healthy = noise(0), noise(1)
    absolute = score(image, healthy, ALL)
    positive, negative = score(image, healthy, ALL, sign="positive"), score(image, healthy, ALL, sign="negative")
    assert torch.equal(positive, torch.where(image > healthy, absolute, 0.0))
    assert torch.equal(negative, torch.where(image < healthy, absolute, 0.0))
    assert positive.max() > 0
    assert negative.max() > 0


@pytest.mark.parametrize(
    ("window", "options"),
    [("uniform7", {}), ("gaussian11", {"gaussian_weights": True, "use_sample_covariance": False})],
)
def test_window_names_are_scikit_images_defaults(window, options) -> None:
    image, healthy = noise(0), noise(1)
    x, y = image[0, 0].double().numpy(), healthy[0, 0].double().numpy()
    expected = 1 - metrics.structural_similarity(x, y, data_range=1, full=True, **options)[1]
    np.testing.assert_allclose(ssim_score(image, healthy, ALL, window)[0, 0].numpy(), expected, rtol=0, atol=1e-5)
    hybrid = hybrid_score(image, healthy, ALL, window)[0, 0].numpy()
    np.testing.assert_allclose(hybrid, np.abs(x - y) * expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_identical_images_score_exactly_0(score) -> None:
    assert torch.count_nonzero(score(noise(0), noise(0), cut_brain())) == 0


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_only_the_inside_of_the_brain_counts(score) -> None:
    brain = cut_brain()
    image, healthy = noise(0), noise(1)
    expected = score(image, healthy, brain)
    assert torch.count_nonzero(expected[brain == 0]) == 0
    assert torch.count_nonzero(expected[brain > 0]) == torch.count_nonzero(brain)
    dirty = torch.where(brain > 0, healthy, torch.nan)
    assert torch.equal(score(image, dirty, brain), expected)
    assert torch.equal(score(torch.where(brain > 0, image, 1e6), healthy, brain), expected)


def test_intensity_score_is_the_image_or_its_negative_inside_the_brain() -> None:
    brain, image = cut_brain(), noise(0)
    assert torch.equal(intensity_score(image, brain), image * brain)
    assert torch.equal(intensity_score(image, brain, "absolute"), image * brain)
    assert torch.equal(intensity_score(image, brain, "negative"), (1 - image) * brain)


def test_low_precision_images_are_scored_in_float32() -> None:
    image, healthy = noise(0).bfloat16(), noise(1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = hybrid_score(image, healthy, ALL)
    assert score.dtype == torch.float32
    assert torch.equal(score, hybrid_score(image.float(), healthy.float(), ALL))
    assert torch.equal(intensity_score(image, ALL, "negative"), 1 - image.float())


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_shapes_must_agree(score) -> None:
    image = noise(0)
    with pytest.raises(GeometryError, match=r"image is .* but the brain mask is"):
        score(image[..., :1], image, ALL)
    with pytest.raises(GeometryError, match=r"pseudo-healthy image is .* but the brain mask is"):
        score(image, image[:, :, :1], ALL)
    with pytest.raises(GeometryError, match=r"image is .* but the brain mask is"):
        intensity_score(image, ALL[..., :1])
