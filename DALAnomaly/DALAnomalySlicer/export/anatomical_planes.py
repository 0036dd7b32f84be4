"""Upright slices: a volume cut along its own axes and shown in radiological order, in millimetres.

Everything here is in anatomical order (`to_anatomical_order`): axis k runs towards superior, j towards posterior, i
towards left. Slices are those that were acquired, not resampled ones; of an oblique scan the letters name the nearest
direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.volume import AnyArray, Grid, Volume

FloatImage = npt.NDArray[np.float32]
Span = tuple[int, int]

_MARGIN_MM = 10.0


@dataclass(frozen=True)
class Plane:
    """How one of the three planes lies in the array and on the page.

    Attributes:
        name: axial, coronal or sagittal.
        across, down, normal: array axes along the rows of the picture, down its columns, and through it.
        upside_down: whether the axis `down` runs upwards in the picture.
        letters: directions at its left, right, top and bottom.
    """

    name: str
    across: int
    down: int
    normal: int
    upside_down: bool
    letters: tuple[str, str, str, str]


AXIAL = Plane("axial", across=2, down=1, normal=0, upside_down=False, letters=("R", "L", "A", "P"))
CORONAL = Plane("coronal", across=2, down=0, normal=1, upside_down=True, letters=("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", across=1, down=0, normal=2, upside_down=True, letters=("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class FieldOfView:
    """The part of a grid that pictures show.

    Attributes:
        spans: first voxel and the one after the last, along (k, j, i).
        voxel_mm: size of a voxel along (k, j, i).
        pixels_per_mm: resolution of the pictures.
    """

    spans: tuple[Span, Span, Span]
    voxel_mm: tuple[float, float, float]
    pixels_per_mm: float

    @classmethod
    def around(cls, mask: Volume, pixels_per_mm: float) -> FieldOfView:
        """All of a mask (> 0) with a margin; the whole grid if it is empty."""
        k, j, i = (_span(mask.array, mask.grid, axis) for axis in range(3))
        x, y, z = mask.grid.spacing
        return cls((k, j, i), (z, y, x), pixels_per_mm)

    def size(self, plane: Plane) -> tuple[int, int]:
        """Width and height in pixels of a picture in this plane."""
        return self._pixels(plane.across), self._pixels(plane.down)

    def point(self, voxel: AnyArray, plane: Plane) -> tuple[float, float]:
        """Column and row in the picture of the centre of a voxel (k, j, i)."""
        width, height = self.size(plane)
        column = self._fraction(voxel, plane.across) * width
        row = self._fraction(voxel, plane.down) * height
        return column, height - row if plane.upside_down else row

    def cut(self, array: AnyArray, voxel: AnyArray, plane: Plane) -> AnyArray:
        """The slice through a voxel as it is shown: rows from top to bottom, one value per voxel, of the same dtype."""
        rows, columns = (slice(*self.spans[axis]) for axis in (plane.down, plane.across))
        through = array.take(int(voxel[plane.normal]), axis=plane.normal)[rows, columns]
        return through[::-1] if plane.upside_down else through

    def enlarge(self, cut: AnyArray, plane: Plane) -> FloatImage:
        """A cut at the resolution of the pictures: float32 (height, width), interpolated."""
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(cut, np.float32))
        return np.asarray(image.resize(self.size(plane), Image.Resampling.BICUBIC), np.float32)

    def _pixels(self, axis: int) -> int:
        first, end = self.spans[axis]
        return max(1, round((end - first) * self.voxel_mm[axis] * self.pixels_per_mm))

    def _fraction(self, voxel: AnyArray, axis: int) -> float:
        first, end = self.spans[axis]
        return (float(voxel[axis]) + 0.5 - first) / (end - first)


def _span(mask: AnyArray, grid: Grid, axis: int) -> Span:
    """Where a mask begins and ends along an axis, with the margin, inside the grid."""
    others = tuple(other for other in range(3) if other != axis)
    where = np.flatnonzero((mask > 0).any(axis=others))
    if not where.size:
        return 0, mask.shape[axis]
    margin = round(_MARGIN_MM / grid.spacing[2 - axis])
    return max(0, int(where[0]) - margin), min(mask.shape[axis], int(where[-1]) + 1 + margin)
