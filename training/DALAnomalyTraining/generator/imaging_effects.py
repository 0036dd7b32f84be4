"""What a scanner does to a picture of a brain: blur, thick slices, bias field, noise and contrast curve."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import chance, smooth_noise, uniform


def scan(
    picture: Tensor, brain: Tensor, spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """One random scanner's image of `picture`.

    Args:
        picture: Float32 (D, H, W), positive tissue intensities, valid inside `brain`.
        brain: Float32 (D, H, W), 0 or 1.
        spacing: Millimetres along the array axes (D, H, W).
        config: Strengths of the effects.
        generator: Where the randomness comes from.
    """
    sigmas = _point_spread(spacing, config, generator)
    # normalised by the blurred mask, as preprocessing does, so that the brain gets no dark rim
    image = _blur(picture * brain, sigmas) / _blur(brain, sigmas).clamp_min(1e-3)
    brightest = image[brain > 0].quantile(0.98) if brain.numel() < 16_000_000 else image.max()
    image = (image / brightest).clamp_min(0)
    image = image ** math.exp(config.gamma * uniform(generator, -1.7, 1.7))
    shape = (picture.shape[0], picture.shape[1], picture.shape[2])
    field = smooth_noise(generator, shape, (3, 4, 3))[0]
    image = image * torch.exp(field * config.bias_field * uniform(generator, 0, 1))
    sigma = config.noise * uniform(generator, 0, 1)
    noise = torch.randn((2, *shape), generator=generator, device=image.device) * sigma
    return torch.hypot(image + noise[0], noise[1]) * brain


def _point_spread(
    spacing: tuple[float, ...], config: GeneratorConfig, generator: torch.Generator
) -> tuple[float, float, float]:
    sigma = config.blur_voxels * uniform(generator, 0, 1)
    sigmas = [sigma, sigma, sigma]
    if chance(generator, config.thick_slice_chance):
        # slices are thick along one axis; resampled to the model grid they are a box of that width
        axis = int(uniform(generator, 0, 3))
        thickness = uniform(generator, spacing[axis], max(spacing[axis], config.thick_slice_mm))
        sigmas[axis] = math.hypot(sigma, thickness / spacing[axis] / math.sqrt(12))
    return sigmas[0], sigmas[1], sigmas[2]


def _blur(image: Tensor, sigmas: tuple[float, float, float]) -> Tensor:
    blurred = image[None, None]
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.2:
            continue
        radius = max(1, math.ceil(2.5 * sigma))
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        # shifted sums: one-channel convolutions run many times slower on a CPU
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        padded = functional.pad(blurred, padding)
        size = blurred.shape[2 + axis]
        total = torch.zeros_like(blurred)
        for weight, start in zip((kernel / kernel.sum()).tolist(), range(2 * radius + 1), strict=True):
            total.add_(padded.narrow(2 + axis, start, size), alpha=weight)
        blurred = total
    return blurred[0, 0]
