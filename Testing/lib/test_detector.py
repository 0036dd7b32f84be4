from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from DALAnomalyLib import __version__
from DALAnomalyLib.configuration import STEPS, RestorationConfig, preset
from DALAnomalyLib.detector import Detection, Detector
from DALAnomalyLib.errors import CancelledError, DeviceError, GeometryError, InputError, ModelFileError, UsageError
from DALAnomalyLib.model_store import save_model
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib.calibrations import calibrated, made_up_calibration
from Testing.lib.phantom import SCAN_GRID, THRESHOLD, brain_mask, oblique, scan, untrained_model

STAGES = (
    *(name.replace("_", " ") for name in STEPS),
    "restoring the healthy image",
    "returning to the scan's grid",
    "scoring",
    "listing findings",
    "done",
)
VOLUMES = {
    "score": np.float32,
    "pseudo_healthy": np.float32,
    "tissues": np.uint8,
    "edges": np.uint8,
    "brain_mask": np.uint8,
    "findings_mask": np.uint16,
}
TURNED = oblique(SCAN_GRID, 20)
"""A grid on which a loss of any part of the geometry shows."""


def detector_of(name: str = "tiny") -> tuple[Detector, DALNetwork]:
    model = untrained_model(name)
    return Detector(model, torch.device("cpu")), model.network


@pytest.fixture(scope="module")
def detector() -> Detector:
    return detector_of()[0]


def test_tissues_are_named_as_the_model_says() -> None:
    """A network that learned without labels numbers its classes in any order."""
    model, device = untrained_model(), torch.device("cpu")
    classes = Detector(model, device).detect(scan(), "T2").tissues.array
    turned = replace(model, metadata=replace(model.metadata, tissue_of_class=(3, 1, 2)))
    tissues = Detector(turned, device).detect(scan(), "T2").tissues.array
    np.testing.assert_array_equal(tissues, np.array([0, 3, 1, 2])[classes])


def test_a_scan_is_judged_by_what_the_network_painted_by_itself(detector: Detector) -> None:
    """What is matched to the scan's intensities afterwards looks like any scan."""
    model, found = detector._model, []
    for restoration in (RestorationConfig(), RestorationConfig(tone_pieces=6, drift_mm=25.0)):
        metadata = replace(model.metadata, config=replace(model.metadata.config, restoration=restoration))
        found.append(Detector(replace(model, metadata=metadata), detector.device).detect(scan(), "T2"))
    assert not np.array_equal(found[0].pseudo_healthy.array, found[1].pseudo_healthy.array)
    assert found[0].provenance["out_of_distribution"] == found[1].provenance["out_of_distribution"]


@pytest.fixture(scope="module")
def detection(detector: Detector) -> Detection:
    return detector.detect(scan(TURNED))


def hooks(network: DALNetwork) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in network.modules())


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), VOLUMES.items())
def test_every_output_is_on_exactly_the_scans_grid(detection: Detection, name: str, dtype: type) -> None:
    volume = getattr(detection, name)
    assert volume.grid == TURNED  # exactly: shape, spacing, origin, direction
    assert volume.array.shape == TURNED.shape
    assert volume.array.dtype == dtype
    assert np.isfinite(volume.array).all()


@pytest.mark.parametrize("name", VOLUMES)
def test_every_output_is_0_outside_the_brain_and_says_something_inside(detection: Detection, name: str) -> None:
    array, inside = getattr(detection, name).array, brain_mask(TURNED).array > 0
    assert (array[~inside] == 0).all()
    assert (array[inside] > 0).mean() > 0.3


def test_outputs_hold_the_documented_values(detection: Detection) -> None:
    inside = detection.brain_mask.array > 0
    np.testing.assert_array_equal(detection.brain_mask.array, brain_mask(TURNED).array)
    assert set(np.unique(detection.tissues.array)) == {0, 1, 2, 3}
    assert set(np.unique(detection.edges.array)) == {0, 1}
    assert detection.score.array.min() == 0
    assert detection.score.array.max() <= 2  # |x - x_r| up to 1, 1 - SSIM up to 2
    healthy, intensities = detection.pseudo_healthy.array[inside], scan(TURNED).array[inside]
    assert intensities.min() - 100 < healthy.min()
    assert healthy.max() < intensities.max() + 100
    assert detection.modality_vector.dtype == np.float32
    assert detection.modality_vector.ndim == 1
    assert np.isfinite(detection.modality_vector).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_voxels_of_any_type_are_taken(detector: Detector, dtype: type) -> None:
    whole = np.round(scan().array / 4)
    expected = detector.detect(scan().with_array(whole.astype(np.float32)))
    found = detector.detect(scan().with_array(whole.astype(dtype)))
    np.testing.assert_array_equal(found.score.array, expected.score.array)


