"""`summary.csv` of several inputs: one row each, which input lies in which folder and what was found there."""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import SoftFileLock, Timeout

from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalyLib.job.csv_table import read_table
from DALAnomalyLib.job.result_folder import writing
from DALAnomalyLib.job.result_layout import MANIFEST_FILE

SUMMARY_FILE = "summary.csv"
COLUMNS = (
    *("folder", "input", "status", "sequence", "threshold", "findings", "volume_ml"),
    *("seconds", "warnings", "error"),
)

_LONGEST_SECONDS = 10.0
"""A row takes some milliseconds."""


class CohortSummary:
    """Rows by folder of results; those of earlier runs into the same output stay, and so do those of runs beside it."""

    def __init__(self, output: Path) -> None:
        """Go on with the table in `output`, if there is one.

        Raises:
            OutputError: what lies there is another table.
        """
        self._path = output / SUMMARY_FILE
        self.folders = {row["input"]: row["folder"] for row in self._rows().values()}
        """Name of its folder by input, which later runs keep whatever other inputs they have."""

    def done(self, folder: Path, scan: Path, findings_file: str) -> None:
        """Note the result that lies in `folder`.

        Raises:
            OutputError: the table cannot be written.
        """
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
        self._note(folder, scan, {"status": "done", **figures})

    def failed(self, folder: Path, scan: Path, message: str) -> None:
        """Note that there is no result, unless nothing has a result and there is not even a folder.

        Raises:
            OutputError: the table cannot be written.
        """
        if self._path.parent.is_dir():
            self._note(folder, scan, {"status": "failed", "error": message})

    def _rows(self) -> dict[str, dict[str, str]]:
        if not self._path.exists():
            return {}
        try:
            return {row.values["folder"]: row.values for row in read_table(self._path, COLUMNS)}
        except InputError as error:
            msg = f"{self._path}: is no table of this command; move it away or choose another folder"
            raise OutputError(msg) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs from writing between our reading and writing, also on other machines of a shared disk."""
        # not the kind that the system frees: network file systems do not always have it, and it leaves its file behind
        lock = SoftFileLock(self._path.with_name(f".{SUMMARY_FILE}.lock"))
        try:
            lock.acquire(timeout=_LONGEST_SECONDS)
        except Timeout:  # whoever made it was killed
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.acquire(timeout=_LONGEST_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _note(self, folder: Path, scan: Path, figures: Mapping[str, Any]) -> None:
        row = {"folder": folder.name, "input": input_name(scan), **figures}
        part = self._path.with_name(f".{SUMMARY_FILE}.{secrets.token_hex(4)}")
        with writing(self._path), self._alone():
            rows = self._rows() | {folder.name: row}
            try:
                with part.open("w", newline="", encoding="utf-8") as stream:
                    table = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
                    table.writeheader()
                    table.writerows(rows[name] for name in sorted(rows))
                os.replace(part, self._path)
            finally:
                part.unlink(missing_ok=True)


def input_name(scan: Path) -> str:
    """How the table names an input: its full path, without following links."""
    return os.path.abspath(scan).encode("utf-8", "backslashreplace").decode()
