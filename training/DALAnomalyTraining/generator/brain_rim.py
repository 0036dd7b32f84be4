"""Brain masks as different tools draw them: some keep the CSF around the brain, some cut at the cortex."""

from __future__ import annotations

import torch
from torch import Tensor

from DALAnomalyLib.scoring.filters import minimum_filter
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import uniform

CLOSING_MM = 5.0


def random_brain_mask(
    whole: Tensor, tissue: Tensor, spacing: float, config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """A mask between the closed brain tissue and the whole intracranial content, float32 (D, H, W) of 0 or 1.

    Args:
        whole: (D, H, W) bool, everything inside the skull.
        tissue: (D, H, W) bool, all of it but the outer CSF.
        spacing: Millimetres per voxel.
        config: Width of the rim.
        generator: Where the randomness comes from.
    """
    widest = round(config.rim_mm / spacing)
    steps = int(uniform(generator, 0, widest + 2))
    if steps > widest or not bool(tissue.any()):
        return whole.float()
    # closing keeps the CSF of sulci and cisterns, as every skull-stripping tool does
    closing = max(1, round(CLOSING_MM / spacing))
    grown = _dilate(tissue[None, None].float(), closing + steps)
    closed = 1 - _dilate(1 - grown, closing)
    return closed[0, 0] * whole


def _dilate(mask: Tensor, voxels: int) -> Tensor:
    return -minimum_filter(-mask, 2 * voxels + 1)
