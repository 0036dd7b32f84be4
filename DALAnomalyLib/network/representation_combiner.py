"""R_D, the representation combiner (section 3.3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from DALAnomalyLib.configuration import NetworkConfig
from DALAnomalyLib.network.adaptation_layer import LearnableAdaptationLayer
from DALAnomalyLib.network.blocks import NEGATIVE_SLOPE


class RepresentationCombiner(nn.Module):
    """R_D: recouples an anatomical code with a modality vector, on the code and on every level (Eq. 12).

    It has no skip connections: one would carry edges past the code straight to the image.
    """

    def __init__(self, config: NetworkConfig, modality_length: int) -> None:
        """Build one level at the code's resolution and one for every doubling up to full resolution."""
        super().__init__()
        widths = config.combiner_widths
        self.adapt_code = LearnableAdaptationLayer(config.code_channels, modality_length)
        self.code_level = _Level(config.code_channels, widths[0], modality_length)
        # narrowed before they are enlarged: the two commute, and the work is an eighth
        self.narrow = nn.ModuleList(nn.Conv3d(above, below, 1) for above, below in pairwise(widths))
        self.levels = nn.ModuleList(_Level(width, width, modality_length) for width in widths[1:])
        self.paint = nn.Conv3d(widths[-1], 1, 1)

    def forward(self, code: Tensor, modality: Tensor, shape: torch.Size) -> Tensor:
        """R_D(C_a, M) as an image of `shape` (D, H, W): (B, 1, D, H, W), not yet confined to the brain."""
        features = functional.leaky_relu(self.adapt_code(code, modality), NEGATIVE_SLOPE)
        features = self.code_level(features, modality)
        for done, (narrow, level) in enumerate(zip(self.narrow, self.levels, strict=True), start=1):
            size = [-(-extent // 2 ** (len(self.levels) - done)) for extent in shape]
            features = functional.interpolate(narrow(features), size=size, mode="trilinear", align_corners=False)
            features = level(features, modality)
        image: Tensor = self.paint(features)
        return image.float()


class _Level(nn.Module):
    """Convolution 3x3x3, adaptation to the modality, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, modality_length: int) -> None:
        super().__init__()
        self.convolve = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.adapt = LearnableAdaptationLayer(outputs, modality_length)

    def forward(self, features: Tensor, modality: Tensor) -> Tensor:
        return functional.leaky_relu(self.adapt(self.convolve(features), modality), NEGATIVE_SLOPE)
