from __future__ import annotations

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.network.dal_network import Anatomy, Restoration
from DALAnomalyLib.out_of_distribution import DISTANCE, FIGURES
from DALAnomalyLib.scan_figures import ScanFigures, scan_figures

SHAPE = (12, 14, 10)
LEVELS = torch.tensor([0.0, 0.2, 0.5, 0.7])
"""Of the background, fluid, grey and white matter."""


def tissues() -> Tensor:
    """(1, 1, D, H, W): a box of brain, a quarter of it fluid, a quarter grey and half of it white matter."""
    labels = torch.zeros(SHAPE, dtype=torch.long)
    labels[2:10, 1:13, 2:4] = 1
    labels[2:10, 1:13, 4:6] = 2
    labels[2:10, 1:13, 6:10] = 3
    return labels[None, None]


def restoration(labels: Tensor, healthy: Tensor, edges: Tensor | None = None) -> Restoration:
    image = labels / 3
    anatomy = Anatomy(torch.zeros(1, 3, *SHAPE), torch.zeros(1, 3, *SHAPE), image)
    return Restoration(healthy, anatomy, torch.zeros(1, 1, *SHAPE) if edges is None else edges, torch.arange(4.0)[None])


def measured(image: Tensor, **changes: Tensor) -> ScanFigures:
    labels = tissues()
    brain = (labels > 0).float()
    restored = restoration(changes.get("labels", labels), changes.get("healthy", image), changes.get("edges"))
    return scan_figures(image, brain, restored, changes.get("template", image[0, 0]), (1, 2, 3))


def test_figures_of_a_known_brain() -> None:
    image, labels = LEVELS[tissues()], tissues()
    edges = torch.zeros(1, 1, *SHAPE)
    edges[..., 4] = 1  # in- and outside the brain
    figures = measured(image, healthy=(image - 0.1) * (labels > 0), edges=edges)
    assert torch.equal(figures.modality, torch.arange(4.0))
    expected = {
        "share of CSF": 0.25,
        "share of grey matter": 0.25,
        "share of white matter": 0.5,
        "grey matter less CSF": 0.3,
        "white matter less CSF": 0.5,
        "white matter less grey matter": 0.2,
        "edge density": 1 / 8,
        "median residual": 0.1,
        "correlation with the mean image": 1.0,
        "correlation with the healthy image": 1.0,
    }
    assert {name: pytest.approx(value, abs=1e-4) for name, value in expected.items()} == {
        name: figures.plain[name] for name in expected
    }


def test_every_figure_has_its_words() -> None:
    assert {DISTANCE, *measured(LEVELS[tissues()]).plain} == set(FIGURES)


def test_classes_are_counted_as_the_tissues_that_they_stand_for() -> None:
    labels = tissues()
    image, brain = LEVELS[labels], (labels > 0).float()
    turned = scan_figures(image, brain, restoration(labels, image), image[0, 0], (3, 1, 2))
    assert turned.plain["share of CSF"] == pytest.approx(0.25)  # class 2
    assert turned.plain["share of grey matter"] == pytest.approx(0.5)  # class 3
    assert turned.plain["white matter less CSF"] == pytest.approx(0.2 - 0.5)


def test_noise_is_rough_and_a_smooth_ramp_is_not() -> None:
    brain = (tissues() > 0).float()
    ramp = torch.linspace(0, 1, SHAPE[1])[:, None].expand(1, 1, *SHAPE) * brain
    noise = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) * brain
    assert measured(ramp).plain["roughness"] < 0.001
    assert measured(noise).plain["roughness"] > 0.1


def test_a_lesion_in_a_fifth_of_the_brain_hardly_moves_a_median() -> None:
    image = LEVELS[tissues()]
    noise = 0.02 * torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    lesioned = image + noise
    lesioned[..., 8:10] += 0.3
    before, after = (measured(each, healthy=image) for each in (image + noise, lesioned))
    assert after.plain["median residual"] < 2 * before.plain["median residual"]


def test_a_tissue_that_is_missing_and_a_constant_image_are_no_error() -> None:
    labels = tissues().clamp_max(1)
    figures = measured(0.5 * (labels > 0), labels=labels)
    assert figures.plain["share of white matter"] == 0
    assert figures.plain["correlation with the mean image"] == 0
