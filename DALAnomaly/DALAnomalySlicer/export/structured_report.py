"""The measurements of the findings as a DICOM structured report (TID 1500)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DALAnomalyLib import __version__
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalyLib.volume import AnyArray
from DALAnomalySlicer.export.dicom_device import (
    MANUFACTURER,
    NAME,
    algorithm_parameters,
    bounding_box_code,
    device_uid,
    new_instance,
    require_highdicom,
    save,
    score_code,
)
from DALAnomalySlicer.export.dicom_segmentation import finding_label
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.export.image_geometry import DicomData, is_multi_frame
from DALAnomalySlicer.export.source_series import SourceSeries, private_headers, read_source_series

if TYPE_CHECKING:
    from DALAnomalySlicer.finding_context import FindingRow

_SERIES_NUMBER = 9003


def write_structured_report(context: ExportContext, path: Path, segmentation: Path) -> None:
    """Write volume, scores and longest extent of each finding that was not dismissed.

    The report is preliminary and unverified: no person observed, DALAnomaly did.

    Args:
        context: what to export.
        path: the file, replaced if it exists; whole or absent.
        segmentation: what `write_segmentation` wrote of the same context; the report refers to its segments.

    Raises:
        InputError: the segmentation holds other findings, or the scan's DICOM files are absent or do not fit (see
            `read_source_series`).
        OutputError: highdicom is missing, or the file cannot be written.
    """
    require_highdicom()
    series = read_source_series(context)
    segments = _read_segmentation(segmentation, context)
    from highdicom.sr import Comprehensive3DSR

    with private_headers():
        report = Comprehensive3DSR(
            evidence=[*series.images, segments],
            content=_report(context, series, segments),
            is_complete=True,
            is_final=False,
            is_verified=False,
            **new_instance(context, "measurements", _SERIES_NUMBER),
        )
    save(report, path)


def _read_segmentation(path: Path, context: ExportContext) -> DicomData:
    from pydicom import dcmread

    segmentation = dcmread(path)
    labels = [segment.SegmentLabel for segment in segmentation.get("SegmentSequence", [])]
    if not labels or labels != [finding_label(row) for row in context.kept_rows]:
        msg = f"{path}: is not the segmentation of these findings; export it again together with the report"
        raise InputError(msg)
    return segmentation


def _report(context: ExportContext, series: SourceSeries, segmentation: DicomData) -> Any:
    from highdicom.sr import MeasurementReport
    from pydicom.sr.codedict import codes

    return MeasurementReport(
        observation_context=_observer(context),
        procedure_reported=codes.LN.BrainMRI,
        imaging_measurements=[
            _group(context, row, series, segmentation, number) for number, row in enumerate(context.kept_rows, start=1)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _observer(context: ExportContext) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=device_uid(context), name=NAME, manufacturer_name=MANUFACTURER, model_name=f"{NAME} {__version__}"
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _group(context: ExportContext, row: FindingRow, series: SourceSeries, segmentation: DicomData, number: int) -> Any:
    from highdicom.sr import (
        AlgorithmIdentification,
        ReferencedSegment,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    segment = segmentation.SegmentSequence[number - 1]
    parameters = [f"{name}: {value}" for name, value in algorithm_parameters(context).items()]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_images=_source_images(series, context.labels.array == row.number),
        ),
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Lesion,
        finding_sites=[_site(row)],
        algorithm_id=AlgorithmIdentification(NAME, __version__, [*parameters, RESEARCH_USE]),
        measurements=_measurements(row),
    )


def _source_images(series: SourceSeries, inside: AnyArray) -> list[Any]:
    """References to the images, or the frames of the one image, that show a finding (bool (D, H, W))."""
    from highdicom.sr import SourceImageForSegmentation

    shown = np.flatnonzero(series.in_frame_order(inside).any(axis=(1, 2))).tolist()
    if is_multi_frame(series.images[0]):
        (image,) = series.images
        return [SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID, [frame + 1 for frame in shown])]
    images = [series.images[index] for index in shown]
    return [SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID) for image in images]


def _site(row: FindingRow) -> Any:
    from highdicom.sr import FindingSite
    from pydicom.sr.codedict import codes

    sides = {"left": codes.SCT.Left, "right": codes.SCT.Right}
    return FindingSite(anatomic_location=codes.SCT.Brain, laterality=sides.get(row.side))


def _measurements(row: FindingRow) -> list[Any]:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    score, no_units = score_code(), codes.UCUM.NoUnits
    return [
        Measurement(name=codes.SCT.Volume, value=row.volume_ml, unit=Code("mL", "UCUM", "milliliter")),
        Measurement(name=score, value=row.peak, unit=no_units, derivation=codes.SCT.Maximum),
        Measurement(name=score, value=row.mean, unit=no_units, derivation=codes.SCT.Mean),
        Measurement(
            name=codes.SCT.Length,
            value=max(row.extent_mm),
            unit=codes.UCUM.Millimeter,
            method=bounding_box_code(),
        ),
    ]
