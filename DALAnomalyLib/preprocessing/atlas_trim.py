"""Cutting from a brain mask what no brain reaches: eyes and neck that a network took along."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.volume import Volume

REACH_MM = 10.0
"""Farther than this outside the atlas' brain nothing counts as brain. Rigidly registered healthy brains of adults lie
within it but for a few voxels; see docs/preprocessing.md."""
_STEP = 2
_MARGIN = 8
"""More points of an atlas than `REACH_MM` has, whose voxels are 1 mm or larger."""


def trim_to_atlas(moved_brain: Volume, atlas_brain: Volume) -> tuple[Volume, float]:
    """Remove the part of a mask that lies too far outside the atlas' brain.

    Args:
        moved_brain: uint8 mask whose header places it in atlas space.
        atlas_brain: the atlas' own mask.

    Returns:
        The mask without that part, and the share of it, 0 to 1, that was removed.
    """
    places = np.nonzero(moved_brain.array)
    points = moved_brain.grid.index_to_physical(np.stack(places, axis=-1))
    distance = _distance_outside(atlas_brain)
    indices = np.moveaxis(atlas_brain.grid.physical_to_index(points), -1, 0) / _STEP + _MARGIN
    far = ndimage.map_coordinates(distance, indices, order=1, mode="nearest") > REACH_MM
    trimmed = moved_brain.array.copy()
    trimmed[tuple(axis[far] for axis in places)] = 0
    return moved_brain.with_array(trimmed), float(far.mean())


@lru_cache(maxsize=2)
def _distance_outside(atlas_brain: Volume) -> npt.NDArray[np.float32]:
    """Millimetres to the brain, float32, for every second voxel; volumes are told apart by identity.

    `_MARGIN` more points lie around the atlas' grid, so that its nearest point tells what lies beyond from the brain.
    """
    coarse = np.pad(atlas_brain.array[::_STEP, ::_STEP, ::_STEP] > 0, _MARGIN)
    sampling = [_STEP * value for value in reversed(atlas_brain.grid.spacing)]
    distance: npt.NDArray[np.float32] = ndimage.distance_transform_edt(~coarse, sampling).astype(np.float32)
    return distance
