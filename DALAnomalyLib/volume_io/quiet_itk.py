"""Silence for libraries that print what they also raise."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

_lock = threading.Lock()
"""There is one standard error in a process."""


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep what ITK, GDCM, MetaIO and the NIfTI library print off the standard error of the process.

    The last two write to the file descriptor directly, so it leads nowhere meanwhile. What went wrong still arrives
    as an exception.
    """
    with _lock:
        warnings_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        kept = _silence_standard_error()
        try:
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            sitk.ProcessObject.SetGlobalWarningDisplay(warnings_shown)


def _silence_standard_error() -> int | None:
    """Point descriptor 2 to nowhere; returns the duplicate to restore, or None in a program without standard error."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept
