"""What the header of a scan says about its sequence, whatever the format, so that the image need not be asked alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from DALAnomalyLib.file_names import refuse_missing
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume_io.described_parameters import ScanDescription
from DALAnomalyLib.volume_io.dicom_header import is_dicom_source
from DALAnomalyLib.volume_io.dicom_series import ScanSeries
from DALAnomalyLib.volume_io.file_orientation import orientation_doubt
from DALAnomalyLib.volume_io.nifti_sidecar import describe_sidecar
from DALAnomalyLib.volume_io.series_choice import find_scan

__all__ = ["ScanDescription", "describe_scan"]


def describe_scan(
    path: str | Path, series: int | ScanSeries | None = None, sequence: str = "auto", cancel: CancelToken | None = None
) -> ScanDescription:
    """Describe a scan from its DICOM headers, or from the JSON sidecar of an image file.

    Args:
        path: as for `read_volume`, and with the same `series` and `sequence` it is the same scan.
        series: number of the series in a DICOM folder with several, or the series.
        sequence: "auto", "T1" or "T2": which one to choose there.
        cancel: looked at before each file.

    Raises:
        InputError: there is no such file, or a DICOM folder leaves it open which scan is meant.
    """
    path = Path(path)
    refuse_missing(path)
    if is_dicom_source(path):
        return find_scan(path, series, sequence, cancel).scan
    return replace(describe_sidecar(path), orientation_doubt=orientation_doubt(path))
