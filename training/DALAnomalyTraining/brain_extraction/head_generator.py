"""Random heads for brain extraction: any contrast, resolution, field of view, bias, noise and lesion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.network.brain_extractor import normalise
from DALAnomalyTraining.brain_extraction.head_labels import CONTRASTS, group_of
from DALAnomalyTraining.brain_extraction.head_pack import SPACING_MM, Head
from DALAnomalyTraining.generator.deformation import random_rotation
from DALAnomalyTraining.randomness import chance, smooth_noise, uniform


@dataclass(frozen=True)
class HeadConfig:
    """Ranges of the random effects."""

    shape: tuple[int, int, int] = (96, 112, 96)
    """Voxels of 2 mm along (D, H, W)."""
    rotation_degrees: float = 15.0
    scaling: float = 0.12
    translation_mm: float = 20.0
    deformation_mm: float = 4.0
    mirrored_chance: float = 0.5
    contrasts: tuple[str, ...] = tuple(CONTRASTS)
    """Names of `CONTRASTS` that label maps may get."""
    realistic_chance: float = 0.6
    """Label maps are else given entirely random intensities."""
    recoloured_chance: float = 0.5
    """Real scans are else left with their own contrast."""
    lesion_chance: float = 0.3
    coarse_chance: float = 0.5
    coarsest_mm: float = 7.0
    bias_field: float = 0.35
    gamma: float = 0.4
    """Intensities are raised to a power between exp(-gamma) and exp(gamma)."""
    noise: float = 0.05
    cut_chance: float = 0.25
    """The field of view ends somewhere in the head."""
    stripped_chance: float = 0.1
    """The scan lacks its skull already."""


ORDINARY_HEADS = HeadConfig(
    rotation_degrees=10,
    scaling=0.1,
    translation_mm=12,
    deformation_mm=3,
    realistic_chance=0.8,
    lesion_chance=0.25,
    coarsest_mm=6.0,
    noise=0.035,
    bias_field=0.3,
    cut_chance=0.2,
    stripped_chance=0.08,
)
"""For the end of a training: what scanners deliver every day, on which outlines are to be exact."""


@dataclass(frozen=True)
class RandomHead:
    """Image and target, each float32 (D, H, W)."""

    image: Tensor
    """Normalised as at inference."""
    brain: Tensor
    """Share of brain, 0 to 1."""


def random_head(head: Head, config: HeadConfig, generator: torch.Generator) -> RandomHead:
    """Draw one training example from `head`."""
    grid = _positions(head.voxels.shape, config, generator)
    brain = (_sampled(torch.from_numpy(head.brain), grid, "bilinear") / 255).clamp_max(1)
    if head.labels:
        numbers = _sampled(torch.from_numpy(head.voxels), grid, "nearest").long()
        image = _painted(numbers, head.labels, config, generator)
    else:
        image = _sampled(torch.from_numpy(head.voxels), grid, "bilinear") / 255
        if chance(generator, config.recoloured_chance):
            image = _recoloured(image, generator)
    if chance(generator, config.lesion_chance):
        image = _with_lesions(image, brain, generator)
    if chance(generator, config.stripped_chance):
        image = image * _grown(brain > 0.5, round(uniform(generator, 0, 2.4)))
    seen = _field_of_view(config, generator)
    return RandomHead(normalise(_scanned(image, config, generator) * seen), brain * seen)


def _positions(shape: Sequence[int], config: HeadConfig, generator: torch.Generator) -> Tensor:
    """Where every voxel looks in the head, in the coordinates of grid_sample: (1, D, H, W, 3), ordered x, y, z."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in config.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack((x, y, z), dim=-1)
    matrix = random_rotation(config.rotation_degrees, generator)
    scales = torch.tensor([1 + config.scaling * uniform(generator, -1, 1) for _ in range(3)])
    scales[0] *= -1 if chance(generator, config.mirrored_chance) else 1
    # most heads are scanned from the crown down, so the window stays in the upper part of tall fields of view
    spare = max(0.0, (shape[0] - config.shape[0]) / 2)
    shift = torch.tensor([uniform(generator, -1, 1) * config.translation_mm / SPACING_MM for _ in range(3)])
    shift[2] += spare * uniform(generator, 0, 1)
    points = points @ (matrix @ torch.diag(scales)).T + shift
    cells = (6, 7, 6)
    strength = config.deformation_mm / SPACING_MM * uniform(generator, 0, 1)
    points = points + strength * smooth_noise(generator, config.shape, cells, channels=3).movedim(0, -1)
    size = torch.tensor([shape[2], shape[1], shape[0]], dtype=torch.float32)
    return (2 * points / size)[None]


