from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from DALAnomalyTraining.generator.atrophy import VENTRICLES, random_atrophy
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.label_classes import CLASSES, COUNT, OUTER_CSF
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")
SPACING = 2.0
CONFIG = GeneratorConfig(atrophy_mm=3.0)
SIZE = 32
WHITE = 1


def distance() -> Tensor:
    """Voxels from the middle of the volume."""
    axis = torch.arange(SIZE) - SIZE // 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()


@pytest.fixture
def ball() -> Tensor:
    """Ventricles in white matter in outer CSF in nothing."""
    labels = torch.zeros((SIZE,) * 3, dtype=torch.long)
    for radius, label in ((14, OUTER_CSF), (12, WHITE), (4, VENTRICLES)):
        labels[distance() <= radius] = label
    return torch.nn.functional.one_hot(labels, COUNT).float()


def widened(fractions: Tensor, key: int, config: GeneratorConfig = CONFIG) -> Tensor:
    return random_atrophy(fractions, SPACING, config, generator_for(CPU, key))


def test_the_classes_are_those_of_the_pack() -> None:
    assert CLASSES[VENTRICLES - 1].name == "ventricles"
    assert CLASSES[OUTER_CSF - 1].name == "outer cerebrospinal fluid"


def test_without_atrophy_nothing_changes_and_nothing_is_drawn(ball: Tensor) -> None:
    generator = generator_for(CPU, 0)
    state = generator.get_state()
    assert random_atrophy(ball, SPACING, GeneratorConfig(), generator) is ball
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("key", range(8))
def test_fluid_grows_at_the_cost_of_tissue_alone(ball: Tensor, key: int) -> None:
    after = widened(ball, key)
    torch.testing.assert_close(after.sum(-1), torch.ones((SIZE,) * 3))
    assert float(after.min()) >= 0
    assert torch.equal(after[..., 0], ball[..., 0])
    for fluid in (VENTRICLES, OUTER_CSF):
        assert bool((after[..., fluid] >= ball[..., fluid]).all())
        assert float(after[..., fluid].sum()) > float(ball[..., fluid].sum())
    assert float(after[..., WHITE].sum()) < float(ball[..., WHITE].sum())


def test_no_border_moves_farther_than_it_may(ball: Tensor) -> None:
    far = (distance() > 4 + 2 * 3**0.5) & (distance() < 12 - 2 * 3**0.5)  # cubes reach so far along the diagonal
    widths = []
    for key in range(20):
        after = widened(ball, key)
        assert torch.equal(after[far], ball[far])
        line = after[SIZE // 2, SIZE // 2, SIZE // 2 :, VENTRICLES]
        widths.append(SPACING * float(line.sum() - 5))
    assert max(widths) <= CONFIG.atrophy_mm + 1e-4
    assert max(widths) > 0.8 * CONFIG.atrophy_mm
    assert min(widths) < 0.2 * CONFIG.atrophy_mm


def test_ventricles_and_sulci_widen_apart_from_each_other(ball: Tensor) -> None:
    grown = torch.tensor([[float(widened(ball, key)[..., fluid].sum()) for fluid in (VENTRICLES, OUTER_CSF)]
                          for key in range(20)])  # fmt: skip
    assert abs(float(torch.corrcoef(grown.T)[0, 1])) < 0.6


def test_more_atrophy_widens_more(ball: Tensor) -> None:
    little = widened(ball, 3, replace(CONFIG, atrophy_mm=1.0))
    assert float(little[..., VENTRICLES].sum()) < float(widened(ball, 3)[..., VENTRICLES].sum())
