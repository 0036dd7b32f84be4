"""One run in this process: what lies in the folder, and what happens when something goes wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from DALAnomalyLib.detector import Detector
from DALAnomalyLib.errors import CancelledError, DeviceError, InputError, OutputError
from DALAnomalyLib.job import run as job
from DALAnomalyLib.job.memory_ladder import Attempt, attempts_on
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.result_layout import PLAIN_VOLUMES
from DALAnomalyLib.model_store import load_model, save_model
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume_io import read_map, read_volume
from Testing.lib.calibrations import calibrated, made_up_calibration
from Testing.lib.job_inputs import names, write_inputs

SILENT = job.Listener(lambda _stage, _fraction: None, lambda _message: None)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_inputs(tmp_path_factory.mktemp("in"))


@pytest.fixture
def asked(inputs: tuple[Path, Path], tmp_path: Path) -> DetectionRequest:
    return DetectionRequest(inputs[0], tmp_path / "out", sequence="T2", device="cpu", model=inputs[1])


def manifest_of(request: DetectionRequest) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((request.output / "manifest.json").read_text(encoding="utf-8"))
    return record


def test_the_result_is_whole_and_on_the_grid_of_the_scan(asked: DetectionRequest) -> None:
    finished = job.run_detection(asked, SILENT, CancelToken())
    assert names(asked.output) == sorted(PLAIN_VOLUMES.names)
    assert names(asked.output.parent) == ["out"]
    grid = read_volume(asked.scan).grid
    for file, field in PLAIN_VOLUMES.volumes.items():
        volume = read_map(asked.output / file)
        assert volume.grid.is_close(grid)
        np.testing.assert_array_equal(volume.array, getattr(finished.detection, field).array)


def test_a_run_cancelled_with_its_last_file_leaves_nothing(
    asked: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = CancelToken()
    monkeypatch.setattr(job, "write_manifest", lambda *_: token.cancel())
    with pytest.raises(CancelledError):
        job.run_detection(asked, SILENT, token)
    assert names(asked.output.parent) == []


def test_the_manifest_says_what_was_asked_and_what_was_used(asked: DetectionRequest, inputs: tuple[Path, Path]) -> None:
    asked = replace(asked, mode="quick", brain_mask=None, threshold=0.02)
    finished = job.run_detection(asked, SILENT, CancelToken())
    record = manifest_of(asked)
    assert record["requested"]["mode"] == "quick"
    assert record["requested"]["threshold"] == 0.02
    assert record["requested"]["preprocessing"]["series"] is None
    assert record["parameters"]["minimum_finding_ml"] == 0.1
    assert record["model"]["sha256"] == hashlib.sha256(inputs[1].read_bytes()).hexdigest()
    assert record["input"] == {
        "name": "scan.nii",
        "files": 1,
        "sha256": hashlib.sha256(inputs[0].read_bytes()).hexdigest(),
        "shape_kji": [34, 46, 38],
        "spacing_ijk_mm": pytest.approx([3.9, 4.2, 4.1]),
    }
    assert set(record["outputs"]) == set(PLAIN_VOLUMES.volumes)
    assert str(inputs[0].parent) not in json.dumps(record)
    assert finished.summary()["seconds"] == record["times"]["seconds"]


def test_the_manifest_carries_the_presets_that_hold_for_the_run(
    asked: DetectionRequest, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "calibrated.dalmodel"
    preprocessing = load_model(inputs[1]).metadata.config.preprocessing
    calibration = made_up_calibration(source="scans in /data/of/jane", preprocessing=preprocessing)
    model = calibrated(load_model(inputs[1]), T2=calibration)
    save_model(path, model.metadata, model.network, model.templates)
    asked = replace(asked, model=path)
    finished = job.run_detection(asked, SILENT, CancelToken())
    entry = manifest_of(asked)["model"]["calibration"]["T2"]
    assert [entry[key]["threshold"] for key in ("sensitive", "balanced", "specific")] == [0.02, 0.03, 0.06]
    assert entry["balanced"]["false_positive_ml"] == 1.0
    assert entry["balanced"]["false_positives_per_scan"] == 0.75
    assert entry["about"]["same_preprocessing"] is True
    assert entry["about"]["source"] == "scans in jane", "no folder may be named"
    assert finished.detection.threshold == manifest_of(asked)["parameters"]["threshold"] == 0.03
    quick = replace(asked, mode="quick", output=tmp_path / "quick")
    job.run_detection(quick, SILENT, CancelToken())
    assert manifest_of(quick)["model"]["calibration"]["T2"]["about"]["same_preprocessing"] is False
    signed = replace(asked, sign="typical", output=tmp_path / "signed")
    job.run_detection(signed, SILENT, CancelToken())
    assert "calibration" not in manifest_of(signed)["model"]
    uncalibrated = replace(asked, model=inputs[1], output=tmp_path / "uncalibrated")
    job.run_detection(uncalibrated, SILENT, CancelToken())
    assert set(manifest_of(uncalibrated)["model"]) == {"name", "version", "sha256"}


def test_progress_never_goes_back_and_names_every_file(asked: DetectionRequest) -> None:
    told: list[tuple[str, float]] = []
    listener = job.Listener(lambda stage, fraction: told.append((stage, fraction)), lambda _message: None)
    job.run_detection(asked, listener, CancelToken())
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (told[0], told[-1]) == (("reading", 0.0), ("done", 1.0))
    assert {f"writing {file}" for file in PLAIN_VOLUMES.volumes} <= {stage for stage, _ in told}


def test_what_the_asker_read_in_the_header_counts(asked: DetectionRequest) -> None:
    described = {"modality": "MR", "sequence": "FLAIR", "contrast_agent": None, "evidence": "DICOM: inversion recovery"}
    with pytest.raises(InputError, match=r"scan\.nii: this looks like FLAIR \(DICOM: inversion recovery;"):
        job.run_detection(replace(asked, sequence="auto", described=described), SILENT, CancelToken())
    assert names(asked.output.parent) == []


# --- memory -----------------------------------------------------------------------------------------------------------


class FullGpu(Detector):
    """A detector on a GPU on which nothing more fits."""

    def detect(self, *_args: Any, **_keywords: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class FullComputer(Detector):
    def detect(self, *_args: Any, **_keywords: Any) -> Any:
        return torch.empty(2**50)


def test_memory_running_out_on_the_gpu_leads_to_the_cpu_and_is_said(
    asked: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Attempt] = []
    notices: list[str] = []
    monkeypatch.setattr(job, "attempts_on", lambda _device: attempts_on("cuda"))

    def load(request: DetectionRequest, attempt: Attempt) -> Detector:
        tried.append(attempt)
        detector = job.load_detector(request, Attempt("cpu"))
        if attempt.device != "cpu":
            detector.__class__ = FullGpu
        return detector

    listener = replace(SILENT, notice=notices.append)
    finished = job.run_detection(asked, listener, CancelToken(), load=load)
    assert tried == list(attempts_on("cuda"))
    assert len(notices) == 2
    assert finished.detection.warnings[-2:] == tuple(notices)
    assert manifest_of(asked)["warnings"][-2:] == notices
    assert manifest_of(asked)["device"] == "cpu"


def test_memory_running_out_on_the_cpu_is_one_error_and_leaves_nothing(asked: DetectionRequest) -> None:
    def load(request: DetectionRequest, attempt: Attempt) -> Detector:
        detector = job.load_detector(request, attempt)
        detector.__class__ = FullComputer
        return detector

    with pytest.raises(DeviceError, match="not enough memory on the CPU"):
        job.run_detection(asked, SILENT, CancelToken(), load=load)
    assert names(asked.output.parent) == []


def test_the_sparing_attempt_outlines_the_brain_on_the_cpu(
    asked: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(PreprocessingOptions, "load_detector", lambda _options, *given: calls.append(given))
    for attempt in attempts_on("cuda:1"):
        job.load_detector(asked, attempt)
    assert calls == [(asked.model, "cuda:1", None), (asked.model, "cuda:1", "cpu"), (asked.model, "cpu", None)]


def test_the_networks_lie_where_they_are_wanted(asked: DetectionRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from DALAnomalyLib.preprocessing import equipment

    monkeypatch.setattr("DALAnomalyLib.detector.resolve_device", torch.device)
    loaded: list[torch.device | None] = []
    monkeypatch.setattr(equipment, "_extractor", loaded.append)
    for outline_device in (None, "meta"):
        detector = asked.preprocessing.load_detector(asked.model, "cpu", outline_device)
        detector.equipment.extractor()
        assert detector.device == torch.device("cpu")
    assert loaded == [torch.device("cpu"), torch.device("meta")]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_folder_is_written_by_one_run_at_a_time(asked: DetectionRequest) -> None:
    def load(request: DetectionRequest, attempt: Attempt) -> Detector:
        with pytest.raises(OutputError, match="another run is writing this result"):
            job.run_detection(request, SILENT, CancelToken())
        return job.load_detector(request, attempt)

    job.run_detection(asked, SILENT, CancelToken(), load=load)
    assert names(asked.output.parent) == ["out"]
    assert names(asked.output) == sorted(PLAIN_VOLUMES.names)


def test_a_scan_may_be_deleted_once_it_is_read(asked: DetectionRequest, tmp_path: Path) -> None:
    copy = tmp_path / "copy.nii"
    copy.write_bytes(asked.scan.read_bytes())

    def load(request: DetectionRequest, attempt: Attempt) -> Detector:
        copy.unlink()
        return job.load_detector(request, attempt)

    job.run_detection(replace(asked, scan=copy), SILENT, CancelToken(), load=load)
    assert manifest_of(asked)["input"]["sha256"] == hashlib.sha256(asked.scan.read_bytes()).hexdigest()


def test_a_scan_deleted_while_it_is_read_is_an_input_error(
    asked: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, *_: Any) -> Any:
        return (path.parent / "gone.nii").read_bytes()

    monkeypatch.setattr(job.manifest, "describe_input", gone)
    with pytest.raises(InputError, match=r"gone\.nii: cannot be read any more"):
        job.run_detection(asked, SILENT, CancelToken())
    assert names(asked.output.parent) == []


@pytest.mark.parametrize("stage", ["brain extraction", "restoring the healthy image", "writing tissues.nii"])
def test_a_cancelled_run_leaves_nothing(asked: DetectionRequest, stage: str) -> None:
    token = CancelToken()

    def progress(name: str, _fraction: float) -> None:
        if name == stage:
            token.cancel()

    with pytest.raises(CancelledError):
        job.run_detection(asked, replace(SILENT, progress=progress), token)
    assert token.cancelled
    assert names(asked.output.parent) == []


def test_asking_for_a_run_does_not_import_torch() -> None:
    code = (
        "import sys; from DALAnomalyLib.job import events, findings_table, manifest, request, result_layout, run;"
        " import DALAnomalyLib.job.__main__; print({'torch', 'SimpleITK', 'typer', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
