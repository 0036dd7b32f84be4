from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.errors import CancelledError, GeometryError, InputError
from DALAnomalyLib.preprocessing.bias_field import BiasField, estimate_bias_field
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume

SAMPLE = Path(__file__).resolve().parents[2] / "Resources" / "SampleData" / "sample_T1.nii.gz"
THICK = Grid((20, 48, 40), (3.0, 3.0, 6.0), (10.0, -20.0, 5.0), (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))


def drift(grid: Grid, inside: np.ndarray, size: float = 0.5) -> np.ndarray:
    """A smooth log field of mean 0 inside, about `size` from one side to the other."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in grid.shape), indexing="ij")
    field = size * (0.5 * x - 0.4 * y * z + 0.6 * z**2 - 0.3 * x * y)
    return (field - field[inside].mean()).astype(np.float32)


def ball(grid: Grid, millimetres: float) -> np.ndarray:
    points = np.moveaxis(np.indices(grid.shape), 0, -1)
    return np.linalg.norm((points - np.array(grid.shape) / 2) * grid.spacing[::-1], axis=-1) < millimetres


def tissues(grid: Grid, millimetres: float) -> tuple[Volume, Volume]:
    """A ball of two tissues in blobs, with noise, and its mask."""
    inside = ball(grid, millimetres)
    k, j, i = np.indices(grid.shape)
    blobs = np.sin(i * 0.9) + np.sin(j * 0.8 + 1) + np.sin(k * 1.1 + 2) > 0
    array = np.where(blobs, 300.0, 200.0) + np.random.default_rng(0).normal(0, 5, grid.shape)
    return Volume(np.where(inside, array, 0).astype(np.float32), grid), Volume(inside.astype(np.uint8), grid)


@pytest.fixture(scope="module")
def sample() -> tuple[Volume, Volume]:
    volume = read_volume(SAMPLE)
    return volume, foreground_mask(volume)


@pytest.fixture(scope="module")
def drifted(sample: tuple[Volume, Volume]) -> tuple[Volume, np.ndarray, BiasField]:
    """The sample scan under a known field, that field, and what is estimated from it."""
    volume, brain = sample
    field = drift(volume.grid, brain.array > 0)
    scan = volume.with_array((volume.array * np.exp(field)).astype(np.float32))
    return scan, field, estimate_bias_field(scan, brain)


def test_known_field_is_recovered_on_the_sample(
    sample: tuple[Volume, Volume], drifted: tuple[Volume, np.ndarray, BiasField]
) -> None:
    _, brain = sample
    _, field, bias = drifted
    inside = brain.array > 0
    estimate = np.zeros(brain.array.shape, np.float32)
    estimate[bias.box] = bias.log_field
    assert bias.log_field.dtype == np.float16
    assert np.corrcoef(estimate[inside], field[inside])[0, 1] > 0.9
    assert (estimate - field)[inside].std() < 0.5 * field[inside].std()
    assert bias.strength == pytest.approx(np.subtract(*np.percentile(field[inside], (95, 5))), rel=0.3)


def test_white_matter_becomes_even_and_the_mean_stays(
    sample: tuple[Volume, Volume], drifted: tuple[Volume, np.ndarray, BiasField]
) -> None:
    volume, brain = sample
    scan, _, bias = drifted
    inside = brain.array > 0
    corrected = bias.correct(scan)
    assert corrected.array.dtype == np.float32
    assert corrected.grid == scan.grid
    white = inside & (volume.array > np.percentile(volume.array[inside], 70))
    before, after = (image.array[white].std() / image.array[white].mean() for image in (scan, corrected))
    assert after < 0.75 * before
    assert corrected.array[inside].mean() == pytest.approx(scan.array[inside].mean(), rel=0.03)
    outside = np.ones(scan.array.shape, bool)
    outside[bias.box] = False
    np.testing.assert_array_equal(corrected.array[outside], scan.array[outside])


def test_same_scan_gives_the_same_field_whatever_its_scale_and_place(sample: tuple[Volume, Volume]) -> None:
    volume, brain = sample
    grid = volume.grid
    first = estimate_bias_field(volume, brain, shrink=8)
    again = estimate_bias_field(volume, brain, shrink=8)
    np.testing.assert_array_equal(first.log_field, again.log_field)
    turned = Grid(grid.shape, grid.spacing, (7.0, 8.0, 9.0), THICK.direction)
    scaled = estimate_bias_field(Volume(volume.array * 1000, turned), Volume(brain.array, turned), shrink=8)
    assert scaled.box == first.box
    np.testing.assert_allclose(scaled.log_field, first.log_field, atol=0.02)


def test_thick_slices_are_not_thinned_out_and_keep_their_field() -> None:
    volume, brain = tissues(THICK, 52.0)
    inside = brain.array > 0
    field = drift(THICK, inside, 0.8)
    bias = estimate_bias_field(volume.with_array((volume.array * np.exp(field)).astype(np.float32)), brain)
    estimate = np.zeros(THICK.shape, np.float32)
    estimate[bias.box] = bias.log_field
    assert np.corrcoef(estimate[inside], field[inside])[0, 1] > 0.9
    assert (estimate - field)[inside].std() < 0.5 * field[inside].std()


def test_flat_image_has_a_flat_field() -> None:
    _, brain = tissues(THICK, 50.0)
    flat = brain.with_array(brain.array * np.float32(250))
    bias = estimate_bias_field(flat, brain)
    assert bias.strength == 0
    np.testing.assert_array_equal(bias.correct(flat).array, flat.array)
    noise = np.random.default_rng(0).normal(0, 5, THICK.shape).astype(np.float32)
    noisy = brain.with_array(brain.array * (250 + noise))
    assert estimate_bias_field(noisy, brain).strength < 0.02


def test_voxels_at_and_below_zero_inside_the_mask_do_no_harm() -> None:
    volume, brain = tissues(THICK, 52.0)
    clean = estimate_bias_field(volume, brain)
    array = volume.array.copy()
    centre = tuple(size // 2 for size in THICK.shape)
    array[centre] = 0
    array[centre[0], centre[1] + 2 :, centre[2]] = -40
    bias = estimate_bias_field(volume.with_array(array), brain)
    assert np.isfinite(bias.log_field).all()
    inside = brain.array[bias.box] > 0
    assert np.abs(bias.log_field - clean.log_field)[inside].max() < 0.1
    corrected = bias.correct(volume.with_array(array)).array
    assert corrected[centre] == 0
    assert (corrected < 0).sum() == (array < 0).sum()


@pytest.mark.parametrize("millimetres", [2.0, 9.0, 14.0])
def test_tiny_brain_gives_a_finite_field(millimetres: float) -> None:
    volume, brain = tissues(Grid((30, 40, 36), (1.0, 1.0, 1.0)), millimetres)
    bias = estimate_bias_field(volume, brain)
    assert np.isfinite(bias.log_field).all()
    assert bias.strength < 1
    assert np.isfinite(bias.correct(volume).array).all()


def test_few_thick_slices_give_a_finite_field() -> None:
    volume, brain = tissues(Grid((9, 60, 60), (1.0, 1.0, 6.0)), 24.0)
    bias = estimate_bias_field(volume, brain)
    assert np.isfinite(bias.log_field).all()
    assert bias.log_field.shape == bias.correct(volume).array[bias.box].shape


def test_field_lies_where_the_scan_needs_it_for_every_step() -> None:
    """A ramp must not be shifted or stretched by shrinking: its value is compared voxel by voxel."""
    grid = Grid((47, 53, 50), (1.0, 1.0, 1.0))
    volume, brain = tissues(grid, 22.0)
    inside = brain.array > 0
    ramp = np.broadcast_to(np.linspace(-0.5, 0.5, 50), grid.shape)
    scan = volume.with_array((volume.array * np.exp(ramp)).astype(np.float32))
    for shrink in (2, 3):
        estimates = []
        for image in (volume, scan):
            bias = estimate_bias_field(image, brain, shrink=shrink)
            field = np.zeros(grid.shape, np.float32)
            field[bias.box] = bias.log_field
            estimates.append(field)
        slope, offset = np.polyfit(ramp[inside], (estimates[1] - estimates[0])[inside], 1)
        assert slope == pytest.approx(1, abs=0.1)
        assert offset == pytest.approx(-ramp[inside].mean(), abs=0.01)


def test_cancelling_stops_inside_the_iterations(capfd: pytest.CaptureFixture[str]) -> None:
    volume, brain = tissues(Grid((60, 70, 65), (1.0, 1.0, 1.0)), 30.0)
    token = CancelToken()
    timer = threading.Timer(0.4, token.cancel)
    timer.start()
    start = time.process_time()
    with pytest.raises(CancelledError):
        estimate_bias_field(volume, brain, shrink=1, cancel=token)
    assert time.process_time() - start < 6, "the whole run takes more than a minute"
    timer.join()
    with pytest.raises(CancelledError):
        estimate_bias_field(volume, brain, shrink=1, cancel=token)
    assert capfd.readouterr().err == ""


def test_what_does_not_fit_is_refused() -> None:
    volume, brain = tissues(THICK, 50.0)
    with pytest.raises(InputError, match="mask is empty"):
        estimate_bias_field(volume, brain.with_array(np.zeros(THICK.shape, np.uint8)))
    with pytest.raises(InputError, match="above 0 in the scan"):
        estimate_bias_field(volume.with_array(-volume.array), brain)
    with pytest.raises(GeometryError, match="resample the mask"):
        estimate_bias_field(volume, Volume(brain.array, Grid(THICK.shape, (3.0, 3.0, 5.0))))
    box = (slice(0, 4), slice(0, 4), slice(0, 4))
    bias = BiasField(np.zeros((4, 4, 4), np.float16), box, 0.0)
    with pytest.raises(GeometryError, match="estimate it from this scan"):
        bias.correct(Volume(np.zeros((3, 9, 9)), Grid((3, 9, 9), (1.0, 1.0, 1.0))))