def test_the_scan_itself_stays_as_it_was(detector: Detector) -> None:
    given, mask = scan(), brain_mask()
    detector.detect(given, brain_mask=mask)
    np.testing.assert_array_equal(given.array, scan().array)
    np.testing.assert_array_equal(mask.array, brain_mask().array)


def test_the_same_scan_gives_the_same_result(detector: Detector, detection: Detection) -> None:
    again = detector.detect(scan(TURNED))
    for name in VOLUMES:
        np.testing.assert_array_equal(getattr(again, name).array, getattr(detection, name).array)


# --- findings and threshold -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(detector: Detector, detection: Detection) -> Detection:
    """With a threshold that only the highest fiftieth of the brain reaches."""
    inside = detection.brain_mask.array > 0
    return detector.detect(scan(TURNED), threshold=float(np.percentile(detection.score.array[inside], 98)))


def test_labels_of_the_mask_are_the_findings(several: Detection) -> None:
    labels, score = several.findings_mask.array, several.score.array
    assert len(several.findings) > 1
    assert [finding.label for finding in several.findings] == list(range(1, len(several.findings) + 1))
    assert np.unique(labels).tolist() == [0, *(finding.label for finding in several.findings)]
    for finding in several.findings:
        its = labels == finding.label
        assert finding.volume_ml == pytest.approx(its.sum() * TURNED.voxel_volume_ml)
        assert finding.peak == pytest.approx(score[its].max())
        assert finding.mean == pytest.approx(score[its].mean(), rel=1e-5)
        assert score[its].min() >= several.threshold
        left, posterior, superior = TURNED.index_to_physical(np.argwhere(its).mean(axis=0))
        np.testing.assert_allclose(finding.centroid_ras_mm, (-left, -posterior, superior), atol=1e-6)


def test_a_threshold_replaces_the_models(detection: Detection, several: Detection) -> None:
    assert detection.threshold == detection.provenance["parameters"]["threshold"] == THRESHOLD
    assert several.threshold == several.provenance["parameters"]["threshold"] > THRESHOLD
    np.testing.assert_array_equal(several.score.array, detection.score.array)
    assert (several.findings_mask.array > 0).sum() < (detection.findings_mask.array > 0).sum()


def test_the_bright_lesion_counts_on_its_own_side_only(detector: Detector) -> None:
    both, bright, dark = (
        detector.detect(scan(), sequence="T2", sign=sign).score.array for sign in ("absolute", "positive", "negative")
    )
    assert np.array_equal(detector.detect(scan(), sequence="T2", sign="typical").score.array, bright)
    assert bright.max() > 0
    assert dark.max() > 0
    assert np.all(np.maximum(bright, dark) <= both + 1e-6)


def test_a_threshold_above_everything_leaves_no_findings(detector: Detector) -> None:
    nothing = detector.detect(scan(), threshold=3.0)
    assert nothing.findings == ()
    assert not nothing.findings_mask.array.any()
    assert nothing.findings_mask.array.dtype == np.uint16


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_an_impossible_threshold_is_refused(detector: Detector, threshold: float) -> None:
    with pytest.raises(UsageError, match="give a positive number"):
        detector.detect(scan(), threshold=threshold)


def test_the_threshold_is_that_of_the_sequence_and_the_kind_of_score() -> None:
    model = untrained_model()
    kinds = {"hybrid": 0.1, "l1": 0.2, "ssim": 0.3, "intensity": 0.4}
    thresholds = {"T1": kinds, "T2": {kind: value + 0.5 for kind, value in kinds.items()}}
    detector = Detector(replace(model, metadata=replace(model.metadata, thresholds=thresholds)), torch.device("cpu"))
    for sequence in ("T1", "T2"):
        found = detector.detect_all_scores(scan(sequence=sequence))
        assert {kind: each.threshold for kind, each in found.items()} == thresholds[sequence]


