"""The table of several inputs, where several runs write it at once."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from DALAnomalyCLI import cohort_summary
from DALAnomalyCLI.cohort_summary import SUMMARY_FILE, CohortSummary

RUNS, SCANS = 6, 8


def statuses(output: Path) -> dict[str, str]:
    with (output / SUMMARY_FILE).open(newline="", encoding="utf-8") as stream:
        return {row["folder"]: row["status"] for row in csv.DictReader(stream)}


def fail_all(output: Path, scans: list[Path]) -> list[str]:
    with CohortSummary(output, scans) as table:
        for scan in scans:
            table.failed(scan, "damaged")
    return list(table.folders.values())


def killed_while_it_wrote(output: Path) -> None:
    code = (
        "import os, sys; from filelock import SoftFileLease;"
        "lease = SoftFileLease(sys.argv[1], lease_duration=float(sys.argv[2])); lease.acquire(); os._exit(9)"
    )
    lock, lease = output / f".{SUMMARY_FILE}.lock", str(cohort_summary._LEASE_SECONDS)
    assert subprocess.run([sys.executable, "-c", code, str(lock), lease], check=False).returncode == 9
    assert lock.exists()


@pytest.mark.parametrize("killed", [False, True])
def test_runs_beside_one_another_lose_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    monkeypatch.setattr(cohort_summary, "_LEASE_SECONDS", 2.0)
    if killed:
        killed_while_it_wrote(tmp_path)
    scans = [[Path(f"{run}_{scan}.nii") for scan in range(SCANS)] for run in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as pool:
        folders = [name for names in pool.map(lambda own: fail_all(tmp_path, own), scans) for name in names]
    assert statuses(tmp_path) == dict.fromkeys(sorted(folders), "failed")
    assert len(folders) == RUNS * SCANS
    assert [entry.name for entry in tmp_path.iterdir()] == [SUMMARY_FILE]


def test_runs_beside_one_another_take_other_folders(tmp_path: Path) -> None:
    first, second = ([Path(subject, f"{name}.nii") for name in ("T1", "T2")] for subject in ("sub-1", "sub-2"))
    with CohortSummary(tmp_path, first) as one, CohortSummary(tmp_path, second) as other:
        assert list(one.folders.values()) == ["T1", "T2"]
        assert list(other.folders.values()) == ["T1_2", "T2_2"]
        assert statuses(tmp_path) == dict.fromkeys(("T1", "T1_2", "T2", "T2_2"), "waiting")
        one.failed(first[0], "damaged")
        other.failed(second[0], "damaged")
    assert statuses(tmp_path) == {"T1": "failed", "T1_2": "failed"}, "the others were not come to"


def test_rows_of_earlier_runs_stay(tmp_path: Path) -> None:
    fail_all(tmp_path, [Path("a.nii"), Path("b.nii")])
    with CohortSummary(tmp_path, [Path("b.nii"), Path("c.nii")]):
        assert statuses(tmp_path) == {"a": "failed", "b": "failed", "c": "waiting"}
    assert statuses(tmp_path) == {"a": "failed", "b": "failed"}


def test_a_run_gives_up_only_folders_that_it_took(tmp_path: Path) -> None:
    scans = [Path("a.nii"), Path("b.nii")]
    with CohortSummary(tmp_path, scans) as first:
        with CohortSummary(tmp_path, scans) as again:
            assert again.folders == first.folders
        assert statuses(tmp_path) == {"a": "waiting", "b": "waiting"}


def test_a_run_in_vain_takes_no_other_rows_with_it(tmp_path: Path) -> None:
    """Where it has made the folder."""
    output = tmp_path / "out"
    table = CohortSummary(output, [Path("a.nii")])
    output.mkdir()
    with table:
        fail_all(output, [Path("b.nii")])
        table.failed(Path("a.nii"), "damaged")
    assert statuses(output) == {"b": "failed"}


def test_blanks_around_names_do_not_part_a_scan_from_its_row(tmp_path: Path) -> None:
    scans = [Path("a .nii"), Path("dicom ")]
    assert fail_all(tmp_path, scans) == ["a", "dicom"]
    assert fail_all(tmp_path, scans) == ["a", "dicom"]
    assert statuses(tmp_path) == {"a": "failed", "dicom": "failed"}


def test_two_names_of_one_scan_are_one(tmp_path: Path) -> None:
    with CohortSummary(tmp_path, [Path("a.nii"), Path("b.nii"), Path("x/../a.nii")]) as table:
        assert table.folders == {Path("a.nii"): "a", Path("b.nii"): "b"}
