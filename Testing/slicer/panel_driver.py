"""Works the panel like a user: opens the module, clicks, waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

MODULE = Path(__file__).resolve().parents[2] / "DALAnomaly" / "DALAnomaly.py"
PATIENCE_SECONDS = 120.0


def open_panel() -> Any:
    """The panel, entered; in Slicer the module is loaded already."""
    if not hasattr(slicer.modules, "dalanomaly"):
        import slicer_standin

        slicer_standin.load_module(MODULE)
    widget = slicer.modules.dalanomaly.widgetRepresentation()
    widget.enter()
    return slicer.modules.DALAnomalyWidget.panel


def close_panel() -> None:
    """Leave the module; what runs is stopped."""
    panel = slicer.modules.DALAnomalyWidget.panel
    panel.forget()
    slicer.modules.dalanomaly.widgetRepresentation().exit()


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Let the event loop run until something is so; returns the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            msg = f"not within {seconds:g} s"
            raise AssertionError(msg)
        slicer.app.processEvents()
        time.sleep(0.02)
    return time.monotonic() - began


def run_to_end(panel: Any) -> None:
    """Wait for the run that was started."""
    assert panel.run.running, panel.ui.statusLabel.text
    wait_until(lambda: not panel.run.running)


def run_folders() -> list[Path]:
    """Folders of runs, which are to vanish with the runs."""
    return list(Path(slicer.app.temporaryPath).glob("dal-anomaly-run-*"))
