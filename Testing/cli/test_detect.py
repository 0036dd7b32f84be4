from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import Result

import DALAnomalyCLI.detect as detect_command
from DALAnomalyCLI.detect import RESULT_FILES
from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.errors import CancelledError
from DALAnomalyLib.job.findings_table import FINDING_COLUMNS
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.model_store import load_model, save_model
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume, to_sitk, write_volume

Run = Callable[..., Result]
ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "DALAnomalyCLI.app", "detect", *map(str, arguments)]


@pytest.fixture(scope="module")
def detect(model_file: Path) -> Callable[..., Result]:
    """Run `detect` with the tiny model on the CPU."""
    from typer.testing import CliRunner

    from DALAnomalyCLI.app import app

    def invoke(*arguments: Any) -> Result:
        options = ["--model", str(model_file), "--device", "cpu", *map(str, arguments)]
        if "--sequence" not in options:
            options += ["--sequence", "T2"]
        return CliRunner().invoke(app, ["detect", *options])

    return invoke


@pytest.fixture(scope="module")
def result(detect: Run, phantom: Volume, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One finished run: the input and its folder of results."""
    folder = tmp_path_factory.mktemp("detect")
    write_volume(phantom, folder / "scan.nii.gz")
    done = detect(folder / "scan.nii.gz", "-o", folder / "out", "--threshold", "0.01")
    assert done.exit_code == 0, done.output
    return folder / "scan.nii.gz", folder / "out"


# --- a run that goes well ---------------------------------------------------------------------------------------------


def test_all_results_and_nothing_else_appear(result: tuple[Path, Path]) -> None:
    source, out = result
    assert names(out) == sorted(RESULT_FILES)
    assert names(out.parent) == sorted([source.name, out.name])


@pytest.mark.parametrize(
    ("file", "pixel_type"),
    [
        ("anomaly.nii.gz", sitk.sitkFloat32),
        ("pseudo_healthy.nii.gz", sitk.sitkFloat32),
        ("tissues.nii.gz", sitk.sitkUInt8),
        ("edges.nii.gz", sitk.sitkUInt8),
        ("brain_mask.nii.gz", sitk.sitkUInt8),
        ("uncertainty.nii.gz", sitk.sitkFloat32),
        ("findings_mask.nii.gz", sitk.sitkUInt16),
    ],
)
def test_volumes_lie_on_the_grid_of_the_scan(result: tuple[Path, Path], file: str, pixel_type: int) -> None:
    scan, image = sitk.ReadImage(str(result[0])), sitk.ReadImage(str(result[1] / file))
    assert image.GetPixelID() == pixel_type
    assert image.GetSize() == scan.GetSize()
    np.testing.assert_allclose(image.GetSpacing(), scan.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), scan.GetDirection(), atol=1e-6)


def test_findings_table_agrees_with_the_findings_mask(result: tuple[Path, Path]) -> None:
    with (result[1] / "findings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    mask = sitk.ReadImage(str(result[1] / "findings_mask.nii.gz"))
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(mask)
    assert rows, "the threshold is low enough for findings"
    assert tuple(rows[0]) == FINDING_COLUMNS
    assert [int(row["id"]) for row in rows] == list(statistics.GetLabels())
    for row in rows:
        label = int(row["id"])
        assert float(row["volume_ml"]) == pytest.approx(statistics.GetPhysicalSize(label) / 1000, rel=1e-4)
        left, back, up = statistics.GetCentroid(label)
        centroid = [float(row[f"centroid_{axis}_mm"]) for axis in "ras"]
        assert centroid == pytest.approx([-left, -back, up], abs=0.01)
        assert 0 < float(row["mean"]) <= float(row["peak"])


def test_manifest_records_the_run(result: tuple[Path, Path], model_file: Path) -> None:
    _, out = result
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["tool"] == "DALAnomaly"
    assert manifest["input"]["name"] == "scan.nii.gz"
    assert manifest["input"]["shape_kji"] == [36, 44, 36]
    preprocessing = manifest["requested"].pop("preprocessing")
    assert manifest["requested"] == {
        "sequence": "T2",
        "device": "cpu",
        "mode": "full",
        "threshold": 0.01,
        "sign": None,
    }
    assert preprocessing["skip"] is None
    assert preprocessing["series"] is None
    assert manifest["parameters"]["sequence"] == "T2"
    assert manifest["parameters"]["threshold"] == 0.01
    assert manifest["parameters"]["sequence_evidence"]
    assert manifest["device"] == "cpu"
    assert set(manifest["outputs"]) == set(RESULT_FILES) - {"manifest.json"}
    assert {"python", "torch", "SimpleITK", "DALAnomaly"} <= set(manifest["versions"])
    assert manifest["model"]["sha256"] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert manifest["times"]["seconds"] > 0


def test_manifest_lists_every_step_of_preprocessing(result: tuple[Path, Path]) -> None:
    steps = json.loads((result[1] / "manifest.json").read_text())["steps"]
    assert [step["name"] for step in steps] == list(STEPS)
    left_out = ("brain_extraction", "n4", "registration")  # by the tiny model
    assert [step["status"] for step in steps] == ["skipped" if name in left_out else "done" for name in STEPS]
    assert all(step["seconds"] >= 0 and set(step) == set(steps[0]) for step in steps)
    crop = next(step for step in steps if step["name"] == "crop")
    assert crop["parameters"]["shape_kji"] == [24, 28, 24]


def test_picture_of_the_preprocessing_is_always_there(result: tuple[Path, Path]) -> None:
    from matplotlib.image import imread

    picture = imread(result[1] / "qc.png")
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.05


@pytest.mark.parametrize("written", ["t2", "T2w", "t2W"])
def test_a_sequence_is_understood_however_it_is_written(detect: Run, scan: Path, tmp_path: Path, written: str) -> None:
    assert detect(scan, "-o", tmp_path / "out", "--sequence", written).exit_code == 0
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (record["requested"]["sequence"], record["parameters"]["sequence"]) == ("T2", "T2")


def test_steps_are_left_out_as_asked_and_unknown_ones_refused(detect: Run, scan: Path, tmp_path: Path) -> None:
    skip = "brain_extraction,n4,registration,standardisation"
    assert detect(scan, "-o", tmp_path / "out", "--skip", skip).exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {step["name"] for step in manifest["steps"] if step["status"] == "skipped"} == set(skip.split(","))
    assert manifest["requested"]["preprocessing"]["skip"] == skip
    refused = detect(scan, "-o", tmp_path / "other", "--skip", "n5")
    assert_failed(refused.exit_code, refused.stderr, 2, "n5", ", ".join(STEPS))
    assert not (tmp_path / "other").exists()


def test_intermediate_results_are_kept_only_when_asked(detect: Run, scan: Path, tmp_path: Path) -> None:
    kept = {"corrected.nii.gz", "model_input.nii.gz"}  # without registration nothing lies in the atlas
    assert detect(scan, "-o", tmp_path / "out", "--keep-intermediate").exit_code == 0
    assert set(names(tmp_path / "out")) == {*RESULT_FILES, *kept}
    assert kept < set(json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"])
    assert detect(scan, "-o", tmp_path / "out", "--force").exit_code == 0
    assert names(tmp_path / "out") == sorted(RESULT_FILES)


def test_second_pass_measures_intensities_again(
    detect: Run, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DALAnomalyLib import detector

    passes: list[Any] = []
    again = detector.without_anomalies
    monkeypatch.setattr(detector, "without_anomalies", lambda *given: passes.append(given) or again(*given))
    assert detect(scan, "-o", tmp_path / "one").exit_code == 0
    assert passes == []
    assert detect(scan, "-o", tmp_path / "two", "--second-pass").exit_code == 0
    assert len(passes) == 1


def test_no_folder_of_the_user_appears_in_any_text(result: tuple[Path, Path], model_file: Path) -> None:
    for file in ("manifest.json", "findings.csv"):
        text = (result[1] / file).read_text()
        assert str(result[0].parent) not in text
        assert str(model_file.parent) not in text


def test_result_is_announced_with_the_research_use_line(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert done.stdout.startswith("scan.nii.gz: ")
    assert str(tmp_path / "out") in done.stdout
    assert "Research use only. Not for diagnosis." in done.stdout
    assert done.stderr == ""


def test_quiet_prints_nothing(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, "-o", tmp_path / "out", "--quiet")
    assert (done.exit_code, done.output) == (0, "")


def test_json_lines_tell_progress_and_result(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, "-o", tmp_path / "out", "--json", "--threshold", "0.01")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    progress = [event for event in events if event["event"] == "progress"]
    assert {event["input"] for event in events} == {str(scan)}
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len({event["stage"] for event in progress}) > 5
    (outcome,) = (event for event in events if event["event"] == "result")
    assert outcome["output"] == str(tmp_path / "out")
    with (tmp_path / "out" / "findings.csv").open(newline="") as stream:
        assert len(outcome["findings"]) == len(list(csv.DictReader(stream)))
    assert done.stderr == ""


def test_the_sign_is_used_and_an_unknown_one_refused(detect: Run, scan: Path, tmp_path: Path) -> None:
    assert detect(scan, "-o", tmp_path / "out", "--sign", "typical").exit_code == 0
    record = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert record["requested"]["sign"] == "typical"
    assert record["parameters"]["sign"] == "positive"
    refused = detect(scan, "-o", tmp_path / "other", "--sign", "sideways")
    assert refused.exit_code == 2
    assert "--sign is sideways" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_threshold_and_brain_mask_are_used(detect: Run, scan: Path, phantom: Volume, tmp_path: Path) -> None:
    mask = phantom.array > 0
    mask[:, :, 18:] = False
    write_volume(phantom.with_array(mask.astype(np.uint8)), tmp_path / "in" / "mask.nii.gz")
    options = ("--brain-mask", tmp_path / "in" / "mask.nii.gz", "--threshold", "0.02")
    done = detect(scan, "-o", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    used = read_volume_of(tmp_path / "out" / "brain_mask.nii.gz")
    assert used.any()
    assert not used[:, :, 18:].any()
    found = read_volume_of(tmp_path / "out" / "findings_mask.nii.gz") > 0
    score = read_volume_of(tmp_path / "out" / "anomaly.nii.gz")
    assert not found[~(used > 0)].any()
    assert found.any()
    assert score[found].min() >= 0.02
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["brain_mask"]["name"] == "mask.nii.gz"


def read_volume_of(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# --- several inputs ---------------------------------------------------------------------------------------------------


def test_several_inputs_get_a_folder_each_and_a_failing_one_stops_no_other(
    detect: Run, phantom: Volume, tmp_path: Path
) -> None:
    inputs = [tmp_path / "in" / name for name in ("a/scan.nii.gz", "broken.nii.gz", "b/scan.mha")]
    for path in inputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(phantom, path)
    inputs[1].write_bytes(b"no image")
    done = detect(*inputs, tmp_path / "in" / "missing.nii", "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert names(tmp_path / "out") == ["a_scan", "b_scan", "summary.csv"]
    for folder in ("a_scan", "b_scan"):
        assert names(tmp_path / "out" / folder) == sorted(RESULT_FILES)
    rows = summary(tmp_path / "out")
    assert [(row["folder"], row["status"]) for row in rows] == [
        ("a_scan", "done"),
        ("b_scan", "done"),
        ("broken", "failed"),
        ("missing", "failed"),
    ]
    assert [row["input"] for row in rows[:2]] == [str(inputs[0]), str(inputs[2])]
    with (tmp_path / "out" / "a_scan" / "findings.csv").open(newline="") as stream:
        found = [float(row["volume_ml"]) for row in csv.DictReader(stream)]
    assert (int(rows[0]["findings"]), float(rows[0]["volume_ml"])) == (len(found), pytest.approx(sum(found), rel=1e-4))
    for row in rows[:2]:
        manifest = json.loads((tmp_path / "out" / row["folder"] / "manifest.json").read_text(encoding="utf-8"))
        used = manifest["parameters"]
        assert (row["sequence"], float(row["threshold"])) == (
            used["sequence"],
            pytest.approx(used["threshold"], rel=1e-5),
        )
        assert row["warnings"] == "; ".join(manifest["warnings"])
    assert "missing.nii: no such file" in rows[3]["error"]
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "broken.nii.gz" in errors[0]
    assert "missing.nii" in errors[1]
    assert "2 of 4 inputs done, 2 failed" in done.stdout


def test_another_table_in_the_place_of_the_summary_is_not_replaced(
    detect: Run, phantom: Volume, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.csv").write_text("patient,age\n1,70\n")
    done = detect(tmp_path / "a.nii", tmp_path / "b.nii", "-o", tmp_path / "out")
    assert done.exit_code == 7
    assert "summary.csv: is no table of this command" in done.stderr
    assert (tmp_path / "out" / "summary.csv").read_text() == "patient,age\n1,70\n"


@pytest.mark.parametrize("refused", [1, 9])
def test_a_summary_that_cannot_be_written_fails_no_scan(
    detect: Run, phantom: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    inputs = [tmp_path / "in" / name for name in ("a.nii", "b.nii")]
    inputs[0].parent.mkdir()
    for path in inputs:
        write_volume(phantom, path)
    replaced, tries = os.replace, count()

    def open_elsewhere(source: Path, target: Path) -> None:
        if Path(target).name == "summary.csv" and 0 < next(tries) <= refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", open_elsewhere)
    done = detect(*inputs, "-o", tmp_path / "out")
    said = "summary.csv: cannot be written (Permission denied); is it open in another program, or the disk full?"
    assert f"{said} The row is kept for the next try" in " ".join(done.stdout.split())
    assert "2 of 2 inputs done" in done.stdout
    assert names(tmp_path / "out") == ["a", "b", "summary.csv"]
    for_good = refused > 1
    assert done.exit_code == (7 if for_good else 0)
    assert [row["status"] for row in summary(tmp_path / "out")] == (["waiting"] * 2 if for_good else ["done"] * 2)


def test_a_scan_whose_name_is_no_text_keeps_no_other_from_its_row(detect: Run, phantom: Volume, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_volume(phantom, tmp_path / "in" / "a.nii")
    done = detect(tmp_path / "in" / "a.nii", tmp_path / "lat\udce4.nii", "-o", tmp_path / "out")
    assert done.exit_code == 7
    assert "rename it" in done.stderr
    assert [(row["folder"], row["status"]) for row in summary(tmp_path / "out")] == [("a", "done")]


def test_an_input_keeps_its_folder_whatever_other_inputs_come(detect: Run, phantom: Volume, tmp_path: Path) -> None:
    inputs = [tmp_path / "in" / name for name in ("a/scan.nii", "b/other.nii", "c/scan.nii")]
    for path in inputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(phantom, path)
    assert detect(*inputs[:2], "-o", tmp_path / "out").exit_code == 0
    assert detect(*inputs[::-1], "--skip-existing", "-o", tmp_path / "out").exit_code == 0
    folders = {Path(row["input"]): row["folder"] for row in summary(tmp_path / "out")}
    assert folders == dict(zip(inputs, ("scan", "other", "scan_2"), strict=True))


def test_what_was_only_preprocessed_is_not_done(run: Run, detect: Run, scan: Path, tmp_path: Path) -> None:
    model = ("--device", "cpu")
    assert run("preprocess", scan, "-o", tmp_path / "out" / "scan", *model).exit_code == 0
    done = detect(scan, "-o", tmp_path / "out" / "scan", "--skip-existing")
    assert done.exit_code == 7
    assert "done before" not in done.stdout


def test_what_is_done_is_left_out_when_asked(detect: Run, phantom: Volume, tmp_path: Path) -> None:
    inputs = [tmp_path / "in" / name for name in ("a.nii", "b.nii")]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        write_volume(phantom, path)
    options = (*inputs, tmp_path / "missing.nii", "-o", tmp_path / "out")
    assert detect(*options).exit_code == 3
    first = summary(tmp_path / "out")
    assert detect(*options).exit_code == 7, "results are never replaced unasked"
    assert summary(tmp_path / "out") == first
    write_volume(phantom.with_array(phantom.array + 1), inputs[1])
    before = (tmp_path / "out" / "a" / "manifest.json").stat().st_mtime_ns
    done = detect(*inputs, "--skip-existing", "-o", tmp_path / "out")
    assert done.exit_code == 7, "another scan than the one of the result"
    assert f"{inputs[0]}: done before" in done.stdout
    assert "b: holds a result already" in done.stderr
    shutil.rmtree(tmp_path / "out" / "b")
    assert detect(*inputs, "--skip-existing", "-o", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "a" / "manifest.json").stat().st_mtime_ns == before
    assert [(row["folder"], row["status"]) for row in summary(tmp_path / "out")] == [
        ("a", "done"),
        ("b", "done"),
        ("missing", "failed"),
    ]
    refused = detect(*inputs, "--skip-existing", "--force", "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "give one of them" in refused.stderr


def test_what_was_done_otherwise_is_left_out_and_said(run: Run, scan: Path, model_file: Path, tmp_path: Path) -> None:
    model = load_model(model_file)
    other = tmp_path / "other.dalmodel"
    save_model(other, replace(model.metadata, version="of another day"), model.network, model.templates)

    def again(*options: Any) -> str:
        done = run("detect", scan, "-o", tmp_path / "out", "--device", "cpu", *options)
        assert done.exit_code == 0, done.output
        return " ".join(done.stdout.split())

    again("--model", model_file, "--sequence", "T2")
    asked = ("--skip-existing", "--sequence", "T2")
    assert again(*asked, "--model", model_file).endswith(f"done before, in {tmp_path / 'out'}")
    assert again(*asked, "--model", model_file, "--no-cache", "--device", "auto").endswith(f"in {tmp_path / 'out'}")
    assert "(with another model; --force" in again(*asked, "--model", other)
    assert "(with another model; --force" in again(*asked, "--model", tmp_path / "gone.dalmodel")
    gone = run("detect", scan, "-o", tmp_path / "out", *asked, "--brain-mask", tmp_path / "gone.nii")
    assert (gone.exit_code, "gone.nii: no such file" in gone.stderr) == (3, True)
    for options in (("--threshold", "0.2"), ("--brain-mask", scan)):
        assert "(with other options; --force" in again(*asked, "--model", model_file, *options)
    assert "(with another model and other options;" in again(*asked, "--model", other, "--skip", "none")


def test_an_interruption_is_no_failed_input(
    detect: Run, phantom: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [tmp_path / "in" / name for name in ("a.nii", "b.nii", "c.nii")]
    inputs[0].parent.mkdir()
    for path in inputs:
        write_volume(phantom, path)
    detect_one = detect_command._detect_one

    def interrupted(request: DetectionRequest, *more: Any) -> None:
        if request.scan == inputs[1]:
            raise CancelledError("the run was cancelled")
        detect_one(request, *more)

    monkeypatch.setattr(detect_command, "_detect_one", interrupted)
    done = detect(*inputs, "-o", tmp_path / "out")
    assert done.exit_code == 130
    assert "1 of 3 inputs done, 0 failed" in done.stdout
    assert [row["folder"] for row in summary(tmp_path / "out")] == ["a"]


def test_when_all_inputs_fail_not_even_the_folder_remains(detect: Run, tmp_path: Path) -> None:
    done = detect(tmp_path / "a.nii", tmp_path / "b.nii", "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert names(tmp_path) == []


def test_model_that_cannot_be_loaded_is_reported_once(run: Run, scan: Path, phantom: Volume, tmp_path: Path) -> None:
    write_volume(phantom, tmp_path / "in" / "other.nii.gz")
    done = run(
        "detect", scan, tmp_path / "in" / "other.nii.gz", "-o", tmp_path / "out", "--model", tmp_path / "no.dalmodel"
    )
    assert done.exit_code == 5
    assert len(done.stderr.splitlines()) == 1


# --- DICOM and privacy ------------------------------------------------------------------------------------------------


def write_dicom(folder: Path, volume: Volume) -> None:
    folder.mkdir(parents=True)
    image = sitk.Cast(to_sitk(volume), sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetDepth()):
        piece = image[:, :, k]
        tags = {
            "0008|0060": "MR",
            "0008|103e": "t2_tse",
            "0010|0010": "SECRET^NAME",
            "0010|0020": "ID-4711",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{k + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.3",
            "0020|0013": str(k),
            "0020|0032": "\\".join(str(value) for value in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k:03}.dcm"))
        writer.Execute(piece)


def test_name_of_a_dicom_patient_appears_nowhere_in_the_results(detect: Run, phantom: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "SECRET^NAME"
    write_dicom(folder, phantom)
    assert any(b"SECRET" in file.read_bytes() for file in folder.iterdir()), "or this test proves nothing"
    done = detect(folder, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert b"SECRET" not in content, file.name
        assert b"4711" not in content, file.name
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["input"]["files"] == 36


# --- results are whole, and never lost --------------------------------------------------------------------------------


def test_older_result_is_replaced_only_with_force(detect: Run, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert detect(scan, "-o", out, "--threshold", "0.01").exit_code == 0
    before = (out / "manifest.json").read_bytes()
    refused = detect(scan, "-o", out)
    assert refused.exit_code == 7
    assert "--force" in refused.stderr
    assert (out / "manifest.json").read_bytes() == before
    failed = detect(tmp_path / "missing.nii", "-o", out, "--force")
    assert failed.exit_code == 3
    assert (out / "manifest.json").read_bytes() == before, "a failing run must not take the older result away"
    assert detect(scan, "-o", out, "--threshold", "0.02", "--force").exit_code == 0
    assert json.loads((out / "manifest.json").read_text())["parameters"]["threshold"] == 0.02
    assert names(tmp_path) == ["in", "out"]


PAUSED = """
import sys, time
from pathlib import Path

from DALAnomalyCLI import overview
from DALAnomalyCLI.app import main

place = Path(sys.argv.pop(1))

def pause(*arguments):
    (place / "ready").touch()
    while not (place / "go").exists():
        time.sleep(0.01)

overview.write_overview = pause
main()
"""


def start_and_pause(scan: Path, out: Path, model: Path) -> subprocess.Popen[str]:
    """A run in another process that has written its volumes and waits for the file `go` before it goes on."""
    arguments = command(scan, "-o", out, "--sequence", "T2", "--model", model, "--device", "cpu")[3:]
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, str(scan.parent), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (scan.parent / "ready").exists():
        assert process.poll() is None, f"the run ended before its time: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert any(out.glob(".dal-anomaly-*/anomaly.nii.gz"))
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_killed_run_leaves_no_result_and_the_next_run_cleans_up(
    detect: Run, scan: Path, tmp_path: Path, model_file: Path
) -> None:
    out = tmp_path / "out"
    process = start_and_pause(scan, out, model_file)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert names(out)
    assert all(name.startswith(".") for name in names(out))
    assert detect(scan, "-o", out).exit_code == 0
    assert names(tmp_path) == ["in", "out"]
    assert names(out) == sorted(RESULT_FILES)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_ends_with_130_and_leaves_nothing(
    scan: Path, tmp_path: Path, model_file: Path, number: signal.Signals
) -> None:
    process = start_and_pause(scan, tmp_path / "out", model_file)
    process.send_signal(number)
    (scan.parent / "go").touch()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines() == ["dal-anomaly: error: the run was cancelled"]
    assert out == ""
    assert names(tmp_path) == ["in"]


@pytest.mark.skipif(os.name == "nt", reason="resource limits are POSIX")
@pytest.mark.parametrize("size", [10_000, 60_000], ids=["while the volumes are written", "while the picture is drawn"])
def test_file_that_cannot_grow_is_an_output_error(scan: Path, tmp_path: Path, model_file: Path, size: int) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); import DALAnomalyCLI.app"
    arguments = command(scan, "-o", tmp_path / "out", "--sequence", "T2", "--model", model_file, "--device", "cpu")[3:]
    done = subprocess.run(
        [sys.executable, "-c", f"{limited} as program; program.main()", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_failed(done.returncode, done.stderr, 7, "out", "free some")
    assert names(tmp_path) == ["in"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 64 KiB; making one needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small file system here; the limit on file sizes is tested instead")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_is_an_output_error(detect: Run, scan: Path, small_disk: Path) -> None:
    done = detect(scan, "-o", small_disk / "out")
    assert_failed(done.exit_code, done.stderr, 7, "out", "free some")
    assert names(small_disk) == []


# --- bad input --------------------------------------------------------------------------------------------------------


def assert_failed(code: int, stderr: str, expected: int, *words: str) -> None:
    """One line that says what and where, no traceback, the right exit code."""
    assert code == expected, stderr
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("dal-anomaly: error: ")
    assert "Traceback" not in stderr
    for word in words:
        assert word in lines[0]


def write_array(path: Path, array: np.ndarray, spacing: float = 4.0) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * image.GetDimension())
    sitk.WriteImage(image, str(path))


def changed(value: float) -> Callable[[Path, Volume], None]:
    def make(path: Path, phantom: Volume) -> None:
        array = phantom.array.copy()
        array[18, 22, 18] = value
        write_array(path, array)

    return make


def truncated(path: Path, phantom: Volume) -> None:
    write_volume(phantom, path)
    path.write_bytes(path.read_bytes()[:-2000])


def rgb(path: Path, phantom: Volume) -> None:
    channels = np.stack([phantom.array.astype(np.uint8)] * 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(path))


def two_volumes(path: Path, phantom: Volume) -> None:
    image = to_sitk(phantom)
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))


def zero_direction(path: Path, phantom: Volume) -> None:
    write_volume(phantom, path)
    text = path.read_bytes()
    start = text.index(b"TransformMatrix = ")
    end = text.index(b"\n", start)
    path.write_bytes(text[:start] + b"TransformMatrix = 1 0 0 1 0 0 0 0 1" + text[end:])


BAD_SCANS: dict[str, tuple[str, Callable[[Path, Volume], object], int, str]] = {
    "missing": ("scan.nii.gz", lambda path, phantom: None, 3, "no such file"),
    "unreadable": ("scan.nii.gz", lambda path, phantom: path.symlink_to(path), 3, "scan.nii.gz"),
    "truncated": ("scan.nii.gz", truncated, 3, "truncated"),
    "not an image": ("scan.nii.gz", lambda path, phantom: path.write_text("Dear doctor,"), 3, "NIfTI"),
    "unknown format": ("scan.docx", lambda path, phantom: path.write_text("Dear doctor,"), 3, "unknown format"),
    "folder without DICOM": ("scan", lambda path, phantom: path.mkdir(), 3, "no DICOM series"),
    "4D": ("scan.nii.gz", two_volumes, 3, "several volumes"),
    "RGB": ("scan.nii.gz", rgb, 3, "colours"),
    "empty": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array * 0), 3, "empty"),
    "constant": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array * 0 + 7), 3, "every voxel is 7"),
    "NaN": ("scan.nii.gz", changed(np.nan), 3, "NaN"),
    "infinite": ("scan.nii.gz", changed(np.inf), 3, "infinite"),
    "2D": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array[18]), 3, "not a 3D scan"),
    "one slice": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array[18:19]), 3, "not a 3D scan"),
    "negative": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array - 100), 3, "negative"),
    "huge": ("scan.nii.gz", changed(1e12), 3, "not plausible"),
    "tiny voxels": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array, 0.01), 4, "voxel size"),
    "giant voxels": ("scan.nii.gz", lambda path, phantom: write_array(path, phantom.array, 40.0), 4, "voxel size"),
    "degenerate direction": ("scan.mha", zero_direction, 4, "direction"),
}


@pytest.mark.parametrize("case", BAD_SCANS)
def test_bad_scan_ends_with_one_line_and_nothing_written(
    detect: Run, phantom: Volume, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    name, make, code, words = BAD_SCANS[case]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    make(path, phantom)
    capfd.readouterr()
    done = detect(path, "-o", tmp_path / "out")
    assert_failed(done.exit_code, done.stderr, code, name, words)
    assert done.stdout == ""
    assert names(tmp_path) == ["in"]
    assert capfd.readouterr().err == "", "libraries below must not add lines of their own"


def test_scan_read_without_permission_is_an_input_error(detect: Run, scan: Path, tmp_path: Path) -> None:
    scan.chmod(0)
    if os.access(scan, os.R_OK):
        pytest.skip("this user may read everything")
    done = detect(scan, "-o", tmp_path / "out")
    assert_failed(done.exit_code, done.stderr, 3, "scan.nii.gz", "permission")


def test_reading_is_left_to_the_readers(
    detect: Run, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click asks the system first and ends the whole run over one of many files."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert detect(scan, "-o", tmp_path / "out").exit_code == 0


def test_scan_with_nothing_but_background_inside_the_mask_is_refused(
    detect: Run, scan: Path, phantom: Volume, tmp_path: Path
) -> None:
    mask = tmp_path / "in" / "mask.nii.gz"
    write_volume(phantom.with_array(np.zeros(phantom.array.shape, np.uint8)), mask)
    done = detect(scan, "-o", tmp_path / "out", "--brain-mask", mask)
    assert_failed(done.exit_code, done.stderr, 3, "mask")
    assert names(tmp_path) == ["in"]


def test_mask_on_another_grid_is_refused(detect: Run, scan: Path, phantom: Volume, tmp_path: Path) -> None:
    grid = phantom.grid
    moved = replace(grid, origin=(grid.origin[0] + 1.0, *grid.origin[1:]))
    mask = tmp_path / "in" / "mask.nii.gz"
    write_volume(Volume((phantom.array > 0).astype(np.uint8), moved), mask)
    done = detect(scan, "-o", tmp_path / "out", "--brain-mask", mask)
    assert_failed(done.exit_code, done.stderr, 4, "mask.nii.gz", "grid")
    assert names(tmp_path) == ["in"]


def test_missing_mask_is_refused(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, "-o", tmp_path / "out", "--brain-mask", tmp_path / "mask.nii.gz")
    assert_failed(done.exit_code, done.stderr, 3, "mask.nii.gz", "no such file")
    assert names(tmp_path) == ["in"]


def test_mask_for_several_scans_is_refused(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, scan, "-o", tmp_path / "out", "--brain-mask", scan)
    assert_failed(done.exit_code, done.stderr, 2, "--brain-mask")
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--sequence", "PD"), 2, "PD"),
        (("--threshold", "-1"), 2, "--threshold"),
        (("--threshold", "nan"), 2, "--threshold"),
        (("--device", "tpu"), 2, "tpu"),
    ],
)
def test_bad_option_is_refused(
    detect: Run, scan: Path, tmp_path: Path, options: tuple[str, str], code: int, words: str
) -> None:
    done = detect(scan, "-o", tmp_path / "out", *options)
    assert_failed(done.exit_code, done.stderr, code, words)
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_cuda_asked_for_but_absent_is_a_device_error(detect: Run, scan: Path, tmp_path: Path, device: str) -> None:
    import torch

    if torch.cuda.device_count() > 7 or (device == "cuda" and torch.cuda.is_available()):
        pytest.skip("this machine has that device")
    done = detect(scan, "-o", tmp_path / "out", "--device", device)
    assert_failed(done.exit_code, done.stderr, 6, "cuda")
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("place", ["below a file", "a file", "/proc"])
def test_output_that_cannot_be_written_is_refused(detect: Run, scan: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    outputs = {"below a file": tmp_path / "file" / "out", "a file": tmp_path / "file", "/proc": Path("/proc/out")}
    if place == "/proc" and sys.platform != "linux":
        pytest.skip("no /proc here")
    done = detect(scan, "-o", outputs[place])
    assert_failed(done.exit_code, done.stderr, 7, outputs[place].name)
    assert names(tmp_path) == ["file", "in"]


def test_folder_with_other_files_is_refused_even_with_force(detect: Run, scan: Path, tmp_path: Path) -> None:
    done = detect(scan, "-o", scan.parent, "--force")
    assert_failed(done.exit_code, done.stderr, 7, "scan.nii.gz")
    assert names(scan.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize("debug", [False, True])
def test_unexpected_error_hides_its_traceback_unless_asked(
    scan: Path, tmp_path: Path, debug: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from DALAnomalyCLI.detect import DetectOptions, run_detect
    from DALAnomalyCLI.reporting import make_reporter
    from DALAnomalyLib.job.request import DetectionRequest

    def broken(*_asked: Any) -> Any:
        raise ZeroDivisionError("a defect")

    options = DetectOptions((DetectionRequest(scan, tmp_path / "out"),))
    code = run_detect(options, make_reporter(debug=debug), broken)
    err = capsys.readouterr().err
    assert code == 1
    assert "unexpected ZeroDivisionError: a defect; run again with --debug for the traceback" in err
    assert ("Traceback (most recent call last)" in err) == debug
    assert names(tmp_path) == ["in"]


def test_input_of_real_proportions_is_not_needed_to_be_upright(detect: Run, phantom: Volume, tmp_path: Path) -> None:
    """A scan stored with permuted and flipped axes gives its results on its own grid."""
    array = np.ascontiguousarray(phantom.array.transpose(2, 0, 1)[::-1])
    k, j, i = phantom.array.shape
    x, y, z = phantom.grid.origin
    # array axes (k', j', i') = (-i, k, j): the file's x runs along +y, its y along +z, its z along -x
    grid = Grid((i, k, j), (4.0, 4.0, 4.0), (x + (i - 1) * 4.0, y, z), (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    path = tmp_path / "in" / "turned.nii.gz"
    path.parent.mkdir()
    write_volume(Volume(array, grid), path)
    done = detect(path, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert read_volume(tmp_path / "out" / "anomaly.nii.gz").grid.is_close(grid)
