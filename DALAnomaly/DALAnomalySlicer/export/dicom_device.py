"""How DALAnomaly names itself, and what it measures, in DICOM objects."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DALAnomalyLib import __version__
from DALAnomalyLib.errors import OutputError
from DALAnomalySlicer.export.run_record import model_of
from DALAnomalySlicer.export.source_series import private_headers
from DALAnomalySlicer.export.whole_files import whole_file

if TYPE_CHECKING:
    from DALAnomalySlicer.export.export_context import ExportContext
    from DALAnomalySlicer.export.image_geometry import DicomData

NAME = "DALAnomaly"
MANUFACTURER = "The DALAnomaly developers"
_SCHEME = "99DALANOMALY"  # designators that begin with 99 are free for private codes (PS3.16 section 8)
_LONGEST_TEXT = 64  # of the value representation LO


def require_highdicom() -> None:
    """Refuse to go on without highdicom (OutputError)."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        msg = (
            "DICOM objects need the Python package highdicom, which comes with 3D Slicer 5.12; "
            "update 3D Slicer or export NIfTI instead"
        )
        raise OutputError(msg) from None


def new_instance(context: ExportContext, content: str, series_number: int) -> dict[str, Any]:
    """Arguments that all of highdicom's objects take: fresh identifiers, the device, the series.

    Args:
        context: what is exported.
        content: one word or two for the series description.
        series_number: of the new series.
    """
    from highdicom import UID

    model = model_of(context.result.manifest)
    return {
        "series_instance_uid": UID(),
        "series_number": series_number,
        "series_description": f"{NAME} {content} - Research use only",
        "sop_instance_uid": UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": NAME,
        "software_versions": [__version__, f"model {model.name} {model.version}"[:_LONGEST_TEXT]],
        "device_serial_number": model.sha256,
    }


def save(instance: DicomData, path: Path) -> None:
    """Write a DICOM object to a file that is whole or absent (OutputError)."""
    instance.SpecificCharacterSet = "ISO_IR 192"  # highdicom 0.27 sets none, and names in other alphabets are lost
    with whole_file(path) as partial, private_headers():
        instance.save_as(partial, enforce_file_format=True)


def device_uid(context: ExportContext) -> str:
    """The same identifier for every result of this version with this model (PS3.5 annex B.2)."""
    name = f"{NAME} {__version__} {model_of(context.result.manifest).sha256}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def algorithm_parameters(context: ExportContext) -> dict[str, str]:
    """What the findings depend on, by name."""
    model = model_of(context.result.manifest)
    return {
        "sequence": context.result.sequence,
        "threshold": f"{context.threshold:.6g}",
        "minimum volume (ml)": f"{context.minimum_volume_ml:g}",
        "model": f"{model.name} {model.version}",
        "model SHA-256": model.sha256,
    }


def score_code() -> Any:
    """The anomaly score as a coded quantity; no public code has this meaning."""
    from pydicom.sr.coding import Code

    return Code("anomaly-score", _SCHEME, "Anomaly score")


def bounding_box_code() -> Any:
    """How a length was measured: along the scan's own axes."""
    from pydicom.sr.coding import Code

    return Code("bounding-box", _SCHEME, "Longest side of the bounding box along the axes of the scan")
