"""How a run learns that it should stop: by signals, or because nobody waits for it any more."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from DALAnomalyLib.errors import CancelledError
from DALAnomalyLib.progress import CancelToken

GRACE_SECONDS = 1.0
"""From the cancellation of an abandoned run to its end by force."""


@contextmanager
def cancel_on_signals(token: CancelToken) -> Iterator[None]:
    """Let Ctrl-C, a termination request or a closed terminal cancel the token; a second one interrupts at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        token.cancel()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What the parent told us to ignore (nohup, a background job of a script) stays ignored.
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def end_when_input_closes(token: CancelToken) -> None:
    """Watch standard input from a second thread; when it is closed, the program that started this one is gone."""

    def watch() -> None:
        try:
            while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when Python ends
                pass
        except OSError:
            pass
        end_abandoned(token)

    threading.Thread(target=watch, name="standard input", daemon=True).start()


def end_abandoned(token: CancelToken) -> None:
    """Cancel the run; if that does not end the process soon, end it by force. Does not return."""
    token.cancel()
    time.sleep(GRACE_SECONDS)
    os._exit(CancelledError.exit_code)
