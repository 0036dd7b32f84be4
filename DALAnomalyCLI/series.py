"""`dal-anomaly series`: what a DICOM folder holds, and the number by which each volume is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyLib.job.interruption import cancel_on_signals
from DALAnomalyLib.progress import CancelToken

if TYPE_CHECKING:
    from rich.table import Table

    from DALAnomalyLib.volume_io import ScanSeries


def series(
    folder: Annotated[Path, typer.Argument(readable=False, help="DICOM folder; its sub-folders are searched, too.")],
    as_json: option.JsonObject = False,
    debug: option.Debug = False,
) -> None:
    """List the series of a DICOM folder: number for --series, name, sequence, size, and whether it can be read."""
    reporter = reporting.make_reporter(as_json=as_json, debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyLib.volume_io import list_series

        token = CancelToken()
        with cancel_on_signals(token):
            listed = list_series(folder, token)
        reporter.result(str(folder), {"series": [describe(one) for one in listed]}, _table(listed))


def describe(one: ScanSeries) -> dict[str, Any]:
    """What is known of a volume, for programs; sizes are (i, j, k)."""
    return {
        "number": one.number,
        "series_number": one.series_number,
        "name": one.name,
        "part": list(one.part),
        "modality": one.scan.modality,
        "sequence": one.scan.sequence,
        "contrast_agent": one.scan.contrast_agent,
        "evidence": one.scan.evidence,
        "images": one.count,
        "copies": one.copies,
        "size": None if one.grid is None else list(one.grid.shape[::-1]),
        "spacing_mm": None if one.grid is None else [round(value, 4) for value in one.grid.spacing],
        "usable": one.usable,
        "problem": None if one.problem is None else str(one.problem),
        "remarks": list(one.remarks),
    }


def _table(listed: Sequence[ScanSeries]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("N", justify="right", style="bold")
    for name in ("series", "is", "images", "voxels", "mm", "use"):
        table.add_column(name, overflow="fold")
    for one in listed:
        name = one.name or "unnamed"
        if one.part[1] > 1:
            name += f" (part {one.part[0]} of {one.part[1]})"
        kind = " ".join(filter(None, (one.scan.modality, one.scan.sequence)))
        use = str(one.problem) if one.problem is not None else ", ".join(("yes", *_reservations(one)))
        cells = (str(one.number), name, kind, str(one.count), *_measures(one), use)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _measures(one: ScanSeries) -> tuple[str, str]:
    if one.grid is None:
        return "", ""
    return " x ".join(map(str, one.grid.shape[::-1])), " x ".join(f"{value:.3g}" for value in one.grid.spacing)


def _reservations(one: ScanSeries) -> list[str]:
    agent = ["contrast agent"] if one.scan.contrast_agent else []
    copies = [f"{one.copies} copies left out"] if one.copies else []
    return [*agent, *one.remarks, *copies]
