"""What a run says to another program while it works: JSON objects, one per line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from DALAnomalyLib.job.failures import exit_code_of, one_line

HEARTBEAT_SECONDS = 2.0


class EventWriter:
    """Writes events to a stream; several threads may use it.

    `about`, in every method, are further entries of the object, such as the input that the event belongs to.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which is flushed after every line."""
        self._stream = stream
        self._lock = threading.Lock()

    def progress(self, stage: str, fraction: float, **about: Any) -> None:
        """The run is in `stage`; `fraction` (0 to 1) of it is done."""
        self._write("progress", {**about, "stage": stage, "fraction": round(fraction, 4)})

    def notice(self, message: str, **about: Any) -> None:
        """Something the user should know although the run goes on."""
        self._write("notice", {**about, "message": message})

    def heartbeat(self) -> None:
        """The process is alive."""
        self._write("heartbeat", {})

    def result(self, summary: Mapping[str, Any], **about: Any) -> None:
        """The run is finished."""
        self._write("result", {**about, **summary})

    def error(self, error: BaseException, advice: str = "", **about: Any) -> int:
        """The run has failed; returns the exit code that belongs to it."""
        code = exit_code_of(error)
        message = one_line(error, advice)
        self._write("error", {**about, "kind": type(error).__name__, "message": message, "exit_code": code})
        return code

    def _write(self, event: str, content: Mapping[str, Any]) -> None:
        line = json.dumps({"event": event, **content}, allow_nan=False)
        with self._lock:
            print(line, file=self._stream, flush=True)


@contextmanager
def heartbeat(events: EventWriter, unheard: Callable[[], None], seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Write a heartbeat from a second thread while the block runs; calls `unheard` once nobody reads it any more."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(seconds):
                events.heartbeat()
        except OSError:
            unheard()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
