from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import Result

pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (extra cli)")

from matplotlib.image import imread

from DALAnomalyCLI.preprocess import RESULT_FILES
from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_volume, write_volume
from Testing.lib.atlas_phantom import MIDDLE, likeness, motion
from Testing.lib.dicom_phantom import FLAIR, IDENTIFIER, NAME, T1_SPIN_ECHO, head, write_series

UNREGISTERED = {"brain_mask.nii.gz", "corrected.nii.gz", "model_input.nii.gz", "qc.png", "manifest.json"}
SLOW = ("brain_extraction", "n4", "registration")
Preprocess = Callable[..., Result]


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.fixture
def preprocess(run: Callable[..., Result], model_file: Path) -> Preprocess:
    return lambda *arguments: run("preprocess", "--model", model_file, "--device", "cpu", *arguments)


def manifest_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return record


def test_a_scan_is_prepared_and_every_step_recorded(
    preprocess: Preprocess, scan: Path, model_file: Path, tmp_path: Path
) -> None:
    done = preprocess(scan, "-o", tmp_path / "out", "--sequence", "T2")
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == UNREGISTERED
    record = manifest_of(tmp_path / "out")
    assert [(step["name"], step["status"]) for step in record["steps"]] == [
        (name, "skipped" if name in SLOW else "done") for name in STEPS
    ], "the tiny model leaves out the slow ones"
    assert all(step["seconds"] >= 0 for step in record["steps"])
    assert record["sequence"] == "T2"
    assert record["input"]["name"] == "scan.nii.gz"
    assert record["model"]["sha256"] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert record["requested"]["preprocessing"]["extraction"] == "auto"
    assert set(record["outputs"]) == UNREGISTERED - {"manifest.json"}
    assert done.stdout.startswith("scan.nii.gz: T2, ")
    assert imread(tmp_path / "out" / "qc.png").shape[1] > 1000
    mask = read_volume(tmp_path / "out" / "brain_mask.nii.gz")
    assert mask.grid.is_close(read_volume(scan).grid)


