"""Instance normalisation that keeps the channels-last layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def instance_norm(features: Tensor, scale: Tensor, shift: Tensor, epsilon: float = 1e-5) -> Tensor:
    """`scale` * (F - mean(F)) / std(F) + `shift`, mean and standard deviation of every channel of every sample.

    Batch normalisation of one sample at a time is the same, and faster on CPUs: PyTorch's instance normalisation copies
    channels-last features to and fro, and the gradient of its group normalisation takes two to twenty times as long.

    Args:
        features: F, (B, C, D, H, W); in half precision, sums are still taken in float32.
        scale: Float32 (C,), or (B, C) for every sample its own.
        shift: As `scale`.
        epsilon: Added to the variance.
    """
    scales, shifts = (values.expand(features.shape[:2]) for values in (scale, shift))
    # not functional.batch_norm, which refuses a single voxel
    samples = [
        torch.batch_norm(sample, s, t, None, None, True, 0.0, epsilon, torch.backends.cudnn.enabled)
        for sample, s, t in zip(torch.split(features, 1), scales, shifts, strict=True)
    ]
    return torch.cat(samples)


class InstanceNorm(nn.Module):
    """`instance_norm` with a learned scale and shift per channel."""

    def __init__(self, channels: int) -> None:
        """Start from plain norms."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same."""
        return instance_norm(features, self.weight, self.bias)
