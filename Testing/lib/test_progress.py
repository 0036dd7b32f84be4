from __future__ import annotations

import threading

import pytest

from DALAnomalyLib.errors import CancelledError
from DALAnomalyLib.progress import CancelToken


def test_token_does_not_interrupt_before_it_is_cancelled() -> None:
    token = CancelToken()
    assert not token.cancelled
    token.raise_if_cancelled()


def test_cancelling_from_another_thread_interrupts() -> None:
    token = CancelToken()
    other = threading.Thread(target=token.cancel)
    other.start()
    other.join()
    assert token.cancelled
    with pytest.raises(CancelledError, match="cancelled"):
        token.raise_if_cancelled()


def test_tokens_are_independent() -> None:
    CancelToken().cancel()
    assert not CancelToken().cancelled


def test_cancelled_run_ends_with_the_exit_code_of_an_interrupt() -> None:
    assert CancelledError.exit_code == 130
