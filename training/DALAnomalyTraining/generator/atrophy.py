"""Brains that have shrunk: ventricles and sulci widen at the cost of what they touch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.label_classes import CLASSES, OUTER_CSF
from DALAnomalyTraining.randomness import uniform

VENTRICLES = 1 + [item.name for item in CLASSES].index("ventricles")


def random_atrophy(fractions: Tensor, spacing: float, config: GeneratorConfig, generator: torch.Generator) -> Tensor:
    """Widen the ventricles, and then the outer CSF, each by a random width.

    Args:
        fractions: (D, H, W, classes), share of every label class in every voxel.
        spacing: Millimetres per voxel.
        config: The largest width; 0 changes nothing.
        generator: Where the randomness comes from.

    Returns:
        Fractions of the same shape; what is not brain keeps its share.
    """
    if not config.atrophy_mm:
        return fractions
    for fluid in (VENTRICLES, OUTER_CSF):
        fractions = _widen(fractions, fluid, uniform(generator, 0, config.atrophy_mm) / spacing)
    return fractions


def _widen(fractions: Tensor, fluid: int, voxels: float) -> Tensor:
    before = fractions[..., fluid]
    after = before
    while voxels > 0:
        grown = functional.max_pool3d(after[None, None], 3, stride=1, padding=1)[0, 0]
        # a share of a voxel moves the border by as much
        after = torch.lerp(after, grown, min(voxels, 1.0))
        voxels -= 1
    background = fractions[..., 0]
    after = torch.minimum(after, 1 - background)
    tissue = 1 - background - before
    shrunk = fractions * ((1 - background - after) / tissue.clamp_min(1e-6)).clamp(0, 1)[..., None]
    shrunk[..., 0], shrunk[..., fluid] = background, after
    return shrunk
