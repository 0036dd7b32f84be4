from __future__ import annotations

import itertools

import numpy as np
import pytest

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.preprocessing.model_grid import (
    TOP_MARGIN_MM,
    atlas_window_for,
    brain_fraction_inside,
    from_model_grid,
    model_grid_for,
    to_model_grid,
)
from DALAnomalyLib.preprocessing.resampling import anti_aliasing_sigmas
from DALAnomalyLib.volume import IDENTITY_DIRECTION, Grid, Volume

MODEL_SHAPE = (38, 52, 40)
MODEL_SPACING = (4.0, 3.9, 4.2)  # x, y, z; all different, so that no mix-up of axes passes
SCAN_GRID = Grid((60, 70, 64), (2.5, 2.9, 2.3), (-70.0, -95.0, -40.0))


def brain(points: np.ndarray) -> np.ndarray:
    """Intensity of an asymmetric head-sized phantom at LPS points (..., 3) in mm; 0 outside."""

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return (((points - centre) / radii) ** 2).sum(axis=-1) < 1

    hemispheres = ellipsoid((0, 0, 30), (62, 80, 55))
    temporal_lobe = ellipsoid((38, -20, -2), (22, 40, 20))
    cerebellum = ellipsoid((-8, 50, -5), (40, 24, 20))
    lesion = ellipsoid((-25, 20, 45), (12, 14, 10))
    shading = 100 + 0.3 * points[..., 0] + 0.2 * points[..., 1] - 0.25 * points[..., 2]
    waves = 10 * np.sin(points[..., 0] / 9) * np.cos(points[..., 1] / 12)
    return (shading + waves + 60 * lesion) * (hemispheres | temporal_lobe | cerebellum)


def sampled(grid: Grid) -> tuple[Volume, Volume]:
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)
    array = brain(grid.index_to_physical(indices)).astype(np.float32)
    return Volume(array, grid), Volume((array > 0).astype(np.uint8), grid)


