"""Disturbances of A and of its edges that R_E learns to repair (section 4.8.2).

The paper credits its noisy, unsupervised anatomy with teaching R_E to cope with abnormal edges. A tissue map learned
from labels is too clean for that, so regions of it are given to another tissue before edges are taken, and edges are
left out or drawn where there are none; image, code and target stay the undisturbed healthy ones. These are errors of a
tissue map, not lesions: no image is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from DALAnomalyLib.edges import label_change_surface
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import chance, smooth_noise, uniform


@torch.no_grad()
def disturb(
    anatomy: Tensor, brain: Tensor, spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """A copy of A (1, D, H, W) with up to `anatomical_noise_regions` regions of the brain given to other tissues.

    Args:
        anatomy: Merged anatomical image (Eq. 4), values k/3.
        brain: (1, D, H, W), 0 or 1.
        spacing: Millimetres along the array axes.
        config: Number and size of the regions.
        generator: Where the randomness comes from.
    """
    disturbed = anatomy
    for depth in _regions(config.anatomical_noise_regions, brain, spacing, config, generator):
        if config.anatomical_noise_shift and chance(generator, config.anatomical_noise_shift):
            disturbed = _shifted(disturbed, depth, generator)
            continue
        replacement: Tensor | float
        if chance(generator, 0.3):  # a patchwork, as texture inside a region makes it
            replacement = 2 / 3 + _patches(generator, depth.shape).sign() / 3
        else:
            replacement = _any_tissue(generator)
        disturbed = torch.where(depth < 1, replacement, disturbed)
        if config.anatomical_noise_core and chance(generator, config.anatomical_noise_core):
            core = depth < uniform(generator, 0.3, 0.8)
            disturbed = torch.where(core, _any_tissue(generator), disturbed)
    return disturbed * brain


@torch.no_grad()
def disturb_edges(
    edges: Tensor, brain: Tensor, spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """A copy of E (1, D, H, W) with up to `edge_noise_regions` regions thinned out, or filled with edges of nothing.

    Args:
        edges: E, 0 or 1.
        brain: (1, D, H, W), 0 or 1.
        spacing: Millimetres along the array axes.
        config: Number and size of the regions.
        generator: Where the randomness comes from.
    """
    disturbed = edges
    for depth in _regions(config.edge_noise_regions, brain, spacing, config, generator):
        region = depth < 1
        if chance(generator, 0.5):
            kept = torch.rand(region.shape, generator=generator, device=edges.device) < uniform(generator, 0.0, 0.6)
            disturbed = torch.where(region & ~kept, 0.0, disturbed)
        else:
            drawn = label_change_surface(_patches(generator, region.shape).sign()[None])[0]
            disturbed = torch.where(region, torch.maximum(disturbed, drawn), disturbed)
    return disturbed * brain


def _shifted(anatomy: Tensor, depth: Tensor, generator: torch.Generator) -> Tensor:
    """Tissues moved along CSF, grey, white: more towards the middle of a region, and unevenly."""
    shoulder = uniform(generator, 0.05, 0.7)
    weight = ((1 - depth) / shoulder).clamp(0, 1)
    amount = uniform(generator, 0.6, 2.0) * (-1 if chance(generator, 0.7) else 1)
    texture = uniform(generator, 0.0, 0.6) * _patches(generator, depth.shape)
    moved = (3 * anatomy + weight * (amount + texture)).round().clamp(1, 3) / 3
    return torch.where(depth < 1, moved, anatomy)


def _any_tissue(generator: torch.Generator) -> float:
    """The value of a tissue in A."""
    return (1 + int(uniform(generator, 0, 3))) / 3


def _regions(
    most: int, brain: Tensor, spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> Iterator[Tensor]:
    """Up to `most` regions around voxels of the brain, each as `_depth_in_region` gives it."""
    inside = brain[0].nonzero()
    for _ in range(int(uniform(generator, 0, most + 1))):
        centre = inside[int(torch.randint(len(inside), (), generator=generator, device=brain.device))]
        yield _depth_in_region(brain.shape[1:], centre, spacing, config, generator)


def _patches(generator: torch.Generator, shape: torch.Size) -> Tensor:
    """Normal noise whose signs make patches of some voxels, (1, D, H, W)."""
    return smooth_noise(generator, tuple(shape), tuple(n // 3 for n in shape))  # type: ignore[arg-type]


def _depth_in_region(
    shape: torch.Size, centre: Tensor, spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """From 0 in the middle to 1 at the wavy surface of a ball of random radius, and beyond: (D, H, W)."""
    smallest, largest = config.anatomical_noise_mm
    radius = smallest * (largest / smallest) ** uniform(generator, 0, 1)
    axes = [
        (torch.arange(n, device=centre.device) - c) * s / (radius * uniform(generator, 0.7, 1.4))
        for n, c, s in zip(shape, centre, spacing, strict=True)
    ]
    distance = axes[0].square()[:, None, None] + axes[1].square()[None, :, None] + axes[2].square()[None, None, :]
    cells = [max(2, round(n * s / radius)) for n, s in zip(shape, spacing, strict=True)]
    waves = smooth_noise(generator, tuple(shape), (cells[0], cells[1], cells[2]))[0]
    return distance.sqrt() + 0.25 * waves
