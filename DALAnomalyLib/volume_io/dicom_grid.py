"""Where the slices of a DICOM volume lie: the regular grid they make, or why they make none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume import Grid, Points
from DALAnomalyLib.volume_io.dicom_frame import Frame
from DALAnomalyLib.volume_io.scan_checks import MINIMUM_VOXELS_PER_AXIS, check_extent

MAXIMUM_SLICE_STEP_DEVIATION = 0.1
"""Of DICOM slices, relative to their usual distance."""
MAXIMUM_LATERAL_SHIFT_MM = 0.5
"""Of a slice against the line through the first one and perpendicular to it; a grid has no room for a shear."""
_ORTHOGONALITY = 1e-2


def axes_of(frame: Frame) -> Points:
    """Float64 (3, 3): unit LPS vectors along the rows, down the columns, and across the slices, as rows."""
    row, column = frame.orientation
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > _ORTHOGONALITY or abs(row @ column) > _ORTHOGONALITY:
        msg = "the header has image axes that are no perpendicular unit vectors; export the series again"
        raise GeometryError(msg)
    row = row / lengths[0]
    column = column - (column @ row) * row  # headers round; the grid must not
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def grid_of(frames: Sequence[Frame], axes: Points) -> Grid:
    """The grid of slices that are ordered along the third of their axes.

    Raises:
        InputError: too few slices, or missing ones.
        GeometryError: they are not stacked along their normal, or their size is that of no head.
    """
    data = frames[0].data_set
    height, width = data.integer("Rows") or 0, data.integer("Columns") or 0
    shape = (len(frames), height, width)
    if min(shape) < MINIMUM_VOXELS_PER_AXIS:
        msg = (
            f"{len(frames)} slices of {width} x {height} are not a 3D scan; "
            f"it needs {MINIMUM_VOXELS_PER_AXIS} or more voxels along each axis"
        )
        raise InputError(msg)
    positions = np.array([frame.position for frame in frames])
    shifts = (positions - positions[0]) @ axes.T
    _check_steps(shifts)
    between_rows, between_columns = frames[0].pixel_spacing
    x, y, z = (float(value) for value in positions[0])
    a, b, c, d, e, f, g, h, i = (float(value) for value in axes.T.ravel())
    spacing = (between_columns, between_rows, float(shifts[-1, 2]) / (len(frames) - 1))
    grid = Grid(shape, spacing, (x, y, z), (a, b, c, d, e, f, g, h, i))
    _check_extent(grid)
    return grid


def _check_steps(shifts: Points) -> None:
    """Refuse slices (N, 3; mm along the axes of the image) that do not lie on a grid."""
    steps = np.diff(shifts[:, 2])
    if np.ptp(steps) > MAXIMUM_SLICE_STEP_DEVIATION * np.median(steps):
        msg = "DICOM slices are missing, doubled or unevenly spaced; export the series again"
        raise InputError(msg)
    lateral = float(np.linalg.norm(shifts[:, :2], axis=1).max())
    if lateral > MAXIMUM_LATERAL_SHIFT_MM:
        msg = (
            f"the slices are not stacked along their normal (shifted sideways by up to {lateral:.3g} mm: tilted gantry "
            "or motion correction); resample the series to a regular grid first"
        )
        raise GeometryError(msg)


def _check_extent(grid: Grid) -> None:
    nowhere = Path()
    try:
        check_extent(grid, nowhere)
    except GeometryError as error:
        raise GeometryError(str(error).removeprefix(f"{nowhere}: ")) from None
