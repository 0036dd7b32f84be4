"""Matching a pseudo-healthy image to the intensities of its scan, with lesions as outliers.

E_M carries a scanner's look over, but not exactly: a network trained on generated scans paints real ones a little too
bright here and too dark there. Such differences are the same in all voxels of a tissue, or drift slowly through the
brain. Lesions are neither, and few: weights that fall to zero for large differences (Tukey's biweight) ignore them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.scoring.filters import weighted_mean

_ROUNDS = 5
"""Reweighting has settled by then."""
_TURNS = 3
"""So do the shifts by several images."""
_OUTLIER = 2.0
"""Differences beyond so many robust standard deviations count nothing."""
_DEVIATION_OF_MEDIAN = 1.4826
"""Standard deviation of normal noise over its median absolute deviation."""
_SMALLEST = 1e-4
_FEW = 0.02
"""Where less than this share of the neighbourhood counts, the drift fades to 0."""


def match_tones(healthy: Tensor, image: Tensor, brain: Tensor, pieces: int, others: Tensor | None = None) -> Tensor:
    """Shift dark, middle and bright voxels of the healthy image to where the scan has them.

    The voxels are grouped by their healthy intensity, as many in each group; the robust mean difference of each group
    is applied at the group's median and linearly in between. Healthy intensity stands for tissue, so that this is a
    gain and offset per tissue. Tissues that M paints alike though the scan does not can be told apart in `others`: the
    voxels are then grouped by each of these images as well, in turns until all shifts have settled (backfitting).

    Args:
        healthy: x_r, float32 (B, 1, D, H, W), in [0, 1].
        image: x, the same shape and scale.
        brain: The same shape, 0 or 1.
        pieces: Number of groups, at least 2.
        others: (B, k, D, H, W), the same restored anatomy painted with other modality vectors.

    Returns:
        The shifted x_r, clamped to [0, 1], 0 outside the brain.
    """
    guides = healthy if others is None else torch.cat([healthy, others], dim=1)
    return torch.stack([_matched(*one, pieces) for one in zip(healthy, guides, image, brain > 0, strict=True)])


def _matched(healthy: Tensor, guides: Tensor, image: Tensor, inside: Tensor, pieces: int) -> Tensor:
    if int(inside.sum()) < pieces:
        return healthy
    turns = _TURNS if len(guides) > 1 else 1
    matched = healthy
    for guide in guides.repeat(turns, 1, 1, 1)[:, None]:
        values, order = guide[inside].sort()
        differences = (image - matched)[inside][order]
        groups = zip(values.tensor_split(pieces), differences.tensor_split(pieces), strict=True)
        knots, shifts = (torch.stack(rows) for rows in zip(*((v.median(), _centre(d)) for v, d in groups), strict=True))
        matched = (matched + _interpolated(guide, knots, shifts)).clamp(0, 1)
    return (matched * inside).to(healthy.dtype)


def _centre(differences: Tensor) -> Tensor:
    """Robust mean of a group's differences."""
    centre = differences.median()
    for _ in range(_ROUNDS):
        weights = _biweight(differences - centre, (differences - centre).abs().median())
        centre = (weights * differences).sum() / weights.sum().clamp_min(_SMALLEST)
    return centre


def _interpolated(values: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """Piecewise linear through (knots, heights), constant beyond the ends."""
    above = torch.searchsorted(knots, values.contiguous()).clamp(1, len(knots) - 1)
    width = (knots[above] - knots[above - 1]).clamp_min(1e-6)
    share = ((values - knots[above - 1]) / width).clamp(0, 1)
    return torch.lerp(heights[above - 1], heights[above], share)


def follow_shading(healthy: Tensor, image: Tensor, brain: Tensor, sigma: float) -> Tensor:
    """Multiply the healthy image by the gain, varying slowly through the brain, that brings it to the scan.

    That is what coils do, most of all where a head leaves them: more than N4 dares to take out, which does not know
    what the healthy image knows.

    Args:
        healthy: x_r, float32 (B, 1, D, H, W), in [0, 1].
        image: x, the same shape and scale.
        brain: The same shape, 0 or 1.
        sigma: How slowly: standard deviation of the smoothing in voxels.

    Returns:
        The product, clamped to [0, 1], 0 outside the brain.
    """
    scale = (healthy.square() * brain).sum(dim=(1, 2, 3, 4), keepdim=True) / brain.sum(dim=(1, 2, 3, 4), keepdim=True)
    hold = _FEW * scale.clamp_min(_SMALLEST)

    def fit(weights: Tensor) -> Tensor:
        # least squares of image = gain * healthy around every voxel, held at 1 where little has weight
        product, square = (_weighted_average(healthy * other, weights, sigma) for other in (image, healthy))
        return healthy * (product + hold) / (square + hold)

    # shading may be stronger than any lesion: look farther for it
    return _robust(fit, image, brain, outlier=1.5 * _OUTLIER)


def follow_drift(healthy: Tensor, image: Tensor, brain: Tensor, sigma: float) -> Tensor:
    """Add to the healthy image the part of its difference from the scan that varies slowly through the brain.

    Arguments and result as `follow_shading`.
    """
    difference = (image - healthy) * brain
    return _robust(lambda weights: healthy + _weighted_average(difference, weights, sigma), image, brain, _OUTLIER)


def _robust(fit: Callable[[Tensor], Tensor], image: Tensor, brain: Tensor, outlier: float) -> Tensor:
    """What `fit` makes of weights in which less and less count the voxels that it does not fit."""
    weights = fitted = brain
    for _ in range(_ROUNDS):
        fitted = fit(weights)
        rest = image - fitted
        spreads = [one[inside].abs().median() for one, inside in zip(rest, brain > 0, strict=True)]
        weights = brain * _biweight(rest, torch.stack(spreads).view(-1, 1, 1, 1, 1), outlier)
    return fitted.clamp(0, 1) * brain


def _weighted_average(values: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Gaussian average of what has weight, fading to 0 where hardly anything has."""
    # what is so smooth needs no more than five voxels per sigma
    step = max(1, int(sigma / 5))
    both = torch.cat([values * weights, weights], dim=1)
    coarse = functional.avg_pool3d(both, step, ceil_mode=True, count_include_pad=False) if step > 1 else both
    taps = _gaussian(sigma / step, limit=min(coarse.shape[2:]))
    summed, weight = (weighted_mean(coarse[:, [channel]], taps) for channel in (0, 1))
    average = summed / (weight + _FEW)
    return functional.interpolate(average, values.shape[2:], mode="trilinear") if step > 1 else average


def _gaussian(sigma: float, limit: int) -> tuple[float, ...]:
    radius = min(int(2.5 * sigma) + 1, limit)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
    return tuple((taps / taps.sum()).tolist())


def _biweight(differences: Tensor, median_size: Tensor, outlier: float = _OUTLIER) -> Tensor:
    """Tukey's weights: 1 for no difference, 0 from `outlier` robust standard deviations on."""
    limit = (outlier * _DEVIATION_OF_MEDIAN * median_size).clamp_min(_SMALLEST)
    return (1 - (differences / limit).square()).clamp_min(0).square()
