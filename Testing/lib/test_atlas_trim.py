import numpy as np
import pytest

from DALAnomalyLib.preprocessing.atlas_trim import REACH_MM, trim_to_atlas
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume

GRID = Grid((60, 70, 64), (2.0, 2.0, 2.0), (-60.0, -70.0, -55.0))


def ball(centre: tuple[float, float, float], radius: float, grid: Grid = GRID) -> Volume:
    points = grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume((np.linalg.norm(points - np.array(centre), axis=-1) <= radius).astype(np.uint8), grid)


ATLAS = ball((0, 0, 0), 40)


def test_what_the_atlas_reaches_is_kept_whole() -> None:
    brain = ball((2, -3, 1), 40)
    trimmed, share = trim_to_atlas(brain, ATLAS)
    np.testing.assert_array_equal(trimmed.array, brain.array)
    assert share == 0
    assert trimmed.grid == brain.grid


def test_what_lies_far_outside_is_cut_off() -> None:
    eye = ball((0, -58, 0), 6)
    brain = Volume(ATLAS.array | eye.array, GRID)
    trimmed, share = trim_to_atlas(brain, ATLAS)
    points = GRID.index_to_physical(np.argwhere(trimmed.array))
    assert np.linalg.norm(points, axis=1).max() <= 40 + REACH_MM + 2.0
    assert (trimmed.array[ATLAS.array > 0] == 1).all()
    assert share == pytest.approx(1 - trimmed.array.sum() / brain.array.sum())
    assert share > 0.002


def test_the_header_decides_where_a_mask_lies() -> None:
    """A brain that only the transform brings to the atlas is kept; without it, it lies too far away."""
    away = RigidTransform.from_matrix(np.eye(3), (80.0, 0.0, 0.0))
    brain = away.move(ATLAS)
    assert trim_to_atlas(brain, ATLAS)[1] > 0.5
    assert trim_to_atlas(away.inverse().move(brain), ATLAS)[1] == 0


def test_what_lies_below_the_atlas_grid_is_cut_off() -> None:
    """The atlas' grid ends close below its brain; a neck goes on."""
    lowest = next(k for k in range(GRID.shape[0]) if ATLAS.array[k].any())
    cropped = Volume(
        ATLAS.array[lowest:], Grid((GRID.shape[0] - lowest, 70, 64), GRID.spacing, (-60.0, -70.0, -55.0 + 2.0 * lowest))
    )
    brain = ATLAS.array.copy()
    brain[:lowest, 30:40, 26:34] = 1
    trimmed, share = trim_to_atlas(Volume(brain, GRID), cropped)
    assert share > 0
    reached = GRID.index_to_physical(np.argwhere(trimmed.array))[:, 2].min()
    assert reached >= -40 - REACH_MM - 2.0
