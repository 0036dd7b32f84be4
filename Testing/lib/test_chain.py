"""The chain up to registration: what each step does, is said to have done, and remembers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from DALAnomalyLib.configuration import STEPS, PreprocessingConfig
from DALAnomalyLib.errors import DALAnomalyError, GeometryError, InputError, UsageError
from DALAnomalyLib.preprocessing import chain
from DALAnomalyLib.preprocessing.chain import PlacedScan, ScanRequest, place_scan
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.extraction_choice import FoundBrain
from DALAnomalyLib.preprocessing.pipeline import PreparedScan, Standard, prepare_scan
from DALAnomalyLib.preprocessing.registration import Registration
from DALAnomalyLib.preprocessing.reorient import from_anatomical_order
from DALAnomalyLib.preprocessing.step_cache import StepCache
from DALAnomalyLib.preprocessing.steps import StepLog, StepRecord
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume
from Testing.lib import atlas_phantom
from Testing.lib.phantom import SCAN_GRID, brain_mask, oblique, reordered, scan, untrained_model

SLOW = ("brain_extraction", "n4", "registration")
CPU = torch.device("cpu")


def placed(
    volume: Volume,
    *,
    skip: tuple[str, ...] = SLOW,
    mask: Volume | None = None,
    extraction: Any = "auto",
    backend: Any = "simpleitk",
    likely: str = "T1",
    cache: Path | None = None,
    second_outline: bool = True,
) -> tuple[PlacedScan, StepLog]:
    log = StepLog(skip)
    equipment = Equipment(device=CPU, step_cache=None if cache is None else StepCache(cache))
    request = ScanRequest(volume, brain_mask=mask, extraction=extraction)
    config = PreprocessingConfig(skip, backend, second_outline=second_outline)
    return place_scan(request, lambda *_: likely, config, equipment, log), log


def record_of(log: StepLog | PreparedScan, name: str) -> StepRecord:
    records = log.records if isinstance(log, StepLog) else log.steps
    return next(record for record in records if record.name == name)


# --- every step, done and left out ------------------------------------------------------------------------------------


def prepared(volume: Volume, skip: tuple[str, ...], sequence: str = "T1", **equipment: Any) -> PreparedScan:
    model = untrained_model()
    standard = Standard(model.metadata.config.grid, model.metadata.landmarks, model.templates)
    config = PreprocessingConfig(skip)
    return prepare_scan(ScanRequest(volume, sequence), standard, config, Equipment(device=CPU, **equipment), CPU)


POSE = atlas_phantom.motion(20, (1, -2, 3), (-110, 100, -60))
"""Takes a brain from the atlas to where this scan shows it."""


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedScan, PreparedScan]:
    """The atlas' own T1, lying elsewhere, through all steps; and once more with the same cache."""
    cache = tmp_path_factory.mktemp("cache")
    volume = reordered(POSE.move(atlas_phantom.likeness("T1")), (2, 0, 1), (False, True, True))
    first, second = (prepared(volume, (), "auto", step_cache=StepCache(cache)) for _ in range(2))
    return first, second


def test_all_steps_are_recorded_with_parameters_and_seconds(complete: tuple[PreparedScan, PreparedScan]) -> None:
    first, _ = complete
    assert [(record.name, record.status) for record in first.steps] == [(name, "done") for name in STEPS]
    assert all(record.parameters for record in first.steps)
    assert 0.01 < record_of(first, "n4").seconds < 300
    assert 0.1 < record_of(first, "registration").seconds < 300
    for name in ("brain_extraction", "n4", "registration", "sequence"):
        assert record_of(first, name).evidence
    assert first.warnings == ()


