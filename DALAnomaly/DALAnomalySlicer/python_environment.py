"""Which Python runs the worker, and what it needs in order to find the library."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import slicer

import DALAnomalyLib

WORKER_MODULE = "DALAnomalyLib.job"


def worker_python() -> str:
    """Path of the Python interpreter that has this program's packages.

    In Slicer that is `PythonSlicer`, which sets up Slicer's environment by itself: `sys.executable` may be Slicer.
    """
    home = getattr(getattr(slicer, "app", None), "slicerHome", None)
    found = shutil.which("PythonSlicer", path=str(Path(home) / "bin")) if home else None
    return found or shutil.which("PythonSlicer") or sys.executable


def library_folder() -> Path:
    """The folder that holds `DALAnomalyLib`, in a source tree or in an installed extension."""
    return Path(DALAnomalyLib.__file__).resolve().parents[1]


def worker_environment() -> dict[str, str]:
    """This process' environment variables, with the library in front of the Python path."""
    path = [str(library_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    # PYTHONSAFEPATH: `python -m` would import whatever lies in the current folder, a user's own json.py for example
    # CUDA_DEVICE_ORDER: cards numbered as the driver lists them, which is what users choose from
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**order, **os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def worker_command(request: Path) -> list[str]:
    """Run the request that `DetectionRequest.write` wrote."""
    return [worker_python(), "-m", WORKER_MODULE, str(request)]
