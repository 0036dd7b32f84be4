"""Scans and masks from files and DICOM folders; what is no plausible scan is refused."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.file_names import refuse_missing, text_of
from DALAnomalyLib.memory import enough_memory, is_out_of_memory
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io.compressed_data import check_compressed_data
from DALAnomalyLib.volume_io.dicom_header import is_dicom_source
from DALAnomalyLib.volume_io.dicom_series import ScanSeries, read_series
from DALAnomalyLib.volume_io.nifti_file import check_nifti, is_nifti
from DALAnomalyLib.volume_io.quiet_itk import quiet_itk
from DALAnomalyLib.volume_io.scan_checks import (
    check_extent,
    check_finite,
    check_intensities,
    check_shape,
    refuse_non_finite,
)
from DALAnomalyLib.volume_io.series_choice import find_scan
from DALAnomalyLib.volume_io.sitk_volume import from_sitk

READABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
# Headers keep float32, and tools derive the affine in different ways; a shift this small moves no voxel.
MASK_TOLERANCE_MM = 0.05

_GEOMETRY_COMPLAINTS = ("orthonormal direction cosines", "Bad direction", "spacing is not supported")


def read_volume(
    path: str | Path,
    *,
    series: int | ScanSeries | None = None,
    sequence: str = "auto",
    cancel: CancelToken | None = None,
) -> Volume:
    """Read a scan: a NIfTI, NRRD or MetaImage file, or a DICOM folder, searched with its sub-folders.

    Args:
        path: the file or folder.
        series: number, from 1, of the series in a DICOM folder that holds several (see `list_series`), or the series.
        sequence: "T1", "T2" or "auto" (either): which one to choose there if no number is given.
        cancel: looked at before each DICOM file.

    Returns:
        float32 (D, H, W) in the file's own intensity units, on the file's grid.

    Raises:
        InputError: missing, unreadable or truncated; not one 3D scalar image; intensities no MR scan has; a DICOM
            folder that leaves it open which series is meant.
        GeometryError: voxel size, extent or direction no scan has.
        DeviceError: there is not enough memory.
        CancelledError: the token was cancelled.
    """
    path = Path(path)
    with enough_memory(f"to read {path}"):
        volume = _read(path, series, sequence, cancel)
        check_extent(volume.grid, path)
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused
            array = volume.array.astype(np.float32, copy=False)
        check_intensities(array, path)
    return volume.with_array(array)


def read_mask(path: str | Path, grid: Grid) -> Volume:
    """Read a mask that belongs to a scan on `grid`.

    Returns:
        uint8 (D, H, W), 1 where the file's value is above 0.5, on exactly `grid`. It may be empty.

    Raises:
        InputError: missing, unreadable or truncated; not one 3D scalar image; NaN or infinite values.
        GeometryError: the mask lies on another grid.
    """
    path = Path(path)
    with enough_memory(f"to read {path}"):
        mask = _read(path)
    if not mask.grid.is_close(grid, MASK_TOLERANCE_MM):
        msg = (
            f"{path}: the mask is not on its scan's grid ({_describe(mask.grid)} instead of {_describe(grid)}"
            f"{_apart(mask.grid, grid)}); resample it to the scan with nearest-neighbour interpolation"
        )
        raise GeometryError(msg)
    check_finite(mask.array, path)
    return Volume((mask.array > 0.5).astype(np.uint8), grid)


def read_map(path: str | Path) -> Volume:
    """Read a volume that this project wrote: a score, labels, a pseudo-healthy image.

    Returns:
        (D, H, W) in the file's own type. Unlike a scan it may be empty.

    Raises:
        InputError: missing, unreadable or truncated; not one 3D scalar image.
        GeometryError: the header's geometry is impossible.
    """
    with enough_memory(f"to read {path}"):
        return _read(Path(path))


def _apart(first: Grid, second: Grid) -> str:
    """How far two grids of one shape lie apart: they may differ in the direction of their axes alone."""
    if first.shape != second.shape:
        return ""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(first.shape) - 1)
    distances = np.linalg.norm(first.index_to_physical(corners) - second.index_to_physical(corners), axis=1)
    return f", up to {distances.max():.3g} mm apart"


def _describe(grid: Grid) -> str:
    numbers = [" x ".join(f"{value:.4g}" for value in values) for values in (grid.shape[::-1], grid.spacing)]
    origin = ", ".join(f"{value:.2f}" for value in grid.origin)
    return f"{numbers[0]} voxels of {numbers[1]} mm at ({origin})"


def _read(
    path: Path, series: int | ScanSeries | None = None, sequence: str = "auto", cancel: CancelToken | None = None
) -> Volume:
    """One 3D scalar image, whatever the source."""
    refuse_missing(path)
    if is_dicom_source(path):
        return read_series(find_scan(path, series, sequence, cancel), path, cancel)
    if series is not None:
        msg = f"{path}: is no DICOM folder, so there is no series {series} in it; leave the number out"
        raise InputError(msg)
    return _volume(_one_scalar_volume(_read_image(path), path), path)


def _read_image(path: Path) -> Any:
    try:
        return _read_file(path)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        if any(complaint in str(error) for complaint in _GEOMETRY_COMPLAINTS):
            msg = f"{path}: the header has a zero voxel size or a sheared direction; correct the header or resample"
            raise GeometryError(msg) from error
        msg = f"{path}: cannot be read as an image; it is damaged, truncated or of another format"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        raise InputError(msg) from error


def _read_file(path: Path) -> Any:
    if not path.name.lower().endswith(READABLE_SUFFIXES):
        msg = f"{path}: unknown format; give {', '.join(READABLE_SUFFIXES)} or a DICOM folder"
        raise InputError(msg)
    path.open("rb").close()  # ITK reports a missing permission as an unknown format
    if is_nifti(path):
        refuse_non_finite(check_nifti(path), path)
    else:
        check_compressed_data(path)
    name = text_of(path)
    kind = "MetaImageIO" if name.lower().endswith((".mha", ".mhd")) else ""  # not known to ITK in capital letters
    with quiet_itk():
        return sitk.ReadImage(name, imageIO=kind)


def _one_scalar_volume(image: Any, path: Path) -> Any:
    """Drop trailing axes of one element and refuse what is then no 3D scalar image."""
    if image.GetNumberOfComponentsPerPixel() > 1 or "complex" in image.GetPixelIDTypeAsString():
        msg = f"{path}: its voxels are colours or vectors ({image.GetPixelIDTypeAsString()}); give a grey-value image"
        raise InputError(msg)
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    size = image.GetSize()
    if len(size) > 3:
        msg = f"{path}: holds several volumes (size {size}); extract the one to analyse"
        raise InputError(msg)
    check_shape(size[::-1], path)
    return image


def _volume(image: Any, path: Path) -> Volume:
    try:
        return from_sitk(image)
    except GeometryError as error:
        msg = f"{path}: {error}"
        raise GeometryError(msg) from error
