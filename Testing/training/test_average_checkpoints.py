"""The script that averages checkpoints, run as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from DALAnomalyTraining.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
Content = dict[str, Any]
CPU = torch.device("cpu")


def average(folder: Path, *contents: Content) -> subprocess.CompletedProcess[str]:
    paths = [folder / f"{number}.pt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        save_checkpoint(path, content)
    return average_files(folder, *paths)


def average_files(folder: Path, *paths: Path, output: str = "mean.pt") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "training" / "average_checkpoints.py"), *map(str, paths)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}
    return subprocess.run(
        [*command, "-o", str(folder / output)], env=environment, capture_output=True, text=True, check=False
    )


def content(value: float, step: int, average: bool = True) -> Content:
    state = {"weight": torch.full((2, 3), value)}
    return {
        "network": {"weight": torch.full((2, 3), -9.0)} if average else state,
        "average": state if average else None,
        "step": step,
        "landmarks": {"T1": {"values": [0.05, 0.8]}},
        "config": {"seed": step},
        "pack": "0",
    }


def test_the_mean_of_the_averaged_weights_with_the_record_of_the_last(tmp_path: Path) -> None:
    done = average(tmp_path, content(1.0, 10), content(4.0, 20, average=False), content(7.0, 30))
    assert done.returncode == 0, done.stderr
    made = load_checkpoint(tmp_path / "mean.pt", CPU)
    assert made["average"]["weight"].unique().tolist() == [4.0]
    assert made["network"]["weight"].unique().tolist() == [4.0]
    assert made["config"] == {"seed": 30}
    assert made["step"] == 60


def test_a_model_file_and_a_run_that_began_with_it(tmp_path: Path, finished_run: Any) -> None:
    last = load_checkpoint(finished_run.folder / "last.pt", CPU)
    further = {name: value + 1 for name, value in last["average"].items()}
    save_checkpoint(tmp_path / "further.pt", last | {"network": further, "average": further, "step": 7})
    done = average_files(tmp_path, finished_run.folder / "model.dalmodel", tmp_path / "further.pt")
    assert done.returncode == 0, done.stderr
    made = load_checkpoint(tmp_path / "mean.pt", CPU)
    assert made["step"] == last["step"] + 7
    for name, value in last["average"].items():
        torch.testing.assert_close(made["average"][name], value + 0.5, rtol=1e-3, atol=1e-3)


def test_a_model_file_cannot_come_last(tmp_path: Path, finished_run: Any) -> None:
    """It does not say with which configuration and data the mean was trained."""
    done = average_files(tmp_path, finished_run.folder / "last.pt", finished_run.folder / "model.dalmodel")
    assert done.returncode != 0
    assert "model.dalmodel is not a readable checkpoint" in done.stderr
    assert not (tmp_path / "mean.pt").exists()


def test_what_is_no_checkpoint_or_cannot_be_written_is_told_in_one_line(tmp_path: Path, finished_run: Any) -> None:
    done = average_files(tmp_path, ROOT / "Resources" / "Models" / "brain_extraction.pt")
    assert done.returncode == 3
    assert "brain_extraction.pt is no checkpoint of such a run" in done.stderr
    (tmp_path / "file").write_text("in the way")
    done = average_files(tmp_path, finished_run.folder / "last.pt", output="file/mean.pt")
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert average_files(tmp_path, finished_run.folder / "last.pt", output="new/mean.pt").returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda other: other["average"].update(weight=torch.ones(2, 2)), "another network"),
        (lambda other: other["landmarks"]["T1"].update(values=[0.05, 0.9]), "another intensity scale"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, change: Callable[[Content], object], message: str
) -> None:
    other = content(2.0, 5)
    change(other)
    done = average(tmp_path, content(1.0, 10), other)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mean.pt").exists()
