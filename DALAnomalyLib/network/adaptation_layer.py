"""The learnable adaptation layer (LAL) that couples a modality vector to anatomical features (Eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DALAnomalyLib.network.instance_norm import instance_norm


class LearnableAdaptationLayer(nn.Module):
    """F = (1 + FC_gamma(M)) * (F - mean(F)) / std(F) + FC_beta(M), per channel (Eq. 12).

    Scale and shift are the same at every voxel, so M can change intensities but no spatial pattern.
    """

    def __init__(self, channels: int, modality_length: int, epsilon: float = 1e-5) -> None:
        """Build FC_gamma and FC_beta as one layer that starts at zero, so that training starts from plain norms."""
        super().__init__()
        self.epsilon = epsilon
        self.scale_and_shift = nn.Linear(modality_length, 2 * channels)
        nn.init.zeros_(self.scale_and_shift.weight)
        nn.init.zeros_(self.scale_and_shift.bias)

    def forward(self, features: Tensor, modality: Tensor) -> Tensor:
        """Recouple `modality` M (B, m) with `features` F_k (B, c_k, d_k, h_k, w_k); same shape as F_k."""
        with torch.autocast(features.device.type, enabled=False):  # in half precision, M's many terms would not sum up
            scale, shift = self.scale_and_shift(modality.float()).chunk(2, dim=1)
            return instance_norm(features, 1 + scale, shift, self.epsilon)
