"""Brains made of the shipped atlas' own tissues: any contrast, in a pose that is known."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from DALAnomalyLib.preprocessing.atlas import load_atlas
from DALAnomalyLib.preprocessing.resampling import anti_aliasing_sigmas, resample, smooth
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume

BRAIN_GRID = Grid((38, 47, 39), (4.0, 4.0, 4.0), (43.0, -202.0, -4.0))
"""Around the atlas' brain, in atlas space."""
MIDDLE = np.array([119.0, -109.0, 70.0])
"""Of the atlas' brain, LPS mm."""

CONTRASTS = {
    "T1": (0.25, 0.6, 0.95),
    "T2": (1.0, 0.55, 0.35),
    "FLAIR": (0.2, 0.8, 0.65),
    "CT": (1.0, 1.04, 1.02),
}
"""Intensities of csf, gm and wm."""


def painted(tissues: tuple[float, float, float], noise: float = 0.0, seed: int = 0) -> Volume:
    """The atlas' brain with these intensities of csf, gm and wm on `BRAIN_GRID`, float32, 0 outside."""
    image = np.sum([value * _sampled(name) for name, value in zip(("csf", "gm", "wm"), tissues, strict=True)], axis=0)
    image += noise * np.random.default_rng(seed).standard_normal(image.shape)
    return Volume((1000 * image * brain().array).astype(np.float32), BRAIN_GRID)


def likeness(sequence: str) -> Volume:
    """The atlas' image of a sequence on `BRAIN_GRID`, float32, up to 1000, 0 outside."""
    image = _sampled(sequence) * brain().array
    return Volume((1000 * image / image.max()).astype(np.float32), BRAIN_GRID)


@cache
def brain() -> Volume:
    """The atlas' brain mask on `BRAIN_GRID`, uint8."""
    return Volume((_sampled("brain") >= 0.5).astype(np.uint8), BRAIN_GRID)


def motion(degrees: float, axis: tuple[float, float, float], shift: tuple[float, float, float]) -> RigidTransform:
    """A rotation about the middle of the brain, then a shift in mm."""
    unit = np.array(axis) / np.linalg.norm(axis)
    rotation = Rotation.from_rotvec(np.radians(degrees) * unit).as_matrix()
    return RigidTransform.from_matrix(rotation, MIDDLE - rotation @ MIDDLE + shift)


def distance(found: RigidTransform, expected: RigidTransform) -> float:
    """Mean distance in mm between where both take the brain, which lies where `expected` comes from."""
    points = expected.inverse().apply(BRAIN_GRID.index_to_physical(np.argwhere(brain().array)))
    return float(np.linalg.norm(found.apply(points) - expected.apply(points), axis=-1).mean())


@cache
def _sampled(name: str) -> np.ndarray:
    atlas = load_atlas()
    volume = ({"brain": atlas.brain_mask} | dict(atlas.images) | dict(atlas.tissues))[name]
    smoothed = smooth(volume.array.astype(np.float32), anti_aliasing_sigmas(volume.grid, BRAIN_GRID))
    array: np.ndarray = resample(smoothed, volume.grid, BRAIN_GRID, "linear")
    return array
