"""The batch script that ships with the module, run in a process of its own."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest

from DALAnomalyLib.volume_io import read_map
from Testing.slicer.script_runner import ROOT, run_script

SCRIPT = ROOT / "DALAnomaly" / "Examples" / "batch_detect.py"
SAMPLE = ROOT / "Resources" / "SampleData" / "sample_T2.nii.gz"


def summary(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8-sig") as stream:
        return {row["scan"]: row for row in csv.DictReader(stream)}


@pytest.mark.slow
def test_a_broken_scan_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    scans, results = tmp_path / "scans of März", tmp_path / "results"
    scans.mkdir()
    shutil.copy(SAMPLE, scans / "b.nii.gz")
    whole = gzip.decompress(SAMPLE.read_bytes())
    (scans / "a half.nii").write_bytes(whole[: len(whole) // 2])
    (scans / "notes.txt").write_text("no scan")
    shutil.copy(SAMPLE, scans / "c.nii.gz")
    (scans / "c.json").write_text(json.dumps({"Modality": "MR", "SeriesDescription": "FLAIR", "InversionTime": 2.5}))
    done = run_script(SCRIPT, scans, results, "--mode", "quick")

    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 of 3 scans done")
    rows = summary(results)
    assert list(rows) == ["a half.nii", "b.nii.gz", "c.nii.gz"]
    assert "FLAIR" in rows["c.nii.gz"]["error"]
    assert rows["a half.nii"]["status"] == "failed"
    assert "truncated" in rows["a half.nii"]["error"]
    assert rows["a half.nii"]["findings"] == ""
    good = rows["b.nii.gz"]
    assert (good["status"], good["sequence"], good["error"]) == ("done", "T2", "")
    assert int(good["findings"]) >= 1
    assert float(good["seconds"]) > 0
    assert sorted(path.name for path in results.iterdir()) == ["b.nii.gz", "summary.csv"]
    scan, labels = read_map(SAMPLE), read_map(results / "b.nii.gz" / "findings.nii.gz")
    assert labels.grid.is_close(scan.grid)
    found_ml = (labels.array > 0).sum() * labels.grid.voxel_volume_ml
    assert float(good["volume_ml"]) == pytest.approx(found_ml, abs=1e-2)
    assert labels.array.max() == int(good["findings"])

    (scans / "c.nii.gz").unlink()
    (scans / "a half.nii").unlink()
    before = {path: path.stat().st_mtime_ns for path in (results / "b.nii.gz").iterdir()}
    (results / "summary.csv").write_text("\ufeff" + (results / "summary.csv").read_text("utf-8"), "utf-8")
    again = run_script(SCRIPT, scans, results, "--mode", "quick", "--skip-existing")
    assert again.returncode == 0, again.stderr
    assert "1 of 1 scans were done before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (results / "b.nii.gz").iterdir()} == before
    assert summary(results) == rows


def test_a_folder_without_scans_is_an_error(tmp_path: Path) -> None:
    done = run_script(SCRIPT, "--", tmp_path, tmp_path / "results")
    assert done.returncode == 2
    assert "holds no scan" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", ["--skip-existing", "--mode=full"])
def test_another_table_is_not_replaced(tmp_path: Path, option: str) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(SAMPLE, tmp_path / "scans")
    (tmp_path / "summary.csv").write_text("subject,age\n1,54\n")
    done = run_script(SCRIPT, tmp_path / "scans", tmp_path, option)
    assert done.returncode == 2
    assert "summary.csv: is no table of this script; move it away" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "summary.csv").read_text() == "subject,age\n1,54\n"


def test_the_folder_of_the_scans_is_none_for_results(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    done = run_script(SCRIPT, tmp_path, tmp_path / ".." / tmp_path.name)
    assert done.returncode == 2
    assert "holds the scans themselves; choose another folder" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == [SAMPLE.name]


def test_rows_of_other_starts_stay_and_a_table_that_cannot_be_replaced_stops_nothing(tmp_path: Path) -> None:
    scans, results = tmp_path / "scans", tmp_path / "results"
    scans.mkdir()
    results.mkdir()
    for name in ("b.nii", "c.nii", " d.nii", "lat\udce4.nii"):
        (scans / name).write_text("no image")
    other = "a.nii,failed,,,,1.0,,damaged"
    header = "scan,status,sequence,findings,volume_ml,seconds,warnings,error"
    killed = "e.nii,done,T2,0,0.0,1.0,,"  # what its folder held was removed, and a run that should make it anew killed
    (results / "e.nii" / ".dal-anomaly-0123").mkdir(parents=True)
    (results / "summary.csv").write_text(f"{header}\n{other}\n{killed}\n", "utf-8")
    done = run_script(SCRIPT, scans, results)
    assert done.returncode == 1
    shutil.rmtree(results / "e.nii")
    with (results / "summary.csv").open(encoding="utf-8") as stream:
        assert [row["scan"] for row in csv.DictReader(stream)] == ["a.nii", "b.nii", "c.nii", "d.nii", "lat\\udce4.nii"]

    # as on Windows while a spreadsheet has the table open
    locked = tmp_path / "locked.py"
    locked.write_text(
        "import pathlib, runpy, sys\n"
        "def refuse(*_): raise PermissionError(13, 'Permission denied')\n"
        "pathlib.Path.replace = refuse\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = run_script(locked, scans, results)
    assert done.stderr.splitlines()[-1].endswith(
        "summary.csv: cannot be written now ([Errno 13] Permission denied), and lacks the last of the rows above"
    )
    assert done.stdout.splitlines()[-1] == "0 of 4 scans done, see above"
    assert [entry.name for entry in results.iterdir()] == ["summary.csv"]


def test_an_error_in_the_script_ends_slicer(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(SAMPLE, tmp_path / "scans")
    (tmp_path / "results").write_text("in the way")
    done = run_script(SCRIPT, tmp_path / "scans", tmp_path / "results")
    assert done.returncode == 1
    assert "FileExistsError" in done.stderr
