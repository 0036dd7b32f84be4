"""Whether a registration can be trusted: two figures that separate right poses from wrong ones."""

from __future__ import annotations

import numpy as np

from DALAnomalyLib.preprocessing.brain_copy import BrainCopy, within
from DALAnomalyLib.preprocessing.pose_search import correlation, values_at
from DALAnomalyLib.rigid_transform import RigidTransform

LEAST_SIMILARITY = 0.30
LEAST_OVERLAP = 0.75


def similarity(scan: BrainCopy, atlas: BrainCopy, pose: RigidTransform) -> float:
    """Correlation of the brains' details (see `BrainCopy.image`) where both brains are; -1 to 1, 0 if they do not meet.

    Negative where the sequences have opposite contrast.
    """
    points = pose.apply(scan.grid.index_to_physical(np.argwhere(scan.brain)))
    shared = values_at(atlas.brain.astype(np.float32), atlas.grid, points) >= 0.5
    if np.count_nonzero(shared) < 2:
        return 0.0
    return correlation(scan.image[scan.brain][shared], values_at(atlas.image, atlas.grid, points[shared]))


def brain_overlap(scan: BrainCopy, atlas: BrainCopy, pose: RigidTransform) -> float:
    """Dice coefficient of both brains, 0 to 1, counting of the atlas only what the scanner saw.

    So a slab is not blamed for the brain that lies beyond its ends.
    """
    scan_points = pose.apply(scan.grid.index_to_physical(np.argwhere(scan.brain)))
    atlas_points = pose.inverse().apply(atlas.grid.index_to_physical(np.argwhere(atlas.brain)))
    scan_in_atlas = values_at(atlas.brain.astype(np.float32), atlas.grid, scan_points) >= 0.5
    seen = within(scan.field, atlas_points)
    shared, total = np.count_nonzero(scan_in_atlas), len(scan_points) + np.count_nonzero(seen)
    return 2 * shared / total
