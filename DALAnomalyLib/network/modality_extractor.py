"""E_M, the modality extractor (section 3.2.2)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from DALAnomalyLib.configuration import NetworkConfig
from DALAnomalyLib.network.blocks import NEGATIVE_SLOPE


class ModalityExtractor(nn.Module):
    """E_M: stride-2 convolutions on the half-size image, flattened into the vector M.

    No normalisation layers: instance normalisation would erase the very contrast and brightness that M must carry.
    """

    def __init__(self, config: NetworkConfig, grid_shape: tuple[int, int, int]) -> None:
        """Build one stride-2 convolution per modality width, the last of them linear."""
        super().__init__()
        widths = (1, *config.modality_widths)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv3d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)]
        self.encode = nn.Sequential(*layers[:-1])
        self.pooled = config.modality_pooled
        sizes = [math.ceil(size / 2) for size in grid_shape]
        for _ in config.modality_widths:
            sizes = [math.ceil(size / 2) for size in sizes]
        self.length = widths[-1] * (1 if self.pooled else math.prod(sizes))
        """m, the length of M."""

    def forward(self, image: Tensor) -> Tensor:
        """M = f(E_M(x_bar)): (B, 1, D, H, W) in [0, 1] -> (B, m)."""
        halved = [math.ceil(size / 2) for size in image.shape[2:]]
        features: Tensor = self.encode(
            functional.interpolate(image, size=halved, mode="trilinear", align_corners=False)
        )
        if self.pooled:
            features = features.mean(dim=(2, 3, 4), keepdim=True)
        return features.flatten(1).float()