def test_a_calibration_recommends_its_balanced_preset_for_its_own_sequence_and_score() -> None:
    detector = Detector(calibrated(untrained_model(), T2=made_up_calibration((0.01, 0.02, 0.03))), torch.device("cpu"))
    found = detector.detect_all_scores(scan())
    assert {kind: each.threshold for kind, each in found.items()} == {
        "hybrid": 0.02,
        "l1": THRESHOLD,
        "ssim": THRESHOLD,
        "intensity": THRESHOLD,
    }
    assert detector.detect(scan(), "T2").threshold == 0.02
    assert detector.detect(scan(), "T2", sign="absolute").threshold == 0.02  # the model's own sign
    assert detector.detect(scan(), "T2", sign="positive").threshold == THRESHOLD
    assert detector.detect(scan(), "T2", threshold=0.04).threshold == 0.04
    assert detector.detect(scan(sequence="T1"), "T1").threshold == THRESHOLD
    assert set(detector.identity) == {"name", "version", "sha256"}


def test_a_calibration_changes_no_score_even_with_a_second_pass() -> None:
    twice = replace(preset("tiny").preprocessing, second_pass=True)
    models = untrained_model(), calibrated(untrained_model(), T2=made_up_calibration((0.3, 0.4, 0.5)))
    plain, changed = (
        Detector(model, torch.device("cpu")).detect(scan(), "T2", preprocessing=twice) for model in models
    )
    np.testing.assert_array_equal(plain.score.array, changed.score.array)


# --- sequence and masks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_auto_finds_the_sequence(detector: Detector, sequence: str) -> None:
    found = detector.detect(scan(sequence=sequence))
    assert (found.sequence, found.warnings) == (sequence, ())
    assert "correlation" in found.sequence_evidence


def test_warnings_of_the_preparation_come_back(detector: Detector) -> None:
    found = detector.detect(scan(sequence="T2"), sequence="T1")
    assert found.sequence == "T1"
    assert found.warnings[0].startswith("told to be T1 but it looks like T2")


def test_the_network_is_told_the_sequence() -> None:
    """It matters to a model without modality reuse, which learned one vector for each."""
    config = preset("tiny")
    torch.manual_seed(0)
    network = DALNetwork(replace(config, network=replace(config.network, modality_reuse=False))).eval()
    model = untrained_model()
    metadata = replace(model.metadata, config=network.config)
    detector = Detector(replace(model, metadata=metadata, network=network), torch.device("cpu"))
    for row, sequence in enumerate(("T1", "T2")):
        found = detector.detect(scan(), sequence=sequence)
        np.testing.assert_array_equal(found.modality_vector, network.sequence_modality.weight[row].detach().numpy())


