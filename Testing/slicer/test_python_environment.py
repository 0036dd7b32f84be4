from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from DALAnomalySlicer.python_environment import library_folder, worker_command, worker_environment, worker_python

NAME = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"


def make_program(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / NAME).touch(mode=0o755)
    return str(folder / NAME)


def test_outside_slicer_the_worker_runs_with_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert worker_python() == sys.executable


def test_inside_slicer_it_runs_with_slicers_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path / "Slicer 5.12" / "bin")
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(tmp_path / "Slicer 5.12")), raising=False)
    assert worker_python() == program


def test_slicers_python_is_also_found_on_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path / "bin")
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(tmp_path / "build tree")), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert worker_python() == program


def test_the_library_comes_first_on_the_python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert worker_environment()["PYTHONPATH"].split(os.pathsep) == [str(library_folder()), "/elsewhere"]
    monkeypatch.delenv("PYTHONPATH")
    assert worker_environment()["PYTHONPATH"] == str(library_folder())
    assert (library_folder() / "DALAnomalyLib" / "job" / "__main__.py").is_file()


def test_cards_are_numbered_as_they_are_listed_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert worker_environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert worker_environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_the_worker_finds_the_library_from_anywhere_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported what lies in the current folder')")
    command = worker_command(tmp_path / "missing.json")
    environment = worker_environment()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "missing.json: the request cannot be read" in done.stdout
