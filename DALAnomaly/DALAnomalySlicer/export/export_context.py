"""Everything an export is made of, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume import AnyArray, Volume

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.finding_context import FindingRow

RESULT_ARRAYS = ("score", "pseudo_healthy", "uncertainty", "tissues", "edges", "brain_mask")
"""The fields of a DetectionResult that are arrays on the scan's grid; not every result has an uncertainty."""
MARKED, DISMISSED = "marked", "dismissed"


@dataclass(frozen=True, eq=False)
class ExportContext:
    """A result as the user judged it.

    Attributes:
        name: how the report calls the scan; "" leaves it unnamed. It may tell who the patient is: only the user's own
            wish puts it here.
        scan: the input, (D, H, W), in its own intensity units.
        result: what was found in it; every array on the scan's grid.
        labels: uint16 (D, H, W) on the scan's grid: 0, or the number of a finding.
        rows: the findings table, with the user's marks.
        threshold: score at and above which voxels belong to findings.
        minimum_volume_ml: smaller findings were left out.
        dicom_files: the files that the scan was read from; () when it did not come from DICOM.

    Raises:
        GeometryError: an array does not lie on the scan's grid.
        InputError: a row has no voxel in the label map.
    """

    name: str
    scan: Volume
    result: DetectionResult
    labels: Volume
    rows: tuple[FindingRow, ...]
    threshold: float
    minimum_volume_ml: float
    dicom_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        shapes = {array.shape for array in self.arrays.values()}
        if shapes != {self.scan.grid.shape} or not self.labels.grid.is_close(self.scan.grid):
            msg = "the result does not lie on the grid of the scan; detect anomalies in this scan again"
            raise GeometryError(msg)
        present = set(np.flatnonzero(np.bincount(self.labels.array.ravel())).tolist())
        missing = {row.number for row in self.rows} - present
        if missing:
            msg = (
                f"finding {min(missing)} of the table is absent from the segmentation; move the threshold to renew both"
            )
            raise InputError(msg)

    @property
    def arrays(self) -> dict[str, AnyArray]:
        """The result's arrays by field, those that it has."""
        found = {name: getattr(self.result, name) for name in RESULT_ARRAYS}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def kept_rows(self) -> tuple[FindingRow, ...]:
        """The findings that the user did not dismiss, in the table's order."""
        return tuple(row for row in self.rows if row.status != DISMISSED)

    @property
    def dismissed_rows(self) -> tuple[FindingRow, ...]:
        """The findings that the user dismissed."""
        return tuple(row for row in self.rows if row.status == DISMISSED)

    def kept_labels(self) -> Volume:
        """The label map without the dismissed findings: uint16 (D, H, W), 0 or the finding's number."""
        return self._relabelled({row.number: row.number for row in self.kept_rows})

    def consecutive_labels(self) -> Volume:
        """Uint16 (D, H, W): 0, or the finding's place in `kept_rows`, counted from 1."""
        return self._relabelled({row.number: place for place, row in enumerate(self.kept_rows, start=1)})

    def _relabelled(self, new_of_old: Mapping[int, int]) -> Volume:
        lookup = np.zeros(int(self.labels.array.max()) + 1, np.uint16)
        for old, new in new_of_old.items():
            lookup[old] = new
        return self.scan.with_array(lookup[self.labels.array])