def test_json_carries_steps_and_warnings(preprocess: Preprocess, scan: Path, tmp_path: Path) -> None:
    done = preprocess(scan, "-o", tmp_path / "out", "--sequence", "T1", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert {"reading", "reorient", "n4", "registration", "writing"} <= {event.get("stage") for event in events}
    outcome = events[-1]
    assert outcome["event"] == "result"
    assert [step["name"] for step in outcome["steps"]] == list(STEPS)
    assert outcome["output"] == str(tmp_path / "out")


POSE = motion(15, (2, -1, 1), (-115, 112, -66))
"""From the atlas to the scan."""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_brain_is_registered_and_its_files_lead_to_the_atlas(
    preprocess: Preprocess, tmp_path: Path, device: str
) -> None:
    """Through the program, with `--skip none` over the model's own choice. Stated error: 1 mm on voxels of 4 mm."""
    source, out = tmp_path / "in" / "brain.nii.gz", tmp_path / "out"
    source.parent.mkdir()
    write_volume(POSE.move(likeness("T1")), source)
    done = preprocess(source, "-o", out, "--skip", "n4", "--brain-extraction", "stripped", "--device", device)
    assert done.exit_code == 0, done.output
    assert names(out) == set(RESULT_FILES)
    record = manifest_of(out)
    assert record["sequence"] == "T1"
    assert record["warnings"] == []
    step = next(step for step in record["steps"] if step["name"] == "registration")
    assert step["status"] in ("done", "cached")
    assert step["parameters"]["atlas"] == "DALAnomaly group atlas 1"
    transform = sitk.ReadTransform(str(out / "atlas_to_scan.tfm"))
    for landmark in MIDDLE + np.array([(0, 0, 0), (40, 10, -20), (-30, -50, 30)]):
        found = np.array(transform.TransformPoint(landmark.tolist()))
        assert np.linalg.norm(found - POSE.apply(landmark)) < 1
    image, mask = (sitk.ReadImage(str(out / f"atlas_space{end}.nii.gz")) for end in ("", "_brain_mask"))
    assert image.GetSize() == mask.GetSize() == (240, 240, 155)


def test_the_second_run_is_quick_unless_the_cache_is_off(
    preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "in" / "brain.nii.gz"
    source.parent.mkdir()
    write_volume(likeness("T1"), source)
    options = ("--skip", "n4,registration", "--sequence", "T1")
    statuses = []
    for number, more in enumerate(((), (), ("--no-cache",))):
        assert preprocess(source, "-o", tmp_path / str(number), *options, *more).exit_code == 0
        steps = manifest_of(tmp_path / str(number))["steps"]
        statuses.append(next(step["status"] for step in steps if step["name"] == "brain_extraction"))
    assert statuses == ["done", "cached", "done"]
    first, second = ((tmp_path / number / "model_input.nii.gz").read_bytes() for number in "01")
    assert gzip.decompress(first) == gzip.decompress(second)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--skip", "denoise"), 2, "the steps are reorient, brain_extraction, n4, registration, crop"),
        (("--skip", "n4", "--preprocessed"), 2, "--preprocessed and --skip"),
        (("--brain-extraction", "bet"), 2, "--brain-extraction is bet"),
        (("--registration", "ants"), 2, "--registration is ants"),
        (("--window", "head"), 2, "--window is head"),
        (("--sequence", "PD"), 2, "unknown sequence 'PD'"),
        (("--skip", "sequence"), 2, "the sequence must be named"),
        (("--series", "2"), 3, "is no DICOM folder"),
        (("--brain-mask", "nowhere.nii.gz"), 3, "no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_folder(
    preprocess: Preprocess, scan: Path, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    done = preprocess(scan, "-o", tmp_path / "out", *options)
    assert done.exit_code == code, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("dal-anomaly: error: ")
    assert words in line
    assert names(tmp_path) == {"in"}


def test_an_older_result_is_replaced_only_with_force(preprocess: Preprocess, scan: Path, tmp_path: Path) -> None:
    options = (scan, "-o", tmp_path / "out", "--sequence", "T2")
    assert preprocess(*options).exit_code == 0
    assert preprocess(*options).exit_code == 7
    assert preprocess(*options, "--force").exit_code == 0


# --- DICOM ------------------------------------------------------------------------------------------------------------


def study(folder: Path) -> Path:
    """A patient's folder with a FLAIR and a T1 of one head, named after the patient."""
    volume = head(shape=(24, 48, 40), spacing=(4.0, 4.5, 7.0))
    told = {"PatientName": NAME, "SeriesDescription": f"{NAME} brain", "InstitutionName": "St. Elsewhere"}
    write_series(folder / "a", volume, "1.2.3", SeriesNumber=2, **FLAIR, **told)
    write_series(folder / "b", volume, "1.2.4", SeriesNumber=5, **T1_SPIN_ECHO, **told)
    return folder


def text_of(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


@pytest.mark.parametrize("command", ["preprocess", "detect"])
def test_nothing_of_the_patient_is_in_any_result_of_a_dicom_folder(
    run: Callable[..., Result], model_file: Path, tmp_path: Path, command: str
) -> None:
    source, out = study(tmp_path / "in" / NAME), tmp_path / "out"
    raw = b"".join(path.read_bytes() for path in source.rglob("*") if path.is_file())
    secrets = [NAME.encode(), b"Doe", IDENTIFIER.encode(), b"19700102", b"Elsewhere", b"1.2.4.1"]
    assert all(secret in raw for secret in secrets), "or this test proves nothing"
    options = ("--model", model_file, "--device", "cpu", "--series", "2")
    keep = () if command == "preprocess" else ("--keep-intermediate",)
    done = run(command, source, "-o", out, *options, *keep)
    assert done.exit_code == 0, done.output
    assert "qc.png" in names(out)
    for path in out.iterdir():
        content = text_of(path)
        for secret in secrets:
            assert secret not in content, f"{secret.decode()} in {path.name}"
    record = manifest_of(out)
    assert record["input"]["name"] == "DICOM series"
    assert (record["input"]["files"], record["input"]["part"]) == (24, [1, 1]), "those of the series alone"
    assert record["requested"]["preprocessing"]["series"] == 2
    evidence = next(step["evidence"] for step in record["steps"] if step["name"] == "sequence")
    assert evidence.startswith("DICOM: spin echo, TR 450 ms, TE 12 ms")


@pytest.mark.parametrize(("series", "code", "words"), [("1", 3, "FLAIR"), ("2", 0, ""), ("3", 3, "3")])
def test_the_series_that_is_named_is_taken(
    preprocess: Preprocess, tmp_path: Path, series: str, code: int, words: str
) -> None:
    done = preprocess(study(tmp_path / "in"), "-o", tmp_path / "out", "--series", series)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    if code == 0:
        assert manifest_of(tmp_path / "out")["sequence"] == "T1"


def test_the_only_t1_of_a_study_is_taken_by_itself(preprocess: Preprocess, tmp_path: Path) -> None:
    done = preprocess(study(tmp_path / "in"), "-o", tmp_path / "out", "--sequence", "T1")
    assert done.exit_code == 0, done.output
    assert manifest_of(tmp_path / "out")["warnings"] == [
        warning for warning in manifest_of(tmp_path / "out")["warnings"] if "header says" not in warning
    ]


def test_a_sidecar_speaks_for_its_scan(preprocess: Preprocess, scan: Path, phantom: Volume, tmp_path: Path) -> None:
    sidecar = {
        "Modality": "MR",
        "ScanningSequence": "SE_IR",
        "EchoTime": 0.11,
        "RepetitionTime": 9,
        "InversionTime": 2.5,
    }
    (scan.parent / "scan.json").write_text(json.dumps(sidecar), encoding="utf-8")
    refused = preprocess(scan, "-o", tmp_path / "out")
    assert refused.exit_code == 3
    assert "scan.nii.gz: this looks like FLAIR (sidecar: " in refused.stderr
    named = preprocess(scan, "-o", tmp_path / "out", "--sequence", "T2")
    assert named.exit_code == 0
    assert any("the header says FLAIR" in text for text in manifest_of(tmp_path / "out")["warnings"])
