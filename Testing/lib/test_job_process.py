"""`python -m DALAnomalyLib.job` as the process it is: what it says, how it ends, what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.result_layout import PLAIN_VOLUMES
from DALAnomalyLib.resources import resource_file
from DALAnomalyLib.volume_io import read_map
from Testing.lib.job_inputs import finish_job, names, start_job, write_inputs
from Testing.lib.small_disks import small_disk

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., tuple[int, list[dict[str, Any]], str]]

posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")

WAITING = """
from DALAnomalyLib.job import run
import pathlib, time

def wait(request, inputs, listener, cancel, load):
    pathlib.Path("ready").touch()
    while True:
        time.sleep(0.01)
        if {obedient}:
            cancel.raise_if_cancelled()

run._detect = wait
"""
"""In the place of the detection, so that torch need not be loaded."""

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None"

TALKATIVE = """
import os, time
from DALAnomalyLib.job import events, run
real = run._record

def record(*given):
    print("a library prints")
    os.write(1, b"so does C code\\n")
    time.sleep(1.5 * events.HEARTBEAT_SECONDS)  # a fast machine would be done before the first beat
    return real(*given)

run._record = record
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_inputs(tmp_path_factory.mktemp("in") / "Bilder für Æsa 脳")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "mit Leerzeichen und ü"
    folder.mkdir()
    return folder


@pytest.fixture
def asked(inputs: tuple[Path, Path], work: Path) -> DetectionRequest:
    return DetectionRequest(inputs[0], work / "Ergebnis ö", sequence="T2", device="cpu", model=inputs[1])


