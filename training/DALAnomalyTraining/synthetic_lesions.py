"""Lesions of several kinds put into generated healthy pictures: for validation and samples, never for training.

The model must never have been shown a lesion. Only `validation.py`, `sample_subject.py` and the script that writes
cases to measure finished models on, `training/synthetic_cases.py`, may import this module, and the batches that
training sees have no place for a lesion; tests hold both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from DALAnomalyLib.scoring.filters import erode_mask
from DALAnomalyTraining.generator.pair_generator import Pictures
from DALAnomalyTraining.label_classes import CSF, GREY, WHITE
from DALAnomalyTraining.randomness import chance, smooth_noise, uniform

DEEP_MM = 15.0
"""So far below a brain's surface there is mostly white matter."""


@dataclass(frozen=True)
class LesionKind:
    """How a kind of lesion looks, as places between the tissues of the same scan."""

    name: str
    radius_mm: tuple[float, float]
    count: tuple[int, int]
    towards_csf: tuple[float, float]
    """0: white matter's intensity, 1: CSF's; T1 darkens and T2 brightens alike."""
    core_share: float = 0.0
    """Radius of a CSF-like core, as a share of the lesion's."""
    variation: float = 0.05


KINDS = (
    LesionKind("oedema", (14.0, 32.0), (1, 1), (0.35, 0.7), variation=0.1),
    LesionKind("mass with necrotic core", (12.0, 28.0), (1, 2), (0.3, 0.6), core_share=0.5, variation=0.12),
    LesionKind("infarct", (8.0, 22.0), (1, 1), (0.6, 1.0)),
    LesionKind("plaques", (3.0, 7.0), (4, 12), (0.4, 0.8)),
)


@dataclass(frozen=True)
class Lesioned:
    """Pictures with lesions, and where they are."""

    pictures: Pictures
    lesion: Tensor
    """Bool (D, H, W)."""


def insert_lesions(
    pictures: Pictures, kind: LesionKind, spacing: tuple[float, ...], generator: torch.Generator
) -> Lesioned:
    """Put lesions of one kind into the white matter of a subject, alike in all its sequences.

    Grey matter that they reach changes as well, CSF does not: nothing in a lesion turns less like CSF.

    Args:
        pictures: The healthy subject.
        kind: What to put in.
        spacing: Millimetres along the array axes.
        generator: Where the randomness comes from.
    """
    images = pictures.images.clone()
    lesion = torch.zeros_like(pictures.brain, dtype=torch.bool)
    solid = pictures.brain * (pictures.tissues != CSF)
    white_matter = _white_matter(pictures, spacing)
    means = [_tissue_means(image, pictures, white_matter) for image in images]
    seeds = white_matter.nonzero()
    for _ in range(round(uniform(generator, *kind.count))):
        centre = seeds[int(torch.randint(len(seeds), (), generator=generator, device=seeds.device))]
        distance, radius = _distance(pictures.brain.shape, centre, kind, spacing, generator)
        # soft shoulders of about a voxel: partial volume
        weight = ((radius - distance) / spacing[0] + 0.5).clamp(0, 1) * solid
        share = uniform(generator, *kind.towards_csf)
        variation = smooth_noise(generator, tuple(pictures.brain.shape), (12, 14, 12))[0] * kind.variation
        place = torch.where(distance < kind.core_share * radius, 1.0, share) + variation
        for image, (csf, white) in zip(images, means, strict=True):
            target = white + place * (csf - white)
            nearer = (target - image) * (csf - white) > 0  # grey matter may be as much like CSF as the lesion
            image.copy_(torch.where(nearer, torch.lerp(image, target, weight), image))
        lesion |= weight > 0.5
    return Lesioned(replace(pictures, images=images), lesion)


def _white_matter(pictures: Pictures, spacing: tuple[float, ...]) -> Tensor:
    """Where white matter is, bool (D, H, W); of a real pair, whose tissues are unknown, what lies deep in the brain."""
    known = pictures.tissues == WHITE
    if bool(known.any()):
        return known
    deep = erode_mask(pictures.brain[None, None] > 0, 2 * round(DEEP_MM / spacing[0]) + 1)[0, 0]
    return deep if bool(deep.any()) else pictures.brain > 0


def _tissue_means(image: Tensor, pictures: Pictures, white_matter: Tensor) -> tuple[float, float]:
    """Intensities of CSF and white matter in one image."""
    tissues = pictures.tissues
    if bool((tissues < 0).any()):
        values = image[pictures.brain > 0].sort().values
        low, high = (float(values[round(share * (len(values) - 1))]) for share in (0.02, 0.98))
        white = float(image[white_matter].median())
        # whichever the sequence, CSF is the extreme further from white matter
        return (low if white - low > high - white else high), white
    csf = tissues == CSF
    # a brain mask without any CSF leaves grey matter as the next best
    return float(image[csf if bool(csf.any()) else tissues == GREY].mean()), float(image[white_matter].mean())


def _distance(
    shape: torch.Size, centre: Tensor, kind: LesionKind, spacing: tuple[float, ...], generator: torch.Generator
) -> tuple[Tensor, float]:
    """Distance in mm from a lesion's centre with a wavy surface, (D, H, W), and the lesion's radius in mm."""
    low, high = kind.radius_mm
    radius = low * math.exp(uniform(generator, 0, 1) * math.log(high / low))
    axes = [
        (torch.arange(n, device=centre.device) - c) * s * uniform(generator, 0.8, 1.25)
        for n, c, s in zip(shape, centre, spacing, strict=True)
    ]
    square = axes[0].square()[:, None, None] + axes[1].square()[None, :, None] + axes[2].square()[None, None, :]
    cells = [max(2, round(n * s / radius)) for n, s in zip(shape, spacing, strict=True)]
    waves = smooth_noise(generator, tuple(shape), (cells[0], cells[1], cells[2]))[0]
    roughness = 0.2 if chance(generator, 0.7) else 0.4
    return square.sqrt() + roughness * radius * waves, radius
