"""From a scan's own grid to the grid that the network sees, and back.

The model grid is upright in world axes (identity direction, LPS): however the scanner ordered and oriented the voxels,
the network meets the brain in the same pose. Only position is adapted here, by the brain's box; there is no rotation.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.configuration import TOP_MARGIN_MM
from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume import IDENTITY_DIRECTION, AnyArray, Grid, Volume
from DALAnomalyLib.volume_io import from_sitk, to_sitk

# Weights of exactly one half are common (a border midway between voxels); they count as brain whatever the rounding.
_HALF = 0.5 - 1e-4


def model_grid_for(mask: Volume, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """Place the model grid around a brain.

    Left to right and front to back the brain's box is centred. Its top lies `TOP_MARGIN_MM` below the uppermost plane,
    because scans are cut at different heights below.

    Args:
        mask: brain, nonzero inside, on any grid.
        shape: (D, H, W) of the model grid, ordered (z, y, x).
        spacing: mm along (x, y, z).

    Returns:
        A grid of identity direction. It may not hold the whole brain: see `brain_fraction_inside`.

    Raises:
        InputError: the mask is empty.
    """
    points = _brain_points(mask)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    extent = (np.array(shape[::-1]) - 1) * spacing
    origin = (lowest + highest - extent) / 2
    origin[2] = highest[2] + TOP_MARGIN_MM - extent[2]
    x, y, z = (float(value) for value in origin)
    return Grid(shape, spacing, (x, y, z), IDENTITY_DIRECTION)


def brain_fraction_inside(mask: Volume, grid: Grid) -> float:
    """Share of the brain's voxels, 0 to 1, whose centres lie within the voxels of `grid`.

    Raises:
        InputError: the mask is empty.
    """
    indices = grid.physical_to_index(_brain_points(mask))
    inside = np.all((indices >= -0.5) & (indices <= np.array(grid.shape) - 0.5), axis=-1)
    return float(inside.mean())


def to_model_grid(volume: Volume, mask: Volume, grid: Grid) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Resample a scan and its brain mask onto the model grid.

    Both are smoothed where the model grid is coarser, then interpolated linearly once. The image is divided by the
    mask treated in the same way, so that the brain's border is not darkened by the background.

    Args:
        volume: scan (D, H, W).
        mask: brain, nonzero inside, on the scan's grid.
        grid: the model grid.

    Returns:
        image: float32 on `grid`, in the scan's intensity units, 0 outside the brain.
        mask: uint8 on `grid`, 1 where at least half a voxel is brain.

    Raises:
        GeometryError: scan and mask lie on different grids.
        InputError: the mask is empty.
    """
    if not volume.grid.is_close(mask.grid):
        msg = f"the brain mask is on {mask.grid} but its scan on {volume.grid}; resample the mask to the scan"
        raise GeometryError(msg)
    sigmas = anti_aliasing_sigmas(volume.grid, grid)
    box = _brain_box(mask)
    box_grid = _padded_grid(mask.grid, box)
    weight = np.pad((mask.array[box] > 0).astype(np.float32), 1)
    image = np.pad(volume.array[box].astype(np.float32), 1) * weight
    image_on_grid, weight_on_grid = (
        _resample(_smooth(array, sigmas), box_grid, grid, sitk.sitkLinear) for array in (image, weight)
    )
    brain = weight_on_grid >= _HALF
    image_on_grid[~brain] = 0
    np.divide(image_on_grid, weight_on_grid, out=image_on_grid, where=brain)
    return image_on_grid, brain.astype(np.uint8)


def from_model_grid(array: AnyArray, model_grid: Grid, input_grid: Grid, kind: Literal["linear", "nearest"]) -> Volume:
    """Bring a result back to the scan's own grid, in one interpolation.

    Args:
        array: (D, H, W) on `model_grid`; booleans become uint8.
        model_grid: from `model_grid_for`.
        input_grid: the scan's.
        kind: "linear" for continuous values, "nearest" for labels.

    Returns:
        Same type of voxels, on exactly `input_grid`, 0 outside the model grid.
    """
    interpolator = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[kind]
    return Volume(_resample(array, model_grid, input_grid, interpolator), input_grid)


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


def _brain_box(mask: Volume) -> tuple[slice, ...]:
    """Slices of the smallest box that holds all brain voxels."""
    boxes = ndimage.find_objects((mask.array > 0).astype(np.uint8))
    if not boxes:
        msg = "the brain mask is empty; give a skull-stripped scan or a mask that covers the brain"
        raise InputError(msg)
    box: tuple[slice, ...] = boxes[0]
    return box


def _brain_points(mask: Volume) -> npt.NDArray[np.float64]:
    """LPS mm (N, 3) of the centres of all brain voxels."""
    box = _brain_box(mask)
    indices = np.argwhere(mask.array[box] > 0) + [side.start for side in box]
    return mask.grid.index_to_physical(indices)


def _padded_grid(grid: Grid, box: tuple[slice, ...]) -> Grid:
    """The part of `grid` within `box` and one voxel around it.

    Farther out no position can be brain: the smoothed mask is below one half from the first voxel outside the box on.
    """
    depth, height, width = (side.stop - side.start + 2 for side in box)
    x, y, z = grid.index_to_physical([side.start - 1 for side in box])
    return Grid((depth, height, width), grid.spacing, (float(x), float(y), float(z)), grid.direction)


def _smooth(array: npt.NDArray[np.float32], sigmas: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    smooth: npt.NDArray[np.float32] = ndimage.gaussian_filter(array, sigmas, mode="constant")
    return smooth


def _resample(array: AnyArray, source: Grid, target: Grid, interpolator: Any) -> AnyArray:
    """Interpolate `array` on `source` at the voxel centres of `target`; 0 outside the source's voxels."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.shape[::-1])
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(target.direction)
    resampler.SetInterpolator(interpolator)
    return from_sitk(resampler.Execute(to_sitk(Volume(array, source)))).array
