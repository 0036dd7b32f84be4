"""What an export is made of, taken from the results that the scene holds: exports from scripts need no panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer.export.dicom_source import source_files
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.processing import find_at
from DALAnomalySlicer.result_nodes import find_results, stored_result
from DALAnomalySlicer.scan_volume import volume_of

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult


def export_context(
    scan: slicer.vtkMRMLScalarVolumeNode, threshold: float | None = None, minimum_volume_ml: float | None = None
) -> ExportContext:
    """Collect the results of a scan for `write_volumes`, `write_report` and the other exports; they stay as shown.

    Args:
        scan: the input of a detection.
        threshold: on the score; without one, that at which the result was looked at last, at first the model's.
        minimum_volume_ml: smaller findings are left out; without it, likewise.

    Raises:
        InputError: the scene holds no result of this scan, or not all of it.
        GeometryError: the scan was replaced by one of another size.
        UsageError: the threshold is so low that there are more findings than labels.
    """
    nodes = find_results(scan)
    if nodes is None:
        msg = _('"{name}" has no result in the scene; detect anomalies in it first.')
        raise InputError(msg.format(name=scan.GetName()))
    nodes, result = stored_result(scan, nodes)
    live = LiveFindings(nodes, result, shown=False)
    return context_of(scan, result, find_at(live, threshold, minimum_volume_ml))


def context_of(
    scan: slicer.vtkMRMLScalarVolumeNode,
    result: DetectionResult,
    live: LiveFindings,
) -> ExportContext:
    """A result with the findings as they are shown."""
    return ExportContext(
        name="",  # the scan's name may tell who the patient is
        scan=volume_of(scan),
        result=result,
        labels=live.labels,
        rows=live.rows,
        threshold=live.choice.threshold,
        minimum_volume_ml=live.choice.minimum_volume_ml,
        dicom_files=source_files(scan),
    )
