"""Which volume of a DICOM folder is meant: the one the user names, or the only one that fits best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.file_names import refuse_missing
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume_io.dicom_series import ScanSeries, list_series

SEQUENCES = ("T1", "T2")
"""What `auto` looks for."""
SAME_COARSENESS = 1.1
"""Longest voxel edges closer than this factor are equally good."""
_MAXIMUM_LISTED = 20


def find_scan(
    path: str | Path, series: int | ScanSeries | None = None, sequence: str = "auto", cancel: CancelToken | None = None
) -> ScanSeries:
    """List a DICOM folder and choose, see `list_series` and `choose_series`; what was chosen already is not sought."""
    if isinstance(series, ScanSeries):
        return series
    return choose_series(list_series(path, cancel), Path(path), series, sequence)


def series_to_read(path: Path, series: int | None, sequence: str, cancel: CancelToken) -> int | ScanSeries | None:
    """The series of a DICOM folder, which is listed only once so; of a file what was asked for.

    Raises:
        InputError: see `find_scan`.
        CancelledError: the token was cancelled.
    """
    refuse_missing(path)
    return find_scan(path, series, sequence, cancel) if path.is_dir() else series


def choose_series(series: Sequence[ScanSeries], path: Path, number: int | None, sequence: str) -> ScanSeries:
    """The wanted volume; the only one in a folder is wanted whatever it is.

    Args:
        series: of `list_series`.
        path: for messages.
        number: the user's choice, from 1; None lets the headers decide.
        sequence: what is wanted: "T1", "T2" or "auto", either of them.

    Raises:
        InputError: no such number, none fits, or several fit equally well.
    """
    if number is not None:
        if not 1 <= number <= len(series):
            msg = f"{path}: there is no series {number}; choose one with --series N: {_listing(series)}"
            raise InputError(msg)
        return series[number - 1]
    if len(series) == 1:
        return series[0]
    candidates = [one for one in series if one.usable and not one.remarks and not one.scan.contrast_agent]
    wanted = SEQUENCES if sequence == "auto" else (sequence,)
    fitting = [one for one in candidates if one.scan.sequence in wanted]
    if not fitting and len(candidates) == 1 and candidates[0].scan.sequence is None:
        fitting = candidates  # the only image series, whose header is silent
    best = _finest(fitting)
    if len(best) == 1:
        return best[0]
    found = f"{len(best)} of them fit equally well" if best else f"none is surely a plain {' or '.join(wanted)} scan"
    msg = f"{path}: holds {len(series)} DICOM series and {found}; choose one with --series N: {_listing(series)}"
    raise InputError(msg)


def describe_series(series: ScanSeries) -> str:
    """One line without the number: name, what it is, and what speaks against it."""
    name = series.name or "unnamed"
    if series.part[1] > 1:
        name += f", part {series.part[0]} of {series.part[1]}"
    facts = [series.scan.sequence or series.scan.modality or "unknown", f"{series.count} images"]
    if series.grid is not None:
        facts.append(" x ".join(f"{value:.3g}" for value in series.grid.spacing) + " mm")
    facts += ["contrast agent"] if series.scan.contrast_agent else []
    facts += [f"{series.copies} copies left out"] if series.copies else []
    facts += series.remarks
    facts += [] if series.usable else ["not usable"]
    return f"{name} ({', '.join(facts)})"


def _finest(series: Sequence[ScanSeries]) -> list[ScanSeries]:
    edges = [max(one.grid.spacing) for one in series if one.grid is not None]
    return [one for one, edge in zip(series, edges, strict=True) if edge <= min(edges) * SAME_COARSENESS]


def _listing(series: Sequence[ScanSeries]) -> str:
    listed = "; ".join(f"{one.number}: {describe_series(one)}" for one in series[:_MAXIMUM_LISTED])
    more = len(series) - _MAXIMUM_LISTED
    return f"{listed}; and {more} more" if more > 0 else listed
