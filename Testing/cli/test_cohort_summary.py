"""The table of several inputs, where several runs write it at once."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from DALAnomalyCLI import cohort_summary
from DALAnomalyCLI.cohort_summary import SUMMARY_FILE, CohortSummary

RUNS, SCANS = 6, 8


def folders(output: Path) -> list[str]:
    with (output / SUMMARY_FILE).open(newline="", encoding="utf-8") as stream:
        return [row["folder"] for row in csv.DictReader(stream)]


def test_runs_beside_one_another_lose_no_row(tmp_path: Path) -> None:
    def run(number: int) -> list[str]:
        table, names = CohortSummary(tmp_path), [f"{number}_{scan}" for scan in range(SCANS)]
        for name in names:
            table.failed(tmp_path / name, Path(f"{name}.nii"), "damaged")
        return names

    with ThreadPoolExecutor(RUNS) as pool:
        expected = [name for names in pool.map(run, range(RUNS)) for name in names]
    assert folders(tmp_path) == sorted(expected)
    assert [entry.name for entry in tmp_path.iterdir()] == [SUMMARY_FILE]


def test_a_run_that_was_killed_while_it_wrote_keeps_no_other_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_summary, "_LONGEST_SECONDS", 0.2)
    (tmp_path / f".{SUMMARY_FILE}.lock").touch()
    CohortSummary(tmp_path).failed(tmp_path / "a", Path("a.nii"), "damaged")
    assert folders(tmp_path) == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == [SUMMARY_FILE]
