from __future__ import annotations

import os
import signal

import pytest

from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.progress import CancelToken


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_first_signal_cancels_and_the_second_interrupts(name: str) -> None:
    number = getattr(signal, name, None)
    if number is None or os.name == "nt":
        pytest.skip(f"no {name} on this system")
    inherited = signal.signal(number, signal.default_int_handler)  # who started the tests may have had it ignored
    before = signal.getsignal(number)
    token = CancelToken()
    with cancel_on_signals(token):
        signal.raise_signal(number)
        assert token.cancelled
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    signal.signal(number, inherited)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_signal_ignored_by_the_parent_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        token = CancelToken()
        with cancel_on_signals(token):
            signal.raise_signal(signal.SIGHUP)
        assert not token.cancelled
    finally:
        signal.signal(signal.SIGHUP, before)
