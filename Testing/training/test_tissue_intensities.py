from dataclasses import replace

import pytest
import torch

from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.tissue_intensities import draw_intensities
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")
STEADY = GeneratorConfig(centre_spread=0, class_contrast=0, texture=1.0)
MEANS, MEAN_SPREAD = [0.0, 40.0, 90.0, 140.0], [0.0, 2.0, 4.0, 6.0]
DEVIATIONS = [0.0, 5.0, 6.0, 7.0]
PRIOR = [[MEANS, MEAN_SPREAD], [DEVIATIONS, [0.0, 0.0, 0.0, 0.0]]]


def drawn(config: GeneratorConfig, count: int = 1, prior: list[list[list[float]]] = PRIOR) -> torch.Tensor:
    """(count, 2, classes): means and deviations of `count` scans."""
    return torch.stack([torch.stack(draw_intensities(prior, config, generator_for(CPU, key))) for key in range(count)])


def test_without_spread_the_priors_themselves_come_out() -> None:
    for means, deviations in drawn(STEADY, 3):
        assert means[1:].tolist() == MEANS[1:]
        assert deviations.tolist() == DEVIATIONS


def test_texture_scales_the_variation_within_classes() -> None:
    assert drawn(replace(STEADY, texture=0.5))[0, 1].tolist() == [value / 2 for value in DEVIATIONS]
    assert drawn(replace(STEADY, texture=0))[0, 1].tolist() == [0.0] * 4


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_means_stray_by_their_own_measured_spread(strength: float) -> None:
    means = drawn(replace(STEADY, centre_spread=strength), 400)[:, 0, 1:]
    expected = strength * torch.tensor(MEAN_SPREAD[1:])
    # normal, cut at two standard deviations, has a standard deviation of .959
    torch.testing.assert_close(means.std(0), 0.959 * expected, rtol=0.12, atol=0)
    strayed = (means - torch.tensor(MEANS[1:])).abs()
    assert bool((strayed <= 2 * expected + 1e-3).all())


def test_class_contrast_is_a_share_of_the_range_of_the_sequence() -> None:
    means = drawn(replace(STEADY, class_contrast=0.1), 400)[:, 0, 1:]
    torch.testing.assert_close(means.std(0), torch.full((3,), 0.959 * 10.0), rtol=0.12, atol=0)
    correlation = torch.corrcoef(means.T)
    assert float((correlation - torch.eye(3)).abs().max()) < 0.2, "classes have to stray independently"


def test_intensities_stay_positive_and_deviations_at_least_zero() -> None:
    prior = [[[0.0, 2.0, 3.0, 4.0], [0.0, 9.0, 9.0, 9.0]], [[0.0, 1.0, 1.0, 1.0], [0.0, 5.0, 5.0, 5.0]]]
    values = drawn(GeneratorConfig(), 100, prior)
    assert float(values[:, 0].min()) == 1.0
    assert float(values[:, 1].min()) == 0.0


def test_the_same_key_draws_the_same_scan() -> None:
    assert torch.equal(drawn(GeneratorConfig(), 2), drawn(GeneratorConfig(), 2))
    first, second = drawn(GeneratorConfig(), 2)
    assert not torch.equal(first, second)
