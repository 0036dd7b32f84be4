"""The tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from DALAnomalySlicer.export.export_context import MARKED

if TYPE_CHECKING:
    from DALAnomalySlicer.export.run_record import StepSummary
    from DALAnomalySlicer.finding_context import FindingRow

_HEADINGS = ("No.", "Volume (ml)", "Peak score", "Mean score", "Tissue", "Side", "Extent (mm)", "Centre (mm)")
_KINDS = ("short", "number", "number", "number", "short", "short", "short", "short")
_DIRECTIONS = ("RL", "AP", "SI")


def findings_table(rows: tuple[FindingRow, ...]) -> str:
    """All rows, and their number and volume in all."""
    body = "".join(_line(_cells(row), "td") for row in rows)
    total = f"<tr><td></td><td class='number'>{_volume(rows)}</td><td colspan='6'>in all</td></tr>"
    return f"<table><thead>{_line(_HEADINGS, 'th')}</thead><tbody>{body}</tbody><tfoot>{total}</tfoot></table>"


def facts_table(facts: Mapping[str, str]) -> str:
    """Names and values."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table class='facts'><tbody>{lines}</tbody></table>"


def steps_table(steps: Iterable[StepSummary]) -> str:
    """What preprocessing did."""
    lines = "".join(
        f"<tr><th>{escape(step.name)}</th><td class='short'>{escape(step.status)}</td>"
        f"<td class='number'>{step.seconds:.1f} s</td><td>{escape(step.evidence)}</td></tr>"
        for step in steps
    )
    return f"<table class='facts steps'><tbody>{lines}</tbody></table>"


def place(position_ras: tuple[float, float, float]) -> str:
    """A position for people, such as `R 28, P 45, S 1`."""
    named = zip(_DIRECTIONS, position_ras, strict=True)
    return ", ".join(f"{letters[value < 0]} {abs(value):.0f}" for letters, value in named)


def extent(row: FindingRow) -> str:
    """The sides of the bounding box along the scan's axes, such as `54 x 50 x 65`."""
    return " x ".join(f"{side:.0f}" for side in row.extent_mm)


def _volume(rows: Iterable[FindingRow]) -> str:
    return f"{sum(row.volume_ml for row in rows):.2f}"


def mark(row: FindingRow) -> str:
    """HTML that shows a marked finding as such; nothing for others."""
    return f" <span class='mark'>{MARKED}</span>" if row.status == MARKED else ""


def _cells(row: FindingRow) -> list[str]:
    number = f"{row.number}{mark(row)}"
    measures = [f"{row.volume_ml:.2f}", f"{row.peak:.3g}", f"{row.mean:.3g}"]
    return [number, *measures, escape(row.tissue) or "-", escape(row.side), extent(row), place(row.centroid_ras)]


def _line(cells: Iterable[str], tag: str) -> str:
    return (
        f"<tr>{''.join(f'<{tag} class={kind!r}>{cell}</{tag}>' for kind, cell in zip(_KINDS, cells, strict=True))}</tr>"
    )