def test_a_brain_is_found_in_the_atlas_wherever_it_lies(complete: tuple[PreparedScan, PreparedScan]) -> None:
    """Stated error: 1 mm on voxels of 4 mm."""
    placed_scan = complete[0].placed
    assert placed_scan.in_atlas
    assert atlas_phantom.distance(placed_scan.to_atlas, POSE.inverse()) < 1
    assert record_of(complete[0], "registration").parameters["translation_mm"] == pytest.approx(
        placed_scan.to_atlas.translation, abs=1e-3
    )
    assert complete[0].sequence == "T1"
    assert complete[0].sequence_evidence.startswith("correlation with the atlas T1 0.")


def test_a_second_run_takes_the_same_result_from_the_cache(complete: tuple[PreparedScan, PreparedScan]) -> None:
    first, second = complete
    expected = dict.fromkeys(STEPS, "done") | dict.fromkeys(SLOW, "cached")
    assert {record.name: record.status for record in second.steps} == expected
    for one, other in zip(first.steps, second.steps, strict=True):
        assert (one.parameters, one.evidence) == (other.parameters, other.evidence)
    assert second.placed.to_atlas == first.placed.to_atlas
    assert second.placed.registration == first.placed.registration
    for one, other in (
        (first.image, second.image),
        (first.raw, second.raw),
        (first.brain, second.brain),
        (first.placed.gain, second.placed.gain),
        (first.placed.corrected.array, second.placed.corrected.array),
        (first.brain_mask.array, second.brain_mask.array),
    ):
        np.testing.assert_array_equal(one, other)
    assert record_of(second, "registration").seconds < 0.2 * record_of(first, "registration").seconds


@pytest.mark.parametrize("name", [name for name in STEPS if name not in SLOW])
def test_a_quick_step_can_be_left_out(name: str) -> None:
    """The slow ones are: see the other tests of this file, which leave them out."""
    volume = scan(sequence="T1") if name != "crop" else _phantom_at_the_atlas()
    result = prepared(volume, (*SLOW, name))
    expected = {each: "skipped" if each in (*SLOW, name) else "done" for each in STEPS}
    assert {record.name: record.status for record in result.steps} == expected
    assert float(result.image.max()) > 0.5


def test_a_step_left_out_does_not_happen() -> None:
    turned = reordered(scan(sequence="T1"), (1, 2, 0), (True, False, False))
    left, done = (prepared(turned, (*SLOW, *more)) for more in (("reorient",), ()))
    assert left.placed.scan.grid == turned.grid
    assert done.placed.scan.grid != turned.grid
    np.testing.assert_array_equal(left.brain_mask.array, done.brain_mask.array)
    fixed = prepared(turned, (*SLOW, "standardisation"))
    assert len(fixed.intensities.scan) == 2
    assert len(done.intensities.scan) == 11
    assert prepared(turned, (*SLOW, "sequence")).sequence_evidence == "as told"
    at_atlas = prepared(_phantom_at_the_atlas(), (*SLOW, "crop")).grid
    assert at_atlas == prepared(_phantom_at_the_atlas(10.0), (*SLOW, "crop")).grid
    assert at_atlas != prepared(_phantom_at_the_atlas(10.0), SLOW).grid


def _phantom_at_the_atlas(shift: float = 0.0) -> Volume:
    centre = atlas_phantom.MIDDLE + shift
    return RigidTransform(translation=tuple(centre.tolist())).move(scan(sequence="T1"))


def test_without_cropping_a_brain_away_from_the_atlas_is_refused() -> None:
    with pytest.raises(InputError, match="the brain lies outside the model grid; leave in the step 'crop'"):
        prepared(_phantom_at_the_atlas(400.0), (*SLOW, "crop"))


def test_without_recognition_the_sequence_must_be_named() -> None:
    with pytest.raises(UsageError, match="without the step 'sequence' the sequence must be named"):
        prepared(scan(), (*SLOW, "sequence"), "auto")


def test_slow_steps_that_are_left_out_change_nothing() -> None:
    result, log = placed(scan())
    for name in SLOW:
        assert record_of(log, name).status == "skipped"
    np.testing.assert_array_equal(result.corrected.array, scan().array)
    np.testing.assert_array_equal(result.brain.array, brain_mask().array)
    assert result.gain.max() == result.gain.min() == 1
    assert result.registration is None
    assert not result.in_atlas
    assert result.moved.grid == result.scan.grid