def _sampled(voxels: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(voxels[None, None].float(), grid, mode=mode, align_corners=False)[0, 0]


def _painted(numbers: Tensor, labels: Sequence[int], config: HeadConfig, generator: torch.Generator) -> Tensor:
    """Give every label an intensity and every voxel its own deviation from it."""
    count = len(labels)
    means = torch.rand(count, generator=generator)
    if chance(generator, config.realistic_chance):
        contrast = CONTRASTS[config.contrasts[int(uniform(generator, 0, len(config.contrasts) - 1e-6))]]
        groups = torch.tensor([group_of(label) for label in labels])
        centres = torch.tensor(contrast) + 0.08 * torch.randn(len(contrast), generator=generator)
        means = (centres[groups] + 0.06 * torch.randn(count, generator=generator)).clamp(0.02, 1.2)
    spread = 0.08 * uniform(generator, 0, 1) * torch.rand(count, generator=generator)
    means[0] = 0.0 if chance(generator, 0.5) else 0.08 * uniform(generator, 0, 1)
    spread[0] = 0.0 if means[0] == 0 else 0.02
    coarse = smooth_noise(generator, tuple(numbers.shape), tuple(n // 4 for n in numbers.shape))[0]  # type: ignore[arg-type]
    return (means[numbers] + spread[numbers] * coarse).clamp_min(0)


def _recoloured(image: Tensor, generator: torch.Generator) -> Tensor:
    """Pass a real scan through a random curve, monotone or not: its textures and borders stay."""
    values = torch.rand(7, generator=generator)
    if chance(generator, 0.4):
        values = values.sort(descending=chance(generator, 0.3)).values
    values[0] *= 0.1  # air stays dark
    position = image.clamp(0, 1) * (len(values) - 1)
    piece = position.long().clamp_max(len(values) - 2)
    return values[piece] + (position - piece) * (values[piece + 1] - values[piece])


def _with_lesions(image: Tensor, brain: Tensor, generator: torch.Generator) -> Tensor:
    """Paste one to three blobs of any brightness, with or without a core, anywhere in the brain up to its rim."""
    inside = (brain > 0.5).nonzero()
    if len(inside) == 0:
        return image
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in image.shape), indexing="ij")
    for _ in range(1 + int(uniform(generator, 0, 3))):
        centre = inside[int(uniform(generator, 0, len(inside) - 1))].tolist()
        radius = uniform(generator, 4, 36) / SPACING_MM
        wobble = smooth_noise(generator, tuple(image.shape), (10, 10, 10))[0] * 0.25
        squared = sum((axis - value) ** 2 for axis, value in zip(axes, centre, strict=True))
        distance = torch.sqrt(torch.as_tensor(squared)) / radius + wobble
        weight = ((1.1 - distance) / 0.2).clamp(0, 1) * brain * uniform(generator, 0.5, 1)
        image = image + weight * (uniform(generator, 0, 1.3) - image)
        if chance(generator, 0.4):
            core = ((0.6 - distance) / 0.15).clamp(0, 1) * brain
            image = image + core * (uniform(generator, 0, 1.3) - image)
    return image


def _grown(mask: Tensor, voxels: int) -> Tensor:
    if voxels == 0:
        return mask.float()
    return functional.max_pool3d(mask[None, None].float(), 2 * voxels + 1, 1, voxels)[0, 0]


def _field_of_view(config: HeadConfig, generator: torch.Generator) -> Tensor:
    seen = torch.ones(config.shape)
    if chance(generator, config.cut_chance):
        for _ in range(1 + int(uniform(generator, 0, 2))):
            axis = int(uniform(generator, 0, 2.999))
            size = config.shape[axis]
            length = int(uniform(generator, 0.05, 0.35) * size)
            start = 0 if chance(generator, 0.5) else size - length
            seen.narrow(axis, start, length).zero_()
    return seen


def _scanned(image: Tensor, config: HeadConfig, generator: torch.Generator) -> Tensor:
    """Bias field, resolution, noise and contrast curve of a random scanner."""
    shape = (image.shape[0], image.shape[1], image.shape[2])
    field = smooth_noise(generator, shape, (3, 4, 3))[0]
    image = image * torch.exp(config.bias_field * uniform(generator, 0, 1) * field)
    if chance(generator, config.coarse_chance):
        in_plane = max(SPACING_MM, uniform(generator, 1.0, 3.5)) if chance(generator, 0.3) else SPACING_MM
        sizes = [round(n * SPACING_MM / in_plane) for n in shape]
        axis = int(uniform(generator, 0, 2.999))
        sizes[axis] = round(shape[axis] * SPACING_MM / uniform(generator, SPACING_MM, config.coarsest_mm))
        small = functional.interpolate(image[None, None], size=sizes, mode="area")
        image = functional.interpolate(small, size=shape, mode="trilinear", align_corners=False)[0, 0]
    image = image.clamp_min(0) ** math.exp(config.gamma * uniform(generator, -1, 1))
    sigma = config.noise * uniform(generator, 0, 1) ** 2
    noise = torch.randn((2, *shape), generator=generator) * sigma
    empty = image <= 0
    noisy = torch.hypot(image + noise[0], noise[1])
    # many scanners and all converters of stripped scans leave exact zeros in the air
    return torch.where(empty, 0.0, noisy) if chance(generator, 0.5) else noisy
