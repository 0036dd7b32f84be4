"""One interpolation from a grid to another, and the smoothing that has to precede it."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.volume import AnyArray, Grid, Volume
from DALAnomalyLib.volume_io import from_sitk, to_sitk

Interpolation: TypeAlias = Literal["linear", "nearest"]
_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}


def anti_aliasing_sigmas(source: Grid, target: Grid) -> tuple[float, float, float]:
    """Widths in source voxels, along (k, j, i), of the Gaussian that precedes resampling; 0 where none is needed.

    A voxel averages over a box of its size s, of variance s^2/12; the Gaussian adds what is missing to the target's
    variance t^2/12, so sigma = sqrt((t^2 - s^2)/12) mm. Along an oblique source axis, t is taken from the ellipsoid
    whose half-axes are the target's spacings.
    """
    source_axes = np.linalg.solve(np.reshape(target.direction, (3, 3)), np.reshape(source.direction, (3, 3)))
    target_spacing_squared = (np.asarray(target.spacing) ** 2) @ source_axes**2
    variance = np.clip(target_spacing_squared - np.asarray(source.spacing) ** 2, 0, None) / 12
    i, j, k = (float(sigma) for sigma in np.sqrt(variance) / source.spacing)
    return k, j, i


def smooth(array: npt.NDArray[np.float32], sigmas: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Gaussian of widths `sigmas` in voxels along (k, j, i); outside the array counts as 0."""
    smoothed: npt.NDArray[np.float32] = ndimage.gaussian_filter(array, sigmas, mode="constant")
    return smoothed


def resample(array: AnyArray, source: Grid, target: Grid, kind: Interpolation) -> AnyArray:
    """Interpolate `array` on `source` at the voxel centres of `target`; 0 outside the source's voxels."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.shape[::-1])
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(target.direction)
    resampler.SetInterpolator(_INTERPOLATORS[kind])
    return from_sitk(resampler.Execute(to_sitk(Volume(array, source)))).array
