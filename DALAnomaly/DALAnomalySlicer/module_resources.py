"""Where the module's own files lie: panel, icons, sample scans, models."""

from __future__ import annotations

from pathlib import Path


def resource(name: str) -> Path:
    """A file below `Resources`, which lies beside the module once installed and one folder up in a source tree.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    module = Path(__file__).resolve().parent.parent
    for root in (module, module.parent):
        path = root / "Resources" / name
        if path.exists():
            return path
    msg = f"{name} is missing beside {module}; install the extension again"
    raise FileNotFoundError(msg)
