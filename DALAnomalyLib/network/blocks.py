"""The two building blocks that the sub-networks share."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from DALAnomalyLib.network.instance_norm import InstanceNorm

NEGATIVE_SLOPE = 0.01


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution 3x3x3, instance normalisation, leaky ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        InstanceNorm(outputs),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    )


def fold(image: Tensor, factor: int = 2) -> Tensor:
    """Move every `factor`^3 cube of voxels into channels: (B, C, D, H, W) -> (B, C factor^3, D/f, H/f, W/f).

    Loses nothing, and spares the first convolutions the cost of full resolution. Odd sizes are padded with 0.
    """
    padding = [amount for size in reversed(image.shape[2:]) for amount in (0, -size % factor)]
    padded = functional.pad(image, padding)
    batch, channels, *sizes = padded.shape
    cells = [extent for size in sizes for extent in (size // factor, factor)]
    folded = padded.reshape(batch, channels, *cells).permute(0, 1, 3, 5, 7, 2, 4, 6)
    folded = folded.reshape(batch, channels * factor**3, *(size // factor for size in sizes))
    return folded.contiguous(memory_format=torch.channels_last_3d)


def unfold(cells: Tensor, factor: int = 2) -> Tensor:
    """Undo `fold`: (B, C factor^3, D, H, W) -> (B, C, D f, H f, W f)."""
    batch, channels, *sizes = cells.shape
    split = cells.reshape(batch, channels // factor**3, factor, factor, factor, *sizes)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, *(size * factor for size in sizes))


class UNet(nn.Module):
    """A 3D U-Net with two convolutions per level that returns the features of its first level."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        """Build one level per entry of `widths`, each at half the resolution of the one before."""
        super().__init__()
        self.first = nn.Sequential(convolution(inputs, widths[0]), convolution(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(convolution(above, below, stride=2), convolution(below, below))
            for above, below in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(convolution(below + above, above), convolution(above, above))
            for above, below in pairwise(widths)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, widths[0], D, H, W); any size, since levels are resampled to their skips."""
        skips = [self.first(image)]
        for level in self.down:
            skips.append(level(skips[-1]))
        features: Tensor = skips.pop()
        for merge in reversed(list(self.up)):
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[2:], mode="nearest")
            features = merge(torch.cat((features, skip), dim=1))
        return features
