"""The findings as a DICOM segmentation: one segment per finding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from DALAnomalyLib import __version__
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalySlicer.export.dicom_device import (
    MANUFACTURER,
    NAME,
    algorithm_parameters,
    new_instance,
    require_highdicom,
    save,
)
from DALAnomalySlicer.export.export_context import MARKED, ExportContext
from DALAnomalySlicer.export.source_series import private_headers, read_source_series

if TYPE_CHECKING:
    from DALAnomalySlicer.finding_context import FindingRow

_SERIES_NUMBER = 9001


def write_segmentation(context: ExportContext, path: Path) -> None:
    """Write the findings that were not dismissed as a DICOM SEG.

    Patient, study and geometry are those of the source series, whose images every frame refers to. Segments are
    numbered from 1 in the order of the table; their labels carry the findings' own numbers.

    Args:
        context: what to export.
        path: the file, replaced if it exists; whole or absent.

    Raises:
        InputError: no finding is left, or the scan's DICOM files are absent or do not fit (see `read_source_series`).
        OutputError: highdicom is missing, or the file cannot be written.
    """
    require_highdicom()
    if not context.kept_rows:
        msg = "no finding is left to write into a DICOM object; lower the threshold or restore a dismissed finding"
        raise InputError(msg)
    series = read_source_series(context)
    from highdicom.seg import Segmentation

    with private_headers():
        segmentation = Segmentation(
            source_images=series.images,
            pixel_array=series.in_frame_order(context.consecutive_labels().array),
            segmentation_type="BINARY",
            segment_descriptions=[_segment(context, row, number) for number, row in enumerate(context.kept_rows, 1)],
            content_label="FINDINGS",
            content_description=RESEARCH_USE,
            **new_instance(context, "findings", _SERIES_NUMBER),
        )
        segmentation.ContentCreatorName = ""  # to be there, if empty; highdicom leaves it out
    save(segmentation, path)


def finding_label(row: FindingRow) -> str:
    """What a finding is called in DICOM objects, with the user's mark."""
    return f"Finding {row.number}" + (f" ({MARKED})" if row.status == MARKED else "")


def _segment(context: ExportContext, row: FindingRow, number: int) -> Any:
    from highdicom import UID
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    description = SegmentDescription(
        segment_number=number,
        segment_label=finding_label(row),
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=_algorithm(context),
        tracking_uid=UID(),
        tracking_id=finding_label(row),
        anatomic_regions=[codes.SCT.Brain],
    )
    description.SegmentDescription = f"{row.volume_ml:.3g} ml, peak score {row.peak:.3g}. {RESEARCH_USE}"
    return description


def _algorithm(context: ExportContext) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        name=NAME,
        version=__version__,
        family=codes.DCM.ArtificialIntelligence,
        source=MANUFACTURER,
        parameters=algorithm_parameters(context),
    )
