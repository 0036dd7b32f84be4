"""Raw scans of whole heads through the shipped model: one head in several poses, and heads that lack something."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.detector import Detection, Detector
from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib.phantom import oblique, reordered, restored_order

pytestmark = pytest.mark.slow

ORDER, FLIPS = (1, 2, 0), (True, False, True)
SECONDS = 120.0
"""Of the processor, for the preprocessing of one scan."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(device="cpu")


def coarse(volume: Volume, axes: tuple[int, ...]) -> Volume:
    """Pairs of neighbours along these axes averaged, for speed."""
    array, spacing = volume.array, np.array(volume.grid.spacing)[::-1].copy()
    shift = np.zeros(3)
    for axis in axes:
        even = np.take(array, range(array.shape[axis] // 2 * 2), axis)
        array = (
            np.take(even, range(0, even.shape[axis], 2), axis) + np.take(even, range(1, even.shape[axis], 2), axis)
        ) / 2
        spacing[axis] *= 2
        shift[axis] = 0.5
    x, y, z = (float(value) for value in volume.grid.index_to_physical(shift))
    k, j, i = (float(value) for value in spacing)
    return Volume(np.ascontiguousarray(array), Grid(array.shape, (i, j, k), (x, y, z), volume.grid.direction))


def in_plane(volume: Volume) -> tuple[int, ...]:
    """The two array axes with the finest voxels."""
    return tuple(np.argsort(volume.grid.spacing[::-1])[:2].tolist())


@pytest.fixture(scope="module")
def raw_head(data_folder: Path) -> Volume:
    """A clinical T1 of a whole head, halved in plane."""
    volume = read_volume(data_folder / "raw_head" / "mslub_patient12_study1_T1.nii.gz")
    return coarse(volume, in_plane(volume))


# --- the same head ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(detector: Detector, raw_head: Volume) -> Detection:
    return detector.detect(raw_head)


def correlation(first: np.ndarray, second: np.ndarray, brain: np.ndarray) -> float:
    return float(np.corrcoef(first[brain], second[brain])[0, 1])


def test_the_raw_head_is_found_in_the_atlas(straight: Detection) -> None:
    assert straight.sequence == "T1"
    assert straight.prepared is not None
    assert straight.prepared.placed.in_atlas
    statuses = [(step.name, step.status) for step in straight.prepared.steps]
    assert ("brain_extraction", "done") in statuses
    assert ("registration", "done") in statuses
    volume = float(straight.brain_mask.array.sum()) * straight.brain_mask.grid.voxel_volume_ml
    assert 1000 < volume < 1800
    assert (straight.score.array > 0).any()


@pytest.mark.parametrize(("name", "enhances"), [("mslub_patient12_study1", True), ("TCGA-FG-6692", False)])
def test_an_enhancing_plexus_is_noticed(detector: Detector, data_folder: Path, name: str, enhances: bool) -> None:
    """Plexus and veins of the first head shine as after a contrast agent."""
    prepared = detector.prepare(ScanRequest(read_volume(data_folder / "raw_head" / f"{name}_T1.nii.gz")))
    noticed = [warning for warning in prepared.warnings if "as after a contrast agent" in warning]
    assert len(noticed) == enhances


def test_permuted_and_flipped_axes_give_the_same_map(detector: Detector, raw_head: Volume, straight: Detection) -> None:
    """Measured: the very same values. The chain puts the axes in anatomical order before it looks at the scan."""
    other = detector.detect(reordered(raw_head, ORDER, FLIPS))
    score, mask = (restored_order(volume.array, ORDER, FLIPS) for volume in (other.score, other.brain_mask))
    np.testing.assert_array_equal(mask, straight.brain_mask.array)
    assert correlation(score, straight.score.array, mask > 0) >= 0.999
    np.testing.assert_allclose(score, straight.score.array, rtol=0, atol=1e-3 * float(straight.score.array.max()))


@pytest.fixture(scope="module")
def askew(detector: Detector, raw_head: Volume) -> Detection:
    """The head held askew by 20 degrees; the voxels stay, so that only preprocessing can make a difference."""
    return detector.detect(Volume(raw_head.array, oblique(raw_head.grid, 20)))


def test_a_header_turned_obliquely_gives_the_same_brain(straight: Detection, askew: Detection) -> None:
    other = askew
    assert other.sequence == straight.sequence
    assert other.prepared is not None
    assert other.prepared.placed.in_atlas
    masks = other.brain_mask.array > 0, straight.brain_mask.array > 0
    assert 2 * np.sum(masks[0] & masks[1]) / (masks[0].sum() + masks[1].sum()) >= 0.98


def test_a_header_turned_obliquely_gives_the_same_map(straight: Detection, askew: Detection) -> None:
    inside = (askew.brain_mask.array > 0) & (straight.brain_mask.array > 0)
    assert correlation(askew.score.array, straight.score.array, inside) >= 0.99  # measured: .997


def test_with_a_given_brain_a_turned_header_gives_the_same_map(
    detector: Detector, raw_head: Volume, straight: Detection
) -> None:
    """The same without brain extraction: bias field, registration and what follows."""
    turned = oblique(raw_head.grid, 20)
    other = detector.detect(Volume(raw_head.array, turned), brain_mask=Volume(straight.brain_mask.array, turned))
    inside = straight.brain_mask.array > 0
    assert correlation(other.score.array, straight.score.array, inside) >= 0.95


# --- heads that something is wrong with -------------------------------------------------------------------------------


def prepared_or_refused(detector: Detector, volume: Volume) -> tuple[PreparedScan | None, tuple[str, ...]]:
    """What preprocessing makes of a scan, and what it says: warnings, or its refusal."""
    started = time.process_time()
    try:
        prepared = detector.prepare(ScanRequest(volume))
        said = prepared.warnings
    except DALAnomalyError as error:
        prepared, said = None, (str(error),)
    assert time.process_time() - started < SECONDS
    assert all("\n" not in text for text in said)
    return prepared, said


def planes(volume: Volume, axis: int, start: int, stop: int) -> Volume:
    index = [slice(None)] * 3
    index[axis] = slice(start, stop)
    array = np.ascontiguousarray(volume.array[tuple(index)])
    corner = [start if each == axis else 0 for each in range(3)]
    x, y, z = (float(value) for value in volume.grid.index_to_physical(corner))
    return Volume(array, replace(volume.grid, shape=array.shape, origin=(x, y, z)))


def along(volume: Volume, world_axis: int) -> tuple[int, bool]:
    """The array axis that comes closest to a world axis (x, y, z), and whether it runs with it."""
    columns = np.reshape(volume.grid.direction, (3, 3))[:, ::-1]
    axis = int(np.abs(columns[world_axis]).argmax())
    return axis, bool(columns[world_axis, axis] > 0)


def part(volume: Volume, world_axis: int, low: float, high: float) -> Volume:
    """The share from `low` to `high` of a scan's extent along x, y or z."""
    axis, forward = along(volume, world_axis)
    size = volume.array.shape[axis]
    ends = (low, high) if forward else (1 - high, 1 - low)
    return planes(volume, axis, *(round(end * size) for end in ends))


@pytest.fixture(scope="module")
def healthy_head(data_folder: Path) -> Volume:
    return read_volume(data_folder / "ixi_t1_2mm" / "IXI034_T1.nii.gz")


@pytest.mark.parametrize(("world_axis", "low", "high"), [(0, 0.0, 0.5), (1, 0.5, 1.0), (2, 0.6, 1.0)])
def test_a_head_of_which_half_is_missing_is_warned_of(
    detector: Detector, healthy_head: Volume, world_axis: int, low: float, high: float
) -> None:
    _, said = prepared_or_refused(detector, part(healthy_head, world_axis, low, high))
    assert any("cut off by the edge" in text or "no brain" in text for text in said), said


def test_a_neck_is_refused_or_warned_of(detector: Detector, healthy_head: Volume) -> None:
    prepared, said = prepared_or_refused(detector, part(healthy_head, 2, 0.0, 1 / 3))
    assert said
    assert prepared is None or not prepared.placed.in_atlas


def thick(volume: Volume) -> Volume:
    """Slices of 10 mm."""
    axis, _ = along(volume, 2)
    count = round(10.0 / volume.grid.spacing[2 - axis])
    whole = planes(volume, axis, 0, volume.array.shape[axis] // count * count)
    array = np.moveaxis(whole.array, axis, 0)
    averaged = np.moveaxis(array.reshape(-1, count, *array.shape[1:]).mean(axis=1), 0, axis)
    spacing = [size * (count if n == 2 - axis else 1) for n, size in enumerate(volume.grid.spacing)]
    return Volume(
        np.ascontiguousarray(averaged), Grid(averaged.shape, tuple(spacing), whole.grid.origin, volume.grid.direction)
    )


def test_a_head_in_slices_of_10_mm_is_warned_of(detector: Detector, healthy_head: Volume) -> None:
    _, said = prepared_or_refused(detector, thick(healthy_head))
    assert any(text.startswith("slices of 10.0 mm are thicker") for text in said), said


def test_a_head_that_the_header_turns_upside_down_is_said(detector: Detector, healthy_head: Volume) -> None:
    turned = Volume(healthy_head.array, oblique(healthy_head.grid, 180, (0.0, 1.0, 0.0)))
    _, said = prepared_or_refused(detector, turned)
    assert said


@pytest.fixture(scope="module")
def whole(detector: Detector, healthy_head: Volume) -> tuple[PreparedScan | None, tuple[str, ...]]:
    return prepared_or_refused(detector, healthy_head)


def test_a_healthy_head_is_taken_without_a_word(whole: tuple[PreparedScan | None, tuple[str, ...]]) -> None:
    """Or all the warnings above would prove nothing."""
    prepared, said = whole
    assert said == ()
    assert prepared is not None
    assert prepared.sequence == "T1"
    assert prepared.placed.in_atlas


def test_noise_added_to_a_head_does_not_hide_it(detector: Detector, healthy_head: Volume) -> None:
    noise = np.random.default_rng(0).normal(0, 0.04 * float(healthy_head.array.max()), healthy_head.array.shape)
    noisy = healthy_head.with_array(np.abs(healthy_head.array + noise).astype(np.float32))
    prepared, _ = prepared_or_refused(detector, noisy)
    assert prepared is not None
    assert prepared.sequence == "T1"
    assert prepared.placed.in_atlas
