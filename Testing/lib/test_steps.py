from __future__ import annotations

import time

import pytest

from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.errors import CancelledError, InputError
from DALAnomalyLib.preprocessing.steps import StepLog, StepRecord
from DALAnomalyLib.progress import CancelToken


def test_a_step_is_recorded_with_all_that_it_says_of_itself() -> None:
    log = StepLog(())
    with log.step("n4") as record:
        record.status = "cached"
        record.parameters = {"shrink": 4}
        record.evidence = "hardly any bias"
    assert log.records == [StepRecord("n4", "cached", record.seconds, {"shrink": 4}, "hardly any bias")]


def test_a_step_is_timed_and_the_next_one_apart_from_it() -> None:
    log = StepLog(())
    with log.step("reorient"):
        time.sleep(0.05)
    with log.step("crop"):
        pass
    assert [record.name for record in log.records] == ["reorient", "crop"]
    assert 0.05 <= log.records[0].seconds < 5
    assert log.records[1].seconds < 0.05


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_left_out_is_recorded_as_skipped(name: str) -> None:
    log = StepLog((name,))
    for each in STEPS:
        with log.step(each):
            pass
    assert [record.status for record in log.records] == ["skipped" if each == name else "done" for each in STEPS]
    assert [each for each in STEPS if log.skips(each)] == [name]


def test_a_step_that_fails_passes_its_error_on_and_counts_as_not_run() -> None:
    log = StepLog(())

    def fail() -> None:
        with log.step("brain_extraction"):
            raise InputError("no brain")

    with pytest.raises(InputError, match="no brain"):
        fail()
    assert log.records == []


def test_a_warning_is_kept_once_and_in_order() -> None:
    log = StepLog(())
    for text in ("b", "a", "b"):
        log.warn(text)
    assert log.warnings == ["b", "a"]


def test_progress_names_the_steps_in_words_and_only_grows() -> None:
    told: list[tuple[str, float]] = []
    log = StepLog((), lambda name, fraction: told.append((name, fraction)))
    for name in STEPS:
        with log.step(name):
            pass
    assert [name for name, _ in told] == [name.replace("_", " ") for name in STEPS]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] <= 1


def test_nothing_of_a_step_runs_after_cancelling() -> None:
    token, ran = CancelToken(), []
    log = StepLog((), cancel=token)
    token.cancel()
    with pytest.raises(CancelledError), log.step("n4"):
        ran.append("n4")
    assert ran == []


def test_cancelling_within_a_step_stops_right_after_it() -> None:
    token, ran = CancelToken(), []
    log = StepLog((), cancel=token)

    def run() -> None:
        with log.step("n4"):
            token.cancel()
        ran.append("what follows")

    with pytest.raises(CancelledError):
        run()
    assert ran == []
