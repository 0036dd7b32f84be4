"""A scan's axes in anatomical order, and back: voxels change their place in memory and nothing else.

Scanners store sagittal, coronal and axial stacks, each in either sense. Steps that treat the axes differently (a
network, a shrink factor per axis) meet all of them as one kind, at no loss: nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.volume import Grid, Points, Volume

# Two orders that fit equally well (an axis at 45 degrees) differ by rounding only: the one listed first is taken.
_TIE = 1e-6


@dataclass(frozen=True)
class _Order:
    """How to reach the anatomical order: `axes[n]` is the old array axis that becomes axis n, then `flipped` ones turn.

    Both are in array order (k, j, i).
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]


def to_anatomical_order(volume: Volume) -> Volume:
    """Permute and reverse the array's axes so that they come closest to the body's.

    Returns:
        The same voxels at the same physical places: k runs towards superior, j towards posterior, i towards left (as
        far as an oblique scan allows). The array is a contiguous copy of the same dtype.
    """
    order = _order_of(volume.grid)
    flips = tuple(axis for axis in range(3) if order.flipped[axis])
    array = np.ascontiguousarray(np.flip(volume.array.transpose(order.axes), flips))
    if np.may_share_memory(array, volume.array):
        array = array.copy()
    return Volume(array, _ordered_grid(volume.grid, order))


def from_anatomical_order(volume: Volume, original: Grid) -> Volume:
    """Undo `to_anatomical_order`.

    Args:
        volume: any result on the grid that `to_anatomical_order` gave.
        original: the grid of the volume that was given to it.

    Returns:
        The voxels in their first order, exactly on `original`; a contiguous copy of the same dtype.

    Raises:
        GeometryError: the volume does not lie where `original` leads to.
    """
    order = _order_of(original)
    expected = _ordered_grid(original, order)
    if not volume.grid.is_close(expected):
        msg = f"the result is on {volume.grid} but its scan, in anatomical order, on {expected}; resample the result"
        raise GeometryError(msg)
    flips = tuple(axis for axis in range(3) if order.flipped[axis])
    turned_back = np.flip(volume.array, flips).transpose(np.argsort(order.axes))
    array = np.ascontiguousarray(turned_back)
    if np.may_share_memory(array, volume.array):
        array = array.copy()
    return Volume(array, original)


def _order_of(grid: Grid) -> _Order:
    """The permutation whose axes lie closest to the body's, by the sum of their cosines."""
    vectors = _array_vectors(grid)
    best = max(permutations(range(3)), key=lambda axes: round(_alignment(vectors, axes) / _TIE))
    a, b, c = best
    superior, posterior, left = (vectors[2 - n, axis] < 0 for n, axis in enumerate(best))
    return _Order((a, b, c), (bool(superior), bool(posterior), bool(left)))


def _array_vectors(grid: Grid) -> Points:
    """Float64 (3, 3): column n is the unit LPS vector of array axis n, so (k, j, i)."""
    vectors: Points = np.reshape(grid.direction, (3, 3))[:, ::-1]
    return vectors


def _alignment(vectors: Points, axes: tuple[int, ...]) -> float:
    # new array axis n should run along LPS axis 2 - n
    return float(sum(abs(vectors[2 - n, axis]) for n, axis in enumerate(axes)))


def _ordered_grid(grid: Grid, order: _Order) -> Grid:
    signs = np.where(order.flipped, -1.0, 1.0)
    vectors = _array_vectors(grid)[:, order.axes] * signs
    depth, height, width = (grid.shape[axis] for axis in order.axes)
    k, j, i = (grid.spacing[2 - axis] for axis in order.axes)
    # The first voxel of the new order: the last one of the old along every axis that is turned.
    corner = np.zeros(3)
    for new, old in enumerate(order.axes):
        corner[old] = grid.shape[old] - 1 if order.flipped[new] else 0
    x, y, z = (float(value) for value in grid.index_to_physical(corner))
    # +0.0 turns the -0.0 of a reversed zero into 0.0, so that equal grids print alike
    a, b, c, d, e, f, g, h, m = (float(value) + 0.0 for value in vectors[:, ::-1].ravel())
    return Grid((depth, height, width), (i, j, k), (x, y, z), (a, b, c, d, e, f, g, h, m))
