"""What intensity each structure has in a random scan, drawn around measured priors."""

from __future__ import annotations

import torch
from torch import Tensor

from DALAnomalyTraining.generator.generator_config import GeneratorConfig

Prior = list[list[list[float]]]
"""[means, standard deviations] x [value, spread between scans] x class."""


def draw_intensities(prior: Prior, config: GeneratorConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and within-class standard deviation of every label class in one random scan, each float32 (classes,)."""
    (means, mean_spread), (deviations, deviation_spread) = torch.tensor(prior, device=generator.device)
    extent = float(means[1:].max() - means[1:].min())
    means = means + _normal(means, generator) * mean_spread * config.centre_spread
    means = means + _normal(means, generator) * config.class_contrast * extent
    deviations = deviations + _normal(means, generator) * deviation_spread
    return means.clamp_min(1.0), deviations.clamp_min(0.0) * config.texture


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    # tails beyond two standard deviations would let tissues trade places
    return torch.randn(like.shape, generator=generator, device=like.device).clamp(-2, 2)
