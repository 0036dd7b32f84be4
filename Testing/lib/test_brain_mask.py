from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.brain_mask import background_value, foreground_mask
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume

SHAPE = (30, 34, 38)


def ball(radius: float, centre: tuple[float, float, float] = (15, 17, 19)) -> np.ndarray:
    offsets = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return (offsets**2).sum(axis=0) < radius**2


def mask_of(array: np.ndarray) -> np.ndarray:
    mask = foreground_mask(Volume(array.astype(np.float32), Grid(SHAPE, (1.0, 1.0, 1.0))))
    assert mask.array.dtype == np.uint8
    assert mask.array.max() == 1
    return mask.array.astype(bool)


@pytest.mark.parametrize("background", [0.0, -1.0, 50.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_brain_is_found_whatever_the_background_and_scale(background: float, scale: float) -> None:
    brain = ball(12)
    contrast = np.random.default_rng(0).uniform(5, 100, SHAPE)
    np.testing.assert_array_equal(mask_of((background + np.where(brain, contrast, 0)) * scale), brain)


def test_only_the_largest_piece_is_kept() -> None:
    brain, eye = ball(10), ball(3, (4, 4, 4))
    np.testing.assert_array_equal(mask_of(100 * (brain | eye)), brain)


def test_pieces_that_touch_by_a_corner_belong_together() -> None:
    array = np.zeros(SHAPE)
    array[5:15, 5:15, 5:15] = 1
    array[15:20, 15:20, 15:20] = 1
    np.testing.assert_array_equal(mask_of(array), array > 0)


def test_dark_and_negative_voxels_inside_the_brain_belong_to_it() -> None:
    brain, ventricle = ball(12), ball(3)
    array = 100.0 * brain
    array[ventricle] = 0
    array[15, 17, 25] = -5
    np.testing.assert_array_equal(mask_of(array), brain)


def test_a_groove_open_to_the_outside_stays_out() -> None:
    array = 100.0 * ball(12)
    array[:, 17, 19] = 0
    assert not mask_of(array)[:, 17, 19].any()


def test_faint_residue_of_resampling_is_no_brain() -> None:
    brain = ball(10)
    np.testing.assert_array_equal(mask_of(np.where(brain, 100.0, np.where(ball(14), 0.05, 0.0))), brain)


def test_one_bright_voxel_does_not_raise_the_threshold() -> None:
    brain = ball(12)
    array = 100.0 * brain
    array[15, 17, 19] = 1e7
    np.testing.assert_array_equal(mask_of(array), brain)


def test_brain_cut_off_at_the_edge_of_the_scan_is_found() -> None:
    brain = ball(12, (0, 17, 0))
    np.testing.assert_array_equal(mask_of(100.0 * brain), brain)


def test_background_without_majority_on_the_faces_is_zero() -> None:
    assert background_value(np.random.default_rng(0).integers(1, 20, SHAPE)) == 0
    assert background_value(np.full(SHAPE, 7)) == 7


def test_background_is_sought_on_all_faces() -> None:
    array = np.full(SHAPE, 7)
    array[:5] = array[:, :5] = 90
    assert background_value(array) == 7
    np.testing.assert_array_equal(mask_of(array), array == 90)


@pytest.mark.parametrize("value", [0.0, -3.0, 5.0])
def test_image_without_foreground_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="no foreground"):
        mask_of(np.full(SHAPE, value))


@pytest.mark.skipif("DAL_DATA" not in os.environ, reason="needs DAL_DATA, the folder of real scans")
@pytest.mark.parametrize(
    ("name", "millilitres"),
    [("lesions/ms/mslub26_T1", 1120), ("lesions/ms/mslub26_T2", 1120), ("healthy_pair/kirby113_T2", 1336)],
)
def test_slightly_negative_or_bright_tailed_real_scans_give_the_whole_brain(name: str, millilitres: float) -> None:
    volume = read_volume(Path(os.environ["DAL_DATA"]) / f"{name}.nii.gz")
    mask = foreground_mask(volume)
    assert mask.array.sum() * mask.grid.voxel_volume_ml == pytest.approx(millilitres, rel=0.01)
    assert (volume.array[mask.array > 0] <= 0).any() == ("mslub" in name)
