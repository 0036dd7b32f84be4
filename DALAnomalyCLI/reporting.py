"""What the user sees while a command runs and how it ends: progress, results, one-line errors and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import typer

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyLib.job.events import EventWriter
from DALAnomalyLib.job.failures import exit_code_of, one_line

_ADVICE = "run again with --debug for the traceback"


class Reporter(Protocol):
    """What a running command has to say. `source` is the input as the user typed it."""

    def progress(self, source: str, stage: str, fraction: float) -> None:
        """`source` is in `stage`; `fraction` (0 to 1) of its whole run is done."""

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        """`source` is finished: `summary` for programs, `text` (or a rich table) for people."""

    def notice(self, source: str, message: str) -> None:
        """Something about `source` that its user should know although the work goes on."""

    def note(self, text: str) -> None:
        """A remark for people."""

    def error(self, source: str | None, error: BaseException) -> int:
        """Say in one line what failed; returns the exit code that belongs to it."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *error: object) -> None: ...


class _PlainReporter:
    """Errors on the error stream and nothing else: `--quiet`, and the base of the others."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def progress(self, source: str, stage: str, fraction: float) -> None:
        pass

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        pass

    def notice(self, source: str, message: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def error(self, source: str | None, error: BaseException) -> int:
        self._traceback(error)
        # what was foreseen names its file itself
        where = "" if source is None or isinstance(error, DALAnomalyError) else f"{source}: "
        print(f"dal-anomaly: error: {where}{one_line(error, _ADVICE)}", file=sys.stderr)
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
        self._events = EventWriter(sys.stdout)

    def progress(self, source: str, stage: str, fraction: float) -> None:
        if not self._quiet:
            self._events.progress(stage, fraction, input=source)

    def result(self, source: str, summary: Mapping[str, Any], text: object) -> None:
        self._events.result(summary, input=source)

    def notice(self, source: str, message: str) -> None:
        self._events.notice(message, input=source)

    def error(self, source: str | None, error: BaseException) -> int:
        self._traceback(error)
        return self._events.error(error, _ADVICE, input=source)


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

    def notice(self, source: str, message: str) -> None:
        self.note(f"{source}: {message}")

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