@pytest.fixture
def start(work: Path) -> Iterator[Start]:
    """Start a job; whatever the test does, it is ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(request: DetectionRequest, before: str = "") -> subprocess.Popen[str]:
        started.append(start_job(request, work / "request.json", before))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        with process:  # closes its pipes
            pass


@pytest.fixture
def run(start: Start) -> Run:
    """Run a job to its end: exit code, events, log."""

    def finish(request: DetectionRequest, before: str = "") -> tuple[int, list[dict[str, Any]], str]:
        process = start(request, before)
        events, log = finish_job(process)
        return process.returncode, events, log

    return finish


def only_error(events: list[dict[str, Any]]) -> dict[str, Any]:
    (last,) = (event for event in events if event["event"] in ("error", "result"))
    assert last["event"] == "error"
    assert "\n" not in last["message"]
    return last


def wait_until_ready(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert process.poll() is None, f"it ended before its time: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- a run that goes well ---------------------------------------------------------------------------------------------


def test_a_run_says_what_it_does_and_leaves_its_result(run: Run, asked: DetectionRequest, work: Path) -> None:
    code, events, log = run(asked, TALKATIVE)
    assert code == 0, log
    assert names(work) == ["Ergebnis ö", "request.json"]
    assert names(asked.output) == sorted(PLAIN_VOLUMES.names)
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert events[-1]["event"] == "result"
    assert events[-1]["output"] == str(asked.output)
    assert {"event": "heartbeat"} in events
    assert log.splitlines() == ["a library prints", "so does C code"]


@pytest.mark.slow
def test_the_shipped_model_finds_the_lesion_of_the_sample(run: Run, work: Path) -> None:
    sample = resource_file("SampleData", "sample_T2.nii.gz")
    code, events, log = run(DetectionRequest(sample, work / "out", device="cpu", mode="quick"))
    assert code == 0, log
    assert (events[-1]["event"], events[-1]["sequence"]) == ("result", "T2")
    score = read_map(work / "out" / "score.nii").array
    lesion = read_map(resource_file("SampleData", "sample_lesion.nii.gz")).array > 0
    assert lesion[np.unravel_index(score.argmax(), score.shape)]
    assert score[lesion].mean() > events[-1]["threshold"]


# --- how it is stopped ------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_and_leaves_nothing(
    start: Start, asked: DetectionRequest, work: Path, number: signal.Signals
) -> None:
    process = start(asked, WAITING.format(obedient=True))
    wait_until_ready(process, work)
    process.send_signal(number)
    events, _ = finish_job(process, seconds=30)
    error = only_error(events)
    assert (process.returncode, error["exit_code"], error["kind"]) == (130, 130, "CancelledError")
    assert names(work) == ["ready", "request.json"]


def test_it_ends_cleanly_when_its_standard_input_closes(start: Start, asked: DetectionRequest, work: Path) -> None:
    process = start(asked, WAITING.format(obedient=True))
    wait_until_ready(process, work)
    out, _ = process.communicate(timeout=30)  # closes it
    assert process.returncode == 130
    assert '"kind": "CancelledError"' in out
    assert names(work) == ["ready", "request.json"]


def test_it_ends_by_force_when_it_does_not_heed_the_cancellation(
    start: Start, asked: DetectionRequest, work: Path
) -> None:
    process = start(asked, WAITING.format(obedient=False))
    wait_until_ready(process, work)
    closed = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert 0.9 < time.monotonic() - closed < 5
    assert all(name.startswith(".") for name in names(asked.output))


def test_it_ends_when_nobody_reads_its_output_though_its_input_stays_open(
    start: Start, asked: DetectionRequest, work: Path
) -> None:
    """As behind a launcher that keeps the standard input of its child to itself."""
    process = start(asked, WAITING.format(obedient=True))
    wait_until_ready(process, work)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=30)
    for stream in (process.stdin, process.stderr):
        assert stream is not None
        stream.close()
    assert names(work) == ["ready", "request.json"]


@posix
def test_a_killed_run_leaves_no_result_and_the_next_one_cleans_up(
    start: Start, asked: DetectionRequest, work: Path
) -> None:
    process = start(asked, WAITING.format(obedient=True))
    wait_until_ready(process, work)
    process.kill()
    process.communicate()
    assert names(asked.output), "or this test proves nothing"
    assert all(name.startswith(".") for name in names(asked.output))
    again = start(asked, WAITING.format(obedient=True).replace("ready", "ready2"))
    while not (work / "ready2").exists():
        assert again.poll() is None
    assert len(names(asked.output)) == 2, "its own folder and its lock"
    again.communicate(timeout=30)
    assert names(asked.output) == []


def test_two_processes_cannot_write_one_result(start: Start, run: Run, asked: DetectionRequest, work: Path) -> None:
    first = start(asked, WAITING.format(obedient=True))
    wait_until_ready(first, work)
    code, events, _ = run(asked)
    assert code == 7
    assert "another run is writing this result" in only_error(events)["message"]
    first.communicate(timeout=30)
    assert names(work) == ["ready", "request.json"]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_without_torch_the_user_is_told_what_to_do(run: Run, asked: DetectionRequest, work: Path) -> None:
    code, events, _ = run(asked, WITHOUT_TORCH)
    error = only_error(events)
    assert (code, error["kind"]) == (1, "ModuleNotFoundError")
    assert error["message"].startswith("the Python package torch is missing; install PyTorch: in 3D Slicer with the")
    assert names(work) == ["request.json"]


def test_a_model_that_was_tampered_with_is_refused(
    run: Run, asked: DetectionRequest, work: Path, inputs: tuple[Path, Path]
) -> None:
    tampered = work / "tampered.dalmodel"
    with zipfile.ZipFile(inputs[1]) as old, zipfile.ZipFile(tampered, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"1.2.3", b"1.2.4"))
    code, events, _ = run(replace(asked, model=tampered))
    error = only_error(events)
    assert (code, error["kind"]) == (5, "ModelFileError")
    assert "was changed after it was written" in error["message"]
    assert names(work) == ["request.json", "tampered.dalmodel"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"scan": Path("missing.nii")}, 3, "missing.nii: no such file"),
        ({"scan": Path("request.json")}, 3, "unknown format"),
        ({"output": Path("/proc/out")}, 7, "/proc"),
        ({"output": Path("request.json", "out")}, 7, "request.json"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_error(
    run: Run, asked: DetectionRequest, work: Path, change: dict[str, Path], code: int, words: str
) -> None:
    ended, events, _ = run(replace(asked, **change))
    error = only_error(events)
    assert (ended, error["exit_code"]) == (code, code)
    assert words in error["message"]
    assert names(work) == ["request.json"]


def test_a_request_that_cannot_be_read_is_one_error(start: Start, asked: DetectionRequest, work: Path) -> None:
    process = start(asked, "import pathlib; pathlib.Path('request.json').write_text('{')")
    events, _ = finish_job(process)
    assert (process.returncode, only_error(events)["kind"]) == (3, "InputError")


def test_a_read_only_disk_is_one_error(run: Run, asked: DetectionRequest, work: Path) -> None:
    with small_disk(work / "disk", 64, "ro") as disk:
        code, events, _ = run(replace(asked, output=disk / "out"))
        assert (code, only_error(events)["kind"]) == (7, "OutputError")
        assert names(disk) == []


def test_a_full_disk_is_one_error_and_leaves_nothing(run: Run, asked: DetectionRequest, work: Path) -> None:
    with small_disk(work / "disk", 400) as disk:
        code, events, _ = run(replace(asked, output=disk / "out"))
        error = only_error(events)
        assert (code, error["kind"]) == (7, "OutputError"), error
        assert "free some disk space" in error["message"]
        assert names(disk) == []
