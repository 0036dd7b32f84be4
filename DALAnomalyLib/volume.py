"""A 3D array together with where its voxels lie in space.

Two index orders meet here and nowhere else: arrays are (D, H, W), indexed (k, j, i) as SimpleITK hands them to numpy;
spacing, origin and direction are in (x, y, z) order. Physical points are LPS (left, posterior, superior) in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.errors import GeometryError

AnyArray: TypeAlias = npt.NDArray[Any]
Points: TypeAlias = npt.NDArray[np.float64]
"""Float64 (..., 3): one 3D point or index per row."""

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array lie.

    Attributes:
        shape: (D, H, W), voxels along the array axes (k, j, i).
        spacing: mm between voxel centres along (i, j, k).
        origin: LPS position in mm of the centre of voxel (0, 0, 0).
        direction: row-major 3x3 matrix; its columns are the unit LPS vectors of the axes (i, j, k).

    Raises:
        GeometryError: a value is not finite, a size is not positive, or the direction is not orthonormal.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, float, float, float, float, float, float, float, float] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        """Refuse a geometry that no scan can have."""
        _check_numbers("shape", self.shape, 3, positive=True)
        _check_numbers("spacing", self.spacing, 3, positive=True)
        _check_numbers("origin", self.origin, 3)
        _check_numbers("direction", self.direction, 9)
        rotation = self._rotation
        if not np.allclose(rotation.T @ rotation, np.eye(3), rtol=0, atol=_ORTHONORMAL_TOLERANCE):
            msg = (
                f"direction {self.direction} is not orthonormal; the axes of a scan must be perpendicular unit vectors"
            )
            raise GeometryError(msg)

    @property
    def _rotation(self) -> Points:
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def affine(self) -> Points:
        """Float64 (4, 4): maps (i, j, k, 1) to LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = self._rotation * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    def index_to_physical(self, indices: npt.ArrayLike) -> Points:
        """Map array indices (..., 3), ordered (k, j, i), fractions allowed, to LPS mm (..., 3)."""
        affine = self.affine
        mapped: Points = np.asarray(indices, dtype=np.float64)[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
        return mapped

    def physical_to_index(self, points: npt.ArrayLike) -> Points:
        """Map LPS mm (..., 3) to fractional array indices (..., 3), ordered (k, j, i)."""
        affine = self.affine
        inverse = np.linalg.inv(affine[:3, :3])
        mapped: Points = (np.asarray(points, dtype=np.float64) - affine[:3, 3]) @ inverse.T
        return mapped[..., ::-1]

    def is_close(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and no voxel lies more than `tolerance` mm apart."""
        if self.shape != other.shape:
            return False
        # The offset between two grids is affine in the index, so it is largest at a corner.
        corners = np.array(list(product(*((0, size - 1) for size in self.shape))))
        offsets = self.index_to_physical(corners) - other.index_to_physical(corners)
        return bool(np.linalg.norm(offsets, axis=-1).max() <= tolerance)


@dataclass(frozen=True, eq=False)
class Volume:
    """An array on its grid.

    Attributes:
        array: (D, H, W), any dtype, indexed (k, j, i).
        grid: where the voxels lie.

    Raises:
        GeometryError: the array's shape is not the grid's.
    """

    array: AnyArray
    grid: Grid

    def __post_init__(self) -> None:
        """Refuse an array that does not fit its grid."""
        if self.array.shape != self.grid.shape:
            msg = f"array is {self.array.shape} but its grid is {self.grid.shape} (both k, j, i); they must agree"
            raise GeometryError(msg)

    def with_array(self, array: AnyArray) -> Volume:
        """Another array (D, H, W) on the same grid."""
        return Volume(array, self.grid)


def lps_to_ras(points: npt.ArrayLike) -> Points:
    """Turn LPS points (..., 3) in mm into RAS points, or back: both first axes change sign."""
    converted: Points = np.asarray(points, dtype=np.float64) * (-1.0, -1.0, 1.0)
    return converted


def _check_numbers(name: str, values: tuple[float, ...], count: int, positive: bool = False) -> None:
    if len(values) != count or not np.all(np.isfinite(values)) or (positive and min(values) <= 0):
        kind = "positive finite" if positive else "finite"
        msg = f"{name} is {values} but must be {count} {kind} numbers; check the header of the image"
        raise GeometryError(msg)
