"""What the DICOM header of a scan node says about its sequence, if it was loaded from DICOM."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import slicer

from DALAnomalySlicer.export.dicom_source import source_files


def description_of(scan: slicer.vtkMRMLScalarVolumeNode) -> dict[str, Any] | None:
    """The fields of the library's `ScanDescription`; None if the scan did not come from DICOM or its file is gone."""
    files = source_files(scan)
    if not files:
        return None
    from DALAnomalyLib.volume_io import describe_scan

    try:
        return asdict(described) if (described := describe_scan(files[0])) is not None else None
    except Exception:  # the image itself says what sequence it is; a header that cannot be read is no reason to stop
        logging.warning("DALAnomaly: the DICOM header of the scan could not be read")
        return None
