from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import DALAnomalyLib

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "SimpleITK", "matplotlib", "scipy")


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from DALAnomalyCLI.app import app
try:
    app(["--help"], prog_name="dal-anomaly")
finally:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, f"--help imports {{loaded}}"
"""
    done, seconds = timed(code)
    assert done.returncode == 0, done.stderr
    for command in ("detect", "preprocess", "series", "evaluate", "calibrate", "prepare", "train", "build-atlas"):
        assert command in done.stdout
    least, least_seconds = timed("import typer; typer.run(lambda: print('done'))")
    assert least.stdout == "done\n"
    assert seconds < 5 * least_seconds, "about 2.5 times what a program of Typer takes that does nothing"


def timed(code: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run Python code in a process of its own; also returns its processor time in seconds."""
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    after = os.times()
    return done, after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.parametrize(
    "command",
    [
        ["detect"],
        ["preprocess"],
        ["series"],
        ["evaluate"],
        ["calibrate"],
        ["build-atlas"],
        ["model"],
        ["model", "info"],
    ],
)
def test_every_command_explains_itself(run: Callable[..., Result], command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "--help" in result.output


def test_text_that_the_output_cannot_hold_does_not_end_the_program() -> None:
    code = "from DALAnomalyCLI import app; app.app = lambda: print('sch\\xe4.nii'); app.main()"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sch\\xe4.nii\n", "")


def test_version_is_the_librarys(run: Callable[..., Result]) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"dal-anomaly {DALAnomalyLib.__version__}\n"


def test_unknown_command_is_a_usage_error(run: Callable[..., Result]) -> None:
    result = run("detekt")
    assert result.exit_code == 2
    assert "detekt" in result.output
    assert "Traceback" not in result.output


def test_program_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "DALAnomalyCLI.app", "--version"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.startswith("dal-anomaly ")
