import pytest
import torch
from torch import Tensor

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.intensity_standardisation import (
    HIGHEST,
    LOWEST,
    PERCENTILES,
    Landmarks,
    fixed_scaling,
    intensity_map,
    learn_landmarks,
    measure_landmarks,
    standardise,
)

SHAPE = (20, 21, 22)
LANDMARKS = Landmarks((0.05, 0.1, 0.18, 0.3, 0.36, 0.45, 0.5, 0.62, 0.66, 0.7, 0.8))


def random_scan(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A skewed histogram in scanner units, and a box of brain."""
    image = 900 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) ** 2 + 40
    brain = torch.zeros(SHAPE)
    brain[2:-2, 3:-3, 1:-4] = 1
    return image, brain


def test_landmarks_are_the_percentiles_inside_the_brain() -> None:
    # 101 values 0, 10, ..., 1000: percentile p is 10 p
    image = 10 * torch.cat((torch.randperm(101, generator=torch.Generator().manual_seed(0)).float(), torch.zeros(50)))
    brain = torch.cat((torch.ones(101), torch.zeros(50)))
    assert measure_landmarks(image, brain).tolist() == [10 * p for p in PERCENTILES]
    assert measure_landmarks(image, brain, (0.0, 50.0, 100.0)).tolist() == [0, 500, 1000]


def test_outside_the_brain_does_not_count() -> None:
    image, brain = random_scan()
    assert torch.equal(measure_landmarks(image * brain - 7 * (1 - brain), brain), measure_landmarks(image, brain))


def test_landmarks_are_mapped_exactly_and_between_them_the_map_is_linear() -> None:
    image, brain = random_scan()
    mapped = intensity_map(image, brain, LANDMARKS)
    standard = torch.tensor(LANDMARKS.values)
    assert mapped.scan.tolist() == measure_landmarks(image, brain).tolist()
    torch.testing.assert_close(mapped.to_standard(mapped.scan), standard, rtol=0, atol=1e-6)
    middles = (mapped.scan[1:] + mapped.scan[:-1]) / 2
    torch.testing.assert_close(mapped.to_standard(middles), (standard[1:] + standard[:-1]) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("end", [0, -1])
def test_beyond_the_landmarks_the_end_pieces_continue(end: int) -> None:
    image, brain = random_scan()
    mapped = intensity_map(image, brain, LANDMARKS)
    inner = 1 if end == 0 else -2
    beyond = 2 * mapped.scan[end] - mapped.scan[inner]
    expected = 2 * LANDMARKS.values[end] - LANDMARKS.values[inner]
    assert float(mapped.to_standard(beyond)) == pytest.approx(expected, abs=1e-5)


def test_the_map_is_increasing_and_invertible_inside_and_beyond_the_landmarks() -> None:
    image, brain = random_scan()
    mapped = intensity_map(image, brain, LANDMARKS)
    intensities = torch.linspace(-500, 2500, 3001)
    standard = mapped.to_standard(intensities)
    assert (standard.diff() > 0).all()
    assert standard.min() < 0
    assert standard.max() > 1
    torch.testing.assert_close(mapped.to_scan(standard), intensities, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(("factor", "offset"), [(3.0, 0.0), (0.01, 0.0), (1.0, -500.0), (7.5, 1234.0)])
def test_gain_and_offset_of_the_scanner_do_not_matter(factor: float, offset: float) -> None:
    image, brain = random_scan()
    expected = standardise(image, brain, LANDMARKS)
    torch.testing.assert_close(standardise(factor * image + offset, brain, LANDMARKS), expected, rtol=0, atol=1e-4)


def test_standardised_scans_are_clipped_and_masked() -> None:
    image, brain = random_scan()
    image[5, 5, 5], image[6, 6, 6] = 1e6, -1e6
    standard = standardise(image, brain, LANDMARKS)
    assert (standard[5, 5, 5], standard[6, 6, 6]) == (1, 0)
    assert 0 <= standard.min() <= standard.max() <= 1
    assert not standard[brain == 0].any()
    assert standard.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float64])
def test_any_number_type_is_taken(dtype: torch.dtype) -> None:
    image, brain = random_scan()
    image = (image / 4).round()
    converted = standardise(image.to(dtype), brain.to(torch.uint8), LANDMARKS)
    torch.testing.assert_close(converted, standardise(image, brain, LANDMARKS))


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_plateaus_leave_the_map_finite_and_increasing(share: float) -> None:
    image, brain = random_scan()
    image[torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < share] = 200.0
    mapped = intensity_map(image, brain, LANDMARKS)
    assert (mapped.scan.diff() > 0).all()
    # what separates equal landmarks is too little to matter
    assert mapped.scan[-1] == pytest.approx(float(image[brain > 0].quantile(0.99)), rel=5e-3)
    standard = mapped.to_standard(image)
    assert standard.isfinite().all()
    torch.testing.assert_close(mapped.to_scan(standard), image, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_plateaus_are_told_from_steps_in_any_unit(gain: float) -> None:
    image, brain = random_scan()
    image[:12] = 200.0
    expected = standardise(image, brain, LANDMARKS)
    torch.testing.assert_close(standardise(gain * image, brain, LANDMARKS), expected, rtol=0, atol=1e-2)


def test_two_values_are_enough() -> None:
    image, brain = torch.zeros(SHAPE), torch.ones(SHAPE)
    image[10:] = 1
    assert standardise(image, brain, LANDMARKS).unique().numel() == 2


@pytest.mark.parametrize("value", [0.0, 17.0])
def test_a_constant_image_is_refused(value: float) -> None:
    _, brain = random_scan()
    with pytest.raises(InputError, match="same intensity everywhere inside the brain"):
        standardise(torch.full(SHAPE, value), brain, LANDMARKS)


def test_an_empty_brain_is_refused() -> None:
    image, brain = random_scan()
    with pytest.raises(InputError, match="brain mask is empty on the model grid"):
        standardise(image, 0 * brain, LANDMARKS)


def test_learned_landmarks_by_hand() -> None:
    # first and last become LOWEST and HIGHEST in every brain; the middle is at a half and at a quarter of the way
    measured = [torch.tensor([0.0, 50.0, 100.0]), torch.tensor([200.0, 300.0, 600.0])]
    expected = [LOWEST, LOWEST + 0.375 * (HIGHEST - LOWEST), HIGHEST]
    assert learn_landmarks(measured).values == pytest.approx(expected, abs=1e-6)


def test_learned_landmarks_do_not_depend_on_the_scanners_units() -> None:
    rows = [measure_landmarks(*random_scan(seed)) for seed in range(3)]
    learned = learn_landmarks(rows)
    assert learned.percentiles == PERCENTILES
    assert torch.tensor(learned.values).diff().min() > 0
    rescaled = learn_landmarks([rows[0], 5 * rows[1], rows[2] - 30])
    assert rescaled.values == pytest.approx(learned.values, abs=1e-6)


def test_a_training_scan_lands_on_the_landmarks_it_taught() -> None:
    image, brain = random_scan()
    learned = learn_landmarks([measure_landmarks(image, brain)])
    standard = standardise(image, brain, learned)
    assert measure_landmarks(standard, brain).tolist() == pytest.approx(learned.values, abs=1e-5)


# --- without landmarks ------------------------------------------------------------------------------------------------


def test_fixed_scaling_is_one_straight_line_between_two_percentiles() -> None:
    image, brain = random_scan()
    scaling = fixed_scaling(image, brain)
    ends = measure_landmarks(image, brain, (1.0, 99.0))
    assert scaling.scan.tolist() == ends.tolist()
    torch.testing.assert_close(scaling.to_standard(ends), torch.tensor([LOWEST, HIGHEST]))
    slope = (HIGHEST - LOWEST) / (ends[1] - ends[0])
    torch.testing.assert_close(scaling.to_standard(image), LOWEST + slope * (image - ends[0]))
    torch.testing.assert_close(scaling.to_scan(scaling.to_standard(image)), image)


def test_fixed_scaling_does_not_depend_on_the_unit() -> None:
    image, brain = random_scan()
    other = 37 * image + 500
    expected = fixed_scaling(image, brain).to_standard(image)
    torch.testing.assert_close(fixed_scaling(other, brain).to_standard(other), expected, rtol=0, atol=1e-4)


def test_fixed_scaling_keeps_the_shape_of_the_histogram_that_landmarks_would_bend() -> None:
    image, brain = random_scan()
    inside = brain > 0.5
    straight = fixed_scaling(image, brain).to_standard(image)[inside]
    bent = intensity_map(image, brain, LANDMARKS).to_standard(image)[inside]
    assert float(torch.corrcoef(torch.stack((image[inside], straight)))[0, 1]) > 0.99999
    assert float(torch.corrcoef(torch.stack((image[inside], bent)))[0, 1]) < 0.995


def test_fixed_scaling_refuses_a_constant() -> None:
    _, brain = random_scan()
    with pytest.raises(InputError, match="same intensity everywhere"):
        fixed_scaling(torch.full(SHAPE, 3.0), brain)
