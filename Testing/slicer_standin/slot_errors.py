"""Exceptions that Qt and VTK swallow: those raised in slots and in observers.

Both print them through `sys.excepthook` and go on, as Slicer does. A test has to fail for them.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

_errors: list[str] = []


def record_slot_errors() -> None:
    """From here on keeps the text of every exception that nobody has caught, besides printing it."""
    sys.excepthook = _record


def take_slot_errors() -> list[str]:
    """The tracebacks since the last call."""
    taken = list(_errors)
    _errors.clear()
    return taken


def _record(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _errors.append("".join(traceback.format_exception(kind, error, trace)))
    sys.__excepthook__(kind, error, trace)
