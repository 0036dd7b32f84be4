"""`summary.csv` of several inputs: one row each, which input lies in which folder and what was found there."""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import SoftFileLease

from DALAnomalyCLI.input_names import unique_stems
from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalyLib.job.csv_table import read_table
from DALAnomalyLib.job.result_layout import MANIFEST_FILE

SUMMARY_FILE = "summary.csv"
COLUMNS = (
    *("folder", "input", "status", "sequence", "threshold", "findings", "volume_ml"),
    *("seconds", "warnings", "error"),
)
WAITING, DONE, FAILED = "waiting", "done", "failed"

_LEASE_SECONDS = 10.0
"""After so long without a sign of life a run that holds the table counts as killed; a row takes some milliseconds."""

_Rows = dict[str, dict[str, Any]]


class CohortSummary:
    """Rows by folder of results; those of earlier runs into the same output stay, and so do those of runs beside it.

    Inside its context each input has a row, `waiting` until it is done or failed: runs beside this one see that the
    folder is taken. What still waits at the end leaves the table.

    Attributes:
        folders: name of the folder of each input, which it keeps whatever other inputs come with it later.
    """

    def __init__(self, output: Path, scans: Sequence[Path]) -> None:
        """Of several names of one scan the first is kept."""
        self._path = output / SUMMARY_FILE
        self._fresh = not output.is_dir()
        self._scans: dict[str, Path] = {}
        for scan in scans:
            self._scans.setdefault(input_name(scan), scan)
        self._waiting: set[str] = set()
        self._unwritten: _Rows = {}
        self.folders: dict[Path, str] = {}

    def __enter__(self) -> CohortSummary:
        """Take a folder for each input; the output has to be there.

        Raises:
            OutputError: another table lies there, or it cannot be written.
        """
        with self._table() as rows:
            folders = {row["input"]: folder for folder, row in rows.items()}
            self._waiting = self._scans.keys() - folders.keys()
            new = [scan for name, scan in self._scans.items() if name in self._waiting]
            for scan, folder in zip(new, unique_stems(new, rows), strict=True):
                rows[folder] = self._row(scan, {"status": WAITING})
                folders[input_name(scan)] = folder
            self.folders = {scan: folders[name] for name, scan in self._scans.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave what is known now.

        Raises:
            OutputError: the table cannot be written.
        """
        with self._table() as rows:
            rows.update(self._unwritten)
            own = {name: row for name, row in rows.items() if row["input"] in self._scans}
            idle = [name for name, row in own.items() if row["status"] == WAITING and row["input"] in self._waiting]
            # where this run made the folder and nothing has a result, not even the folder is left
            in_vain = self._fresh and all(row["status"] in (WAITING, FAILED) for row in own.values())
            for name in own if in_vain else idle:
                del rows[name]

    def done(self, scan: Path, findings_file: str) -> None:
        """Note the result that lies in the scan's folder.

        Raises:
            OutputError: the table cannot be written now; the row is kept for the next try.
        """
        folder = self._path.parent / self.folders[scan]
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        with (folder / findings_file).open(newline="", encoding="utf-8") as stream:
            volume = sum(float(row["volume_ml"]) for row in csv.DictReader(stream))
        figures = {
            "sequence": manifest["parameters"]["sequence"],
            "threshold": f"{manifest['parameters']['threshold']:.6g}",
            "findings": manifest["findings"],
            "volume_ml": f"{volume:.6g}",
            "seconds": f"{manifest['times']['seconds']:.1f}",
            "warnings": "; ".join(manifest["warnings"]),
        }
        self._note(scan, {"status": DONE, **figures})

    def failed(self, scan: Path, message: str) -> None:
        """Note that there is no result.

        Raises:
            OutputError: the table cannot be written now; the row is kept for the next try.
        """
        self._note(scan, {"status": FAILED, "error": message})

    def _note(self, scan: Path, figures: Mapping[str, Any]) -> None:
        self._unwritten[self.folders[scan]] = self._row(scan, figures)
        with self._table() as rows:
            rows.update(self._unwritten)
        self._unwritten.clear()

    def _row(self, scan: Path, figures: Mapping[str, Any]) -> dict[str, Any]:
        return {"input": input_name(scan), **figures}

    @contextmanager
    def _table(self) -> Iterator[_Rows]:
        """The rows as they are, to be changed; no other run writes meanwhile, be it on another machine."""
        # not the kind of lock that the system frees: network file systems do not always have it, and its file stays
        lease = SoftFileLease(self._path.with_name(f".{SUMMARY_FILE}.lock"), lease_duration=_LEASE_SECONDS)
        try:
            with lease.acquire(timeout=3 * _LEASE_SECONDS):
                rows = self._read()
                yield rows
                self._write(rows)
        except OSError as error:
            reason = error.strerror or str(error)
            msg = f"{self._path}: cannot be written ({reason}); is it open in another program, or the disk full?"
            raise OutputError(msg) from error

    def _read(self) -> _Rows:
        if not self._path.exists():
            return {}
        try:
            return {row.values["folder"]: row.values for row in read_table(self._path, COLUMNS)}
        except InputError as error:
            msg = f"{self._path}: is no table of this command; move it away or choose another folder"
            raise OutputError(msg) from error

    def _write(self, rows: _Rows) -> None:
        if not rows:
            self._path.unlink(missing_ok=True)
            return
        part = self._path.with_name(f".{SUMMARY_FILE}.{secrets.token_hex(4)}")
        try:
            with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
                table = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
                table.writeheader()
                table.writerows({**rows[folder], "folder": folder} for folder in sorted(rows))
            os.replace(part, self._path)
        finally:
            part.unlink(missing_ok=True)


def input_name(scan: Path) -> str:
    """How the table names an input, also when it is read back: its full path, without following links."""
    return os.path.abspath(scan).encode("utf-8", "backslashreplace").decode().strip()
