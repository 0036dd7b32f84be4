"""R_E, the anatomy restorer (section 3.3.1)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from DALAnomalyLib.configuration import NetworkConfig
from DALAnomalyLib.network.blocks import UNet, convolution, fold


class AnatomyRestorer(nn.Module):
    """R_E: restores the healthy anatomical code from edges alone.

    U-shaped inside, so that a voxel sees enough of the brain to know which healthy tissue belongs between edges.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Build convolutions from the folded edges to the code's resolution and a U-Net there."""
        super().__init__()
        widths = config.restorer_widths
        shrinks = int(math.log2(config.code_stride)) - 1
        layers: list[nn.Module] = [convolution(8, widths[0])]
        for level in range(shrinks):
            layers.append(convolution(widths[level], widths[level + 1], stride=2))
        layers += [
            UNet(widths[shrinks], widths[shrinks:]),
            nn.Conv3d(widths[shrinks], config.code_channels, 3, padding=1),
        ]
        self.restore = nn.Sequential(*layers)

    def forward(self, edges: Tensor) -> Tensor:
        """The restored code R_E(E): (B, 1, D, H, W) of 0 or 1 -> (B, code_channels, D/s, H/s, W/s)."""
        code: Tensor = self.restore(fold(edges))
        return code
