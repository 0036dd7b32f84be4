"""The findings table as comma-separated text, with the columns of the command line's table and the user's marks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from DALAnomalyLib.job.findings_table import FINDING_COLUMNS
from DALAnomalySlicer.export.whole_files import write_text

if TYPE_CHECKING:
    from DALAnomalySlicer.export.export_context import ExportContext
    from DALAnomalySlicer.finding_context import FindingRow

COLUMNS = (*FINDING_COLUMNS, "tissue", "side", "status")


def csv_text(rows: Iterable[FindingRow]) -> str:
    """All rows, dismissed ones included, under one line of headings; numbers with six digits and a decimal point."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(_cells(row) for row in rows)
    return text.getvalue()


def write_findings_csv(context: ExportContext, path: Path) -> None:
    """Write the table as a UTF-8 file that is whole or absent (OutputError)."""
    write_text(path, csv_text(context.rows))


def _cells(row: FindingRow) -> list[str]:
    numbers = (row.volume_ml, *row.centroid_ras, *row.extent_mm, row.peak, row.mean)
    return [str(row.number), *(f"{number:.6g}" for number in numbers), row.tissue, row.side, row.status]
