"""What sequence a registered scan looks like, judged by its tissues against the atlas.

T1 and T2 correlate with their atlas images, and against the other's. What does neither, or whose tissues are ordered
otherwise, is something else: on FLAIR fluid is by far darkest and grey matter brightest; on CT the tissues hardly
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from DALAnomalyLib.preprocessing.atlas import Atlas
from DALAnomalyLib.volume import Volume

LATTICE = 3
"""Every third voxel of the atlas is looked at."""
PURE = {"csf": 0.75, "gm": 0.75, "wm": 0.9}
"""Probability from which an atlas voxel stands for its tissue."""
LOWEST_CORRELATION = 0.1
"""A T1 or T2 brain correlates better than this with its atlas image; a large oedema takes T2 down to 0.17."""
LEAST_LEAD = 0.2
"""And by so much better than with the other one: with an oedema by 0.30, noise and ramps by 0.06 at most."""
DARK_FLUID = 0.85
"""Fluid over white matter on FLAIR is less than this; a ramp across the brain can order the tissues alike."""
FLAT = 0.15
"""Spread of the brain's intensities (90th less 10th percentile, over the median) below which it is no MR contrast."""
_TINY = 1e-12
_GAUSSIAN = 1.48
"""Standard deviation of a Gaussian over its median absolute deviation."""
BRIGHT, BRIGHT_DEVIATIONS = 0.25, 2.0
"""What is brighter than the white matter around it by this part of fluid's distance from white matter, and by so many
standard deviations of white matter, is bright on T1."""
LEAST_POINTS = 100
"""Of white matter and of fluid, from which that can be told."""
HALF_BRAIN_MM, USUAL_DEVIATION = 80.0, 0.1
"""How white matter's brightness varies over a brain (so large from its middle) is fitted by a parabola of its
logarithm; white matter that strays from it by more than this deviation is a lesion or no white matter."""
BRIGHT_SHARE = 0.02
"""Share of the brain that is bright from which a T1 seems contrast-enhanced. Of 69 real T1 without an agent a glioma
has most, 0.012 (not registered 0.017); with a rim of 4 mm painted bright, gliomas have at least 0.027."""
DEEP_MM, DEEP_FLUID, FINE_MM = 15.0, 0.5, 2.0
"""What lies this deep in the atlas' brain and is fluid with this probability, looked at on points so far apart:
ventricles with their plexus, and the cisterns in which large vessels run."""
LEAST_OVERLAP = 0.75
"""As that of a registration that is accepted. BraTS scans, which lie in another atlas, have 0.93 to 0.96."""
BRIGHT_FLUID_SHARE = 0.0035
"""The same share of that fluid in a registered scan. The 69 have up to 0.0030, with or without N4; a real head after an
agent has 0.015, most imitations more than 0.004 (docs/out_of_distribution.md)."""


@dataclass(frozen=True)
class Appearance:
    """What a scan looks like.

    Attributes:
        kind: "T1", "T2", "FLAIR", "CT" or "unknown".
        correlations: with the atlas image of every sequence.
        tissues: median intensity of csf, gm and wm, relative to the brain's 95th percentile.
        bright_share: share of the brain that is clearly brighter than the white matter around it, whatever the bias
            field.
        bright_fluid_share: the same share of where the atlas has fluid deep in the brain.
        overlap: share of the atlas' brain in which the scan's brain lies; from `LEAST_OVERLAP` on, a header that nobody
            checked does place the scan in the atlas.
        evidence: all this in one line.
    """

    kind: str
    correlations: Mapping[str, float]
    tissues: Mapping[str, float]
    bright_share: float
    bright_fluid_share: float
    overlap: float
    evidence: str


def look_at(moved: Volume, brain: Volume, atlas: Atlas) -> Appearance:
    """Compare a scan with the atlas.

    Args:
        moved: scan whose header places it in atlas space.
        brain: its mask, on the same grid.
        atlas: what to compare with.
    """
    points, places = _lattice(atlas)
    inside = _sampled(brain, points, order=0) > 0
    values = _sampled(moved, points, order=1)
    seen = values[inside]
    if seen.size < 100:
        return Appearance("unknown", {}, {}, 0.0, 0.0, 0.0, "the scan hardly overlaps the atlas")
    low, middle, high, top = (float(value) for value in np.percentile(seen, (10, 50, 90, 95)))
    clipped = np.clip(values, *np.percentile(seen, (2, 98)))
    correlations = {
        name: _correlation(clipped[inside], image.array[places][inside]) for name, image in atlas.images.items()
    }
    scale = max(top, _TINY)
    tissues = {
        name: float(np.median(values[inside & (share.array[places] > PURE[name])])) / scale
        for name, share in atlas.tissues.items()
        if np.any(inside & (share.array[places] > PURE[name]))
    }
    spread = (high - low) / max(abs(middle), _TINY)
    bright, bright_fluid = _bright_shares(moved, brain, atlas)
    kind = _kind(correlations, tissues, spread)
    evidence = "correlation with the atlas " + ", ".join(f"{name} {value:.2f}" for name, value in correlations.items())
    evidence += "; " + ", ".join(f"{name.upper()} {value:.2f}" for name, value in tissues.items())
    return Appearance(kind, correlations, tissues, bright, bright_fluid, float(inside.mean()), evidence)


