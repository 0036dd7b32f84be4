"""The table of cases that `dal-anomaly evaluate` reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from DALAnomalyLib.errors import InputError

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


def read_cases(path: Path) -> list[Case]:
    """Read the table of cases; relative paths in it start at its own folder.

    Raises:
        InputError: unreadable, a column or a value is missing, or there is no row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            missing = [name for name in REQUIRED_COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                msg = f"{path}: column {', '.join(missing)} is missing; it needs {', '.join(REQUIRED_COLUMNS)}"
                raise InputError(msg)
            cases = [_case(row, path, table.line_num) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a CSV text file in UTF-8"
        msg = f"{path}: cannot be read as a table of cases ({reason}); check the path and the format"
        raise InputError(msg) from error
    if not cases:
        msg = f"{path}: holds no case; add one row per scan"
        raise InputError(msg)
    return cases


def _case(row: Mapping[str, str | None], path: Path, line: int) -> Case:
    values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    empty = [name for name in REQUIRED_COLUMNS if name != "lesion" and not values[name]]
    if empty:
        msg = f"{path}: line {line} has no {', '.join(empty)}; only lesion and brain_mask may be empty"
        raise InputError(msg)
    image, lesion, mask = (
        path.parent / value if value else None
        for value in (values["image"], values["lesion"], values.get("brain_mask", ""))
    )
    assert image is not None
    return Case(values["subject"], values["dataset"], values["sequence"], image, lesion, mask)
