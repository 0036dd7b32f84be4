"""R_A, the anatomy encoder (section 3.2.3)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from DALAnomalyLib.configuration import NetworkConfig
from DALAnomalyLib.network.blocks import convolution, fold


class AnatomyEncoder(nn.Module):
    """R_A: encodes the anatomical image A into the anatomical code C_a, which R_E learns to restore from edges."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build convolutions from the folded half resolution down to the code's."""
        super().__init__()
        layers: list[nn.Module] = [convolution(8, config.encoder_width)]
        for _ in range(int(math.log2(config.code_stride)) - 1):
            layers.append(convolution(config.encoder_width, config.encoder_width, stride=2))
        layers += [
            convolution(config.encoder_width, config.encoder_width),
            nn.Conv3d(config.encoder_width, config.code_channels, 3, padding=1),
        ]
        self.encode = nn.Sequential(*layers)

    def forward(self, anatomy: Tensor) -> Tensor:
        """C_a = R_A(A): (B, 1, D, H, W) -> (B, code_channels, D/s, H/s, W/s) with s the code's stride."""
        code: Tensor = self.encode(fold(anatomy))
        return code