def test_the_bias_field_divides_the_scan_inside_the_brain() -> None:
    points = SCAN_GRID.index_to_physical(np.moveaxis(np.indices(SCAN_GRID.shape), 0, -1))
    bias = np.exp(0.006 * points[..., 1]).astype(np.float32)
    shaded = scan(sequence="T1").with_array(scan(sequence="T1").array * bias)
    result, log = placed(shaded, skip=("registration",), mask=brain_mask())
    inside = brain_mask().array > 0
    np.testing.assert_allclose(result.corrected.array * result.gain, shaded.array, rtol=1e-3)
    assert np.corrcoef(np.log(result.gain[inside]), np.log(bias[inside]))[0, 1] > 0.9
    record = record_of(log, "n4")
    assert record.status == "done"
    assert record.parameters["strength"] > 0.3
    assert record.evidence.startswith("bias field spans a factor of ")


def test_results_lie_on_the_scan_as_it_was_read() -> None:
    for grid in (SCAN_GRID, oblique(SCAN_GRID, 20)):
        original = reordered(scan(grid), (2, 1, 0), (True, False, True))
        result, _ = placed(original)
        back = result.as_read(result.scan.array)
        assert back.grid == original.grid
        np.testing.assert_array_equal(back.array, original.array)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_given_mask_is_used_in_whatever_order_the_scan_lies() -> None:
    half = brain_mask().array.copy()
    half[:, :, SCAN_GRID.shape[2] // 2 :] = 0
    turned = [reordered(volume, (1, 2, 0), (True, True, False)) for volume in (scan(), brain_mask().with_array(half))]
    result, log = placed(turned[0], mask=turned[1], skip=SLOW[1:])
    np.testing.assert_array_equal(result.as_read(result.brain.array).array, turned[1].array)
    assert record_of(log, "brain_extraction").parameters == {"method": "given"}


@pytest.mark.parametrize(
    "grid",
    [
        replace(SCAN_GRID, origin=(-61.0, -93.0, -66.0)),
        replace(SCAN_GRID, spacing=(3.9, 4.2, 4.2)),
        oblique(SCAN_GRID, 3),
        reordered(scan(), (0, 1, 2), (True, False, False)).grid,
    ],
    ids=["shifted", "scaled", "turned", "upside down"],
)
def test_a_mask_on_another_grid_is_refused(grid: Grid) -> None:
    with pytest.raises(GeometryError, match=r"the brain mask is on .* but its scan on .*; resample the mask"):
        placed(scan(), mask=brain_mask(grid))


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match="the brain mask is empty"):
        placed(scan(), mask=Volume(np.zeros(SCAN_GRID.shape, np.uint8), SCAN_GRID))


def test_arrays_that_no_file_could_hold_are_refused() -> None:
    slab = Volume(scan().array[:7], replace(SCAN_GRID, shape=(7, *SCAN_GRID.shape[1:])))
    with pytest.raises(InputError, match=r"the scan: 38 x 46 x 7 voxels are not a 3D scan; it needs 8 or more"):
        placed(slab)
    holed = brain_mask().array.astype(np.float32)
    holed[20, 20, 20] = np.nan
    with pytest.raises(InputError, match=r"the brain mask: .*NaN"):
        placed(scan(), mask=Volume(holed, SCAN_GRID))


def test_a_mask_guessed_from_the_atlas_is_warned_of() -> None:
    _, log = placed(scan(), extraction="atlas", skip=SLOW[1:])
    assert record_of(log, "brain_extraction").parameters == {"method": "atlas"}
    assert any(text.startswith("the brain mask is rough") for text in log.warnings)


# --- warnings about the scan ------------------------------------------------------------------------------------------


