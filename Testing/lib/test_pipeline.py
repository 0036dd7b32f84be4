from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from DALAnomalyLib.errors import CancelledError, GeometryError, InputError, UsageError
from DALAnomalyLib.model_store import Model
from DALAnomalyLib.preprocessing import chain, pipeline
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.model_grid import to_model_grid
from DALAnomalyLib.preprocessing.pipeline import PreparedScan, Standard, prepare_scan, without_anomalies
from DALAnomalyLib.preprocessing.steps import StepLog
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import ScanDescription
from DALAnomalyLib.volume_io.file_orientation import UNKNOWN
from Testing.lib.atlas_phantom import CONTRASTS as ATLAS_CONTRASTS
from Testing.lib.atlas_phantom import brain, motion, painted
from Testing.lib.phantom import CONTRASTS, SCAN_GRID, brain_mask, scan, untrained_model

Prepare = Callable[..., PreparedScan]


@pytest.fixture(scope="module")
def model() -> Model:
    return untrained_model()


@pytest.fixture(scope="module")
def prepare(model: Model) -> Prepare:
    metadata = model.metadata

    def call(
        volume: Volume,
        mask: Volume | None = None,
        sequence: str = "auto",
        templates: dict[str, torch.Tensor] | None = None,
        description: ScanDescription | None = None,
        cancel: CancelToken | None = None,
    ) -> PreparedScan:
        standard = Standard(metadata.config.grid, metadata.landmarks, templates or model.templates)
        config = metadata.config.preprocessing
        log = StepLog(config.skip, cancel=cancel)
        return prepare_scan(
            ScanRequest(volume, sequence, mask, description), standard, config, Equipment(), torch.device("cpu"), log
        )

    return call


def test_the_prepared_image_is_the_standardised_scan_on_the_model_grid(prepare: Prepare, model: Model) -> None:
    prepared = prepare(scan())
    assert prepared.image.shape == prepared.brain.shape == (1, 1, *model.metadata.config.grid.shape)
    assert prepared.image.dtype == prepared.brain.dtype == torch.float32
    assert set(prepared.brain.unique().tolist()) == {0.0, 1.0}
    assert prepared.grid.shape == model.metadata.config.grid.shape
    assert prepared.grid.spacing == model.metadata.config.grid.spacing
    np.testing.assert_array_equal(prepared.brain_mask.array, brain_mask().array)
    array, inside = to_model_grid(scan(), brain_mask(), prepared.grid)
    np.testing.assert_array_equal(prepared.brain[0, 0], inside)
    standard = prepared.image[0, 0].numpy()
    assert (standard[inside == 0] == 0).all()
    assert (standard >= 0).all()
    assert (standard <= 1).all()
    # the landmarks of the model: from 0.05 at the 1st percentile to 0.8 at the 99th, the median in their middle
    np.testing.assert_allclose(np.percentile(standard[inside > 0], [1, 50, 99]), [0.05, 0.425, 0.8], rtol=0, atol=0.01)
    order = np.argsort(array[inside > 0], kind="stable")
    assert (np.diff(standard[inside > 0][order]) >= 0).all(), "a brighter voxel stays brighter"


def test_the_intensity_map_leads_back_to_the_scan(prepare: Prepare) -> None:
    prepared = prepare(scan())
    inside = prepared.brain[0, 0] > 0
    array, _ = to_model_grid(scan(), brain_mask(), prepared.grid)
    back = prepared.intensities.to_scan(prepared.image)[0, 0][inside].numpy()
    unclipped = ((prepared.image[0, 0] > 0) & (prepared.image[0, 0] < 1))[inside].numpy()
    assert unclipped.mean() > 0.98
    np.testing.assert_allclose(back[unclipped], array[inside.numpy()][unclipped], rtol=1e-4)


def test_what_is_much_brighter_than_the_brain_is_clipped(prepare: Prepare) -> None:
    bright = scan().array.copy()
    bright[20, 20:24, 15:19] = 1e5
    prepared = prepare(scan().with_array(bright))
    assert float(prepared.image.max()) == 1.0
    median = float(prepared.image[prepared.brain > 0].median())
    assert median == pytest.approx(0.425, abs=0.02), "few bright voxels must not darken the rest"