def test_a_given_mask_confines_everything(detector: Detector) -> None:
    half = brain_mask().array.copy()
    half[:, :, SCAN_GRID.shape[2] // 2 :] = 0
    found = detector.detect(scan(), brain_mask=Volume(half, SCAN_GRID))
    np.testing.assert_array_equal(found.brain_mask.array, half)
    for name in VOLUMES:
        assert not getattr(found, name).array[half == 0].any()


def test_bad_input_is_refused(detector: Detector) -> None:
    elsewhere = brain_mask(replace(SCAN_GRID, spacing=(4.0, 4.2, 4.1)))
    nothing = Volume(np.zeros(SCAN_GRID.shape, np.uint8), SCAN_GRID)
    with pytest.raises(GeometryError, match="resample the mask to the scan"):
        detector.detect(scan(), brain_mask=elsewhere)
    with pytest.raises(InputError, match="brain mask is empty"):
        detector.detect(scan(), brain_mask=nothing)
    with pytest.raises(UsageError, match="unknown sequence 'PD'; this model knows T1, T2"):
        detector.detect(scan(), sequence="PD")


def test_an_affine_change_of_intensities_changes_only_the_units(detector: Detector, detection: Detection) -> None:
    """Stated error: 1e-3 of the largest value. Only rounding to float32 differs, but the network amplifies it."""
    gain, offset = 0.37, 900.0
    inside = detection.brain_mask.array > 0
    changed = np.where(inside, gain * scan(TURNED).array + offset, 0).astype(np.float32)
    found = detector.detect(Volume(changed, TURNED))
    np.testing.assert_array_equal(found.brain_mask.array, detection.brain_mask.array)
    scores = detection.score.array
    np.testing.assert_allclose(found.score.array, scores, rtol=0, atol=1e-3 * scores.max())
    expected = np.where(inside, gain * detection.pseudo_healthy.array + offset, 0)
    np.testing.assert_allclose(found.pseudo_healthy.array, expected, rtol=0, atol=1e-3 * expected.max())


# --- all kinds of score -----------------------------------------------------------------------------------------------


def test_all_scores_come_from_one_restoration_and_the_hybrid_is_detects() -> None:
    detector, network = detector_of()
    passes = []
    network.anatomy_extractor.register_forward_hook(lambda *_: passes.append(1))
    found = detector.detect_all_scores(scan(TURNED))
    assert len(passes) == preset("tiny").restoration.views
    assert list(found) == ["hybrid", "l1", "ssim", "intensity"]
    single = detector.detect(scan(TURNED))
    for name in VOLUMES:
        np.testing.assert_array_equal(getattr(found["hybrid"], name).array, getattr(single, name).array)
    assert found["hybrid"].findings == single.findings
    assert found["hybrid"].threshold == single.threshold
    scores = [each.score.array for each in found.values()]
    assert all(not np.array_equal(*pair) for pair in pairwise(scores))
    for kind, each in found.items():
        assert each.provenance["parameters"]["score"] == kind
        assert each.score.array.dtype == np.float32
        np.testing.assert_array_equal(each.pseudo_healthy.array, single.pseudo_healthy.array)


# --- provenance -------------------------------------------------------------------------------------------------------


def test_provenance_is_complete_plain_and_free_of_paths(tmp_path: Path) -> None:
    model = untrained_model()
    path = tmp_path / "surname_firstname.dalmodel"
    digest = save_model(path, model.metadata, model.network, model.templates)
    detector = Detector.load(path, "cpu")
    began = time.perf_counter()
    provenance = detector.detect(scan(TURNED)).provenance
    lasted = time.perf_counter() - began
    assert json.loads(json.dumps(provenance, allow_nan=False)) == provenance
    seconds = provenance.pop("seconds")
    assert tuple(seconds) == STAGES[:-1]
    assert min(seconds.values()) >= 0
    assert 0.5 * lasted < sum(seconds.values()) < lasted + 0.01
    steps = provenance.pop("steps")
    assert [step["name"] for step in steps] == list(STEPS)
    assert {step["name"] for step in steps if step["status"] == "skipped"} == {"brain_extraction", "n4", "registration"}
    assert all(0 <= step["seconds"] <= lasted for step in steps)
    evidence = provenance["parameters"].pop("sequence_evidence")
    assert evidence.startswith("correlation with the mean T1")
    assert provenance["versions"].pop("Python").count(".") == 2
    assert provenance == {
        "versions": {
            "DALAnomaly": __version__,
            "torch": torch.__version__,
            "SimpleITK": version("SimpleITK"),
            "numpy": np.__version__,
        },
        "model": {"name": "tiny", "version": "1.2.3", "sha256": digest},
        "device": "cpu",
        "out_of_distribution": None,  # this model does not say how its training scans look
        "parameters": {
            "sequence": "T2",
            "score": "hybrid",
            "sign": "absolute",
            "threshold": THRESHOLD,
            "minimum_finding_ml": 0.1,
            "model_grid_shape": [24, 28, 24],
            "model_grid_spacing_mm": [6.5, 6.5, 6.5],
        },
    }
    assert detector.metadata == model.metadata
    assert detector.digest == digest
    text = json.dumps([provenance, steps]) + evidence
    assert not any(trace in text for trace in ("/", "\\\\", path.stem, tmp_path.name))


# --- loading ----------------------------------------------------------------------------------------------------------


def test_an_absent_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="device 'cuda' is absent"):
        Detector.load(tmp_path / "any.dalmodel", "cuda")


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing\.dalmodel cannot be read"):
        Detector.load(tmp_path / "missing.dalmodel", "cpu")


# --- progress and cancelling ------------------------------------------------------------------------------------------


def detect_one(detector: Detector, **options: object) -> None:
    detector.detect(scan(), **options)


def detect_all(detector: Detector, **options: object) -> None:
    detector.detect_all_scores(scan(), **options)