def cut(volume: Volume, axis: int, start: int, stop: int | None = None) -> Volume:
    """Only a part of the planes along an axis."""
    index = tuple(slice(start, stop) if each == axis else slice(None) for each in range(3))
    array = volume.array[index]
    corner = [start if each == axis else 0 for each in range(3)]
    x, y, z = (float(value) for value in volume.grid.index_to_physical(corner))
    return Volume(np.ascontiguousarray(array), replace(volume.grid, shape=array.shape, origin=(x, y, z)))


@pytest.mark.parametrize(("axis", "start", "stop"), [(0, 8, None), (0, 0, 25), (1, 9, None), (2, 0, 28)])
def test_a_brain_cut_off_by_the_edge_of_the_scan_is_warned_of(axis: int, start: int, stop: int | None) -> None:
    warning = "the brain is cut off by the edge of the scan; what is missing gets no score"
    assert warning not in placed(scan())[1].warnings
    assert warning in placed(cut(scan(), axis, start, stop))[1].warnings


@pytest.mark.parametrize(("thickness", "warned"), [(6.9, False), (7.1, True), (10.0, True)])
def test_thick_slices_are_warned_of(thickness: float, warned: bool) -> None:
    grid = Grid((round(140 / thickness), 60, 50), (2.9, 3.1, thickness), (-71.0, -93.0, -66.0))
    thick = placed(scan(grid))[1].warnings
    assert [f"slices of {thickness:.1f} mm are thicker" in text for text in thick] == [True] * warned
    turned = placed(reordered(scan(grid), (2, 0, 1), (False, False, False)))[1].warnings
    assert turned == thick


@pytest.mark.parametrize(("size", "warned"), [(0.7, True), (0.9, False), (1.0, False), (1.5, True)])
def test_an_implausible_brain_volume_is_warned_of(size: float, warned: bool) -> None:
    spacing = tuple(size * value for value in SCAN_GRID.spacing)
    grid = replace(SCAN_GRID, spacing=spacing)
    result, log = placed(Volume(scan().array, grid))
    volume = float(result.brain.array.sum()) * grid.voxel_volume_ml
    warning = f"the brain measures {volume:.0f} ml, expected 600 to 2200; look at its outline"
    assert (warning in log.warnings) == warned


# --- registration -----------------------------------------------------------------------------------------------------


def test_a_sphere_is_not_registered_and_that_is_said() -> None:
    points = SCAN_GRID.index_to_physical(np.moveaxis(np.indices(SCAN_GRID.shape), 0, -1))
    inside = np.linalg.norm(points, axis=-1) < 62
    texture = np.random.default_rng(0).normal(500, 20, SCAN_GRID.shape)
    ball = Volume((inside * texture).astype(np.float32), SCAN_GRID)
    result, log = placed(ball, skip=SLOW[:2])
    assert result.registration is not None
    assert not result.in_atlas
    assert result.to_atlas == RigidTransform(), "the header's pose"
    assert result.moved.grid == result.scan.grid
    record = record_of(log, "registration")
    assert record.status == "failed"
    assert "not trusted" in record.evidence
    assert any(text.startswith("registration to the atlas failed (rotated ") for text in log.warnings)
    assert any(text.endswith("; the scan's own axes are used instead") for text in log.warnings)


@pytest.fixture
def registering(monkeypatch: pytest.MonkeyPatch) -> Callable[[RigidTransform, bool], list[Any]]:
    """Let registration answer this, and keep what it was asked."""

    def answer(transform: RigidTransform, accepted: bool = True) -> list[Any]:
        asked: list[Any] = []

        def register(*arguments: Any, backend: Any, cancel: CancelToken) -> Registration:
            asked.append((*arguments, backend))
            return Registration(transform, 0.5, 0.9, 1, backend, accepted, "rotated as told")

        monkeypatch.setattr(chain, "register_rigidly", register)
        return asked

    return answer


Registering = Callable[..., list[Any]]


