"""Where a scan and its results lie while a detection runs: patient data, which must not stay behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "dal-anomaly-run-"
_ABANDONED_SECONDS = 3 * 3600.0
"""No run takes so long: an older folder belongs to a program that crashed."""


def make_run_folder(parent: Path) -> Path:
    """Make a folder in `parent` that only this user can read, after removing those that crashed programs left there.

    Raises:
        OSError: `parent` is read-only, full or missing.
    """
    _remove_abandoned(parent)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def remove_run_folder(folder: Path) -> None:
    """Remove a folder with all that lies in it; nothing happens if it has gone already."""
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else removed it, or it is another user's
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)
