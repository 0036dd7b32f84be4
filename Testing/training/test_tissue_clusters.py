from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from DALAnomalyLib.configuration import preset
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.generator.tissue_clusters import cluster_tissues
from DALAnomalyTraining.label_classes import TISSUE_OF_CLASS
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")


@pytest.fixture
def pair(brain_labels: Callable[..., Any], brain_image: Callable[..., Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, D, H, W) of a made-up brain and its tissues (D, H, W)."""
    labels = brain_labels()
    images = np.stack([brain_image(labels, name, seed) for seed, name in enumerate(("T1", "T2"))])
    return torch.from_numpy(images).float(), torch.from_numpy(TISSUE_OF_CLASS[labels].astype(np.int64))


def test_clusters_are_the_tissues(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, tissues = pair
    found = cluster_tissues(images, (tissues > 0).float())
    assert found.dtype == torch.int64
    assert torch.equal(found > 0, tissues > 0)
    for tissue in (1, 2, 3):
        assert (found[tissues == tissue] == tissue).float().mean() > 0.95


def test_scale_of_the_scans_does_not_matter(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, tissues = pair
    expected = cluster_tissues(images, tissues)
    brighter = images * torch.tensor([3.0, 0.2]).reshape(2, 1, 1, 1) + 40
    assert (cluster_tissues(brighter, tissues) == expected).float().mean() > 0.999


def test_a_brain_of_one_grey_value_has_a_tissue_everywhere() -> None:
    brain = torch.ones(4, 4, 4)
    found = cluster_tissues(torch.full((2, 4, 4, 4), 5.0), brain)
    assert bool(((found >= 1) & (found <= 3)).all())


def test_clusters_teach_pairs_when_they_are_asked_for(toy_pack: Pack) -> None:
    records = [record for record in toy_pack.records if record.source == "paired"]

    def tissues(config: GeneratorConfig) -> set[int]:
        pairs = PairGenerator(toy_pack, records, preset("tiny").grid, ("T1", "T2"), config, CPU, 0)
        return set(pairs.pictures(generator_for(CPU, 0)).tissues.unique().tolist())

    assert tissues(GeneratorConfig()) == {-1, 0}
    assert tissues(GeneratorConfig(cluster_pairs=True)) == {0, 1, 2, 3}