@pytest.mark.parametrize(("degrees", "warned"), [(0, False), (55, False), (65, True), (180, True)])
def test_a_large_rotation_is_warned_of(registering: Registering, degrees: float, warned: bool) -> None:
    turn = atlas_phantom.motion(degrees, (0, 1, 1), (0, 0, 0))
    registering(turn)
    result, log = placed(scan(), skip=SLOW[:2])
    assert result.in_atlas
    assert result.to_atlas == turn
    assert result.moved.grid == turn.move_grid(result.scan.grid)
    warning = f"the head had to be turned by {degrees:.0f} degrees; check the orientation in the scan's header"
    assert (warning in log.warnings) == warned


@pytest.mark.parametrize(("degrees", "wanted", "outlines"), [(0, True, 2), (20, True, 2), (20, False, 1)])
def test_a_head_is_outlined_again_in_the_pose_of_the_atlas_unless_that_is_not_wanted(
    registering: Registering, monkeypatch: pytest.MonkeyPatch, degrees: float, wanted: bool, outlines: int
) -> None:
    registering(atlas_phantom.motion(degrees, (0, 1, 1), (0, 0, 0)))
    shown: list[Volume] = []

    def outline(volume: Volume, *_how: Any) -> FoundBrain:
        shown.append(volume)
        return FoundBrain(volume.with_array(brain_mask().array), "network", "outlined as told")

    monkeypatch.setattr(chain, "find_brain", outline)
    placed(scan(), skip=("n4",), second_outline=wanted)
    assert len(shown) == outlines


