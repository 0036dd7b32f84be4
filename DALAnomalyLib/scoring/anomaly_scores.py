"""How far an image departs from its pseudo-healthy image, voxel by voxel, before any filter (section 3.5.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.scoring.score_config import Sign, SsimWindow
from DALAnomalyLib.scoring.structural_similarity import WindowKind, structural_similarity

_WINDOWS: dict[SsimWindow, tuple[int, WindowKind]] = {"uniform7": (7, "uniform"), "gaussian11": (11, "gaussian")}


def hybrid_score(
    image: Tensor,
    healthy: Tensor,
    brain: Tensor,
    window: SsimWindow = "uniform7",
    sign: Sign = "absolute",
    power: float = 1.0,
) -> Tensor:
    """Difference weighted by structural dissimilarity, |x - x_r|^power * (1 - SSIM(x, x_r)) (Eq. 15).

    Args:
        image: x, (B, 1, D, H, W), standardised to [0, 1].
        healthy: x_r, the same shape and units.
        brain: the same shape, brain where > 0; what lies outside never counts, not even in the SSIM window.
        window: window of SSIM.
        sign: "absolute" is Eq. 15; "positive" and "negative" keep only x > x_r or x < x_r.
        power: of the difference; 1 is Eq. 15.

    Returns:
        Float32, same shape, in [0, 2], 0 outside the brain.

    Raises:
        GeometryError: the shapes differ, or the grid is smaller than the window.
    """
    image, healthy = _both_inside(image, healthy, brain)
    return _difference(image, healthy, sign) ** power * _dissimilarity(image, healthy, window)


def l1_score(image: Tensor, healthy: Tensor, brain: Tensor, sign: Sign = "absolute", power: float = 1.0) -> Tensor:
    """Difference |x - x_r|^power alone (Table 5); arguments, result and errors as `hybrid_score`, in [0, 1]."""
    return _difference(*_both_inside(image, healthy, brain), sign) ** power


def ssim_score(
    image: Tensor, healthy: Tensor, brain: Tensor, window: SsimWindow = "uniform7", sign: Sign = "absolute"
) -> Tensor:
    """Structural dissimilarity 1 - SSIM alone (Table 5); arguments, result and errors as `hybrid_score`.

    1 - SSIM has no sign of its own: "positive" and "negative" keep it where the difference x - x_r has that sign.
    """
    image, healthy = _both_inside(image, healthy, brain)
    counts = brain > 0
    if sign != "absolute":
        counts = counts & (_difference(image, healthy, sign) > 0)
    return _dissimilarity(image, healthy, window) * counts


def intensity_score(image: Tensor, brain: Tensor, sign: Sign = "positive") -> Tensor:
    """The image itself as its score, the baseline without a model: bright is anomalous, or dark if "negative".

    Args:
        image: (B, 1, D, H, W), standardised to [0, 1].
        brain: the same shape, brain where > 0.
        sign: "negative" scores 1 - x; the others x.

    Returns:
        Float32, same shape, in [0, 1], 0 outside the brain.

    Raises:
        GeometryError: the shapes differ.
    """
    return _inside(1 - image.float() if sign == "negative" else image, brain)


def _inside(image: Tensor, brain: Tensor, name: str = "image") -> Tensor:
    if image.shape != brain.shape:
        msg = f"{name} is {tuple(image.shape)} but the brain mask is {tuple(brain.shape)}; they must lie on one grid"
        raise GeometryError(msg)
    # Not a product: NaN outside the brain must not survive.
    return torch.where(brain > 0, image.float(), 0.0)


def _both_inside(image: Tensor, healthy: Tensor, brain: Tensor) -> tuple[Tensor, Tensor]:
    return _inside(image, brain), _inside(healthy, brain, "pseudo-healthy image")


def _difference(image: Tensor, healthy: Tensor, sign: Sign) -> Tensor:
    difference = image - healthy
    if sign == "absolute":
        return difference.abs()
    return (difference if sign == "positive" else -difference).clamp(min=0)


def _dissimilarity(image: Tensor, healthy: Tensor, window: SsimWindow) -> Tensor:
    size, kind = _WINDOWS[window]
    return 1 - structural_similarity(image, healthy, size, kind)
