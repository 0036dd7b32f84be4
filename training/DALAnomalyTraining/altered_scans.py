"""Scans that no model was trained on, made from scans that it was: to measure whether the user would be warned.

All of them are imitations: they show that a change of this kind is noticed, not how often it is on a real CT or FLAIR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

CSF, GREY, WHITE = 1, 2, 3
CT_UNITS = {CSF: 8.0, GREY: 37.0, WHITE: 30.0}
"""Hounsfield units of the tissues."""
CT_LESION, CT_NOISE = 24.0, 4.0
FLAIR_FLUID = 0.45
"""Fluid over white matter."""
VESSEL_SHARE, VESSEL_DEPTH_MM, PLEXUS_SHARE, RIM_MM = 0.04, 10.0, 0.15, 4.0
ENHANCED, COIL_MM = 1.6, 15.0
"""Blood over white matter, less what they have in common with fluid; and how smooth the coil's sensitivity is (Gaussian
sigma): what an agent brightens is as bright as the coil sees it in that place."""
NOISE, GHOST, GHOSTS = 0.2, 0.35, 4
"""Noise and ghosts as shares of the brain's intensity range; ghosts are so many to the field of view."""


@dataclass(frozen=True, eq=False)
class KnownScan:
    """A scan with what has to be known to alter it. All arrays are (D, H, W)."""

    image: Array
    """The scan's own units; the brain alone is altered."""
    brain: Mask
    tissues: npt.NDArray[np.int64]
    """0 outside, 1 CSF, 2 grey, 3 white matter, as the model sees them."""
    lesion: Mask
    spacing: tuple[float, float, float]
    """Millimetres along the array axes (D, H, W)."""

    def typical(self, tissue: int) -> float:
        """Median intensity of a tissue outside the lesion; the whole brain's where there is none of it."""
        chosen = (self.tissues == tissue) & self.brain & ~self.lesion
        return float(np.median(self.image[chosen if chosen.any() else self.brain]))

    def sensitivity(self) -> npt.NDArray[np.float64]:
        """How bright the coil makes each place: white matter around it over all of it; 1 far from any."""
        white = ((self.tissues == WHITE) & self.brain & ~self.lesion).astype(np.float64)
        sigmas = [COIL_MM / step for step in self.spacing]
        weight = ndimage.gaussian_filter(white, sigmas) + 1e-3
        around = ndimage.gaussian_filter(white * (self.image / self.typical(WHITE)), sigmas) + 1e-3
        sensitivity: npt.NDArray[np.float64] = around / weight
        return sensitivity

    @property
    def extent(self) -> float:
        """From the 1st to the 99th percentile of the brain."""
        low, high = np.percentile(self.image[self.brain], (1, 99))
        return float(high - low)


Alteration: TypeAlias = Callable[[KnownScan, np.random.Generator], Array]


def inverted(scan: KnownScan, _random: np.random.Generator) -> Array:
    """What is bright becomes dark."""
    return _inside(scan, scan.image[scan.brain].max() - scan.image)


def like_ct(scan: KnownScan, random: np.random.Generator) -> Array:
    """Hounsfield units: an almost flat brain with noise and dark fluid; of the scan only its tissues are left."""
    units = np.zeros(scan.image.shape)
    for tissue, value in CT_UNITS.items():
        units[scan.tissues == tissue] = value
    units[scan.lesion] = CT_LESION
    # shares of tissues in a voxel have to be made up for
    units = _smooth(units, scan.brain, 0.7) + random.normal(0, CT_NOISE, units.shape)
    return _inside(scan, units)


def like_flair(scan: KnownScan, _random: np.random.Generator) -> Array:
    """A T2 whose fluid is nulled; a lesion keeps its brightness."""
    grey, fluid, white = scan.typical(GREY), scan.typical(CSF), scan.typical(WHITE)
    share = np.clip((scan.image - grey) / max(fluid - grey, 1e-6), 0, 1)
    share = np.where(scan.lesion, 0, share)
    return _inside(scan, (1 - share) * scan.image + share * FLAIR_FLUID * white)


def after_contrast(scan: KnownScan, random: np.random.Generator) -> Array:
    """A T1 with bright vessels at the surface, choroid plexus, and the rim of the lesion."""
    depth = ndimage.distance_transform_edt(scan.brain, scan.spacing)
    texture = _texture(scan, random)
    surface = scan.brain & (depth < VESSEL_DEPTH_MM)
    fluid = (scan.tissues == CSF) & (depth > 2 * VESSEL_DEPTH_MM) & ~scan.lesion
    bright = _top(texture, surface, VESSEL_SHARE) | _top(texture, fluid, PLEXUS_SHARE)
    inner = ndimage.distance_transform_edt(scan.lesion, scan.spacing)
    bright |= (inner > 0) & (inner <= RIM_MM)
    level = scan.sensitivity() * (scan.typical(CSF) + ENHANCED * (scan.typical(WHITE) - scan.typical(CSF)))
    share = _smooth(bright.astype(np.float64), scan.brain, 0.5)
    return _inside(scan, np.maximum(scan.image, scan.image + share * (level - scan.image)))


def noisy(scan: KnownScan, random: np.random.Generator) -> Array:
    """Rician noise of a fifth of the brain's range."""
    first, second = random.normal(0, NOISE * scan.extent, (2, *scan.image.shape))
    return _inside(scan, np.hypot(scan.image + first, second))


def ghosted(scan: KnownScan, _random: np.random.Generator) -> Array:
    """The brain repeated along the phase axis, as the head's motion leaves it."""
    brain_alone = np.where(scan.brain, scan.image, 0)
    step = scan.image.shape[1] // GHOSTS
    ghosts = sum(np.roll(brain_alone, turn * step, axis=1) for turn in (1, -1))
    return _inside(scan, scan.image + GHOST * ghosts)


ALTERATIONS: Mapping[str, tuple[tuple[str, ...], Alteration]] = {
    "inverted": (("T1", "T2"), inverted),
    "like CT": (("T1", "T2"), like_ct),
    "like FLAIR": (("T2",), like_flair),
    "after contrast": (("T1",), after_contrast),
    "noisy": (("T1", "T2"), noisy),
    "ghosted": (("T1", "T2"), ghosted),
}
"""By name: the sequences that it is made from, and how."""


def _inside(scan: KnownScan, altered: npt.NDArray[np.floating]) -> Array:
    return np.where(scan.brain, altered, scan.image).astype(np.float32)


def _smooth(values: npt.NDArray[np.float64], brain: Mask, sigma: float) -> npt.NDArray[np.float64]:
    """Blurred by `sigma` voxels inside the brain, without the darkness beyond its border."""
    weight = ndimage.gaussian_filter(brain.astype(np.float64), sigma)
    blurred: npt.NDArray[np.float64] = ndimage.gaussian_filter(np.where(brain, values, 0), sigma)
    return blurred / np.maximum(weight, 1e-3)


def _texture(scan: KnownScan, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise in tubes some millimetres wide: large near the zeros of a smooth field."""
    sigmas = [4.0 / step for step in scan.spacing]
    first, second = (ndimage.gaussian_filter(random.normal(size=scan.image.shape), sigmas) for _ in range(2))
    tubes: npt.NDArray[np.float64] = -np.hypot(first, second)
    return tubes


def _top(texture: npt.NDArray[np.float64], where: Mask, share: float) -> Mask:
    """The `share` of `where` in which the texture is largest."""
    if not where.any():
        return where
    top: Mask = where & (texture >= np.quantile(texture[where], 1 - share))
    return top
