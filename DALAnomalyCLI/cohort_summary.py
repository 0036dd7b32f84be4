"""`summary.csv` of several inputs: one row each, which input lies in which folder and what was found there."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.csv_table import read_table
from DALAnomalyLib.job.result_folder import writing
from DALAnomalyLib.job.result_layout import MANIFEST_FILE

SUMMARY_FILE = "summary.csv"
COLUMNS = (
    *("folder", "input", "status", "sequence", "threshold", "findings", "volume_ml"),
    *("seconds", "warnings", "error"),
)


class CohortSummary:
    """Rows by folder of results; those of earlier runs into the same output stay."""

    def __init__(self, output: Path) -> None:
        """Go on with the table in `output`, if there is one."""
        self._path = output / SUMMARY_FILE
        self._rows: dict[str, dict[str, str]] = {}
        with suppress(InputError):  # no table yet, or none of ours
            self._rows = {row.values["folder"]: row.values for row in read_table(self._path, COLUMNS)}

    def done(self, folder: Path, scan: Path, findings_file: str) -> None:
        """Note the result that lies in `folder`, and save the table.

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
        self._save()

    def failed(self, folder: Path, scan: Path, message: str) -> None:
        """Note that there is no result, and save the table unless there is no result at all.

        Raises:
            OutputError: the table cannot be written.
        """
        self._note(folder, scan, {"status": "failed", "error": message})
        if self._path.parent.is_dir():
            self._save()

    def _note(self, folder: Path, scan: Path, figures: Mapping[str, Any]) -> None:
        row = {"folder": folder.name, "input": str(scan), **figures}
        self._rows[folder.name] = {name: str(row.get(name, "")) for name in COLUMNS}

    def _save(self) -> None:
        part = self._path.with_name(f".{SUMMARY_FILE}.part")
        with writing(self._path):
            with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
                table = csv.DictWriter(stream, COLUMNS)
                table.writeheader()
                table.writerows(self._rows[name] for name in sorted(self._rows))
            os.replace(part, self._path)