@pytest.mark.parametrize("call", [detect_one, detect_all])
def test_progress_rises_from_0_to_1_through_named_stages(detector: Detector, call: Callable[..., None]) -> None:
    reports: list[tuple[str, float]] = []
    call(detector, progress=lambda name, fraction: reports.append((name, fraction)))
    assert (reports[0][1], reports[-1]) == (0.0, ("done", 1.0))
    assert all(earlier < later for (_, earlier), (_, later) in pairwise(reports))
    assert list(dict.fromkeys(name for name, _ in reports)) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES[:-1])
@pytest.mark.parametrize("call", [detect_one, detect_all])
def test_cancelling_at_any_stage_ends_the_run_and_leaves_no_hooks(stage: str, call: Callable[..., None]) -> None:
    detector, network = detector_of()
    token, seen = CancelToken(), []

    def cancel_at_stage(name: str, _fraction: float) -> None:
        seen.append(name)
        if name == stage:
            token.cancel()

    with pytest.raises(CancelledError):
        call(detector, progress=cancel_at_stage, cancel=token)
    assert seen[-1] == stage, "nothing begins after the stage in which it was cancelled"
    assert hooks(network) == 0
    detector.detect(scan())  # as good as new


def test_cancelling_when_done_is_too_late(detector: Detector) -> None:
    token = CancelToken()
    found = detector.detect(scan(), progress=lambda _name, fraction: fraction == 1 and token.cancel(), cancel=token)
    assert token.cancelled
    assert found.score.grid == SCAN_GRID


def test_a_run_cancelled_before_it_begins_does_nothing(detector: Detector) -> None:
    token, seen = CancelToken(), []
    token.cancel()
    with pytest.raises(CancelledError):
        detector.detect(scan(), progress=lambda name, _fraction: seen.append(name), cancel=token)
    assert seen == []


def test_an_error_in_the_network_leaves_no_hooks() -> None:
    detector, network = detector_of()

    def fail(*_: object) -> None:
        raise RuntimeError("defect")

    handle = network.anatomy_restorer.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="defect"):
        detector.detect(scan())
    handle.remove()
    assert hooks(network) == 0


def test_another_thread_cancels_the_network_within_a_second() -> None:
    """The size that ships, cancelled as its first convolution begins; all of them take seconds.

    Timed in seconds of computing, at least those on the clock of a machine with nothing else to do.
    """
    detector, network = detector_of("default")
    first, last = network.anatomy_extractor, network.representation_combiner
    token, begun, finished, times = CancelToken(), threading.Event(), [], {}

    def cancel_when_begun() -> None:
        begun.wait(timeout=60)
        times["cancelled"] = time.process_time()
        token.cancel()

    first.register_forward_pre_hook(lambda *_: begun.set())
    last.register_forward_hook(lambda *_: finished.append(1))
    other = threading.Thread(target=cancel_when_begun)
    other.start()
    with pytest.raises(CancelledError):
        detector.detect(scan(), cancel=token)
    lasted = time.process_time() - times["cancelled"]
    other.join()
    assert finished == [], "the network must not run to its end first"
    assert lasted < 1.0
    assert hooks(network) == 2  # this test's own


# --- real scans -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lowest"),
    [("lesions/glioma/TCIA01_378_1_T2.nii.gz", 0.0), ("healthy_pair/kirby113_T2.nii.gz", -9461.0)],
    ids=["glioma", "negative values"],
)
def test_a_real_scan_comes_back_on_its_own_grid(
    detector: Detector, data_folder: Path, name: str, lowest: float
) -> None:
    volume = read_volume(data_folder / name)
    assert lowest <= volume.array.min() <= lowest + 1
    found = detector.detect(volume)
    for output, dtype in VOLUMES.items():
        assert getattr(found, output).grid == volume.grid
        assert getattr(found, output).array.dtype == dtype
    assert np.isfinite(found.score.array).all()
    assert np.isfinite(found.pseudo_healthy.array).all()
    assert (found.score.array > 0).mean() > 0.05
    size_ml = found.brain_mask.array.sum() * volume.grid.voxel_volume_ml
    assert 1000 < size_ml < 1900
    assert not any("ml" in warning for warning in found.warnings)
    assert found.score.array[found.brain_mask.array == 0].max() == 0
