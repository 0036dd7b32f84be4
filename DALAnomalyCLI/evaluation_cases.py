"""The table of cases that `dal-anomaly evaluate` and `calibrate` read, and the way through it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from DALAnomalyCLI.option import sequence_name
from DALAnomalyCLI.reporting import Reporter
from DALAnomalyLib.errors import CancelledError, InputError, UsageError
from DALAnomalyLib.job.csv_table import TableRow, read_table
from DALAnomalyLib.job.failures import one_line
from DALAnomalyLib.progress import CancelToken

if TYPE_CHECKING:
    from DALAnomalyLib.volume import Volume
    from DALAnomalyLib.volume_io import ScanDescription

Result = TypeVar("Result")

ALL = "all"
"""What figures of all datasets or sequences together are called."""
REQUIRED_COLUMNS = ("subject", "dataset", "sequence", "image", "lesion")


@dataclass(frozen=True)
class Case:
    """One row of the table of cases; without a lesion mask it is a healthy scan."""

    subject: str
    dataset: str
    sequence: str
    image: Path
    lesion: Path | None = None
    brain_mask: Path | None = None

    @property
    def name(self) -> str:
        """What users are told of it by."""
        return f"{self.subject} {self.sequence}"


@dataclass(frozen=True, eq=False)
class CaseInputs:
    """What `detect` would read of a case."""

    scan: Volume
    description: ScanDescription
    brain_mask: Volume | None


def read_inputs(case: Case, cancel: CancelToken) -> CaseInputs:
    """Read the scan, what its header says, and the brain mask; of a DICOM folder the series of the case's sequence.

    Raises:
        DALAnomalyError: One of its subclasses; a file is missing, damaged or of another grid.
    """
    from DALAnomalyLib.volume_io import describe_scan, read_mask, read_volume, series_to_read

    series = series_to_read(case.image, None, case.sequence, cancel)
    scan = read_volume(case.image, series=series, sequence=case.sequence, cancel=cancel)
    mask = None if case.brain_mask is None else read_mask(case.brain_mask, scan.grid)
    return CaseInputs(scan, describe_scan(case.image, series, case.sequence, cancel), mask)


def read_cases(path: Path) -> list[Case]:
    """Read the table of cases; relative paths in it start at its own folder.

    Raises:
        InputError: unreadable, a column or a value is missing, or there is no row.
    """
    return [_case(row, path) for row in read_table(path, REQUIRED_COLUMNS)]


def _case(row: TableRow, path: Path) -> Case:
    values = {"brain_mask": ""} | row.values
    empty = [name for name in REQUIRED_COLUMNS if name != "lesion" and not values[name]]
    if empty:
        msg = f"{path}: line {row.line} has no {', '.join(empty)}; only lesion and brain_mask may be empty"
        raise InputError(msg)
    image, lesion, mask = (
        path.parent / value if value else None for value in (values["image"], values["lesion"], values["brain_mask"])
    )
    assert image is not None
    if values["dataset"].casefold() == ALL:
        msg = f'{path}: line {row.line} has the dataset "{values["dataset"]}", which stands for all cases; rename it'
        raise InputError(msg)
    return Case(values["subject"], values["dataset"], sequence_name(values["sequence"]), image, lesion, mask)


def check_sequences(cases: Sequence[Case], known: Collection[str], path: Path) -> None:
    """Refuse a table with a sequence that the model does not know, before the first case costs time.

    Raises:
        InputError: names the first such row's subject.
    """
    from DALAnomalyLib.preprocessing.sequence import check_sequence

    for case in cases:
        try:
            check_sequence(case.sequence, known)
        except UsageError as error:
            msg = f"{path}: {case.subject}: {error}"
            raise InputError(msg) from None


class Failure(NamedTuple):
    """A case that could not be worked on, its error, and the exit code of that."""

    case: Case
    error: Exception
    code: int

    @property
    def record(self) -> dict[str, str]:
        """What a file of results says about it."""
        return {
            "subject": self.case.subject,
            "dataset": self.case.dataset,
            "sequence": self.case.sequence,
            "kind": type(self.error).__name__,
            "message": one_line(self.error),
        }


def tell_of_moves(reporter: Reporter) -> Callable[[str, str], None]:
    """What a `FittingDetector` for many cases tells with which case memory ran out."""
    return lambda source, message: reporter.notice(source, f"{message}; the cases after it stay there")


def for_each_case(
    cases: Sequence[Case], work: Callable[[Case], Result], stage: str, reporter: Reporter, token: CancelToken
) -> tuple[list[Result], list[Failure]]:
    """What `work` makes of every case it can work on, and the others, which are reported.

    Raises:
        CancelledError: the token was cancelled.
    """
    results: list[Result] = []
    failures: list[Failure] = []
    for number, case in enumerate(cases):
        token.raise_if_cancelled()
        reporter.progress(stage, case.name, number / len(cases))
        try:
            results.append(work(case))
        except (CancelledError, BrokenPipeError):
            raise
        except Exception as error:
            failures.append(Failure(case, error, reporter.error(case.name, error)))
    return results, failures
