import pytest
import torch
from torch import nn

from DALAnomalyTraining.moving_average import MovingAverage


def layer(value: float) -> nn.Linear:
    made = nn.Linear(2, 3)
    for weight in made.parameters():
        nn.init.constant_(weight, value)
    return made


def value_of(average: MovingAverage) -> float:
    (value,) = {float(x) for weight in average.network.parameters() for x in weight.flatten()}
    return value


def test_the_average_starts_from_a_copy() -> None:
    network = layer(2.0)
    average = MovingAverage(network, 0.9)
    nn.init.zeros_(network.weight)
    assert value_of(average) == 2
    assert network.weight.requires_grad
    assert not any(weight.requires_grad for weight in average.network.parameters())


@pytest.mark.parametrize(
    ("step", "decay", "expected"),
    [
        (0, 0.99, 0.9),  # early steps keep (1 + step) / (10 + step) of the past
        (8, 0.99, 0.5),
        (1000, 0.99, 0.01),
        (1000, 0.9, 0.1),
        (0, 0.05, 0.95),
    ],
)
def test_one_update_by_hand(step: int, decay: float, expected: float) -> None:
    average = MovingAverage(layer(0.0), decay)
    average.update(layer(1.0), step)
    assert value_of(average) == pytest.approx(expected, rel=1e-5)


def test_late_updates_are_an_exponential_average() -> None:
    average = MovingAverage(layer(1.0), 0.5)
    for value in (2.0, 4.0):
        average.update(layer(value), step=10**6)
    assert value_of(average) == pytest.approx(0.25 * 1 + 0.25 * 2 + 0.5 * 4)


def test_a_network_that_stands_still_is_its_own_average() -> None:
    network = layer(3.0)
    average = MovingAverage(layer(0.0), 0.9)
    for step in range(300):
        average.update(network, step)
    assert value_of(average) == pytest.approx(3, rel=1e-4)


def test_updating_leaves_the_network_alone_and_records_no_gradient() -> None:
    network = layer(1.0)
    average = MovingAverage(layer(0.0), 0.9)
    average.update(network, 0)
    assert torch.equal(network.weight, torch.ones(3, 2))
    assert network.weight.grad_fn is None
    assert not any(weight.requires_grad for weight in average.network.parameters())
