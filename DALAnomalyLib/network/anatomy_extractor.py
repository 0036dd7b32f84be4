"""E_A, the anatomy extractor (section 3.2.1)."""

from __future__ import annotations

from torch import Tensor, nn

from DALAnomalyLib.configuration import NetworkConfig
from DALAnomalyLib.network.blocks import UNet


class AnatomyExtractor(nn.Module):
    """E_A: a 3D U-Net whose C channels score the tissue classes of every voxel."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build the U-Net with `anatomy_extractor_widths` and a 1x1x1 classifier."""
        super().__init__()
        self.unet = UNet(1, config.anatomy_extractor_widths)
        self.classify = nn.Conv3d(config.anatomy_extractor_widths[0], config.classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """A_c = E_A(x): (B, 1, D, H, W) in [0, 1] -> (B, C, D, H, W), unnormalised."""
        scores: Tensor = self.classify(self.unet(image))
        return scores
