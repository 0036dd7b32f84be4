from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.preprocessing.reorient import from_anatomical_order, to_anatomical_order
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib.phantom import oblique, reordered

SHAPE = (4, 6, 5)
UPRIGHT = Grid(SHAPE, (0.9, 1.1, 5.5), (-3.0, 2.0, -7.0))
ORDERS = list(product(permutations(range(3)), product((False, True), repeat=3)))


def numbered(grid: Grid) -> Volume:
    return Volume(np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape), grid)


def assert_same_grid(grid: Grid, expected: Grid) -> None:
    assert grid.is_close(expected, 1e-9), f"{grid} is not {expected}"


@pytest.mark.parametrize("degrees", [0.0, 25.0, -40.0])
@pytest.mark.parametrize(("order", "flips"), ORDERS)
def test_every_order_becomes_anatomical_and_comes_back(
    order: tuple[int, ...], flips: tuple[bool, ...], degrees: float
) -> None:
    upright = numbered(oblique(UPRIGHT, degrees, (1.0, 0.4, 0.2)))
    stored = reordered(upright, order, flips)
    anatomical = to_anatomical_order(stored)
    np.testing.assert_array_equal(anatomical.array, upright.array)
    assert_same_grid(anatomical.grid, upright.grid)
    back = from_anatomical_order(anatomical, stored.grid)
    np.testing.assert_array_equal(back.array, stored.array)
    assert back.grid == stored.grid
    for volume in (anatomical, back):
        assert volume.array.flags.c_contiguous
        assert volume.array.dtype == np.int32
    assert not np.may_share_memory(anatomical.array, stored.array)
    assert not np.may_share_memory(back.array, anatomical.array)


def test_voxels_stay_where_they_are_on_any_oblique_grid() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        grid = oblique(UPRIGHT, generator.uniform(-180, 180), tuple(generator.normal(size=3)))
        volume = numbered(grid)
        anatomical = to_anatomical_order(volume)
        index = np.argwhere(anatomical.array == 77)[0]
        expected = grid.index_to_physical(np.argwhere(volume.array == 77)[0])
        np.testing.assert_allclose(anatomical.grid.index_to_physical(index), expected, atol=1e-9)
        assert all(np.diag(np.reshape(anatomical.grid.direction, (3, 3))) >= 0)
        np.testing.assert_array_equal(from_anatomical_order(anatomical, grid).array, volume.array)


@pytest.mark.parametrize("degrees", [45.0, -45.0, 135.0])
@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_ties_are_decided_alike_whatever_the_rounding(degrees: float, axis: tuple[float, float, float]) -> None:
    shapes = set()
    for tiny in (0.0, 1e-11, -1e-11, 3e-11):
        grid = oblique(UPRIGHT, degrees + tiny, axis)
        anatomical = to_anatomical_order(numbered(grid))
        shapes.add((anatomical.grid.shape, anatomical.array.ravel()[0]))
        np.testing.assert_array_equal(from_anatomical_order(anatomical, grid).array, numbered(grid).array)
    assert len(shapes) == 1


def test_doing_it_twice_changes_nothing() -> None:
    once = to_anatomical_order(numbered(oblique(UPRIGHT, 100.0)))
    twice = to_anatomical_order(once)
    np.testing.assert_array_equal(twice.array, once.array)
    assert twice.grid == once.grid


def test_result_from_elsewhere_is_refused() -> None:
    stored = reordered(numbered(UPRIGHT), (2, 0, 1), (True, False, True))
    with pytest.raises(GeometryError, match="anatomical order"):
        from_anatomical_order(stored, stored.grid)


def test_sagittal_scan_of_a_hospital_becomes_upright(data_folder: Path) -> None:
    volume = read_volume(data_folder / "ixi_t1_2mm" / "IXI034_T1.nii.gz")
    anatomical = to_anatomical_order(volume)
    assert volume.grid.shape == (90, 120, 120)
    assert anatomical.grid.shape == (120, 120, 90)
    np.testing.assert_allclose(np.reshape(anatomical.grid.direction, (3, 3)), np.eye(3), atol=1e-6)
    back = from_anatomical_order(anatomical, volume.grid)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.grid == volume.grid
