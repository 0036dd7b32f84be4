"""`dal-anomaly calibrate` with a tiny model on phantom scans, from the table to a detection with the new model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import Result

from DALAnomalyCLI.calibrate import shown_calibration
from DALAnomalyLib.calibration import PRESETS
from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.model_store import Model, load_model, save_model
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_map, read_volume, write_volume
from Testing.lib.calibrations import made_up_calibration

Run = Callable[..., Result]
HEADER = "subject,dataset,sequence,image,lesion,brain_mask"
SCANS = 3


@pytest.fixture
def healthy(tmp_path: Path, phantom: Volume) -> Path:
    """A table of phantoms that differ in their noise."""
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [HEADER]
    for number in range(SCANS):
        noise = np.random.default_rng(number).normal(0, 8, phantom.array.shape)
        image = np.where(phantom.array > 0, np.abs(phantom.array + noise) + 1, 0).astype(np.float32)
        write_volume(phantom.with_array(image), folder / f"scan{number}.nii.gz")
        rows.append(f"s{number},healthy,T2,scan{number}.nii.gz,,")
    table = folder / "healthy.csv"
    table.write_text("\n".join([*rows, ""]), encoding="utf-8")
    return table


@pytest.fixture
def calibrate(run: Run, model_file: Path, healthy: Path, tmp_path: Path) -> Callable[..., Result]:
    def start(*more: Any, model: Path = model_file, output: Path = tmp_path / "new.dalmodel") -> Result:
        return run("calibrate", healthy, "-o", output, "--model", model, "--device", "cpu", *more)

    return start


def same_weights(first: Model, second: Model) -> bool:
    pairs = ((first.network.state_dict(), second.network.state_dict()), (first.templates, second.templates))
    return all(list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def detected(run: Run, model: Path, scan: Path, out: Path, *more: Any) -> dict[str, Any]:
    done = run("detect", scan, "-o", out, "--sequence", "T2", "--model", model, "--device", "cpu", *more)
    assert done.exit_code == 0, done.output
    record: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return record


def test_the_new_model_finds_in_the_healthy_scans_what_its_presets_say(
    run: Run, calibrate: Callable[..., Result], model_file: Path, healthy: Path, tmp_path: Path
) -> None:
    done = calibrate("--source", "three phantoms", "--volumes", "60,20,5", "--json")
    assert done.exit_code == 0, done.output
    new = load_model(tmp_path / "new.dalmodel")
    (entry,) = new.metadata.calibration.values()
    assert (entry.source, entry.scans) == ("three phantoms", SCANS)
    assert "only 3 healthy scans" in entry.warnings[0]
    assert [entry.presets[name].target_ml for name in PRESETS] == [60, 20, 5]
    assert same_weights(load_model(model_file), new)
    assert replace(new.metadata, calibration={}) == load_model(model_file).metadata
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (result,) = (event for event in events if event["event"] == "result")
    assert result["sha256"] == new.digest
    assert result["calibration"]["T2"]["presets"]["balanced"]["threshold"] == entry.presets["balanced"].threshold
    assert any("only 3" in event["message"] for event in events if event["event"] == "notice")

    volumes: dict[str, list[float]] = {name: [] for name in PRESETS}
    for number in range(SCANS):
        scan, out = healthy.parent / f"scan{number}.nii.gz", tmp_path / f"out{number}"
        record = detected(run, tmp_path / "new.dalmodel", scan, out)
        assert record["parameters"]["threshold"] == entry.presets["balanced"].threshold
        assert record["model"]["calibration"]["T2"]["balanced"]["false_positive_ml"] > 0
        score, brain = (read_map(out / f"{name}.nii.gz") for name in ("anomaly", "brain_mask"))
        for name in PRESETS:
            findings = find_findings(score, brain, entry.presets[name].threshold, entry.minimum_finding_ml)[1]
            volumes[name].append(sum(finding.volume_ml for finding in findings))
    for name in PRESETS:
        preset = entry.presets[name]
        assert np.mean(volumes[name]) == pytest.approx(preset.false_positive_ml, rel=1e-3)
        assert preset.false_positive_ml <= preset.target_ml


def test_every_data_set_of_the_table_can_keep_the_volumes_by_itself(
    calibrate: Callable[..., Result], healthy: Path, tmp_path: Path
) -> None:
    table = healthy.read_text(encoding="utf-8")
    head, *rows = table.replace("s0,healthy", "s0,other scanner").splitlines()

    def thresholds(lines: Sequence[str], *more: str) -> list[float]:
        healthy.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
        done = calibrate("--volumes", "60,20,5", "--force", *more)
        assert done.exit_code == 0, done.output
        entry = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
        assert ("each of 2 data sets keeps the volumes" in entry.source) == bool(more)
        return [preset.threshold for preset in entry.presets.values()]

    together, every = thresholds(rows), thresholds(rows, "--every-dataset")
    assert every == np.maximum(thresholds(rows[:1]), thresholds(rows[1:])).tolist()
    assert every != together


def test_scans_of_the_same_subject_of_a_data_set_are_of_one_person(
    calibrate: Callable[..., Result], healthy: Path, tmp_path: Path
) -> None:
    rows = healthy.read_text(encoding="utf-8").replace("s1,", "s0,").replace("s2,healthy", "s0,elsewhere")
    healthy.write_text(rows, encoding="utf-8")
    assert calibrate().exit_code == 0
    (entry,) = load_model(tmp_path / "new.dalmodel").metadata.calibration.values()
    assert "only 3 healthy scans of 2 subjects" in entry.warnings[0]


def test_the_table_fits_a_usual_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    entry = made_up_calibration(thresholds=(0.0054321, 0.011234, 0.022812), scans=120)
    Console(width=80).print(shown_calibration({"T1": entry, "T2": entry}))
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert [line.split()[:3] for line in lines[2:5]] == [["T1", name, "120"] for name in PRESETS]


def test_people_see_the_presets_here_and_in_model_info(
    run: Run, calibrate: Callable[..., Result], model_file: Path, tmp_path: Path
) -> None:
    assert "none; `dal-anomaly calibrate`" in run("model", "info", model_file).stdout
    done = calibrate()
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in PRESETS)
    assert "3 of 3 scans done, 0 failed" in done.stdout
    assert "…" not in done.stdout, "no column may be cut"
    entry = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    assert entry.source == "healthy scans of healthy.csv"
    shown = run("model", "info", tmp_path / "new.dalmodel").stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("calibration.T2.balanced"))
    assert f"{entry.presets['balanced'].threshold:.4g}" in line
    plain = json.loads(run("model", "info", tmp_path / "new.dalmodel", "--json").stdout)
    assert plain["calibration"]["T2"]["scans"] == SCANS
    left_out = f"{entry.presets['balanced'].left_out_ml:.2f}"
    assert left_out in done.stdout
    assert f"{left_out} ml in one left out" in " ".join(shown.split())


def test_people_are_told_where_the_threshold_was_not_set_for_such_a_run(
    run: Run, calibrate: Callable[..., Result], model_file: Path, healthy: Path, tmp_path: Path
) -> None:
    assert calibrate().exit_code == 0

    def said(model: Path, *more: Any) -> str:
        options = ("--sequence", "T2", "--model", model, "--device", "cpu", "--force", *more)
        done = run("detect", healthy.parent / "scan0.nii.gz", "-o", tmp_path / "out", *options)
        assert done.exit_code == 0, done.output
        return "".join(line for line in done.stdout.splitlines(keepends=True) if line.startswith("  threshold: "))

    uncalibrated = "  threshold: not calibrated on healthy scans for this score and sign\n"
    new = tmp_path / "new.dalmodel"
    assert said(new) == ""
    assert said(new, "--sign", "typical") == said(model_file) == uncalibrated
    other = said(new, "--skip", "none")
    assert other.startswith("  threshold: calibrated with other preprocessing; `dal-anomaly calibrate`")
    assert said(new, "--skip", "none", "--threshold", "0.2") == "", "it is the user's own"


def test_calibrations_of_other_sequences_stay_and_the_own_one_is_replaced(
    calibrate: Callable[..., Result], model_file: Path, tmp_path: Path
) -> None:
    model, old = load_model(model_file), tmp_path / "old.dalmodel"
    older = {"T1": made_up_calibration(sequence="T1"), "T2": made_up_calibration()}
    save_model(old, replace(model.metadata, calibration=older), model.network, model.templates)
    assert calibrate(model=old).exit_code == 0
    new = load_model(tmp_path / "new.dalmodel").metadata.calibration
    assert new["T1"] == older["T1"]
    assert new["T2"].source == "healthy scans of healthy.csv"


def test_an_older_file_is_replaced_only_with_force(calibrate: Callable[..., Result], tmp_path: Path) -> None:
    new = tmp_path / "new.dalmodel"
    new.write_bytes(b"older")
    done = calibrate()
    assert (done.exit_code, new.read_bytes()) == (7, b"older")
    assert "add --force" in done.stderr
    assert calibrate("--force").exit_code == 0
    assert load_model(new).metadata.calibration
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "new.dalmodel"]


def test_only_the_folder_of_shipped_models_gets_new_checksums(
    calibrate: Callable[..., Result], model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DALAnomalyLib import resources

    real, shipped = resources.resource_folder, tmp_path / "Models"
    shipped.mkdir()
    monkeypatch.setattr(resources, "resource_folder", lambda kind: shipped if kind == "Models" else real(kind))
    assert calibrate().exit_code == 0
    assert not (tmp_path / "SHA256SUMS").exists()
    assert calibrate(output=shipped / "own.dalmodel").exit_code == 0
    assert (shipped / "SHA256SUMS").read_text() == f"{load_model(shipped / 'own.dalmodel').digest}  own.dalmodel\n"


def test_a_scan_that_fails_is_left_out_and_said(
    calibrate: Callable[..., Result], healthy: Path, tmp_path: Path
) -> None:
    with healthy.open("a", encoding="utf-8") as stream:
        stream.write("s9,healthy,T2,gone.nii.gz,,\n")
    done = calibrate()
    assert done.exit_code == 3
    assert "gone.nii.gz" in done.stderr
    entry = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    assert entry.scans == SCANS
    assert entry.warnings[0] == "1 scan could not be scored and took no part"


def test_a_scan_that_fails_is_of_its_own_sequence(
    calibrate: Callable[..., Result], healthy: Path, tmp_path: Path
) -> None:
    with healthy.open("a", encoding="utf-8") as stream:
        stream.write("s9,healthy,T1,gone.nii.gz,,\n")
    assert calibrate().exit_code == 3
    entry = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    assert "could not be scored" not in " ".join(entry.warnings)


def test_a_scan_whose_header_tells_of_a_contrast_agent_is_warned_of(
    calibrate: Callable[..., Result], healthy: Path
) -> None:
    (healthy.parent / "scan0.json").write_text('{"ContrastBolusAgent": "Gadovist 7.5 ml"}', encoding="utf-8")
    done = calibrate("--json", "--leave-out-warned")
    assert done.exit_code == 0, done.output
    assert [source for source, message in notices(done) if "contrast agent" in message] == ["s0 T2"]


def notices(done: Result) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [(event["input"], event["message"]) for event in events if event["event"] == "notice"]


def test_what_detection_would_warn_of_is_said_and_can_be_left_out(
    calibrate: Callable[..., Result], healthy: Path, tmp_path: Path
) -> None:
    usual = calibrate("--json")
    assert [source for source, _ in notices(usual)] == ["T2"], "no scan of these comes with a warning"
    whole = read_volume(healthy.parent / "scan0.nii.gz")
    upper_half = whole.array[whole.array.shape[0] // 2 :]
    grid = replace(whole.grid, shape=upper_half.shape)
    write_volume(Volume(upper_half, grid), healthy.parent / "cut.nii.gz")
    with healthy.open("a", encoding="utf-8") as stream:
        stream.write("odd,healthy,T2,cut.nii.gz,,\n")

    taken = calibrate("--json", "--force")
    assert taken.exit_code == 0, taken.output
    assert "cut off by the edge" in " ".join(message for source, message in notices(taken) if source == "odd T2")
    entry = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    assert (entry.scans, entry.warnings[0]) == (SCANS + 1, "1 of 4 scans came with warnings and took part")

    left_out = calibrate("--json", "--force", "--leave-out-warned")
    assert left_out.exit_code == 0, left_out.output
    assert dict(notices(left_out))["odd T2"].startswith("left out: ")
    kept = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    assert kept.warnings[0] == "1 of 4 scans came with warnings and took no part"
    (before,) = (json.loads(line) for line in usual.stdout.splitlines() if '"result"' in line)
    assert kept.presets["balanced"].threshold == before["calibration"]["T2"]["presets"]["balanced"]["threshold"]

    rows = [HEADER, "s0,healthy,T2,scan0.nii.gz,,", "odd,healthy,T1,cut.nii.gz,,", ""]
    healthy.write_text("\n".join(rows), encoding="utf-8")
    without_t1 = calibrate("--json", "--force", "--leave-out-warned")
    assert without_t1.exit_code == 0, without_t1.output
    assert "thresholds stay as they were" in dict(notices(without_t1))["T1"]
    assert list(load_model(tmp_path / "new.dalmodel").metadata.calibration) == ["T2"]

    kept = load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"]
    healthy.write_text("\n".join([HEADER, "odd,healthy,T2,cut.nii.gz,,", ""]), encoding="utf-8")
    none_left = calibrate("--force", "--leave-out-warned")
    assert none_left.exit_code == 3
    assert "no scan came without warnings" in none_left.stderr
    assert load_model(tmp_path / "new.dalmodel").metadata.calibration["T2"] == kept


@pytest.mark.parametrize(
    ("rows", "options", "code", "words"),
    [
        (["s1,ms,T2,scan0.nii.gz,,", "s2,ms,T2,scan0.nii.gz,lesion.nii.gz,"], (), 3, "s2 has a lesion (1 of 2 rows"),
        ([], (), 3, "holds no row"),
        (["s1,ms,T2,gone.nii.gz,,"], (), 3, "gone.nii.gz"),
        (["s1,ms,T2,scan0.nii.gz,,"], ("--volumes", "5,1"), 2, "--volumes is 5,1; give three"),
        (["s1,ms,T2,scan0.nii.gz,,"], ("--volumes", "1,5,0.1"), 2, "three falling numbers"),
        (["s1,ms,T2,scan0.nii.gz,,"], ("--skip", "sleep"), 2, "sleep"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(
    calibrate: Callable[..., Result],
    healthy: Path,
    tmp_path: Path,
    rows: list[str],
    options: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    healthy.write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    done = calibrate(*options)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_what_is_no_model_file_is_refused_before_the_work_and_not_replaced(
    calibrate: Callable[..., Result], tmp_path: Path
) -> None:
    table = tmp_path / "in" / "healthy.csv"
    before = table.read_bytes()
    for output in (table, tmp_path):
        done = calibrate("--force", "--json", output=output)
        assert done.exit_code == 7
        assert "give the name of a model file, NAME.dalmodel" in done.stdout
        assert "progress" not in done.stdout
    assert table.read_bytes() == before


def test_a_folder_that_is_not_there_is_made(calibrate: Callable[..., Result], tmp_path: Path) -> None:
    assert calibrate(output=tmp_path / "own" / "new.dalmodel").exit_code == 0
    assert load_model(tmp_path / "own" / "new.dalmodel").metadata.calibration
