"""Whether a scan lacks its skull already.

A stripped scan is a brain in a constant background. So is a head whose air was set to zero, but below its surface lies
the skull: as dark as the background, or set to it as well. In a brain hardly anything is that dark. A slab or half of
such a head may be no larger than a brain, so the volume alone does not tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.brain_mask import FAINTEST_FOREGROUND, background_value, foreground_mask
from DALAnomalyLib.volume import Grid, Volume

BRAIN_ML = (300.0, 2200.0)
"""Foreground of a brain, or of a part of one; whole heads begin at 1700 ml."""
LEAST_CONSTANT = 0.995
"""Share of the surroundings that has the background's intensity; air with noise has 10 % at most."""
MOST_BACKGROUND = 0.0012
"""Share of the layer below the surface that has exactly the background's intensity; real heads have 0.3 % or more."""
MOST_DARK = 0.06
"""Share of that layer that is darker than a fifth of the median."""

_LAYER_MM = (3.5, 20.0)
"""Skin is thinner than the first depth, or dark itself; the skull of an adult lies above the second."""
_COARSE_MM = 3.0
_DARK = 0.2


@dataclass(frozen=True)
class StrippedCheck:
    """Whether a scan is skull-stripped, and what speaks for it.

    Attributes:
        is_stripped: True only if all signs agree.
        evidence: one line for the user.
    """

    is_stripped: bool
    evidence: str


def stripped_evidence(volume: Volume) -> StrippedCheck:
    """Look for the skull of a scan (D, H, W) in any intensity unit, orientation and field of view."""
    coarse = _coarse(volume)
    try:
        foreground = foreground_mask(coarse).array > 0
    except InputError:
        return StrippedCheck(False, "nothing is brighter than the background")
    millilitres = float(foreground.sum()) * coarse.grid.voxel_volume_ml
    above = coarse.array - np.float32(background_value(coarse.array))
    constant = _constant_share(above, foreground)
    if constant < LEAST_CONSTANT:
        return StrippedCheck(False, f"only {constant:.1%} of the surroundings are constant: air with noise, or skin")
    low, high = BRAIN_ML
    if not low <= millilitres <= high:
        return StrippedCheck(False, f"the foreground measures {millilitres:.0f} ml, which is no brain's volume")
    background, dark = _skull_shares(above, foreground, coarse.grid)
    signs = f"{background:.1%} background and {dark:.1%} dark voxels below the surface"
    if background > MOST_BACKGROUND or dark > MOST_DARK:
        return StrippedCheck(False, f"{signs} are a skull's")
    return StrippedCheck(True, f"constant background, {millilitres:.0f} ml of foreground, no skull ({signs})")


def _coarse(volume: Volume) -> Volume:
    """Every n-th voxel, about `_COARSE_MM` apart, in a frame of its own: averages would hide a thin skull."""
    steps = [max(1, int(_COARSE_MM / spacing)) for spacing in volume.grid.spacing[::-1]]
    array = volume.array[tuple(slice(step // 2, None, step) for step in steps)].astype(np.float32)
    i, j, k = (float(size * step) for size, step in zip(volume.grid.spacing, steps[::-1], strict=True))
    depth, height, width = array.shape
    return Volume(array, Grid((depth, height, width), (i, j, k)))


def _constant_share(above: npt.NDArray[np.float32], foreground: npt.NDArray[np.bool_]) -> float:
    """Share of the voxels around the foreground with the background's intensity; 0 if there are none."""
    # one voxel farther out: resampling smears the border
    around = ~ndimage.binary_dilation(foreground)
    if not around.any():
        return 0.0
    faint = FAINTEST_FOREGROUND * float(np.percentile(above[foreground], 99))
    return float((np.abs(above[around]) <= faint).mean())


def _skull_shares(above: npt.NDArray[np.float32], foreground: npt.NDArray[np.bool_], grid: Grid) -> tuple[float, float]:
    """Shares of background and of dark voxels in the layer below the foreground's surface, where its skull would be.

    A plane in which the scan ends is no surface.
    """
    depth = ndimage.distance_transform_edt(foreground, sampling=grid.spacing[::-1])
    layer = above[(depth > _LAYER_MM[0]) & (depth <= _LAYER_MM[1])]
    bright = above[foreground & (above > 0)]
    if layer.size == 0 or bright.size == 0:
        return 0.0, 0.0
    return float((layer == 0).mean()), float((layer < _DARK * np.median(bright)).mean())
