"""Scans and masks from files, volumes to files, through SimpleITK.

Whatever leaves `read_volume` is one finite 3D scalar image of plausible size and intensity; all else is refused with a
message. ITK alone is not enough for that: it reads a truncated NIfTI file and its NaN voxels as zeros, writes one to a
full disk without complaint, inflates damaged data, and stacks a DICOM series that lacks slices or is sheared.
"""

from DALAnomalyLib.volume_io.dicom_series import ScanSeries, list_series
from DALAnomalyLib.volume_io.reading import READABLE_SUFFIXES, read_map, read_mask, read_volume
from DALAnomalyLib.volume_io.scan_description import ScanDescription, describe_scan
from DALAnomalyLib.volume_io.series_choice import choose_series, describe_series, find_scan, series_to_read
from DALAnomalyLib.volume_io.sitk_volume import from_sitk, to_sitk
from DALAnomalyLib.volume_io.writing import WRITABLE_SUFFIXES, write_volume

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ScanDescription",
    "ScanSeries",
    "choose_series",
    "describe_scan",
    "describe_series",
    "find_scan",
    "from_sitk",
    "list_series",
    "read_map",
    "read_mask",
    "read_volume",
    "series_to_read",
    "to_sitk",
    "write_volume",
]
