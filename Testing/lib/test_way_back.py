"""What is painted on the model grid comes back to the right place of the scan as it was read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from DALAnomalyLib.errors import CancelledError
from DALAnomalyLib.preprocessing.chain import PlacedScan
from DALAnomalyLib.preprocessing.intensity_standardisation import IntensityMap
from DALAnomalyLib.preprocessing.model_grid import model_grid_for, to_model_grid
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.preprocessing.registration import Registration
from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.preprocessing.way_back import WayBack
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume
from Testing.lib.atlas_phantom import motion
from Testing.lib.phantom import SCAN_GRID, brain_mask, oblique, reordered, scan

TO_ATLAS = motion(25, (1, 2, -3), (0, 0, 0)).after(RigidTransform(translation=(119.0, -109.0, 70.0)))
"""As registration gives it: the phantom's brain, around 0, goes to the atlas' place, turned."""
VARIANTS = {
    "upright": (SCAN_GRID, (0, 1, 2), (False, False, False)),
    "flipped": (SCAN_GRID, (0, 1, 2), (True, False, True)),
    "permuted": (SCAN_GRID, (2, 0, 1), (False, True, False)),
    "oblique": (oblique(SCAN_GRID, 20), (0, 1, 2), (False, False, False)),
    "oblique, permuted and flipped": (oblique(SCAN_GRID, 35), (1, 2, 0), (True, True, False)),
}
MODEL_SHAPE, MODEL_SPACING = (44, 52, 46), (4.0, 4.0, 4.0)


def original(name: str) -> tuple[Volume, Volume]:
    """Scan and brain mask as they are read."""
    grid, order, flips = VARIANTS[name]
    return reordered(scan(grid), order, flips), reordered(brain_mask(grid), order, flips)


def prepared(name: str, intensities: IntensityMap | None = None, gain: np.ndarray | None = None) -> PreparedScan:
    """A scan whose registration is known, put together by hand."""
    volume, mask = original(name)
    upright, brain = to_anatomical_order(volume), to_anatomical_order(mask)
    registration = Registration(TO_ATLAS, 1.0, 1.0, 1, "simpleitk", True, "as told")
    gain = np.ones((1, 1, 1), np.float32) if gain is None else gain
    placed = PlacedScan(volume.grid, upright, upright, gain, brain, False, TO_ATLAS, registration)
    grid = model_grid_for(placed.moved_brain, MODEL_SHAPE, MODEL_SPACING)
    arrays = to_model_grid(placed.moved, placed.moved_brain, grid)
    raw, inside = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
    unchanged = IntensityMap(torch.tensor([0.0, 1000.0]), torch.tensor([0.0, 1000.0]))
    tensors = (raw[None, None], raw[None, None], inside[None, None])
    return PreparedScan(*tensors, grid, placed, intensities or unchanged, "T2", "", (), ())


def points_of(grid: Grid) -> np.ndarray:
    return grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))[None, None]


LANDMARK = np.array([14.0, -22.0, 11.0])
"""A place in the head, LPS mm of the scan."""


@pytest.mark.parametrize("name", VARIANTS)
def test_a_label_comes_back_to_where_it_belongs(name: str) -> None:
    scan_parts = prepared(name)
    ball = np.linalg.norm(points_of(scan_parts.grid) - TO_ATLAS.apply(LANDMARK), axis=-1) < 13
    back = WayBack(scan_parts, CancelToken()).labels(tensor(ball * 7))
    assert back.grid == original(name)[0].grid
    assert set(np.unique(back.array)) == {0, 7}
    centre = back.grid.index_to_physical(np.argwhere(back.array)).mean(axis=0)
    np.testing.assert_allclose(centre, LANDMARK, atol=1.0)
    volume = np.count_nonzero(back.array) * back.grid.voxel_volume_ml
    assert volume == pytest.approx(4 / 3 * np.pi * 1.3**3, rel=0.1)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_voxel_gets_the_value_of_its_own_place(name: str) -> None:
    """Linear interpolation keeps a linear map, so that the smallest shift would show: stated error 0.01 mm."""
    scan_parts = prepared(name)
    back = WayBack(scan_parts, CancelToken())
    mask = original(name)[1]
    inside = mask.array > 0
    assert inside.mean() > 0.2
    places = TO_ATLAS.apply(points_of(mask.grid))
    low = points_of(scan_parts.grid).min(axis=(0, 1, 2)) - 10
    for axis in range(3):
        found = back.continuous(tensor(points_of(scan_parts.grid)[..., axis] - low[axis]))
        assert found.grid == mask.grid
        assert found.array.dtype == np.float32
        assert not found.array[~inside].any()
        np.testing.assert_allclose(found.array[inside], places[inside][:, axis] - low[axis], atol=0.01)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_pseudo_healthy_image_carries_the_bias_field_again(name: str) -> None:
    upright = to_anatomical_order(original(name)[0]).grid
    gain = np.exp(points_of(upright) @ (0.004, -0.003, 0.002)).astype(np.float32)
    double = IntensityMap(torch.tensor([0.0, 2000.0]), torch.tensor([0.0, 1.0]))
    scan_parts = prepared(name, double, gain)
    healthy = 0.3 * scan_parts.brain
    found = WayBack(scan_parts, CancelToken()).intensities(healthy)
    volume, mask = original(name)
    inside = mask.array > 0
    expected = 600 * np.exp(points_of(volume.grid) @ (0.004, -0.003, 0.002))
    assert not found.array[~inside].any()
    seen = found.array[inside] > 0
    assert seen.mean() > 0.97
    np.testing.assert_allclose(found.array[inside][seen], expected[inside][seen], rtol=1e-3)


def test_without_bias_correction_intensities_are_the_scans() -> None:
    """Without a dark rim, too, where the model grid's voxels are half brain."""
    scan_parts = prepared("permuted")
    found = WayBack(scan_parts, CancelToken()).intensities(500 * scan_parts.brain)
    np.testing.assert_allclose(found.array[found.array > 0], 500, rtol=1e-4)


def test_a_pose_that_is_ignored_shows() -> None:
    scan_parts = prepared("oblique")
    lost = replace(scan_parts, placed=replace(scan_parts.placed, to_atlas=RigidTransform()))
    ball = tensor(np.linalg.norm(points_of(scan_parts.grid) - TO_ATLAS.apply(LANDMARK), axis=-1) < 13)
    assert not WayBack(lost, CancelToken()).labels(ball).array.any()


def test_cancelling_stops_the_way_back() -> None:
    token = CancelToken()
    back = WayBack(prepared("upright"), token)
    token.cancel()
    values = tensor(np.ones(MODEL_SHAPE))
    for bring in (back.continuous, back.intensities, back.labels):
        with pytest.raises(CancelledError):
            bring(values)
