"""The brain extraction network: which voxels of a whole head are brain. It is not part of the paper's method."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DALAnomalyLib.network.blocks import UNet, fold, unfold

FACTOR = 2
WIDTHS = (20, 40, 80, 80)


class BrainExtractor(nn.Module):
    """A 3D U-Net at half of the image's resolution that still outlines the brain at the full one.

    Every cube of 2x2x2 voxels enters as eight channels and leaves as eight logits: convolutions at full resolution
    would cost eight times more.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        """Build the U-Net with `widths` channels from its first level down."""
        super().__init__()
        self.unet = UNet(FACTOR**3, widths)
        self.classify = nn.Conv3d(widths[0], FACTOR**3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of brain: (B, 1, D, H, W), see `normalise`, any size -> (B, 1, D, H, W)."""
        cells = self.classify(self.unet(fold(image, FACTOR)))
        depth, height, width = image.shape[2:]
        logits: Tensor = unfold(cells, FACTOR)[:, :, :depth, :height, :width]
        return logits


def normalise(image: Tensor) -> Tensor:
    """Divide a head scan (any shape) by its 99th percentile above the background, and clip to [0, 1.5]."""
    image = image.clamp_min(0)
    above = image[image > 0.02 * image.max()].flatten()
    if above.numel() == 0:
        return torch.zeros_like(image)
    rank = max(1, round(0.99 * above.numel()))
    return (image / above.kthvalue(rank).values).clamp_max(1.5)
