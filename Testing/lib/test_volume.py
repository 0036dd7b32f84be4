from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.volume import Grid, Volume, lps_to_ras

COSINE, SINE = math.cos(0.3), math.sin(0.3)
OBLIQUE = (COSINE, -SINE, 0.0, SINE, COSINE, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((4, 5, 6), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), OBLIQUE)


def test_index_to_physical_agrees_with_simpleitk() -> None:
    image = sitk.Image([6, 5, 4], sitk.sitkUInt8)
    image.SetSpacing(GRID.spacing)
    image.SetOrigin(GRID.origin)
    image.SetDirection(GRID.direction)
    indices = np.array([[0, 0, 0], [3, 4, 5], [1.5, 0.25, 2.0]])  # k, j, i
    expected = [image.TransformContinuousIndexToPhysicalPoint(index[::-1].tolist()) for index in indices]
    np.testing.assert_allclose(GRID.index_to_physical(indices), expected, atol=1e-12)


def test_physical_to_index_inverts_index_to_physical_whatever_the_leading_shape() -> None:
    indices = np.random.default_rng(0).uniform(-5, 5, (2, 7, 3))
    np.testing.assert_allclose(GRID.physical_to_index(GRID.index_to_physical(indices)), indices, atol=1e-12)


def test_affine_takes_i_j_k() -> None:
    np.testing.assert_allclose(GRID.affine @ [3, 2, 1, 1], [*GRID.index_to_physical([1, 2, 3]), 1])


def test_voxel_volume_is_in_millilitres() -> None:
    assert GRID.voxel_volume_ml == pytest.approx(0.006)


def test_is_close_measures_the_largest_shift_of_any_voxel() -> None:
    def shifted(by: float) -> Grid:
        return Grid(GRID.shape, GRID.spacing, (10.0 + by, -20.0, 30.0), OBLIQUE)

    assert GRID.is_close(shifted(0.9e-3))
    assert not GRID.is_close(shifted(1.1e-3))
    assert GRID.is_close(shifted(1.1e-3), tolerance=1e-2)
    # 0.0004 mm more per voxel is little, but the last of the six lies 5 steps from the first.
    assert not GRID.is_close(Grid(GRID.shape, (1.0004, 2.0, 3.0), GRID.origin, OBLIQUE))
    assert not GRID.is_close(Grid((4, 5, 7), GRID.spacing, GRID.origin, OBLIQUE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (4, 5)}, "shape"),
        ({"shape": (4, 0, 6)}, "shape"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, math.nan, 1.0)}, "spacing"),
        ({"origin": (0.0, math.inf, 0.0)}, "origin"),
        ({"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}, "direction"),
        ({"direction": (1.0, 0.01, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "orthonormal"),
        ({"direction": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)}, "orthonormal"),
        ({"direction": (0.0,) * 9}, "orthonormal"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"shape": (4, 5, 6), "spacing": (1.0, 1.0, 1.0)}
    with pytest.raises(GeometryError, match=message):
        Grid(**(valid | change))


def test_left_handed_direction_is_allowed() -> None:
    flipped = Grid((4, 5, 6), (1.0, 1.0, 1.0), direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    np.testing.assert_array_equal(flipped.index_to_physical([1, 2, 3]), [-3, 2, 1])


def test_volume_refuses_an_array_of_another_shape() -> None:
    with pytest.raises(GeometryError, match=r"\(6, 5, 4\).*\(4, 5, 6\)"):
        Volume(np.zeros((6, 5, 4)), GRID)


def test_with_array_keeps_the_grid() -> None:
    other = Volume(np.zeros(GRID.shape), GRID).with_array(np.ones(GRID.shape, np.uint8))
    assert other.grid is GRID
    assert other.array.dtype == np.uint8
    with pytest.raises(GeometryError):
        other.with_array(np.zeros(3))


def test_lps_to_ras_mirrors_left_right_and_front_back() -> None:
    np.testing.assert_array_equal(lps_to_ras([[1, 2, 3], [-4, 5, -6]]), [[-1, -2, 3], [4, -5, -6]])
