"""All DICOM objects of a result in one folder: segmentation, parametric map and structured report."""

from __future__ import annotations

from pathlib import Path

from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalySlicer.export.dicom_segmentation import write_segmentation
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.export.parametric_map import write_parametric_map
from DALAnomalySlicer.export.structured_report import write_structured_report

_SEGMENTATION, _MAP, _MEASUREMENTS = "segmentation.dcm", "parametric_map.dcm", "measurements.dcm"


def write_dicom_objects(context: ExportContext, folder: Path) -> tuple[str, ...]:
    """Write `segmentation.dcm`, `parametric_map.dcm` and `measurements.dcm` into a folder.

    Without a finding there is nothing to segment or measure: the map is written alone.

    Args:
        context: what to export.
        folder: made whole or not at all; an older export is replaced, anything else refused.

    Returns:
        The names of the files in the folder.

    Raises:
        InputError: the scan's DICOM files are absent or do not fit (see `read_source_series`).
        OutputError: highdicom is missing, the folder holds other files or cannot be written, or the disk is full.
    """
    with result_folder(folder, (_SEGMENTATION, _MAP, _MEASUREMENTS), force=True) as partial:
        write_parametric_map(context, partial / _MAP)
        if context.kept_rows:
            write_segmentation(context, partial / _SEGMENTATION)
            write_structured_report(context, partial / _MEASUREMENTS, partial / _SEGMENTATION)
        return tuple(sorted(path.name for path in partial.iterdir()))
