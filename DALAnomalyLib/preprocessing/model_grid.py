"""From a scan's own grid to the grid that the network sees, and back.

The model grid is upright in world axes (identity direction, LPS): however the scanner ordered and oriented the voxels,
the network meets the brain in the same pose. Only position is adapted here, by the brain's box; there is no rotation.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.configuration import TOP_MARGIN_MM
from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.preprocessing.resampling import anti_aliasing_sigmas, resample, smooth
from DALAnomalyLib.volume import IDENTITY_DIRECTION, AnyArray, Grid, Volume

Spacing: TypeAlias = tuple[float, float, float]

# Weights of exactly one half are common (a border midway between voxels); they count as brain whatever the rounding.
_HALF = 0.5 - 1e-4


def model_grid_for(mask: Volume, shape: tuple[int, int, int], spacing: Spacing) -> Grid:
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


def atlas_window_for(mask: Volume, atlas_brain: Volume, shape: tuple[int, int, int], spacing: Spacing) -> Grid:
    """Place the model grid at its fixed place in the atlas, moved no farther than it takes to hold the brain.

    Args:
        mask: brain of a scan whose header places it in atlas space.
        atlas_brain: the atlas' own; the grid is placed around it as by `model_grid_for`.
        shape: (D, H, W) of the model grid.
        spacing: mm along (x, y, z).
    """
    window = model_grid_for(atlas_brain, shape, spacing)
    points = _brain_points(mask)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    first = np.array(window.origin)
    last = first + (np.array(shape[::-1]) - 1) * spacing
    too_low, too_high = np.minimum(lowest - first, 0), np.maximum(highest - last, 0)
    # a brain larger than the grid is centred: both ends are cut alike
    too_large = highest - lowest > last - first
    moved = np.where(too_large, (lowest + highest - first - last) / 2, too_low + too_high)
    x, y, z = (float(value) for value in first + moved)
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
        resample(smooth(array, sigmas), box_grid, grid, "linear") for array in (image, weight)
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
    return Volume(resample(array, model_grid, input_grid, kind), input_grid)


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
