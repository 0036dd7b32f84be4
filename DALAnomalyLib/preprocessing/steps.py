"""The account of a run of preprocessing: what every step did, with which parameters, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.progress import CancelToken, ProgressCallback

Status = Literal["done", "cached", "skipped", "failed"]

_SHARES = {"reorient": 0.04, "brain_extraction": 0.25, "n4": 0.3, "registration": 0.33, "crop": 0.04, "sequence": 0.02}
"""Part of the time that a step usually takes, for the progress bar."""


@dataclass
class StepRecord:
    """One step of one run."""

    name: str
    status: Status = "done"
    seconds: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    evidence: str = ""
    """One line for the user: what the step found."""


class StepLog:
    """Collects records and warnings, tells the progress, and stops between steps when cancelled."""

    def __init__(
        self, skip: tuple[str, ...], progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> None:
        """Leave out the steps named in `skip`."""
        self._skip = skip
        self._progress: Callable[[str, float], None] = progress or (lambda _name, _fraction: None)
        self.cancel = cancel or CancelToken()
        self._reached = 0.0
        self.records: list[StepRecord] = []
        self.warnings: list[str] = []

    def skips(self, name: str) -> bool:
        """Whether the step `name` is left out."""
        return name in self._skip

    def warn(self, text: str) -> None:
        """Keep a warning for the user; the same one only once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def record(self, name: str) -> StepRecord:
        """The record of a step that was taken."""
        return next(record for record in self.records if record.name == name)

    @contextmanager
    def step(self, name: str) -> Iterator[StepRecord]:
        """Time a step; the record becomes part of the log, as skipped when the step is left out.

        A step that is taken again replaces its record; the seconds of both count.
        """
        self.cancel.raise_if_cancelled()
        order = STEPS.index(name)
        self._reached = max(self._reached, sum(_SHARES.get(other, 0.0) for other in STEPS[:order]))
        self._progress(name.replace("_", " "), self._reached)
        record = StepRecord(name, "skipped" if self.skips(name) else "done")
        started = time.perf_counter()
        yield record
        record.seconds = round(time.perf_counter() - started, 3)
        earlier = [position for position, other in enumerate(self.records) if other.name == name]
        if earlier:
            record.seconds = round(record.seconds + self.records[earlier[0]].seconds, 3)
            self.records[earlier[0]] = record
        else:
            self.records.append(record)
        self.cancel.raise_if_cancelled()
