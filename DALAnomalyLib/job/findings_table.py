"""The list of findings as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from DALAnomalyLib.findings import Finding

FINDING_COLUMNS = (
    "id",
    "volume_ml",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "extent_i_mm",
    "extent_j_mm",
    "extent_k_mm",
    "peak",
    "mean",
)


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """One row per finding; volumes in ml, centroids in RAS mm, extents in mm along the axes of the scan's grid."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(FINDING_COLUMNS)
        for finding in findings:
            numbers = (finding.volume_ml, *finding.centroid_ras_mm, *finding.extent_mm, finding.peak, finding.mean)
            table.writerow([finding.label, *(f"{number:.6g}" for number in numbers)])
