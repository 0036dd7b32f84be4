from __future__ import annotations

import io
import json
import threading
import time

import pytest

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.events import EventWriter, heartbeat


def test_every_event_is_one_object_on_one_line() -> None:
    stream = io.StringIO()
    events = EventWriter(stream)
    events.progress("n4", 1 / 3)
    events.notice("trying again\non the CPU")
    events.heartbeat()
    events.result({"output": "Ergebnis für Müller"}, input="a.nii")
    assert events.error(InputError("a.nii: no such file")) == 3
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"event": "progress", "stage": "n4", "fraction": 0.3333},
        {"event": "notice", "message": "trying again\non the CPU"},
        {"event": "heartbeat"},
        {"event": "result", "input": "a.nii", "output": "Ergebnis für Müller"},
        {"event": "error", "kind": "InputError", "message": "a.nii: no such file", "exit_code": 3},
    ]
    assert stream.getvalue().isascii(), "no terminal's encoding can spoil it"


class _SlowStream(io.StringIO):
    """Gives other threads a chance between any two pieces of a line."""

    def write(self, text: str) -> int:
        time.sleep(0.0005)
        return super().write(text)


def test_lines_of_several_threads_do_not_mix() -> None:
    stream = _SlowStream()
    events = EventWriter(stream)
    threads = [
        threading.Thread(target=lambda: [events.progress("stage", part / 20) for part in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 80


def test_the_heart_beats_while_the_block_runs_and_not_after_it() -> None:
    stream = io.StringIO()
    with heartbeat(EventWriter(stream), lambda: pytest.fail("it was heard"), seconds=0.02):
        time.sleep(0.2)
    beats = len(stream.getvalue().splitlines())
    assert beats >= 3
    time.sleep(0.1)
    assert len(stream.getvalue().splitlines()) <= beats + 1


class _ClosedPipe(io.StringIO):
    def flush(self) -> None:
        raise BrokenPipeError


def test_a_heart_that_nobody_hears_says_so() -> None:
    noticed = threading.Event()
    with heartbeat(EventWriter(_ClosedPipe()), noticed.set, seconds=0.01):
        assert noticed.wait(5)
