"""Which way round a head lies: a search over all rotations on tiny copies, before anything is refined.

At 8 mm a brain is a few thousand points, so that hundreds of poses cost less than one refinement; no rotation is out
of reach, as it would be for a descent from the header's pose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from DALAnomalyLib.preprocessing.brain_copy import BrainCopy
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Points

ROTATIONS = 400
"""Spread evenly over all rotations, about 30 degrees apart."""
CLIMBED = 6
"""So many of the best poses are improved by small steps."""
DISTINCT_DEGREES = 15.0
"""Poses closer than this lead to the same refinement."""
_FIRST_STEP = (16.0, 8.0)
"""Degrees and mm; halved until no smaller than an eighth."""
_PARTIAL = 0.75
"""A brain of less than this share of the atlas' volume is cut off: its centre is not the atlas brain's centre."""


def search_poses(scan: BrainCopy, atlas: BrainCopy, count: int, cancel: CancelToken | None) -> list[RigidTransform]:
    """Find poses in which a scan's brain resembles the atlas' brain.

    Args:
        scan: copy at about 8 mm.
        atlas: copy at about 8 mm.
        count: so many poses at most, each at least `DISTINCT_DEGREES` from the others.
        cancel: stops the search.

    Returns:
        Transforms from scan to atlas, the most similar first.
    """
    pose_score = PoseScore(scan, atlas)
    poses = []
    for rotation in _even_rotations(ROTATIONS):
        if cancel is not None:
            cancel.raise_if_cancelled()
        for shift in _shifts(scan, atlas):
            pose = _about_centre(scan.centroid, rotation, atlas.centroid + shift)
            poses.append((pose_score(pose), pose))
    poses = _distinct(poses, CLIMBED)
    climbed = [_climb(pose_score, scan.centroid, *start, cancel) for start in poses]
    return [pose for _, pose in _distinct(climbed, count)]


def header_pose(scan: BrainCopy, atlas: BrainCopy, cancel: CancelToken | None) -> RigidTransform:
    """The pose that the scan's header gives, brain upon brain, improved by small steps at about 8 mm."""
    pose_score = PoseScore(scan, atlas)
    start = _about_centre(scan.centroid, np.eye(3), atlas.centroid)
    return _climb(pose_score, scan.centroid, pose_score(start), start, cancel)[1]


class PoseScore:
    """Correlation of scan and atlas over the scan's brain and its rim, both 0 outside their brains; -1 to 1."""

    def __init__(self, scan: BrainCopy, atlas: BrainCopy) -> None:
        """Keep the scan's points and values."""
        self._atlas = atlas.image
        self._to_index = np.linalg.inv(atlas.grid.affine)
        self._points = scan.grid.index_to_physical(np.argwhere(scan.compared)).T
        self._values = scan.image[scan.compared]

    def __call__(self, pose: RigidTransform) -> float:
        """Compare in one pose, scan to atlas."""
        rotation = self._to_index[:3, :3] @ pose.matrix
        offset = self._to_index[:3, :3] @ pose.translation + self._to_index[:3, 3]
        indices = rotation[::-1] @ self._points + offset[::-1, None]
        return correlation(self._values, ndimage.map_coordinates(self._atlas, indices, order=1))


def values_at(array: npt.NDArray[np.float32], grid: Grid, points: Points) -> npt.NDArray[np.float32]:
    """Interpolate linearly at LPS points (N, 3) in mm; 0 outside the grid."""
    values: npt.NDArray[np.float32] = ndimage.map_coordinates(array, grid.physical_to_index(points).T, order=1)
    return values


def correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Pearson's correlation, 0 where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _climb(
    pose_score: PoseScore, centre: Points, score: float, pose: RigidTransform, cancel: CancelToken | None
) -> tuple[float, RigidTransform]:
    """Take the best of twelve small steps until none helps, then halve them."""
    degrees, mm = _FIRST_STEP
    for scale in (1.0, 0.5, 0.25, 0.125):
        steps = [
            _step(centre, scale * degrees, scale * mm, kind, axis, sign)
            for kind in (0, 1)
            for axis in range(3)
            for sign in (-1, 1)
        ]
        for _ in range(8):
            if cancel is not None:
                cancel.raise_if_cancelled()
            tried = [(pose_score(moved), moved) for moved in (pose.after(step) for step in steps)]
            best = max(tried, key=lambda scored: scored[0])
            if best[0] <= score:
                break
            score, pose = best
    return score, pose


def _step(centre: Points, degrees: float, mm: float, kind: int, axis: int, sign: int) -> RigidTransform:
    unit = sign * np.eye(3)[axis]
    if kind:
        return RigidTransform.from_matrix(np.eye(3), mm * unit)
    return _about_centre(centre, Rotation.from_rotvec(np.radians(degrees) * unit).as_matrix(), centre)


def _about_centre(centre: Points, rotation: Points, target: Points) -> RigidTransform:
    """Rotate about `centre`, which comes to lie at `target`."""
    return RigidTransform.from_matrix(rotation, target - rotation @ centre)


def _shifts(scan: BrainCopy, atlas: BrainCopy) -> Points:
    """Offsets (N, 3) in mm of the scan brain's centre from the atlas brain's."""
    if scan.millilitres > _PARTIAL * atlas.millilitres:
        return np.zeros((1, 3))
    return np.concatenate([np.zeros((1, 3)), 30 * np.eye(3), -30 * np.eye(3)])


def _distinct(poses: list[tuple[float, RigidTransform]], count: int) -> list[tuple[float, RigidTransform]]:
    """The best poses, at most `count`, none closer than `DISTINCT_DEGREES` to a better one."""
    chosen: list[tuple[float, RigidTransform]] = []
    for score, pose in sorted(poses, key=lambda scored: -scored[0]):
        if all(pose.after(other.inverse()).angle_degrees >= DISTINCT_DEGREES for _, other in chosen):
            chosen.append((score, pose))
        if len(chosen) == count:
            break
    return chosen


def _even_rotations(count: int) -> Points:
    """Rotation matrices (count, 3, 3) on a super-Fibonacci spiral (Alexa, CVPR 2022), the identity first.

    The identity stands for the header's own pose, which is nearly right for most scans.
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=-1
    )
    matrices: Points = Rotation.from_quat(quaternions).as_matrix()
    return np.concatenate([np.eye(3)[None], matrices])
