"""Structural similarity of two images at every voxel (Wang et al., 2004), in 3D."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from DALAnomalyLib.errors import GeometryError, UsageError
from DALAnomalyLib.scoring.filters import weighted_mean

WindowKind: TypeAlias = Literal["uniform", "gaussian"]

_LUMINANCE_CONSTANT = 0.01
_CONTRAST_CONSTANT = 0.03
_GAUSSIAN_SIGMA = 1.5


def structural_similarity(
    x: Tensor, y: Tensor, window: int = 7, kind: WindowKind = "uniform", data_range: float = 1.0
) -> Tensor:
    """Local similarity of luminance, contrast and structure, as in Eq. 15.

    Equals `skimage.metrics.structural_similarity(x, y, full=True, data_range=...)` in 3D, border included. As there,
    "uniform" takes the sample covariance (divided by N - 1), "gaussian" the population covariance. Works in float32
    whatever the dtype of the images, since the variances are small differences of large numbers; only additions,
    products and quotients are used, which autocast leaves alone.

    Args:
        x: (B, 1, D, H, W), real.
        y: the same shape.
        window: taps along each axis, odd; 7 for "uniform" and 11 for "gaussian" are scikit-image's.
        kind: equal weights, or a Gaussian of sigma 1.5 voxels.
        data_range: largest possible difference of two intensities.

    Returns:
        Float32, same shape, in [-1, 1]; exactly 1 where the images agree throughout the window.

    Raises:
        GeometryError: the shapes differ, or an axis is shorter than the window.
        UsageError: `window` is even or less than 3.
    """
    _check(x, y, window)
    # Variances do not depend on where intensities start, but their rounding does: it is least around the middle.
    centre = data_range / 2
    x, y = x.float() - centre, y.float() - centre
    weights, covariance_norm = _WINDOWS[kind](window)
    difference = x - y
    mean_x, mean_difference = weighted_mean(x, weights), weighted_mean(difference, weights)
    mean_y = mean_x - mean_difference
    squared_mean_difference = mean_difference * mean_difference
    sum_of_variances = weighted_mean(x * x + y * y, weights) - (mean_x * mean_x + mean_y * mean_y)
    variance_of_difference = weighted_mean(difference * difference, weights) - squared_mean_difference
    sum_of_squared_means = (mean_x + centre) ** 2 + (mean_y + centre) ** 2

    c1 = (_LUMINANCE_CONSTANT * data_range) ** 2
    c2 = (_CONTRAST_CONSTANT * data_range) ** 2
    # The usual factors (2 a b + c) / (a^2 + b^2 + c), written as 1 - (a - b)^2 / (a^2 + b^2 + c): where the images
    # nearly agree, this keeps 1 - SSIM a hundred times more exact in float32.
    luminance = 1 - squared_mean_difference / (sum_of_squared_means + c1)
    contrast_structure = 1 - covariance_norm * variance_of_difference / (covariance_norm * sum_of_variances + c2)
    return luminance * contrast_structure


def _uniform_window(size: int) -> tuple[tuple[float, ...], float]:
    voxels = size**3
    return (1.0 / size,) * size, voxels / (voxels - 1)


def _gaussian_window(size: int) -> tuple[tuple[float, ...], float]:
    radius = size // 2
    taps = [math.exp(-0.5 * (offset / _GAUSSIAN_SIGMA) ** 2) for offset in range(-radius, radius + 1)]
    return tuple(tap / sum(taps) for tap in taps), 1.0


_WINDOWS: dict[WindowKind, Callable[[int], tuple[tuple[float, ...], float]]] = {
    "uniform": _uniform_window,
    "gaussian": _gaussian_window,
}


def _check(x: Tensor, y: Tensor, window: int) -> None:
    if x.shape != y.shape:
        msg = f"images are {tuple(x.shape)} and {tuple(y.shape)}; structural similarity needs both on the same grid"
        raise GeometryError(msg)
    if window < 3 or window % 2 == 0:
        msg = f"structural similarity window is {window}; give an odd number of voxels, at least 3"
        raise UsageError(msg)
    if min(x.shape[2:]) < window:
        msg = f"grid is {tuple(x.shape[2:])} voxels, smaller than the structural similarity window of {window}"
        raise GeometryError(msg)
