from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_cases import COLUMNS, held_out_subjects, write_cases

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyLib.errors import InputError, OutputError, UsageError
from DALAnomalyLib.volume_io import read_mask, read_volume
from DALAnomalyTraining.pack import Pack, PackWriter
from DALAnomalyTraining.synthetic_lesions import KINDS

ROOT = Path(__file__).parents[2]
WHITE = {"T1": 85, "T2": 15}
"""Percentile of the brain at which white matter lies."""
GRID = GridConfig(shape=(30, 36, 30), spacing=(6.0, 6.0, 6.0))


@pytest.fixture(scope="module")
def pack_folder(
    tmp_path_factory: pytest.TempPathFactory,
    add_brain: Callable[..., None],
    brain_labels: Callable[..., Any],
    priors: dict[str, Any],
) -> Path:
    """Ten label maps: just enough for training to hold the last one out."""
    writer = PackWriter("made-up brains", priors)
    for index in range(10):
        add_brain(writer, f"labels/{index}", "labels", brain_labels(0.9 + 0.01 * index))
    folder = tmp_path_factory.mktemp("ten")
    writer.write(folder)
    return folder


@pytest.fixture(scope="module")
def cases(pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "set one"
    write_cases(Pack(pack_folder), folder, healthy=2, lesions=2, seed=3, grid=GRID)
    return folder


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_tables_name_scans_that_are_there_and_healthy_ones_have_no_lesion(cases: Path) -> None:
    healthy, lesions = rows(cases / "healthy.csv"), rows(cases / "lesions.csv")
    assert list(healthy[0]) == list(COLUMNS)
    assert [(row["image"], row["sequence"]) for row in healthy] == [
        (f"healthy00{index}_{sequence}.nii.gz", sequence) for index in range(2) for sequence in ("T1", "T2")
    ]
    assert all(row["lesion"] == "" for row in healthy)
    assert [row["dataset"] for row in lesions] == [f"synthetic {kind.name}" for kind in KINDS[:2] for _ in range(2)]
    named = {row[column] for row in (*healthy, *lesions) for column in ("image", "lesion")} - {""}
    assert {path.name for path in cases.iterdir()} == named | {"healthy.csv", "lesions.csv"}


def test_the_subject_is_the_record_whose_anatomy_it_is(pack_folder: Path, cases: Path) -> None:
    (held_out,) = Pack(pack_folder).records[9:]
    for table in ("healthy.csv", "lesions.csv"):
        assert {row["subject"] for row in rows(cases / table)} == {held_out.name}


def test_the_tables_are_what_calibrate_and_evaluate_read(cases: Path) -> None:
    from DALAnomalyCLI.evaluation_cases import read_cases

    assert len(read_cases(cases / "healthy.csv")) == len(read_cases(cases / "lesions.csv")) == 4


def test_scans_are_stripped_and_the_lesion_of_both_sequences_lies_in_the_brain(cases: Path) -> None:
    for row in rows(cases / "lesions.csv"):
        scan = read_volume(cases / row["image"])
        lesion = read_mask(cases / row["lesion"], scan.grid).array > 0
        assert (scan.grid.shape, scan.grid.spacing) == (GRID.shape, GRID.spacing)
        brain = scan.array > 0
        assert 0.1 < brain.mean() < 0.7
        assert not brain[0].any()
        assert lesion.any()
        assert not (lesion & ~brain).any()
        # darker than the white matter that it lies in, the brightest tissue on T1, and brighter than that on T2
        inside, white = scan.array[lesion].mean(), np.percentile(scan.array[brain], WHITE[row["sequence"]])
        assert inside < white if row["sequence"] == "T1" else inside > white


def test_the_same_seed_gives_the_same_scans_and_another_seed_others(
    pack_folder: Path, cases: Path, tmp_path: Path
) -> None:
    def scan_of(folder: Path) -> np.ndarray:
        return read_volume(folder / "healthy001_T2.nii.gz").array

    for seed in (3, 4):
        write_cases(Pack(pack_folder), tmp_path / str(seed), healthy=2, lesions=0, seed=seed, grid=GRID)
    np.testing.assert_array_equal(scan_of(tmp_path / "3"), scan_of(cases))
    assert not np.array_equal(scan_of(tmp_path / "4"), scan_of(cases))
    assert rows(tmp_path / "4" / "lesions.csv") == []


def test_subjects_come_from_what_training_holds_out(pack_folder: Path, toy_pack: Pack) -> None:
    pairs = held_out_subjects(Pack(pack_folder), GRID, 0)
    (last,) = Pack(pack_folder).records[9:]
    pairs.fractions_in_frame(last)
    with pytest.raises(StopIteration):
        pairs.fractions_in_frame(Pack(pack_folder).records[0])
    with pytest.raises(InputError, match="none of the pack's 6 subjects is held out"):
        held_out_subjects(toy_pack, GRID, 0)


def test_nothing_is_overwritten_and_nothing_is_left_of_what_fails(
    pack_folder: Path, toy_pack: Pack, cases: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="holds files"):
        write_cases(Pack(pack_folder), cases, healthy=1, lesions=0, seed=0, grid=GRID)
    with pytest.raises(UsageError, match="give at least one subject"):
        write_cases(Pack(pack_folder), tmp_path / "none", healthy=0, lesions=0, seed=0, grid=GRID)
    with pytest.raises(InputError):
        write_cases(toy_pack, tmp_path / "none", healthy=1, lesions=0, seed=0, grid=GRID)
    assert list(tmp_path.iterdir()) == []


def test_the_script_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "training" / "synthetic_cases.py", tmp_path / "no pack", tmp_path / "out"],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'training'}", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "is not a training pack" in done.stderr
