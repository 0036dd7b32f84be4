from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from DALAnomalyTraining.generator.brain_rim import CLOSING_MM, random_brain_mask
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")
SPACING = 2.5
CONFIG = GeneratorConfig(rim_mm=7.5)
SIZE = 36


def distance() -> torch.Tensor:
    """Voxels from the middle of the volume."""
    axis = torch.arange(SIZE) - SIZE // 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()


WHOLE = distance() <= 16
TISSUE = distance() <= 9
SULCUS = torch.zeros_like(WHOLE)
SULCUS[:, SIZE // 2, : SIZE // 2 - 3] = True


def masks(tissue: torch.Tensor, count: int, config: GeneratorConfig = CONFIG) -> list[torch.Tensor]:
    return [random_brain_mask(WHOLE, tissue, SPACING, config, generator_for(CPU, key)) for key in range(count)]


def grown(mask: torch.Tensor, voxels: int) -> torch.Tensor:
    return functional.max_pool3d(mask[None, None].float(), 2 * voxels + 1, stride=1, padding=voxels)[0, 0] > 0


def test_every_mask_lies_between_the_closed_tissue_and_the_whole_head() -> None:
    tissue = TISSUE & ~SULCUS
    for mask in masks(tissue, 20):
        assert mask.dtype == torch.float32
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert bool((mask[tissue] == 1).all()), "tissue was cut"
        assert bool((mask[SULCUS & (distance() <= 6)] == 1).all()), "a sulcus was left open"
        assert bool((mask[~WHOLE] == 0).all())


def test_rims_of_every_width_occur() -> None:
    """0, 1, 2 or 3 voxels of 2.5 mm, or everything."""
    volumes = [float(mask.sum()) for mask in masks(TISSUE, 60)]
    found = sorted(set(volumes))
    assert len(found) == 5
    assert found[0] == float(TISSUE.sum())
    assert found[-1] == float(WHOLE.sum())
    assert all(volumes.count(volume) >= 4 for volume in found)


@pytest.mark.parametrize("rim_mm", [2.5, 5.0])
def test_no_rim_is_wider_than_it_may_be(rim_mm: float) -> None:
    widest = grown(TISSUE, round(rim_mm / SPACING)) & WHOLE
    for mask in masks(TISSUE, 20, replace(CONFIG, rim_mm=rim_mm)):
        # closing a ball leaves it nearly as it is
        assert float(mask.sum()) == float(WHOLE.sum()) or float((mask.bool() & ~widest).sum()) == 0


def test_a_gap_wider_than_closing_reaches_stays_open() -> None:
    gap = torch.zeros_like(WHOLE)
    half = round(CLOSING_MM / SPACING) + 2
    gap[:, SIZE // 2 - half : SIZE // 2 + half + 1, : SIZE // 2] = True
    narrowest = min(masks(TISSUE & ~gap, 20), key=lambda mask: float(mask.sum()))
    assert float(narrowest[SIZE // 2, SIZE // 2, SIZE // 2 - 6]) == 0


def test_without_known_tissue_the_whole_head_is_the_brain() -> None:
    for mask in masks(torch.zeros_like(TISSUE), 10):
        assert torch.equal(mask, WHOLE.float())


def test_the_same_key_draws_the_same_mask() -> None:
    assert all(torch.equal(a, b) for a, b in zip(masks(TISSUE, 5), masks(TISSUE, 5), strict=True))
