import math
from dataclasses import replace

import pytest
import torch

from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.imaging_effects import scan
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")
SHAPE = (24, 28, 26)
SPACING = (2.0, 2.0, 2.0)
OFF = GeneratorConfig(blur_voxels=0, thick_slice_chance=0, bias_field=0, noise=0, gamma=0)


def ball(radius: float = 11.0) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n) - n // 2 for n in SHAPE), indexing="ij")
    return (torch.stack(axes).square().sum(0).sqrt() <= radius).float()


def scanned(
    picture: torch.Tensor, config: GeneratorConfig, key: object = 0, brain: torch.Tensor | None = None
) -> torch.Tensor:
    return scan(picture, torch.ones(SHAPE) if brain is None else brain, SPACING, config, generator_for(CPU, key))


def tissues() -> torch.Tensor:
    return 20 + 100 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("key", range(3))
def test_with_everything_off_only_the_unit_changes(key: int) -> None:
    picture, brain = tissues(), ball()
    image = scanned(picture, OFF, key, brain)
    expected = picture * brain / picture[brain > 0].quantile(0.98)
    torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_left_outside_the_brain_and_nothing_is_negative() -> None:
    brain = ball()
    strong = GeneratorConfig(noise=0.5, bias_field=0.5, gamma=0.5)
    for key in range(5):
        image = scanned(tissues(), strong, key, brain)
        assert bool((image[brain == 0] == 0).all())
        assert float(image.min()) >= 0
        assert bool(image.isfinite().all())


def test_an_even_brain_stays_even_up_to_its_border_when_blurred() -> None:
    """Normalised by the blurred mask: without that the rim of every brain would be dark."""
    brain = ball()
    for key in range(5):
        blurred = scanned(torch.full(SHAPE, 70.0), replace(OFF, blur_voxels=2.0, thick_slice_chance=1.0), key, brain)
        torch.testing.assert_close(blurred[brain > 0], torch.ones(int(brain.sum())), rtol=0, atol=1e-3)


def axes_blurred(config: GeneratorConfig, key: object) -> tuple[bool, ...]:
    """Along which axes a bright point spreads."""
    point = torch.full(SHAPE, 1.0)
    point[12, 14, 13] = 50.0
    image = scanned(point, config, key)
    image = image / image[0, 0, 0]
    return bool(image[13, 14, 13] > 1.01), bool(image[12, 15, 13] > 1.01), bool(image[12, 14, 14] > 1.01)


def test_thick_slices_blur_along_one_axis_alone_and_along_any() -> None:
    config = replace(OFF, thick_slice_chance=1.0, thick_slice_mm=8.0)
    seen = {axes_blurred(config, key) for key in range(30)}
    assert seen == {(True, False, False), (False, True, False), (False, False, True)}


def test_the_point_spread_blurs_alike_along_all_axes() -> None:
    seen = {axes_blurred(replace(OFF, blur_voxels=2.0), key) for key in range(20)}
    assert (True, True, True) in seen
    assert seen <= {(True, True, True), (False, False, False)}  # a very small one does nothing


def test_thick_slices_are_as_wide_as_they_say() -> None:
    """A step between two plateaus widens by the standard deviation of a box of the slice's thickness."""
    step = torch.ones(SHAPE)
    step[12:] = 2.0
    config = replace(OFF, thick_slice_chance=1.0, thick_slice_mm=12.0)
    widths = []
    for key in range(30):
        profile = scanned(step, config, key)[:, 14, 13]
        slope = profile.diff() / (profile[-4] - profile[4])  # off the array's ends
        if float(slope[11]) < 0.9:
            place = torch.arange(len(slope)) - 11.0
            widths.append(float((slope * place.square()).sum().sqrt()))
    assert widths
    # 2 to 12 mm at 2 mm per voxel, kernels cut at two and a half standard deviations
    assert min(widths) > 0.25
    assert 1.0 < max(widths) < 6 / math.sqrt(12) * 1.02


@pytest.mark.parametrize("key", range(3))
def test_the_bias_field_is_smooth(key: int) -> None:
    field = scanned(torch.full(SHAPE, 50.0), replace(OFF, bias_field=0.3), key).log()
    span = float(field.max() - field.min())
    assert span > 0.05
    for axis in range(3):
        # three control points along the shortest axis: never all of the way within a few voxels
        assert float(field.diff(dim=axis).abs().max()) < 0.2 * span
        # linear between control points: curvature only where they lie
        assert float((field.diff(n=2, dim=axis).abs() > 1e-4).float().mean()) < 0.5


def test_noise_is_rician() -> None:
    """Rayleigh where there is no signal: positive, mean sigma sqrt(pi / 2); normal where there is a lot."""
    picture = torch.zeros(SHAPE)
    picture[12:] = 100.0
    image = scanned(picture, replace(OFF, noise=0.2), "noise")
    sigma = float(image[12:].std())
    assert 0.01 < sigma < 0.2
    assert float(image.min()) >= 0
    assert float(image[:12].mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.05)
    assert float(image[12:].mean()) == pytest.approx(math.hypot(1, sigma / math.sqrt(2)), rel=0.01)


def test_the_contrast_curve_keeps_the_order_of_intensities() -> None:
    picture = tissues()
    exponents = []
    for key in range(20):
        image = scanned(picture, replace(OFF, gamma=0.3), key)
        assert torch.equal(image.flatten()[picture.flatten().argsort()], image.flatten().sort().values)
        plain = scanned(picture, OFF, key)
        exponents.append(float(image[0, 0, 0].log() / plain[0, 0, 0].log()))
    assert math.exp(-0.51) < min(exponents) < 0.9
    assert 1.1 < max(exponents) < math.exp(0.51)


def test_every_scan_of_a_key_is_the_same() -> None:
    picture = tissues()
    assert torch.equal(scanned(picture, GeneratorConfig(), "a"), scanned(picture, GeneratorConfig(), "a"))
    assert not torch.equal(scanned(picture, GeneratorConfig(), "a"), scanned(picture, GeneratorConfig(), "b"))