def test_what_was_cut_off_an_outline_is_not_warned_of_as_brain(
    registering: Registering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network took a neck, down to the edge of the scan, for brain; none is left in the mask that is used."""
    registering(RigidTransform())
    brain = brain_mask().array

    def outline(volume: Volume, *_how: Any) -> FoundBrain:
        return FoundBrain(volume.with_array(np.ones_like(brain)), "network", "outlined as told")

    monkeypatch.setattr(chain, "find_brain", outline)
    monkeypatch.setattr(chain, "trim_to_atlas", lambda moved, _atlas: (moved.with_array(brain), 0.5))
    result, log = placed(scan(), skip=("n4",), second_outline=False)
    np.testing.assert_array_equal(result.brain.array, brain)
    assert [text for text in log.warnings if "brain" in text] == [
        "50% of the brain outline lay far outside the atlas' brain and was cut off; look at qc.png"
    ]


def test_the_first_outline_stands_where_the_second_finds_no_brain(
    registering: Registering, monkeypatch: pytest.MonkeyPatch
) -> None:
    registering(atlas_phantom.motion(20, (0, 1, 1), (0, 0, 0)))
    outlines: list[Volume] = []

    def outline(volume: Volume, *_how: Any) -> FoundBrain:
        if outlines:
            raise InputError("no brain was found")
        outlines.append(volume.with_array(brain_mask().array))
        return FoundBrain(outlines[0], "network", "outlined as told")

    monkeypatch.setattr(chain, "find_brain", outline)
    result, log = placed(scan(), skip=("n4",))
    assert result.in_atlas
    assert record_of(log, "brain_extraction").evidence == "outlined as told"


def test_a_mask_is_ordered_as_its_scan_is_even_where_two_orders_fit() -> None:
    turned = [atlas_phantom.motion(degrees, (0, 0, 1), (0, 0, 0)) for degrees in (45 - 1e-4, 45 + 1e-4)]
    image, mask = (pose.move(volume) for pose, volume in zip(turned, (scan(), brain_mask()), strict=True))
    assert image.grid.is_close(mask.grid)
    result, _log = placed(image, mask=mask)
    inside = from_anatomical_order(result.brain, image.grid).array > 0
    assert np.array_equal(inside, mask.array > 0)


def test_a_head_that_the_header_turns_upside_down_is_turned_back() -> None:
    upside_down = atlas_phantom.motion(180, (0, 1, 0), (0, 0, 0))
    result, log = placed(upside_down.move(atlas_phantom.likeness("T2")), skip=("n4",), likely="T2")
    assert result.in_atlas
    assert atlas_phantom.distance(result.to_atlas, upside_down.inverse()) < 1
    assert "the head had to be turned by 180 degrees; check the orientation in the scan's header" in log.warnings


def test_a_remembered_failure_is_still_a_failure(registering: Registering, tmp_path: Path) -> None:
    asked = registering(atlas_phantom.motion(100, (0, 0, 1), (0, 0, 0)), False)
    first, second = (placed(scan(), skip=SLOW[:2], cache=tmp_path) for _ in range(2))
    assert len(asked) == 1
    for result, log in (first, second):
        assert not result.in_atlas
        assert result.to_atlas == RigidTransform()
        assert record_of(log, "registration").status == "failed"
        assert log.warnings == [
            "registration to the atlas failed (rotated as told); the scan's own axes are used instead"
        ]


@pytest.mark.parametrize(("likely", "atlas_image"), [("T1", "T1"), ("T2", "T2"), ("FLAIR", "T1")])
def test_the_scan_is_registered_to_the_atlas_image_of_its_sequence(
    registering: Registering, likely: str, atlas_image: str
) -> None:
    """A model may know more sequences than the atlas."""
    asked = registering(RigidTransform())
    _, log = placed(scan(), skip=SLOW[:2], likely=likely, backend="greedy")
    ((image, brain, reference, reference_brain, backend),) = asked
    atlas = Equipment().atlas()
    assert reference is atlas.images[atlas_image]
    assert reference_brain is atlas.brain_mask
    assert backend == "greedy"
    np.testing.assert_array_equal(image.array, scan().array)
    np.testing.assert_array_equal(brain.array, brain_mask().array)
    parameters = record_of(log, "registration").parameters
    assert (parameters["sequence"], parameters["backend"]) == (atlas_image, "greedy")


# --- what the cache may not confuse -----------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, registering: Registering) -> dict[str, list[Any]]:
    """The slow steps, answering at once and counting how often they are asked."""
    calls: dict[str, list[Any]] = {"brain": [], "n4": [], "registration": registering(RigidTransform())}
    estimate = chain.estimate_bias_field

    def find(volume: Volume, given: None, method: str, *_: Any) -> FoundBrain:
        calls["brain"].append(method)
        grown = brain_mask().array if method == "network" else np.roll(brain_mask().array, 1, 0)
        return FoundBrain(volume.with_array(grown), method, "found as told")

    def bias(volume: Volume, brain: Volume, cancel: CancelToken) -> Any:
        calls["n4"].append(brain)
        flat = brain.with_array(np.ones(brain.array.shape, np.float32))
        return estimate(flat, brain, cancel=cancel)

    monkeypatch.setattr(chain, "find_brain", find)
    monkeypatch.setattr(chain, "estimate_bias_field", bias)
    return calls


BASE: dict[str, Any] = {"skip": (), "extraction": "network", "second_outline": False}
CHANGES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "nothing": ({}, (0, 0, 0)),
    "one voxel outside the brain": ({"volume": "voxel"}, (1, 1, 1)),
    "the header": ({"volume": "header"}, (1, 1, 1)),
    "the method of extraction": ({"extraction": "stripped"}, (1, 1, 1)),
    "a given mask": ({"mask": brain_mask()}, (0, 0, 0)),
    "another mask": ({"mask": brain_mask().with_array(np.roll(brain_mask().array, 2, 0))}, (0, 1, 1)),
    "the backend": ({"backend": "greedy"}, (0, 0, 1)),
    "the sequence": ({"likely": "T2"}, (0, 0, 1)),
    "bias correction left out": ({"skip": ("n4",)}, (0, 0, 0)),
}
"""What differs from the first run, and how often brain extraction, N4 and registration run again."""


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_did_not_change_is_taken_from_the_cache(
    counted: dict[str, list[Any]], tmp_path: Path, change: str
) -> None:
    placed(scan(), cache=tmp_path, **BASE)
    options, expected = CHANGES[change]
    volume = scan()
    if options.get("volume") == "voxel":
        volume.array[0, 0, 0] = 1
    if options.get("volume") == "header":
        volume = Volume(volume.array, replace(SCAN_GRID, origin=(-71.0, -93.0, -65.5)))
    options = {key: value for key, value in options.items() if key != "volume"}
    _, log = placed(volume, cache=tmp_path, **BASE | options)
    assert tuple(len(calls) - 1 for calls in counted.values()) == expected
    statuses = [record_of(log, name).status for name in SLOW]
    for status, again, name in zip(statuses, expected, SLOW, strict=True):
        if name in options.get("skip", ()):
            assert status == "skipped"
        elif name == "brain_extraction" and "mask" in options:
            assert status == "done"
        else:
            assert status == ("done" if again else "cached")


def test_without_a_cache_everything_runs_again(counted: dict[str, list[Any]]) -> None:
    for _ in range(2):
        _, log = placed(scan(), **BASE)
        assert [record_of(log, name).status for name in SLOW] == ["done"] * 3
    assert [len(calls) for calls in counted.values()] == [2, 2, 2]


# --- bad scans through all steps: an error for the user or a warning, never a crash -----------------------------------

HEAD_GRID = Grid((40, 52, 44), (4.5, 4.5, 4.5), (-97.0, -115.0, -88.0))


def _points(grid: Grid) -> np.ndarray:
    return grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def _sphere() -> Volume:
    return Volume((400.0 * (np.linalg.norm(_points(HEAD_GRID), axis=-1) < 70)).astype(np.float32), HEAD_GRID)


def _noisy_sphere() -> Volume:
    noise = np.random.default_rng(1).rayleigh(15, HEAD_GRID.shape)
    return Volume((_sphere().array + noise).astype(np.float32), HEAD_GRID)


def _noise() -> Volume:
    return Volume(np.random.default_rng(2).rayleigh(100, HEAD_GRID.shape).astype(np.float32), HEAD_GRID)


def _noise_in_a_brain() -> Volume:
    return Volume(
        (np.random.default_rng(3).uniform(100, 900, SCAN_GRID.shape) * brain_mask().array).astype(np.float32), SCAN_GRID
    )


def _constant() -> Volume:
    return Volume(np.full(HEAD_GRID.shape, 7.0, np.float32), HEAD_GRID)


def _huge_box() -> Volume:
    grid = Grid((64, 64, 64), (9.4, 9.4, 9.4), (-300.0, -300.0, -300.0))
    return Volume((300.0 * (np.abs(_points(grid)).max(axis=-1) < 280)).astype(np.float32), grid)


def _thick_slices() -> Volume:
    return scan(Grid((14, 46, 38), (3.9, 4.2, 10.0), (-71.0, -93.0, -66.0)), "T1")


def _speck() -> Volume:
    array = np.zeros(HEAD_GRID.shape, np.float32)
    array[20, 26, 22] = 500
    return Volume(array, HEAD_GRID)


BAD: dict[str, Callable[[], Volume]] = {
    "sphere": _sphere,
    "sphere in noise": _noisy_sphere,
    "noise": _noise,
    "noise in the shape of a brain": _noise_in_a_brain,
    "constant": _constant,
    "half a metre of something": _huge_box,
    "slices of 10 mm": _thick_slices,
    "one bright voxel": _speck,
}
SECONDS = 60.0
"""Of the processor; each takes below 10 when nothing else runs."""


@pytest.mark.parametrize("case", BAD)
def test_a_bad_scan_ends_in_an_error_or_a_warning(case: str) -> None:
    started = time.process_time()
    said: tuple[str, ...]
    try:
        said = prepared(BAD[case](), (), "auto").warnings
    except DALAnomalyError as error:
        said = (str(error),)
    assert time.process_time() - started < SECONDS
    assert said, f"{case} was taken without a word"
    assert all(len(text) > 30 and "\n" not in text for text in said)