def _kind(correlations: Mapping[str, float], tissues: Mapping[str, float], spread: float) -> str:
    if spread < FLAT:
        return "CT"
    if len(tissues) == 3 and tissues["csf"] < DARK_FLUID * tissues["wm"] and tissues["wm"] <= tissues["gm"]:
        return "FLAIR"
    best, other = sorted(correlations, key=lambda name: correlations[name], reverse=True)[:2]
    lead = correlations[best] - correlations[other]
    return best if correlations[best] > LOWEST_CORRELATION and lead > LEAST_LEAD else "unknown"


def _bright_shares(moved: Volume, brain: Volume, atlas: Atlas) -> tuple[float, float]:
    """Of the brain and of its deep fluid, each voxel compared with what the coil makes of white matter there."""

    def seen_at(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        return _sampled(brain, points, order=0) > 0, _sampled(moved, points, order=1)

    if not atlas.tissues:
        return 0.0, 0.0
    points, places = _lattice(atlas)
    inside, values = seen_at(points)
    white, is_fluid = (inside & (atlas.tissues[name].array[places] > PURE[name]) for name in ("wm", "csf"))
    white &= values > 0
    if min(np.count_nonzero(white), np.count_nonzero(is_fluid)) < LEAST_POINTS:
        return 0.0, 0.0
    sensitivity = _fitted_sensitivity(points[white], values[white])
    even = values / sensitivity(points)
    wm, csf = (float(np.median(even[where])) for where in (white, is_fluid))
    deviation = _GAUSSIAN * float(np.median(np.abs(even[white] - wm)))
    limit = wm + max(BRIGHT * abs(wm - csf), BRIGHT_DEVIATIONS * deviation)
    deep = _deep_fluid(atlas)
    inside_deep, fluid = seen_at(deep)
    is_bright = (fluid / sensitivity(deep) > limit)[inside_deep]
    return float(np.mean(even[inside] > limit)), float(np.mean(is_bright)) if is_bright.size else 0.0


def _fitted_sensitivity(
    points: npt.NDArray[np.float64], white: npt.NDArray[np.float32]
) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """How bright the coil makes places (N, 3), relative to the median of white matter, of which a sample is given."""
    centre = points.mean(axis=0)

    def terms(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        first = (places - centre) / HALF_BRAIN_MM
        second = [first[:, row] * first[:, column] for row in range(3) for column in range(row, 3)]
        return np.column_stack((np.ones(len(first)), first, *second))

    known, brightness = terms(points), np.log(white / np.median(white))
    fit = optimize.least_squares(
        lambda weights: known @ weights - brightness,
        np.zeros(known.shape[1]),
        lambda _: known,
        loss="cauchy",
        f_scale=USUAL_DEVIATION,
    )
    return lambda places: np.exp(np.clip(terms(places) @ fit.x, -1, 1))


def _lattice(atlas: Atlas) -> tuple[npt.NDArray[np.float64], tuple[npt.NDArray[np.intp], ...]]:
    """Points (N, 3) of the atlas' brain in LPS mm, and their indices."""
    mask = atlas.brain_mask.array[::LATTICE, ::LATTICE, ::LATTICE] > 0
    places = tuple(LATTICE * axis for axis in np.nonzero(mask))
    return atlas.brain_mask.grid.index_to_physical(np.stack(places, axis=-1)), places


def _deep_fluid(atlas: Atlas) -> npt.NDArray[np.float64]:
    """Points (N, 3) in LPS mm."""
    grid = atlas.brain_mask.grid
    step = max(1, round(FINE_MM / min(grid.spacing)))
    every = (slice(None, None, step),) * 3
    depth = ndimage.distance_transform_edt(
        atlas.brain_mask.array[every] > 0, [step * size for size in reversed(grid.spacing)]
    )
    places = np.nonzero((depth >= DEEP_MM) & (atlas.tissues["csf"].array[every] > DEEP_FLUID))
    return grid.index_to_physical(step * np.stack(places, axis=-1))


def _sampled(volume: Volume, points: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float32]:
    indices = np.moveaxis(volume.grid.physical_to_index(points), -1, 0)
    values: npt.NDArray[np.float32] = ndimage.map_coordinates(volume.array, indices, np.float32, order=order)
    return values


def _correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
