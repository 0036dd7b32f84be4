import pytest
import torch

from DALAnomalyTraining.randomness import chance, generator_for, smooth_noise, uniform

CPU = torch.device("cpu")


def stream(*key: object, count: int = 5) -> list[float]:
    generator = generator_for(CPU, *key)
    return [uniform(generator, 0, 1) for _ in range(count)]


def test_the_same_key_is_the_same_stream_whatever_was_drawn_before() -> None:
    first = stream(0, "train", 17, 1)
    torch.rand(100)
    stream(3, "train", 17, 1)
    torch.manual_seed(5)
    assert stream(0, "train", 17, 1) == first


def test_streams_are_the_same_today_and_tomorrow() -> None:
    """A run resumed by another process has to draw what the first one would have drawn."""
    assert generator_for(CPU, 0, "train", 1, 2).initial_seed() == 968612946269712993


@pytest.mark.parametrize(
    "key", [(1, "train", 17, 1), (0, "noise", 17, 1), (0, "train", 18, 1), (0, "train", 17, 2), (0, "train", 171), ()]
)
def test_every_part_of_the_key_counts(key: tuple[object, ...]) -> None:
    assert stream(*key) != stream(0, "train", 17, 1)


def test_keys_do_not_run_together() -> None:
    assert stream("a", "b") != stream("ab")
    assert stream(1, 11) != stream(11, 1)
    assert stream("1") != stream(1)


def test_drawing_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    generator = generator_for(CPU, "key")
    uniform(generator, 0, 1)
    chance(generator, 0.5)
    smooth_noise(generator, (4, 4, 4), (2, 2, 2))
    assert torch.equal(torch.rand(3), expected)


def test_uniform_stays_within_its_bounds_and_fills_them() -> None:
    generator = generator_for(CPU, "uniform")
    drawn = [uniform(generator, -2, 3) for _ in range(500)]
    assert -2 <= min(drawn) < -1.9
    assert 2.9 < max(drawn) < 3


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.3, 120, 180), (1.0, 500, 500)])
def test_chance_is_the_probability(probability: float, low: int, high: int) -> None:
    generator = generator_for(CPU, "chance")
    assert low <= sum(chance(generator, probability) for _ in range(500)) <= high


def test_smooth_noise_passes_through_normal_control_points() -> None:
    noise = smooth_noise(generator_for(CPU, "noise"), (9, 9, 13), (3, 5, 4), channels=2)
    assert noise.shape == (2, 9, 9, 13)
    control = noise[:, ::4, ::2, ::4]
    expected = torch.randn((1, 2, 3, 5, 4), generator=generator_for(CPU, "noise"))[0]
    torch.testing.assert_close(control, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(noise[:, 2, ::2, ::4], (control[:, 0] + control[:, 1]) / 2, rtol=0, atol=1e-5)
