"""`python -m DALAnomalyLib.job REQUEST.json`: one detection in a process of its own, told as JSON lines.

The process ends when its standard input is closed or its standard output is no longer read, so that it outlives nobody.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from DALAnomalyLib.job.events import EventWriter, heartbeat
from DALAnomalyLib.job.interruption import cancel_on_signals, end_abandoned, end_when_input_closes
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.run import Listener, run_detection
from DALAnomalyLib.progress import CancelToken

_ADVICE = "see the log for the traceback"
_NICENESS = 5
"""Whoever waits for the result goes on working at this computer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the request that the only argument names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m DALAnomalyLib.job", description=__doc__)
    parser.add_argument("request", type=Path, help="JSON file, see DALAnomalyLib/job/request.py")
    path: Path = parser.parse_args(arguments).request
    events = EventWriter(_own_standard_output())
    token = CancelToken()
    end_when_input_closes(token)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with cancel_on_signals(token), heartbeat(events, lambda: end_abandoned(token)):
        try:
            finished = run_detection(DetectionRequest.read(path), Listener(events.progress, events.notice), token)
        except (Exception, KeyboardInterrupt) as error:
            traceback.print_exc()
            return events.error(error, _ADVICE)
        events.result(finished.summary())
    return 0


def _own_standard_output() -> TextIO:
    """Standard output for events alone: what libraries print there goes to the log, the standard error."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


if __name__ == "__main__":
    sys.exit(main())
