"""Several views of a scan: what is averaged, what it must not depend on, and what stays the paper's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.configuration import PRESETS, RestorationConfig
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.intensity_alignment import match_tones
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.restoration import restore

SEQUENCE = torch.tensor([0])


@pytest.fixture(scope="module")
def network() -> DALNetwork:
    """Random weights, adaptation layers included: these start at zero and would hide M."""
    torch.manual_seed(1)
    made = DALNetwork(PRESETS["tiny"]).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def scan() -> tuple[Tensor, Tensor]:
    shape = PRESETS["tiny"].grid.shape
    brain = torch.zeros(1, 1, *shape)
    brain[..., 3:-3, 4:-4, 2:-5] = 1
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)) * brain, brain


def test_the_papers_is_one_pass_as_it_is(network: DALNetwork, scan: tuple[Tensor, Tensor]) -> None:
    once = network.restore(*scan, SEQUENCE)
    same = restore(network, *scan, SEQUENCE, PRESETS["paper"].restoration)
    assert torch.equal(same.pseudo_healthy, once.pseudo_healthy)
    assert same.spread is None


@pytest.mark.parametrize("views", [2, 6])
def test_a_mirrored_scan_gives_the_mirrored_image(network: DALNetwork, scan: tuple[Tensor, Tensor], views: int) -> None:
    config = RestorationConfig(views=views, tone_pieces=4, shading_mm=30.0, drift_mm=30.0)
    straight = restore(network, *scan, SEQUENCE, config)
    mirrored = restore(network, scan[0].flip(4), scan[1].flip(4), SEQUENCE, config)
    torch.testing.assert_close(mirrored.pseudo_healthy.flip(4), straight.pseudo_healthy, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored.spread.flip(4), straight.spread, atol=1e-4, rtol=0)
    alone = restore(network, *scan, SEQUENCE, RestorationConfig())
    turned = restore(network, scan[0].flip(4), scan[1].flip(4), SEQUENCE, RestorationConfig())
    assert not torch.allclose(turned.pseudo_healthy.flip(4), alone.pseudo_healthy, atol=1e-3)


def test_mean_and_spread_of_the_views(network: DALNetwork, scan: tuple[Tensor, Tensor]) -> None:
    image, brain = scan
    views = [network.restore(image, brain, SEQUENCE).pseudo_healthy]
    views.append(network.restore(image.flip(4), brain.flip(4), SEQUENCE).pseudo_healthy.flip(4))
    for shift in (1, -1):
        moved = image.roll((shift,) * 3, (2, 3, 4)), brain.roll((shift,) * 3, (2, 3, 4))
        views.append(network.restore(*moved, SEQUENCE).pseudo_healthy.roll((-shift,) * 3, (2, 3, 4)))
        moved = tuple(part.flip(4).roll((shift,) * 3, (2, 3, 4)) for part in scan)
        views.append(network.restore(*moved, SEQUENCE).pseudo_healthy.roll((-shift,) * 3, (2, 3, 4)).flip(4))
    stacked = torch.stack(views)
    restored = restore(network, image, brain, SEQUENCE, RestorationConfig(views=6))
    torch.testing.assert_close(restored.pseudo_healthy, stacked.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(restored.spread, stacked.std(0, correction=0), atol=1e-3, rtol=0)
    assert restored.spread[brain > 0].mean() > 1e-3


def test_typical_looks_are_averaged_over_the_views_like_x_r(network: DALNetwork, scan: tuple[Tensor, Tensor]) -> None:
    image, brain = scan
    typical = torch.randn(2, network.modality_extractor.length, generator=torch.Generator().manual_seed(3))
    config = RestorationConfig(views=2, tone_pieces=4, typical_looks=True)
    views = [network.restore(image, brain, SEQUENCE, typical)]
    views.append(network.restore(image.flip(4), brain.flip(4), SEQUENCE, typical))
    healthy, looks = (
        (getattr(views[0], name) + getattr(views[1], name).flip(4)) / 2 for name in ("pseudo_healthy", "typical")
    )
    restored = restore(network, image, brain, SEQUENCE, config, typical).pseudo_healthy
    expected = match_tones(healthy, image, brain, 4, looks)
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=0)
    without = restore(network, image, brain, SEQUENCE, replace(config, typical_looks=False), typical).pseudo_healthy
    torch.testing.assert_close(without, match_tones(healthy, image, brain, 4), atol=1e-5, rtol=0)
    assert float((restored - without).abs().mean()) > 1e-3


def test_without_typical_scans_there_are_no_typical_looks(network: DALNetwork, scan: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UsageError, match="export the model again, or turn it off"):
        restore(network, *scan, SEQUENCE, RestorationConfig(tone_pieces=4, typical_looks=True))


def test_a_brain_cut_by_the_grid_loses_nothing_to_shifts(network: DALNetwork, scan: tuple[Tensor, Tensor]) -> None:
    image = torch.rand(scan[0].shape, generator=torch.Generator().manual_seed(2))
    restored = restore(network, image, torch.ones_like(image), SEQUENCE, RestorationConfig(views=6))
    assert torch.isfinite(restored.pseudo_healthy).all()
    once = network.restore(image, torch.ones_like(image), SEQUENCE).pseudo_healthy
    border = restored.pseudo_healthy[..., 0, :, :].mean() / once[..., 0, :, :].mean()
    assert 0.7 < border < 1.4  # a sixth would be missing were lost planes counted as black


@pytest.mark.parametrize("values", [{"views": 3}, {"tone_pieces": 1}, {"drift_mm": -1.0}, {"shading_mm": -1.0}])
def test_options_that_mean_nothing_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="views are 1, 2 or 6"):
        RestorationConfig(**values)


def test_typical_looks_without_tones_are_refused() -> None:
    with pytest.raises(UsageError, match="give tone_pieces"):
        RestorationConfig(typical_looks=True)


def test_options_survive_the_way_into_a_model_file() -> None:
    from DALAnomalyLib.configuration import ModelConfig, from_dictionary, to_dictionary

    config = replace(PRESETS["tiny"], restoration=RestorationConfig(views=2, tone_pieces=5, typical_looks=True))
    assert from_dictionary(ModelConfig, to_dictionary(config)) == config
