"""A process that works and tells how far it is in JSON lines, and that certainly ends.

Threads read its output, so that neither a silent nor a talkative process can block the one who polls; what is kept of
the output is bounded. Nothing here knows Slicer or what the process does.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from DALAnomalySlicer.process_tree import end_tree, how_it_ended, start_tree

Event: TypeAlias = dict[str, Any]
"""One JSON object: `event` says which kind, see DALAnomalyLib/job/events.py."""

CANCELLED_EXIT_CODE = 130
LOG_LINES = 20
LONGEST_LINE = 16_384
"""Bytes; the rest of a longer line is dropped."""
_MOST_EVENTS = 200
"""Kept between two polls; the oldest go first."""
_DRAINED_SECONDS, _NOT_AWAITED_SECONDS = 3.0, 0.2
"""How long the rest of the output is read: for an event that is still to come, and where there is none to wait for."""
_LOOK_SECONDS = 0.1
_ASLEEP_SECONDS = 5.0
"""Whoever looks every tenth of a second and finds that so much time has passed, was suspended with the computer."""
_LAST_EVENTS = ("result", "error")


class WorkerProcess:
    """One run of a program.

    The events of a run that is over end with exactly one `result` or `error`, whatever became of the process.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        silent_seconds: float = 60.0,
        folder: Path | None = None,
    ) -> None:
        """Prepare a run; see `start`.

        Args:
            command: program and arguments.
            environment: all of its environment variables; None: those of this process.
            silent_seconds: a process that prints nothing for so long is ended.
            folder: where it is started; None: the current folder.
        """
        self._command = list(command)
        self._environment = environment
        self._silent_seconds = silent_seconds
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._lock = threading.Lock()
        self._has_last_event = False
        self._last_line = 0.0
        self._cancelled = threading.Event()
        self._over = threading.Event()

    def start(self) -> None:
        """Start the process; if that is impossible, the run is over with an `error` event."""
        try:
            self._process = start_tree(self._command, self._environment, self._folder)
        except OSError as error:
            self._conclude("WorkerError", f"the worker cannot be started: {error}", 1)
            self._over.set()
            return
        self._last_line = time.monotonic()
        threading.Thread(target=self._supervise, args=(self._process,), name="worker", daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether anything of the process tree may be alive; once False, `poll` gives the last events."""
        return self._process is not None and not self._over.is_set()

    @property
    def exit_code(self) -> int | None:
        """Of the process; negative: the signal that ended it; None while it runs or if it never did."""
        return None if self._process is None else self._process.returncode

    @property
    def log_tail(self) -> str:
        """The last lines that were no events."""
        with self._lock:
            return "\n".join(self._log)

    def poll(self) -> list[Event]:
        """The events since the last call. Never blocks."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def cancel(self) -> None:
        """End the process with all that it started, at once where it obeys and within two seconds where it does not.

        Does nothing when the run is over.
        """
        if self.running:
            self._conclude("CancelledError", "the run was cancelled", CANCELLED_EXIT_CODE)
            self._cancelled.set()
            self._over.wait()

    def _supervise(self, process: subprocess.Popen[bytes]) -> None:
        readers = [
            threading.Thread(target=self._read_events, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(process.stderr,), daemon=True),
        ]
        for reader in readers:
            reader.start()
        self._wait(process)
        end_tree(process)
        # a stray child could hold the pipes open for ever
        deadline = time.monotonic() + (_NOT_AWAITED_SECONDS if self._has_last_event else _DRAINED_SECONDS)
        for reader in readers:
            reader.join(max(deadline - time.monotonic(), 0))
        self._conclude("WorkerError", f"the worker ended without a result ({how_it_ended(process.returncode)})", 1)
        self._over.set()
        process.wait()  # one that the busy system ends only now does not stay as a zombie

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the process has ended, is cancelled or has been silent for too long."""
        looked = time.monotonic()
        while process.poll() is None and not self._cancelled.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if now - looked > _ASLEEP_SECONDS:
                self._last_line = now
            looked = now
            if now - self._last_line > self._silent_seconds:
                msg = f"the worker said nothing for {self._silent_seconds:g} s and was ended; try again"
                self._conclude("WorkerError", msg, 1)
                return

    def _read_events(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            self._last_line = time.monotonic()
            event = _event(line)
            if event is None:
                self._keep_in_log(line)
            else:
                self._accept(event)

    def _read_log(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            self._last_line = time.monotonic()
            self._keep_in_log(line)

    def _keep_in_log(self, line: bytes) -> None:
        with self._lock:
            self._log.append(line.decode("utf-8", "replace").rstrip())

    def _conclude(self, kind: str, message: str, exit_code: int) -> None:
        """Make sure that there is a last event."""
        self._accept({"event": "error", "kind": kind, "message": message, "exit_code": exit_code})

    def _accept(self, event: Event) -> None:
        with self._lock:
            if not self._has_last_event:
                self._has_last_event = event["event"] in _LAST_EVENTS
                self._events.append(event)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a stream, cut at `LONGEST_LINE` bytes."""
    with stream:
        while line := stream.readline(LONGEST_LINE):
            yield line
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)


def _event(line: bytes) -> Event | None:
    """The event that a line holds, or None."""
    try:
        value = json.loads(line) if line.startswith(b"{") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
