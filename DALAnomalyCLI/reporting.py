"""What the user sees while a command runs and how it ends: progress, results, one-line errors and exit codes."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import typer

from DALAnomalyLib.errors import CancelledError, DALAnomalyError
from DALAnomalyLib.progress import CancelToken

RESEARCH_USE = "Research use only. Not for diagnosis."
UNEXPECTED_EXIT_CODE = 1


class Reporter(Protocol):
    """What a running command has to say. `source` is the input as the user typed it."""

    def progress(self, source: str, stage: str, fraction: float) -> None:
        """`source` is in `stage`; `fraction` (0 to 1) of its whole run is done."""

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        """`source` is finished: `summary` for programs, `text` (or a rich table) for people."""

    def note(self, text: str) -> None:
        """A remark for people."""

    def error(self, source: str | None, error: BaseException) -> int:
        """Say in one line what failed; returns the exit code that belongs to it."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *error: object) -> None: ...


def one_line(error: BaseException) -> str:
    """Message of an error on a single line; for what we did not foresee, how to learn more."""
    if isinstance(error, KeyboardInterrupt):
        return "the run was cancelled"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is missing; install it with: pip install 'dal-anomaly[cli]'"
    text = " ".join(str(error).split())
    if isinstance(error, DALAnomalyError):
        return text
    return f"unexpected {type(error).__name__}: {text}; run again with --debug for the traceback"


def exit_code_of(error: BaseException) -> int:
    """The error's own exit code; 130 for an interruption and 1 for what we did not foresee."""
    if isinstance(error, KeyboardInterrupt):
        return CancelledError.exit_code
    return error.exit_code if isinstance(error, DALAnomalyError) else UNEXPECTED_EXIT_CODE


class _PlainReporter:
    """Errors on the error stream and nothing else: `--quiet`, and the base of the others."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def progress(self, source: str, stage: str, fraction: float) -> None:
        pass

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def error(self, source: str | None, error: BaseException) -> int:
        self._traceback(error)
        print(f"dal-anomaly: error: {one_line(error)}", file=sys.stderr)
        return exit_code_of(error)

    def _traceback(self, error: BaseException) -> None:
        if self._debug:
            traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _JsonReporter(_PlainReporter):
    """One JSON object per line on standard output and nothing else there."""

    def __init__(self, debug: bool, quiet: bool) -> None:
        super().__init__(debug)
        self._quiet = quiet

    def progress(self, source: str, stage: str, fraction: float) -> None:
        if not self._quiet:
            _print_json({"event": "progress", "input": source, "stage": stage, "fraction": round(fraction, 4)})

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        _print_json({"event": "result", "input": source, **summary})

    def error(self, source: str | None, error: BaseException) -> int:
        self._traceback(error)
        code = exit_code_of(error)
        kind = type(error).__name__
        _print_json({"event": "error", "input": source, "kind": kind, "message": one_line(error), "exit_code": code})
        return code


def _print_json(event: Mapping[str, Any]) -> None:
    print(json.dumps(event, allow_nan=False), flush=True)


class _RichReporter(_PlainReporter):
    """A progress bar per input on the error stream, results on standard output."""

    def __init__(self, debug: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(debug)
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}

    def progress(self, source: str, stage: str, fraction: float) -> None:
        if source not in self._tasks:
            self._tasks[source] = self._bar.add_task(source, total=1.0, stage=stage)
        self._bar.update(self._tasks[source], completed=fraction, stage=stage)

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        with self._without_bar(source):
            self._say(text)

    def note(self, text: str) -> None:
        with self._without_bar(None):
            self._say(text)

    @staticmethod
    def _say(text: object) -> None:
        if isinstance(text, str):
            print(text, flush=True)
        else:
            from rich.console import Console

            # Into a file or pipe a table goes at its full width.
            Console(width=None if sys.stdout.isatty() else 160).print(text)

    def error(self, source: str | None, error: BaseException) -> int:
        with self._without_bar(source):
            return super().error(source, error)

    @contextmanager
    def _without_bar(self, source: str | None) -> Iterator[None]:
        """Take the bar off the screen while other text is printed, and the finished `source` out of it."""
        if source in self._tasks:
            self._bar.remove_task(self._tasks.pop(source))
        running = self._bar.live.is_started
        self._bar.stop()
        yield
        if running:
            self._bar.start()

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def make_reporter(quiet: bool = False, as_json: bool = False, debug: bool = False) -> Reporter:
    """The reporter the options ask for; `--json --quiet` leaves the progress lines out."""
    if as_json:
        return _JsonReporter(debug, quiet)
    return _PlainReporter(debug) if quiet else _RichReporter(debug)


@contextmanager
def exit_with_message(reporter: Reporter) -> Iterator[None]:
    """End the command with the exit code of whatever escapes the block, after one line about it."""
    try:
        with reporter:
            yield
    except (typer.Exit, BrokenPipeError):
        raise
    except (Exception, KeyboardInterrupt) as error:
        raise typer.Exit(reporter.error(None, error)) from None


@contextmanager
def naming(source: Path) -> Iterator[None]:
    """Put the file into the messages of what only sees its voxels."""
    try:
        yield
    except CancelledError:
        raise
    except DALAnomalyError as error:
        msg = f"{source}: {error}"
        raise type(error)(msg) from error


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
