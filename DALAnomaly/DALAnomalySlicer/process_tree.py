"""Starting a program so that it can be ended together with everything that it starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""Creation flag: on Windows a program of the command line otherwise opens a console over Slicer."""
_GRACE_SECONDS = 0.7
"""For ending by itself, ..."""
_KILLED_SECONDS = 0.6
"""... and for the system to end it."""


def start_tree(
    command: Sequence[str], environment: Mapping[str, str] | None, folder: Path | None
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, with pipes to it; on Windows at low priority, without console.

    Raises:
        OSError: it cannot be started.
    """
    windows = sys.platform == "win32"
    flags = NO_WINDOW
    if sys.platform == "win32":
        flags |= subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,  # never written to: that it closes tells the process that this one is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        creationflags=flags,
        start_new_session=not windows,
    )


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process, politely at first, and whatever is left of its group: in less than two seconds.

    A child that made a group of its own has to be ended by the process itself.
    """
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.poll() is None:
        _signal_group(process, "SIGTERM")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    _signal_group(process, "SIGKILL")
    deadline = time.monotonic() + _KILLED_SECONDS
    while (process.poll() is None or _group_lives(process)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _signal_group(process: subprocess.Popen[bytes], name: str) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, getattr(signal, name))
    elif name == "SIGKILL" and process.poll() is None:  # Windows' only polite way is the closed standard input
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    if sys.platform == "win32":
        return False
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def how_it_ended(code: int | None) -> str:
    """How a process ended, for people."""
    if code is None:
        return "it could not be ended"
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
