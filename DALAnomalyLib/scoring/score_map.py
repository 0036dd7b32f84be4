"""The anomaly map of a scan: score, minimum filter, mean filter, eroded brain mask (section 3.5.2), guided filter."""

from __future__ import annotations

import torch
from torch import Tensor

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.anomaly_scores import hybrid_score, intensity_score, l1_score, ssim_score
from DALAnomalyLib.scoring.filters import erode_mask, guided_filter, mean_filter, mean_inside, minimum_filter, opening
from DALAnomalyLib.scoring.score_config import ScoreConfig, Sign

_SIGNAL_CUBE = 3
"""Dark single voxels are noise."""


def score_map(image: Tensor, healthy: Tensor, brain: Tensor, config: ScoreConfig) -> Tensor:
    """Score every voxel; suppress noise, unevenness and the brain's boundary in the paper's order; follow the edges.

    Args:
        image: x, (B, 1, D, H, W), standardised to [0, 1].
        healthy: x_r, the pseudo-healthy image, the same shape and units; not looked at for the "intensity" score.
        brain: the same shape, brain where > 0.
        config: which score and which kernel sizes, in voxels of this grid.

    Returns:
        Float32 (B, 1, D, H, W), unitless, at least 0; 0 outside the eroded brain or, with a guided filter,
        outside the brain.

    Raises:
        GeometryError: the shapes differ, or the grid is smaller than a kernel.
        UsageError: the sign is still "typical".
    """
    sign = _one_sign(config)
    score = _score(image, healthy, brain, config, sign)
    if config.signal_floor and sign == "negative":
        score = score * (mean_inside(image, brain, _SIGNAL_CUBE) >= config.signal_floor)
    narrow = opening if config.opening else minimum_filter
    score = narrow(score, config.minimum_filter)
    for _ in range(config.mean_passes):
        score = mean_filter(score, config.mean_filter)
    score = score * erode_mask(brain > 0, config.mask_erosion)
    guides = image
    if config.difference_guides and config.kind != "intensity":
        guides = torch.cat((image, l1_score(image, healthy, brain, sign)), dim=1)
    return guided_filter(score, guides, brain, config.guided_filter, config.guided_epsilon)


def _one_sign(config: ScoreConfig) -> Sign:
    if config.sign == "typical":
        msg = "sign 'typical' depends on the sequence; score with ScoreConfig.for_sequence(...)"
        raise UsageError(msg)
    return config.sign


def _score(image: Tensor, healthy: Tensor, brain: Tensor, config: ScoreConfig, sign: Sign) -> Tensor:
    if config.kind == "hybrid":
        return hybrid_score(image, healthy, brain, config.ssim_window, sign, config.difference_power)
    if config.kind == "l1":
        return l1_score(image, healthy, brain, sign, config.difference_power)
    if config.kind == "ssim":
        return ssim_score(image, healthy, brain, config.ssim_window, sign)
    return intensity_score(image, brain, sign)
