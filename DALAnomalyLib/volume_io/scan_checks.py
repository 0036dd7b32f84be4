"""What a scan of a head can look like: voxel sizes, extents and intensities that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume import AnyArray, Grid

MINIMUM_VOXELS_PER_AXIS = 8
VOXEL_SIZE_RANGE_MM = (0.1, 10.0)
EXTENT_RANGE_MM = (50.0, 600.0)
MAXIMUM_INTENSITY = 1e9
# Interpolation and N4 leave some slightly negative voxels: 0.05 % of the total intensity in the worst MR scan seen.
MAXIMUM_NEGATIVE_SHARE = 0.02


def check_shape(shape: tuple[int, ...], source: Path | str) -> None:
    """Refuse what has too few voxels (k, j, i) along an axis (InputError)."""
    if len(shape) != 3 or min(shape) < MINIMUM_VOXELS_PER_AXIS:
        size = " x ".join(map(str, shape[::-1]))
        msg = f"{source}: {size} voxels are not a 3D scan; it needs {MINIMUM_VOXELS_PER_AXIS} or more along each axis"
        raise InputError(msg)


def check_extent(grid: Grid, path: Path) -> None:
    """Refuse voxel sizes and extents that no head scan has.

    Raises:
        GeometryError: which axis is outside which range.
    """
    for axis, size, spacing in zip("ijk", grid.shape[::-1], grid.spacing, strict=True):
        for name, value, (low, high) in (
            ("a voxel size", spacing, VOXEL_SIZE_RANGE_MM),
            ("an extent", spacing * size, EXTENT_RANGE_MM),
        ):
            if not low <= value <= high:
                limits = f"{low:g} to {high:g} mm"
                msg = f"{path}: {name} of {value:.4g} mm along axis {axis} is not within {limits}; check the header"
                raise GeometryError(msg)


def check_intensities(array: AnyArray, path: Path) -> None:
    """Refuse what cannot be MR magnitude.

    Args:
        array: float (D, H, W) in the file's own intensity units.
        path: for the message.

    Raises:
        InputError: NaN or infinite, constant, absurdly large or too often negative.
    """
    check_finite(array, path)
    low, high = float(array.min()), float(array.max())
    if low == high:
        msg = f"{path}: the image is empty or constant: every voxel is {low:g}; check how it was exported"
        raise InputError(msg)
    if max(-low, high) > MAXIMUM_INTENSITY:
        msg = f"{path}: intensities from {low:g} to {high:g} are not plausible; check the pixel type and rescale slope"
        raise InputError(msg)
    if low < 0:
        negative_share = float(-array.clip(max=0).sum(dtype=np.float64) / np.abs(array).sum(dtype=np.float64))
        if negative_share > MAXIMUM_NEGATIVE_SHARE:
            msg = (
                f"{path}: {negative_share:.0%} of the signal is negative (down to {low:g}), so this looks like CT or a "
                "normalised image, not MR magnitude; give the original T1 or T2 image"
            )
            raise InputError(msg)


def check_finite(array: AnyArray, path: Path | str) -> None:
    """Refuse an array with NaN or infinite voxels (InputError)."""
    refuse_non_finite(count_non_finite(array), path)


def count_non_finite(array: AnyArray) -> int:
    """How many voxels are NaN or infinite."""
    return array.size - int(np.count_nonzero(np.isfinite(array)))


def refuse_non_finite(count: int, path: Path | str) -> None:
    """Refuse a scan of which `count` voxels are NaN or infinite (InputError)."""
    if count:
        msg = f"{path}: {count} voxels are NaN or infinite; replace them, for example with 0 outside the brain"
        raise InputError(msg)
