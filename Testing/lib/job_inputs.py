"""A scan and a model file for runs in a process of their own, and the process itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.volume_io import write_volume
from Testing.lib.phantom import scan

ROOT = Path(__file__).parents[2]


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write the phantom and a `tiny` model that was never trained; returns (scan, model file)."""
    from DALAnomalyLib.model_store import save_model
    from Testing.lib.phantom import untrained_model

    folder.mkdir(parents=True, exist_ok=True)
    write_volume(scan(), folder / "scan.nii")
    model = untrained_model()
    save_model(folder / "tiny.dalmodel", model.metadata, model.network, model.templates)
    return folder / "scan.nii", folder / "tiny.dalmodel"


def start_job(request: DetectionRequest, path: Path, before: str = "") -> subprocess.Popen[str]:
    """Start `python -m DALAnomalyLib.job` on a request written to `path`; `before` is Python that it runs first."""
    request.write(path)
    run = "import runpy, sys; sys.exit(runpy.run_module('DALAnomalyLib.job', run_name='__main__', alter_sys=True))"
    command = ["-c", f"{before}\n{run}"] if before else ["-m", "DALAnomalyLib.job"]
    return subprocess.Popen(
        [sys.executable, *command, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=path.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish_job(process: subprocess.Popen[str], seconds: float = 240) -> tuple[list[dict[str, Any]], str]:
    """Wait for the end of a job whose standard input stays open; returns its events and its log."""
    assert process.stdin is not None
    held, process.stdin = process.stdin, None  # communicate would close it
    try:
        out, log = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    finally:
        held.close()
    return [json.loads(line) for line in out.splitlines()], log


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
