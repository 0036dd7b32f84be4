from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume

POINTS = np.random.default_rng(0).uniform(-100, 100, (50, 3))


def motion(seed: int) -> RigidTransform:
    rng = np.random.default_rng(seed)
    return RigidTransform.from_matrix(Rotation.random(random_state=seed).as_matrix(), rng.uniform(-80, 80, 3))


def test_default_leaves_points_where_they_are() -> None:
    np.testing.assert_array_equal(RigidTransform().apply(POINTS), POINTS)
    assert RigidTransform().angle_degrees == 0


def test_quarter_turn_about_the_superior_axis_takes_left_to_posterior_and_then_translates() -> None:
    turn = RigidTransform((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0), (10.0, 20.0, 30.0))
    np.testing.assert_allclose(turn.apply([5.0, 0.0, 0.0]), [10.0, 25.0, 30.0])
    assert turn.angle_degrees == pytest.approx(90)


@pytest.mark.parametrize("degrees", [0.0, 0.01, 12.0, 90.0, 180.0])
def test_angle_is_that_of_the_rotation_about_its_axis(degrees: float) -> None:
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    assert RigidTransform.from_matrix(rotation, np.zeros(3)).angle_degrees == pytest.approx(degrees, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_inverse_takes_everything_back(seed: int) -> None:
    transform = motion(seed)
    np.testing.assert_allclose(transform.inverse().apply(transform.apply(POINTS)), POINTS, atol=1e-10)
    np.testing.assert_allclose(transform.apply(transform.inverse().apply(POINTS)), POINTS, atol=1e-10)


def test_after_applies_its_argument_first() -> None:
    first, second = motion(1), motion(2)
    np.testing.assert_allclose(second.after(first).apply(POINTS), second.apply(first.apply(POINTS)), atol=1e-10)


def test_nearly_orthonormal_matrix_becomes_the_nearest_rotation() -> None:
    rotation = motion(3).matrix
    noisy = rotation + 1e-4 * np.random.default_rng(0).normal(size=(3, 3))
    transform = RigidTransform.from_matrix(noisy, np.zeros(3))
    np.testing.assert_allclose(transform.matrix @ transform.matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(transform.matrix, rotation, atol=1e-3)


def test_result_is_never_a_reflection() -> None:
    transform = RigidTransform.from_matrix(np.diag([1.0, 1.0, -0.9]), np.zeros(3))
    assert np.linalg.det(transform.matrix) == pytest.approx(1)


@pytest.mark.parametrize("flip", [1.0, -1.0], ids=["right-handed", "left-handed"])
def test_moved_volume_keeps_its_voxels_and_each_lies_where_the_transform_takes_it(flip: float) -> None:
    direction = Rotation.random(random_state=7).as_matrix() * [flip, 1.0, 1.0]
    grid = Grid((4, 5, 6), (0.9, 1.1, 5.0), (-30.0, 12.0, 7.0), tuple(direction.ravel()))
    volume = Volume(np.arange(120.0).reshape(4, 5, 6), grid)
    transform = motion(4)
    moved = transform.move(volume)
    assert moved.array is volume.array
    indices = np.argwhere(np.ones(grid.shape))
    expected = transform.apply(grid.index_to_physical(indices))
    np.testing.assert_allclose(moved.grid.index_to_physical(indices), expected, atol=1e-9)


def test_thousand_moves_there_and_back_stay_on_the_grid() -> None:
    grid = Grid((4, 5, 6), (1.0, 1.0, 1.0))
    transform, moved = motion(5), grid
    for _ in range(1000):
        moved = transform.inverse().move_grid(transform.move_grid(moved))
    assert moved.is_close(grid, 1e-6)
