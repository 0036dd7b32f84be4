"""A report as one HTML file: no other file, link or script, so that it can be mailed, archived and printed.

A browser turns it into a PDF with its own print command; the page is laid out for A4.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from html import escape
from pathlib import Path

from DALAnomalyLib import __version__
from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalyLib.wording import counted
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.export.key_images import KeyImage, key_images
from DALAnomalySlicer.export.redaction import redacted
from DALAnomalySlicer.export.report_style import STYLE
from DALAnomalySlicer.export.report_tables import extent, facts_table, findings_table, mark, place, steps_table
from DALAnomalySlicer.export.run_record import (
    Facts,
    StepSummary,
    model_of,
    parameters_of,
    seconds_of,
    steps_of,
    versions_of,
)
from DALAnomalySlicer.export.whole_files import write_text

_TITLE = "Brain MRI anomaly detection"
_NO_DIAGNOSIS = (
    "What was found is not a diagnosis: these are places that differ from what the program expects of a healthy brain. "
    "It misses lesions, and healthy anatomy can differ, too."
)
_LEGEND = (
    "Extent along the scan's axes i, j, k. Centre in mm in the scanner's coordinates (RAS), as the slice views show "
    "them: R right or L left, A anterior or P posterior, S superior or I inferior."
)
# A browser that shows the file fetches nothing and runs nothing, whatever is in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(context: ExportContext, path: Path) -> None:
    """Write key images, findings, parameters and versions as an HTML file.

    Nothing in it says who the patient is, unless `context.name` does.

    Args:
        context: what to export.
        path: the file, replaced if it exists; whole or absent.

    Raises:
        OutputError: the file cannot be written, or the disk is full.
    """
    write_text(path, _page(context))


def _page(context: ExportContext) -> str:
    title = f"{_TITLE}: {context.name}" if context.name else _TITLE
    parts = (_banner(), _opening(context, title), _images(context), _findings(context), _record(context), _closing())
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _banner() -> str:
    return f"<div class='banner'><strong>{RESEARCH_USE}</strong>{_NO_DIAGNOSIS}</div>"


def _opening(context: ExportContext, title: str) -> str:
    result = context.result
    date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"<h1>{escape(title)}</h1><p class='dim'>{result.sequence} scan of {_size(context)}; "
        f"DALAnomaly {__version__}; report of {date}</p>{_summary(context)}{_warnings(result.warnings)}"
    )


def _size(context: ExportContext) -> str:
    grid = context.scan.grid
    voxels = " x ".join(str(size) for size in grid.shape[::-1])
    return f"{voxels} voxels of {' x '.join(f'{side:.3g}' for side in grid.spacing)} mm"


def _summary(context: ExportContext) -> str:
    kept, dismissed = context.kept_rows, context.dismissed_rows
    found = (
        f"{counted(len(kept), 'finding')}, {sum(row.volume_ml for row in kept):.2f} ml in all" if kept else "No finding"
    )
    also = f"; {len(dismissed)} more dismissed by the user" if dismissed else ""
    return (
        f"<p class='summary'>{found}{also}.</p><p class='dim'>A finding has a score of {context.threshold:.3g} or more "
        f"and at least {context.minimum_volume_ml:g} ml.</p>"
    )


def _warnings(warnings: tuple[str, ...]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(redacted(warning))}</li>" for warning in warnings)
    return f"<div class='warnings'><strong>Warnings</strong><ul>{items}</ul></div>"


def _images(context: ExportContext) -> str:
    pictures = key_images(context)
    count = len(context.kept_rows)
    which = f"The {len(pictures)} largest of {count} findings. " if len(pictures) < count else ""
    return (
        f"<h2>Key images</h2><p class='dim'>{which}Planes along the scan's own axes through the middle of the finding; "
        "the patient's right is at the left of axial and coronal planes. Outlined: voxels that belong to findings. "
        f"Score: what differs from the pseudo-healthy image.</p>{''.join(map(_figure, pictures))}"
    )


def _figure(picture: KeyImage) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    title, text = _caption(picture)
    return (
        f"<figure><figcaption>{title} <span class='dim'>{escape(text)}</span></figcaption>"
        f"<img alt='{escape(text)}' src='data:image/png;base64,{data}'></figure>"
    )


def _caption(picture: KeyImage) -> tuple[str, str]:
    """HTML of the heading, and plain text."""
    row = picture.row
    if row is None:
        return "<strong>Highest score</strong>", f"at {place(picture.centre_ras)} mm"
    where = ", ".join(part for part in (row.tissue, row.side) if part)
    sizes = f"{row.volume_ml:.2f} ml, peak score {row.peak:.3g}, {extent(row)} mm"
    return f"<strong>Finding {row.number}</strong>{mark(row)}", f"{sizes}; {where}; at {place(row.centroid_ras)} mm"


def _findings(context: ExportContext) -> str:
    kept, dismissed = context.kept_rows, context.dismissed_rows
    text = f"<h2>Findings</h2>{findings_table(kept) if kept else '<p>None.</p>'}"
    if dismissed:
        text += f"<h3>Dismissed by the user</h3>{findings_table(dismissed)}"
    return f"{text}<p class='dim'>{_LEGEND}</p>"


def _record(context: ExportContext) -> str:
    manifest = context.result.manifest
    model = model_of(manifest)
    chosen = {
        "chosen threshold": f"{context.threshold:.6g}",
        "chosen smallest finding (ml)": f"{context.minimum_volume_ml:g}",
    }
    sections: tuple[tuple[str, Facts], ...] = (
        ("Model", {"name": model.name, "version": model.version, "SHA-256": model.sha256}),
        ("Parameters", {**chosen, **parameters_of(manifest)}),
        ("Versions", versions_of(manifest)),
        ("Times", seconds_of(manifest)),
    )
    tables = "".join(f"<section><h3>{title}</h3>{facts_table(_public(facts))}</section>" for title, facts in sections)
    steps = [_public_step(step) for step in steps_of(manifest)]
    return f"<h2>How it was made</h2><div class='columns'>{tables}</div><h3>Steps</h3>{steps_table(steps)}"


def _public(facts: Mapping[str, str]) -> Facts:
    return {name: redacted(value) for name, value in facts.items()}


def _public_step(step: StepSummary) -> StepSummary:
    return StepSummary(step.name, step.status, step.seconds, redacted(step.evidence))


def _closing() -> str:
    return f"<footer>{_banner()}</footer>"
