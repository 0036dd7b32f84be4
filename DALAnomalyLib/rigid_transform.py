"""Rigid motions between two physical spaces, and what they do to a volume: only its header changes.

Because a moved volume keeps its voxels, going to the atlas and back costs no interpolation of its own; whatever is
resampled afterwards is interpolated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.volume import IDENTITY_DIRECTION, Grid, Points, Volume


@dataclass(frozen=True)
class RigidTransform:
    """A rotation followed by a translation: y = R x + t, with x and y in LPS mm.

    Attributes:
        rotation: row-major 3x3 rotation matrix R.
        translation: t in mm.
    """

    rotation: tuple[float, ...] = IDENTITY_DIRECTION
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @staticmethod
    def from_matrix(rotation: npt.ArrayLike, translation: npt.ArrayLike) -> RigidTransform:
        """From a nearly orthonormal matrix (3, 3), which is replaced by the nearest rotation, and t (3,) in mm."""
        left, _, right = np.linalg.svd(np.asarray(rotation, dtype=np.float64))
        nearest = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
        x, y, z = (float(value) for value in np.asarray(translation, dtype=np.float64))
        return RigidTransform(tuple(nearest.ravel().tolist()), (x, y, z))

    @property
    def matrix(self) -> Points:
        """Float64 (3, 3), R."""
        return np.array(self.rotation, dtype=np.float64).reshape(3, 3)

    @property
    def angle_degrees(self) -> float:
        """Angle of the rotation about its axis, 0 to 180."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.matrix) - 1) / 2, -1.0, 1.0))))

    def apply(self, points: npt.ArrayLike) -> Points:
        """Move LPS points (..., 3) in mm."""
        moved: Points = np.asarray(points, dtype=np.float64) @ self.matrix.T + self.translation
        return moved

    def inverse(self) -> RigidTransform:
        """The transform that takes everything back, in closed form: R' = R^T, t' = -R^T t."""
        back = self.matrix.T
        return RigidTransform.from_matrix(back, -back @ np.array(self.translation))

    def after(self, first: RigidTransform) -> RigidTransform:
        """One transform for `first` and then this one."""
        return RigidTransform.from_matrix(self.matrix @ first.matrix, self.apply(first.translation))

    def move(self, volume: Volume) -> Volume:
        """The same voxels, lying where the transform takes them."""
        return Volume(volume.array, self.move_grid(volume.grid))

    def move_grid(self, grid: Grid) -> Grid:
        """Where the voxels of `grid` lie afterwards."""
        direction = self.matrix @ np.array(grid.direction).reshape(3, 3)
        a, b, c, d, e, f, g, h, i = (float(value) for value in direction.ravel())
        x, y, z = (float(value) for value in self.apply(grid.origin))
        return Grid(grid.shape, grid.spacing, (x, y, z), (a, b, c, d, e, f, g, h, i))
