"""Real processes that misbehave: the one who started them is never blocked, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalySlicer.worker_process import LOG_LINES, LONGEST_LINE, WorkerProcess

ROOT = Path(__file__).parents[2]
Start = Callable[..., WorkerProcess]

posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python code as a worker; whatever the test does, it is ended."""
    started: list[WorkerProcess] = []

    def begin(code: str, silent_seconds: float = 30.0, **more: Any) -> WorkerProcess:
        worker = WorkerProcess([sys.executable, "-c", textwrap.dedent(code)], None, silent_seconds, **more)
        started.append(worker)
        worker.start()
        return worker

    yield begin
    for worker in started:
        worker.cancel()


def finish(worker: WorkerProcess, seconds: float = 120.0) -> list[dict[str, Any]]:
    """All events until the run is over."""
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    while worker.running:
        assert time.monotonic() < deadline, "it does not end"
        events += worker.poll()
        time.sleep(0.01)
    return events + worker.poll()


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def first_event(worker: WorkerProcess) -> dict[str, Any]:
    got: list[dict[str, Any]] = []
    wait_for(lambda: got.extend(worker.poll()) or got)
    return got[0]


# --- what it says -----------------------------------------------------------------------------------------------------


def test_events_arrive_in_order_and_all_else_is_log(start: Start) -> None:
    worker = start(
        """
        import sys
        print('{"event": "progress", "fraction": 0.5}')
        print("a library prints")
        print("Warnung: Größe", file=sys.stderr)
        print('{"not": "an event"}')
        print('[1, 2]')
        print('{"event": "result", "output": "out"}')
        """
    )
    assert finish(worker) == [{"event": "progress", "fraction": 0.5}, {"event": "result", "output": "out"}]
    assert sorted(worker.log_tail.splitlines()) == sorted(
        ["a library prints", "Warnung: Größe", '{"not": "an event"}', "[1, 2]"]
    )
    assert (worker.exit_code, worker.running, worker.poll()) == (0, False, [])


def test_only_the_last_lines_of_the_log_are_kept(start: Start) -> None:
    worker = start("for number in range(100): print(number)")
    finish(worker)
    assert worker.log_tail.splitlines() == [str(number) for number in range(100 - LOG_LINES, 100)]


def test_a_process_that_fails_has_its_own_error_and_exit_code(start: Start) -> None:
    worker = start("""print('{"event": "error", "kind": "InputError", "message": "no", "exit_code": 3}'); exit(3)""")
    assert [event["kind"] for event in finish(worker)] == ["InputError"]
    assert worker.exit_code == 3


def test_the_last_event_is_single(start: Start) -> None:
    worker = start(
        """print('{"event": "result"}'); print('{"event": "error"}'); print('{"event": "progress"}'); exit(5)"""
    )
    assert finish(worker) == [{"event": "result"}]


def test_a_process_that_says_nothing_of_its_end_gets_an_error(start: Start) -> None:
    worker = start("raise ZeroDivisionError('a defect')")
    (error,) = finish(worker)
    assert (error["event"], error["kind"]) == ("error", "WorkerError")
    assert error["message"] == "the worker ended without a result (exit code 1)"
    assert worker.log_tail.splitlines()[-1] == "ZeroDivisionError: a defect"


def test_a_program_that_is_not_there_is_an_error_and_no_exception(tmp_path: Path) -> None:
    worker = WorkerProcess([str(tmp_path / "no such program")])
    worker.start()
    (error,) = worker.poll()
    assert "cannot be started" in error["message"]
    assert (worker.running, worker.exit_code) == (False, None)
    worker.cancel()


def test_paths_and_variables_with_spaces_and_umlauts_arrive(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen, ü und 脳"
    folder.mkdir()
    (folder / "worker ä.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'event': 'result', 'all': [os.getcwd(), *sys.argv, os.environ['WO']]}))"
    )
    command = [sys.executable, str(folder / "worker ä.py"), "größe = 1"]
    worker = WorkerProcess(command, {**os.environ, "WO": "überall"}, folder=folder)
    worker.start()
    assert finish(worker)[0]["all"] == [str(folder), str(folder / "worker ä.py"), "größe = 1", "überall"]


# --- too much of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["'x' * 99", "'x' * 10_000_000", '\'{"event": "progress"}\''], ids=["lines", "one line", "events"]
)
def test_ten_megabytes_of_output_neither_block_nor_fill_memory(start: Start, line: str) -> None:
    before = psutil.Process().memory_info().rss
    worker = start(
        f"""
        import sys
        line, size = {line}, 0
        while size < 10_000_000:
            print(line)
            size += len(line) + 1
        print('{{"event": "result"}}')
        """
    )
    wait_for(lambda: not worker.running)  # nobody polls meanwhile
    events = worker.poll()
    assert events[-1] == {"event": "result"}
    assert len(events) <= 200
    assert len(worker.log_tail) <= LOG_LINES * LONGEST_LINE
    assert psutil.Process().memory_info().rss - before < 8_000_000


def test_output_on_the_error_stream_blocks_nobody_either(start: Start) -> None:
    worker = start("""import sys; sys.stderr.write("x" * 10_000_000); print('{"event": "result"}')""")
    assert finish(worker) == [{"event": "result"}]


def test_nonsense_that_looks_like_an_event_is_log(start: Start) -> None:
    worker = start(
        """print('{"event": ' + '[' * 15_000); print('{"event": 3}'); print('{'); print('{"event": "result"}')"""
    )
    assert finish(worker) == [{"event": "result"}]


