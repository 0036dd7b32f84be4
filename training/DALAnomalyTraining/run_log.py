"""The log of a run: every term of every step as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Two tables, `steps.csv` and `validation.csv`, and the same figures for TensorBoard."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Continue the log of `folder`, forgetting what an interrupted run logged from `first_step` on."""
        self._folder = folder
        self._columns = {name: _forget(folder / f"{name}.csv", first_step) for name in ("steps", "validation")}
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, table: str, step: int, figures: dict[str, float]) -> None:
        """Add one row; columns that appear later than the first row extend the table."""
        path = self._folder / f"{table}.csv"
        row = {"step": f"{step}"} | {name: f"{value:.7g}" for name, value in figures.items()}
        columns = self._columns[table]
        new = [name for name in row if name not in columns]
        if new:
            columns += new
            _write(path, columns, [*_read(path)[1], row])
        else:
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns, restval="").writerow(row)
        for name, value in figures.items():
            self._writer.add_scalar(f"{table}/{name}", value, step)

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        self._writer.close()


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        # a killed run may have left half a line, which could pass for another step's
        reader = csv.DictReader([line for line in file if line.endswith("\n")])
    return list(reader.fieldnames or []), list(reader)


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def _forget(path: Path, first_step: int) -> list[str]:
    """Drop the rows from `first_step` on; returns the table's columns."""
    columns, rows = _read(path)
    if columns:
        _write(path, columns, [row for row in rows if (row["step"] or "").isdigit() and int(row["step"]) < first_step])
    return columns