# --- brain mask -------------------------------------------------------------------------------------------------------


def test_a_given_mask_decides_where_the_brain_is(prepare: Prepare) -> None:
    half = brain_mask().array.copy()
    half[:, :, SCAN_GRID.shape[2] // 2 :] = 0
    given = prepare(scan(), Volume(half.astype(np.float64) * 7, SCAN_GRID))
    np.testing.assert_array_equal(given.brain_mask.array, half)
    assert given.brain_mask.array.dtype == np.uint8
    assert given.brain.sum() < 0.6 * prepare(scan()).brain.sum()


def test_a_mask_on_another_grid_is_refused(prepare: Prepare) -> None:
    shifted = replace(SCAN_GRID, origin=(-61.0, -93.0, -66.0))
    with pytest.raises(GeometryError, match="resample the mask to the scan"):
        prepare(scan(), brain_mask(shifted))


@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_mask_is_refused(prepare: Prepare, value: int) -> None:
    mask = Volume(np.full(SCAN_GRID.shape, value, np.int16), SCAN_GRID)
    with pytest.raises(InputError, match="brain mask is empty; give a mask"):
        prepare(scan(), mask)


def test_an_empty_scan_is_refused(prepare: Prepare) -> None:
    with pytest.raises(InputError, match="no foreground"):
        prepare(Volume(np.zeros(SCAN_GRID.shape, np.float32), SCAN_GRID))


@pytest.mark.parametrize("value", [1.0, 100.3, 1e6])
def test_a_mask_in_place_of_a_scan_is_refused(prepare: Prepare, value: float) -> None:
    """Resampling turns the constant into values that differ in the last digit."""
    with pytest.raises(InputError, match="same intensity everywhere"):
        prepare(Volume(brain_mask().array * np.float32(value), SCAN_GRID))


def test_a_brain_too_small_for_the_model_grid_is_refused(prepare: Prepare) -> None:
    speck = np.zeros(SCAN_GRID.shape, np.uint8)
    speck[17, 23, 19] = 1
    small = Grid(SCAN_GRID.shape, (0.3, 0.3, 0.3))
    with pytest.raises(InputError, match="too small to appear on the model grid; check"):
        prepare(Volume(scan().array, small), Volume(speck, small))


def test_an_implausible_brain_size_is_warned_of(prepare: Prepare) -> None:
    assert prepare(scan()).warnings == ()
    small = Volume(scan().array, replace(SCAN_GRID, spacing=(2.0, 2.1, 2.0)))
    (warning,) = prepare(small).warnings
    assert "expected 600 to 2200; look at its outline" in warning.replace(" ml", "")


def test_a_brain_that_does_not_fit_the_grid_is_warned_of(prepare: Prepare) -> None:
    large = Volume(scan().array, replace(SCAN_GRID, spacing=(5.5, 6.0, 5.5)))
    assert any("of the brain fits the model grid; the rest gets no score" in text for text in prepare(large).warnings)


# --- sequence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", sorted(CONTRASTS))
def test_auto_picks_the_sequence_by_its_contrast(prepare: Prepare, sequence: str) -> None:
    prepared = prepare(scan(sequence=sequence))
    assert prepared.sequence == sequence
    assert prepared.sequence_evidence.startswith("correlation with the mean T1 ")
    assert prepared.warnings == ()


def test_what_is_said_to_lie_in_the_atlas_is_compared_with_it(prepare: Prepare) -> None:
    with pytest.raises(InputError, match="this looks like FLAIR"):
        prepare(painted(ATLAS_CONTRASTS["FLAIR"], noise=0.02), brain())
    told = prepare(painted(ATLAS_CONTRASTS["FLAIR"], noise=0.02), brain(), sequence="T1")
    assert "told to be T1 but it looks like FLAIR" in told.warnings[0]
    taken = prepare(painted(ATLAS_CONTRASTS["T2"], noise=0.02), brain())
    assert taken.sequence == "T2"
    assert taken.sequence_evidence.startswith("correlation with the atlas T1 ")


def test_what_does_not_lie_where_its_header_says_is_not_compared_with_the_atlas(prepare: Prepare) -> None:
    away = motion(0, (1, 0, 0), (60, 0, 0))
    moved = prepare(away.move(painted(ATLAS_CONTRASTS["FLAIR"], noise=0.02)), away.move(brain()))
    assert moved.sequence_evidence.startswith("correlation with the mean T1 ")


def test_an_unclear_sequence_is_warned_of(prepare: Prepare, model: Model) -> None:
    alike = {"T1": model.templates["T2"], "T2": model.templates["T2"]}
    prepared = prepare(scan(), templates=alike)
    (warning,) = prepared.warnings
    assert warning.startswith(f"sequence unclear, taken as {prepared.sequence} (correlation with")
    assert "name it yourself" in warning


@pytest.mark.parametrize(("said", "truth"), [("T1", "T2"), ("T2", "T1")])
def test_a_sequence_that_contradicts_the_image_is_used_and_warned_of(prepare: Prepare, said: str, truth: str) -> None:
    prepared = prepare(scan(sequence=truth), sequence=said)
    assert prepared.sequence == said
    (warning,) = prepared.warnings
    assert warning.startswith(f"told to be {said} but it looks like {truth} (correlation with")


@pytest.mark.parametrize("sequence", ["FLAIR", "t1", ""])
def test_an_unknown_sequence_is_refused(prepare: Prepare, sequence: str) -> None:
    with pytest.raises(UsageError, match=f"unknown sequence '{sequence}'; this model knows T1, T2 and 'auto'"):
        prepare(scan(), sequence=sequence)


# --- what a file leaves open ------------------------------------------------------------------------------------------


def test_voxels_that_are_no_numbers_are_refused(prepare: Prepare) -> None:
    volume = scan()
    volume.array[20, 20, 20] = np.nan
    with pytest.raises(InputError, match="the scan: 1 voxels are NaN or infinite"):
        prepare(volume)


def test_a_scan_of_unknown_orientation_is_warned_of(prepare: Prepare) -> None:
    silent = ScanDescription(None, None, None, "the file says nothing", orientation_doubt=UNKNOWN)
    assert prepare(scan(), description=silent).warnings == (UNKNOWN,)


# --- the second pass --------------------------------------------------------------------------------------------------


def test_intensities_are_measured_again_without_what_is_anomalous(prepare: Prepare, model: Model) -> None:
    prepared = prepare(scan(sequence="T1"), sequence="T1")
    brightest = prepared.image > prepared.image[prepared.brain > 0].quantile(0.8)
    again = without_anomalies(prepared, brightest, model.metadata.landmarks["T1"])
    assert again.intensities.scan[-1] < prepared.intensities.scan[-1]
    assert again.image.mean() > prepared.image.mean()
    before, after = (next(step for step in item.steps if step.name == "standardisation") for item in (prepared, again))
    assert after.parameters["scan"] == again.intensities.scan.tolist() != before.parameters["scan"]


def test_skipped_landmarks_stay_skipped(prepare: Prepare) -> None:
    prepared = prepare(scan())
    assert (
        len(without_anomalies(prepared, torch.zeros_like(prepared.brain, dtype=torch.bool), None).intensities.scan) == 2
    )


def test_a_brain_that_is_anomalous_throughout_is_left_as_it_was(prepare: Prepare, model: Model) -> None:
    prepared = prepare(scan())
    again = without_anomalies(
        prepared, torch.ones_like(prepared.brain, dtype=torch.bool), model.metadata.landmarks["T1"]
    )
    assert again.intensities is prepared.intensities
    assert "not standardised again" in again.warnings[-1]


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["foreground_mask", "model_grid_for", "to_model_grid", "brain_fraction_inside"])
def test_cancelling_is_honoured_right_after_every_step(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """On a real scan each of them takes a good part of a second."""
    token, later = CancelToken(), []
    names = ["foreground_mask", "model_grid_for", "to_model_grid", "brain_fraction_inside", "guess_sequence"]

    def spy(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if token.cancelled:
                later.append(name)
            result = original(*arguments)
            if name == step:
                token.cancel()
            return result

        return call

    for name in names:
        module = chain if name == "foreground_mask" else pipeline
        monkeypatch.setattr(module, name, spy(name, getattr(module, name)))
    with pytest.raises(CancelledError):
        prepare(scan(), cancel=token)
    assert later == []