# --- how it ends ------------------------------------------------------------------------------------------------------


@posix
def test_a_worker_that_is_killed_is_an_error_that_says_so(start: Start) -> None:
    worker = start("import os, signal, time; print('begun', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    (error,) = finish(worker)
    assert error["message"] == "the worker ended without a result (killed by SIGKILL, perhaps because memory ran out)"
    assert worker.exit_code == -signal.SIGKILL


def test_a_silent_worker_is_ended(start: Start) -> None:
    worker = start("import time; print('begun', flush=True); time.sleep(60)", silent_seconds=1.0)
    began = time.monotonic()
    (error,) = finish(worker)
    assert 0.9 < time.monotonic() - began < 10
    assert "said nothing for 1 s" in error["message"]
    assert worker.exit_code not in (0, None)


def test_a_worker_that_says_something_now_and_then_is_left_alone(start: Start) -> None:
    beat = """print('{"event": "heartbeat"}', flush=True)"""
    worker = start(f"import time\nfor _ in range(8):\n    {beat}; time.sleep(0.25)", silent_seconds=1.0)
    assert [event["event"] for event in finish(worker)] == ["heartbeat"] * 8 + ["error"]
    assert worker.exit_code == 0


def test_a_cancelled_worker_that_obeys_is_gone_at_once(start: Start) -> None:
    """It is told by its standard input, which works on every system."""
    worker = start(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('{"event": "progress"}', flush=True)
        sys.stdin.read()
        print('{"event": "error", "kind": "its own"}')
        sys.exit(130)
        """
    )
    first_event(worker)
    worker.cancel()
    assert not worker.running
    assert worker.exit_code == 130, "it was not killed"
    assert [(event["kind"], event["exit_code"]) for event in worker.poll()] == [("CancelledError", 130)]
    worker.cancel()
    assert worker.poll() == []


@posix
def test_a_worker_that_dies_late_leaves_no_zombie(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy system takes its time to end a process that holds gigabytes."""

    def end_later(process: subprocess.Popen[bytes]) -> None:
        process.stdin.close()
        threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()

    monkeypatch.setattr("DALAnomalySlicer.worker_process.end_tree", end_later)
    worker = start(
        """
        import os, signal
        print('{"event": "progress", "pid": %d}' % os.getpid(), flush=True)
        signal.pause()
        """
    )
    process = first_event(worker)["pid"]
    worker.cancel()
    wait_for(lambda: not psutil.pid_exists(process))
    wait_for(lambda: worker.exit_code is not None)  # the thread that collected it says so a moment later
    assert worker.exit_code == -signal.SIGKILL


STUBBORN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    pid = subprocess.Popen([sys.executable, "-c", child]).pid
    time.sleep(0.3)
    print('{"event": "progress", "pids": [%d, %d]}' % (os.getpid(), pid), flush=True)
    time.sleep(60)
"""


@posix
def test_a_stubborn_worker_and_its_child_are_gone_within_two_seconds(start: Start) -> None:
    worker = start(STUBBORN)
    pids = first_event(worker)["pids"]
    assert all(alive(pid) for pid in pids)
    began = time.monotonic()
    worker.cancel()
    assert time.monotonic() - began < 2
    assert not any(alive(pid) for pid in pids)
    assert worker.exit_code == -signal.SIGKILL


@posix
def test_children_of_a_worker_that_ended_are_gone_too(start: Start) -> None:
    worker = start(STUBBORN.replace("    time.sleep(60)\n", """    print('{"event": "result"}', flush=True)\n"""))
    events = finish(worker)
    assert events[-1] == {"event": "result"}
    assert not any(alive(pid) for pid in events[0]["pids"])


@posix
def test_a_child_that_left_the_group_does_not_keep_the_run_from_ending(start: Start) -> None:
    worker = start(
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], start_new_session=True)
        print('{"event": "progress", "pid": %d}' % child.pid)
        """
    )
    events = finish(worker, seconds=15)
    os.kill(events[0]["pid"], signal.SIGKILL)
    assert events[-1]["kind"] == "WorkerError"


PROGRAM = """
import sys, time
from DALAnomalySlicer.worker_process import WorkerProcess
worker = WorkerProcess([sys.executable, "-c", *sys.argv[1:]])
worker.start()
while not any(event["event"] == "progress" for event in worker.poll()):
    assert worker.running, worker.log_tail
    time.sleep(0.01)
print(worker._process.pid, flush=True)
time.sleep(60)
"""
WAITING_JOB = """
import runpy, time
from DALAnomalyLib.job import run

def wait(request, cancel):
    while True:
        cancel.raise_if_cancelled()
        time.sleep(0.01)

run._read = wait
runpy.run_module("DALAnomalyLib.job", run_name="__main__", alter_sys=True)
"""


@posix
def test_no_worker_outlives_the_program_that_started_it(tmp_path: Path) -> None:
    """The program is killed, so that nothing in it can clean up: the worker itself has to notice."""
    DetectionRequest(tmp_path / "scan.nii", tmp_path / "out").write(tmp_path / "request.json")
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, WAITING_JOB, str(tmp_path / "request.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "DALAnomaly")))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(pid), seconds=10)
    assert [entry.name for entry in tmp_path.iterdir()] == ["request.json"]