def rotation(degrees: float) -> np.ndarray:
    """About an axis that is oblique itself (Rodrigues)."""
    x, y, z = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def reordered(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same physical image with its array axes permuted, then some of them reversed."""
    grid = volume.grid
    columns = np.reshape(grid.direction, (3, 3))[:, ::-1]  # along k, j, i
    spacing = np.array(grid.spacing)[::-1]
    shape = np.array(grid.shape)[list(order)]
    columns, spacing = columns[:, order], spacing[list(order)]
    array, origin = volume.array.transpose(order), np.array(grid.origin)
    for axis, flipped in enumerate(flips):
        if flipped:
            array = np.flip(array, axis)
            origin = origin + columns[:, axis] * spacing[axis] * (shape[axis] - 1)
            columns = columns * np.where(np.arange(3) == axis, -1, 1)
    new_grid = Grid(
        tuple(shape.tolist()), tuple(spacing[::-1].tolist()), tuple(origin), tuple(columns[:, ::-1].ravel())
    )
    return Volume(np.ascontiguousarray(array), new_grid)


def oblique(grid: Grid, degrees: float) -> Grid:
    """`grid` turned about its own centre."""
    centre = grid.index_to_physical((np.array(grid.shape) - 1) / 2)
    turned = rotation(degrees)
    origin = centre + turned @ (np.array(grid.origin) - centre)
    return Grid(grid.shape, grid.spacing, tuple(origin), tuple(turned.ravel()))


# --- the same physical image gives the same result --------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 20])
def test_all_48_axis_orders_and_senses_give_the_same_model_image(degrees: float) -> None:
    volume, mask = sampled(oblique(SCAN_GRID, degrees))
    grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    image, brain_mask = to_model_grid(volume, mask, grid)
    assert brain_mask.sum() * grid.voxel_volume_ml == pytest.approx(
        mask.array.sum() * mask.grid.voxel_volume_ml, rel=0.01
    )
    variants = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
    assert len(variants) == 48
    for order, flips in variants:
        other_volume, other_mask = reordered(volume, order, flips), reordered(mask, order, flips)
        other_grid = model_grid_for(other_mask, MODEL_SHAPE, MODEL_SPACING)
        assert grid.is_close(other_grid, tolerance=1e-6), (order, flips)
        other_image, other_brain_mask = to_model_grid(other_volume, other_mask, other_grid)
        np.testing.assert_array_equal(brain_mask, other_brain_mask)
        np.testing.assert_allclose(image, other_image, rtol=1e-4, err_msg=str((order, flips)))


def test_a_border_midway_between_voxels_is_decided_alike_in_all_48_orders() -> None:
    scan_grid = Grid((12, 16, 14), (0.7, 0.7, 0.7), (0.1, 0.2, 0.3))
    array = np.zeros(scan_grid.shape, np.uint8)
    array[3:9, 5:13, 1:11] = 1
    mask = Volume(array, scan_grid)
    grid = Grid((6, 8, 7), (1.4, 1.4, 1.4), (0.45, 0.55, 0.65))  # from (0.5, 0.5, 0.5) in steps of two voxels
    expected = to_model_grid(mask, mask, grid)[1]
    assert expected[1, 4, 3] == expected[4, 4, 3] == 1  # half a voxel is brain
    assert expected[1, 2, 0] == 0  # a corner: an eighth
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            other = reordered(mask, order, flips)
            np.testing.assert_array_equal(to_model_grid(other, other, grid)[1], expected)


def test_all_48_axis_orders_and_senses_give_the_same_map_on_the_scan() -> None:
    volume, mask = sampled(SCAN_GRID)
    grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    score = to_model_grid(volume, mask, grid)[0]
    expected = from_model_grid(score, grid, volume.grid, "linear")
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            other_grid = reordered(volume, order, flips).grid
            back = from_model_grid(score, grid, other_grid, "linear")
            assert back.grid == other_grid
            np.testing.assert_allclose(back.array, reordered(expected, order, flips).array, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("degrees", [7, 20, 45])
def test_oblique_scan_of_the_same_brain_gives_the_same_model_image_within_resampling_error(degrees: float) -> None:
    """Stated error: grid within half a scan voxel, masks overlap by 99 %, intensities within 0.2 % on average."""
    fine = Grid((90, 90, 90), (2.0, 2.0, 2.0), (-89.0, -89.0, -64.0))
    volume, mask = sampled(fine)
    other_volume, other_mask = sampled(oblique(fine, degrees))
    grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    assert grid.is_close(model_grid_for(other_mask, MODEL_SHAPE, MODEL_SPACING), tolerance=1.0)
    image, brain_mask = to_model_grid(volume, mask, grid)
    other_image, other_brain_mask = to_model_grid(other_volume, other_mask, grid)
    both = (brain_mask & other_brain_mask) > 0
    assert 2 * both.sum() > 0.99 * (brain_mask.sum() + other_brain_mask.sum())
    assert np.abs(image - other_image)[both].mean() < 0.002 * image[both].mean()


# --- placing the grid -------------------------------------------------------------------------------------------------


def test_brain_box_is_centred_and_hangs_from_the_top() -> None:
    array = np.zeros(SCAN_GRID.shape, np.uint8)
    array[10:41, 20:51, 30:41] = 1
    grid = model_grid_for(Volume(array, SCAN_GRID), MODEL_SHAPE, MODEL_SPACING)
    assert grid.shape == MODEL_SHAPE
    assert grid.spacing == MODEL_SPACING
    assert grid.direction == IDENTITY_DIRECTION
    centre = grid.index_to_physical((np.array(MODEL_SHAPE) - 1) / 2)
    assert centre[0] == pytest.approx(-70 + 2.5 * 35)
    assert centre[1] == pytest.approx(-95 + 2.9 * 35)
    uppermost_plane = grid.index_to_physical([MODEL_SHAPE[0] - 1, 0, 0])[2]
    assert uppermost_plane - (-40 + 2.3 * 40) == pytest.approx(TOP_MARGIN_MM)


def test_how_deep_the_scan_was_cut_does_not_move_the_grid() -> None:
    _, mask = sampled(SCAN_GRID)
    cut = mask.array.copy()
    cut[:12] = 0
    whole_grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    assert whole_grid.is_close(model_grid_for(mask.with_array(cut), MODEL_SHAPE, MODEL_SPACING))


def test_part_of_the_brain_that_the_grid_cannot_hold_is_known() -> None:
    mask = Volume(np.ones((10, 10, 10), np.uint8), Grid((10, 10, 10), (5.0, 5.0, 5.0)))
    assert brain_fraction_inside(mask, model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)) == 1.0
    # 2 voxels of 10 mm from left to right reach 20 mm of 50: the columns at 15, 20, 25 and 30 mm.
    narrow = Grid((20, 20, 2), (10.0, 10.0, 10.0), (17.5, 0.0, 0.0))
    assert brain_fraction_inside(mask, narrow) == pytest.approx(0.4)


@pytest.mark.parametrize("function", ["model_grid_for", "brain_fraction_inside", "to_model_grid"])
def test_empty_mask_is_refused(function: str) -> None:
    empty = Volume(np.zeros((8, 8, 8), np.uint8), Grid((8, 8, 8), (1.0, 1.0, 1.0)))
    calls = {
        "model_grid_for": lambda: model_grid_for(empty, MODEL_SHAPE, MODEL_SPACING),
        "brain_fraction_inside": lambda: brain_fraction_inside(empty, SCAN_GRID),
        "to_model_grid": lambda: to_model_grid(empty, empty, SCAN_GRID),
    }
    with pytest.raises(InputError, match="mask is empty"):
        calls[function]()


def test_mask_on_another_grid_is_refused() -> None:
    volume, mask = sampled(SCAN_GRID)
    elsewhere = Volume(mask.array, Grid(SCAN_GRID.shape, SCAN_GRID.spacing))
    with pytest.raises(GeometryError, match="resample the mask"):
        to_model_grid(volume, elsewhere, SCAN_GRID)


# --- resampling -------------------------------------------------------------------------------------------------------


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    volume, mask = sampled(SCAN_GRID)
    image, brain_mask = to_model_grid(volume, mask, SCAN_GRID)
    np.testing.assert_array_equal(brain_mask, mask.array)
    np.testing.assert_allclose(image, volume.array, rtol=1e-5)


def test_border_of_a_uniform_brain_is_not_darkened() -> None:
    _, mask = sampled(SCAN_GRID)
    volume = mask.with_array(np.where(mask.array > 0, 100.0, -30.0))  # what lies outside the mask must not count
    image, brain_mask = to_model_grid(volume, mask, model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING))
    assert brain_mask.any()
    np.testing.assert_allclose(image[brain_mask > 0], 100, rtol=1e-5)
    assert not image[brain_mask == 0].any()


def test_brain_that_fills_the_scan_reaches_half_a_voxel_beyond_its_outermost_centres() -> None:
    grid = Grid((10, 10, 10), (4.0, 4.0, 4.0))
    full = Volume(np.ones(grid.shape, np.uint8), grid)
    fine = Grid((1, 1, 100), (0.5, 1.0, 1.0), (-5.0, 18.0, 18.0))
    _, line = to_model_grid(full, full, fine)
    inside = fine.index_to_physical(np.argwhere(line))[:, 0]
    assert (inside.min(), inside.max()) == (-2.0, 38.0)


def test_position_survives_the_way_there_and_back() -> None:
    """A linear intensity is kept by smoothing and linear interpolation, so that any shift would show."""
    _, mask = sampled(SCAN_GRID)
    points = SCAN_GRID.index_to_physical(np.moveaxis(np.indices(SCAN_GRID.shape), 0, -1))
    ramp = points @ [1.0, -2.0, 3.0] + 1000
    grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    image, _ = to_model_grid(mask.with_array(ramp), mask, grid)
    back = from_model_grid(image, grid, SCAN_GRID, "linear")
    assert back.grid is SCAN_GRID
    core = (slice(25, 40), slice(22, 45), slice(20, 40))  # far enough from the brain's border
    np.testing.assert_allclose(back.array[core], ramp[core], atol=0.05)


def test_detail_finer_than_the_model_grid_is_averaged_out() -> None:
    grid = Grid((60, 60, 60), (1.0, 1.0, 1.0))
    stripes = Volume(np.broadcast_to(np.arange(60) % 2 * 100.0, grid.shape), grid)
    everywhere = Volume(np.ones(grid.shape, np.uint8), grid)
    coarse = Grid((12, 12, 12), (4.0, 4.0, 4.0), (8.0, 8.0, 8.0))
    image, _ = to_model_grid(stripes, everywhere, coarse)
    np.testing.assert_allclose(image, 50, atol=1)  # without smoothing 0, as every fourth voxel is dark


def test_smoothing_is_what_the_voxel_sizes_lack() -> None:
    source = Grid((10, 10, 10), (1.0, 2.0, 5.0))
    target = Grid((10, 10, 10), (2.0, 3.0, 4.0))
    k, j, i = anti_aliasing_sigmas(source, target)
    assert i == pytest.approx(np.sqrt((2**2 - 1**2) / 12) / 1)
    assert j == pytest.approx(np.sqrt((3**2 - 2**2) / 12) / 2)
    assert k == 0


def test_smoothing_follows_the_directions_of_the_scan() -> None:
    sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # i runs along y, j along z, k along x
    k, j, i = anti_aliasing_sigmas(
        Grid((9, 9, 9), (1.0, 1.0, 1.0), direction=sagittal), Grid((9, 9, 9), (2.0, 3.0, 4.0))
    )
    np.testing.assert_allclose([k, j, i], np.sqrt((np.array([2.0, 4.0, 3.0]) ** 2 - 1) / 12))


def test_labels_return_unmixed_with_their_type() -> None:
    _, mask = sampled(SCAN_GRID)
    grid = model_grid_for(mask, MODEL_SHAPE, MODEL_SPACING)
    labels = np.random.default_rng(0).choice([0, 1, 300], MODEL_SHAPE).astype(np.uint16)
    back = from_model_grid(labels, grid, SCAN_GRID, "nearest")
    assert back.array.dtype == np.uint16
    assert set(np.unique(back.array)) == {0, 1, 300}
    nearest = np.rint(grid.physical_to_index(SCAN_GRID.index_to_physical([30, 35, 32]))).astype(int)
    assert back.array[30, 35, 32] == labels[tuple(nearest)]


def test_outside_the_model_grid_the_result_is_zero() -> None:
    small = Grid((4, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 40.0))
    back = from_model_grid(np.ones(small.shape, np.float32), small, SCAN_GRID, "linear")
    inside = small.physical_to_index(SCAN_GRID.index_to_physical(np.argwhere(back.array)))
    assert len(inside) > 100
    assert inside.min() >= -0.5
    assert inside.max() <= 3.5


# --- the fixed place in the atlas -------------------------------------------------------------------------------------

WINDOW_SHAPE, WINDOW_SPACING = (30, 40, 32), (5.0, 5.0, 5.0)
"""155 mm high, 200 mm long, 160 mm wide: 145 x 195 x 155 mm from the first voxel's centre to the last's."""


def box(size: tuple[float, float, float], centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Volume:
    """A brain with the shape of a box of this size (x, y, z) in mm."""
    x, y, z = (int(value) + 1 for value in size)
    origin = tuple(c - (n - 1) / 2 for c, n in zip(centre, (x, y, z), strict=True))
    return Volume(np.ones((z, y, x), np.uint8), Grid((z, y, x), (1.0, 1.0, 1.0), origin))


ATLAS_BRAIN = box((130, 170, 130))


def window(brain: Volume) -> Grid:
    return atlas_window_for(brain, ATLAS_BRAIN, WINDOW_SHAPE, WINDOW_SPACING)


FIXED = model_grid_for(ATLAS_BRAIN, WINDOW_SHAPE, WINDOW_SPACING)


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (9.0, -8.0, 3.0), (-12.0, 12.0, -8.0)])
def test_the_atlas_window_stays_in_place_while_it_holds_the_brain(centre: tuple[float, float, float]) -> None:
    assert window(box((120, 160, 125), centre)) == FIXED
    assert model_grid_for(box((120, 160, 125), centre), WINDOW_SHAPE, WINDOW_SPACING) != FIXED or centre == (0, 0, 0)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sense", [-1, 1])
def test_the_atlas_window_moves_no_farther_than_it_takes(axis: int, sense: int) -> None:
    centre = [0.0, 0.0, 0.0]
    centre[axis] = 30.0 * sense
    brain = box((130, 170, 130), tuple(centre))
    found = window(brain)
    shift = np.subtract(found.origin, FIXED.origin)
    assert np.count_nonzero(shift) == 1
    assert 0 < sense * shift[axis] < 30
    points = brain.grid.index_to_physical(np.argwhere(brain.array))[:, axis]
    last = found.origin[axis] + 5.0 * (WINDOW_SHAPE[2 - axis] - 1)
    if sense > 0:
        assert points.max() == pytest.approx(last), "its end touches the brain's"
    else:
        assert points.min() == pytest.approx(found.origin[axis])
    assert brain_fraction_inside(brain, found) == 1


def test_a_brain_larger_than_the_atlas_window_is_cut_alike_at_both_ends() -> None:
    brain = box((190, 170, 130), (20, 0, 0))
    found = window(brain)
    points = brain.grid.index_to_physical(np.argwhere(brain.array))[:, 0]
    last = found.origin[0] + 5.0 * (WINDOW_SHAPE[2] - 1)
    assert found.origin[0] - points.min() == pytest.approx(points.max() - last)
    assert found.origin[1:] == FIXED.origin[1:]


def test_the_atlas_window_of_an_empty_mask_is_refused() -> None:
    empty = ATLAS_BRAIN.with_array(np.zeros_like(ATLAS_BRAIN.array))
    with pytest.raises(InputError, match="brain mask is empty"):
        window(empty)
