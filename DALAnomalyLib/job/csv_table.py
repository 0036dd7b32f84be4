"""Tables that users hand over as CSV files, often saved by a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from DALAnomalyLib.errors import InputError

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets write where the comma is a decimal point, and for .tsv."""


class TableRow(NamedTuple):
    """One row: its line in the file, and its values by column without the blanks around them, "" where it is short."""

    line: int
    values: dict[str, str]


def read_table(path: Path, required: Sequence[str]) -> list[TableRow]:
    """Read a table whose first line names its columns; more columns than the required ones may follow.

    Args:
        path: CSV, columns separated by commas, UTF-8 with or without a byte order mark.
        required: Columns that must be there.

    Raises:
        InputError: unreadable, a column is missing, or there is no row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.reader(stream)
            names = [name.strip() for name in next(table, [])]
            missing = [name for name in required if name not in names]
            if missing:
                first = ",".join(names)
                separator = next((name for mark, name in _OTHER_SEPARATORS.items() if mark in first), None)
                advice = f", not by {separator}" if separator else ""
                msg = (
                    f"{path}: column {', '.join(missing)} is missing. Its first line is '{first}', but "
                    f"has to name {', '.join(required)}, separated by commas{advice}"
                )
                raise InputError(msg)
            rows = [
                TableRow(table.line_num, dict(zip_longest(names, map(str.strip, row[: len(names)]), fillvalue="")))
                for row in table
                if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a CSV text file in UTF-8"
        msg = f"{path}: cannot be read as a table ({reason}); check the path and the format"
        raise InputError(msg) from error
    if not rows:
        msg = f"{path}: holds no row; add one per scan or subject"
        raise InputError(msg)
    return rows
