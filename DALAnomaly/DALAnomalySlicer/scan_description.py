"""What the file of a scan node says about it: its DICOM header, or the sidecar and header of an image file."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import slicer

from DALAnomalySlicer.export.dicom_source import source_files


def description_of(scan: slicer.vtkMRMLScalarVolumeNode) -> dict[str, Any] | None:
    """The fields of the library's `ScanDescription`; None if the scan came from no file or its file is gone."""
    source = _file_of(scan)
    if source is None:
        return None
    from DALAnomalyLib.volume_io import describe_scan

    try:
        return asdict(describe_scan(source))
    except Exception:  # the image itself says what sequence it is; a header that cannot be read is no reason to stop
        logging.warning("DALAnomaly: the header of the scan could not be read")
        return None


def _file_of(scan: slicer.vtkMRMLScalarVolumeNode) -> Path | None:
    files = source_files(scan)
    if files:
        return files[0]
    storage = scan.GetStorageNode()
    path = Path(storage.GetFullNameFromFileName()) if storage is not None and storage.GetFileName() else None
    return path if path is not None and path.is_file() else None
