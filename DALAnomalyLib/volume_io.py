"""Scans and masks from files, volumes to files, through SimpleITK.

Whatever leaves `read_volume` is one finite 3D scalar image of plausible size and intensity; all else is refused with a
message. ITK alone is not enough for that: it reads a truncated NIfTI file and its NaN voxels as zeros, writes one to a
full disk without complaint, and stacks a DICOM series that lacks slices.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.errors import GeometryError, InputError, OutputError
from DALAnomalyLib.volume import AnyArray, Grid, Volume

READABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Formats of a single file, so that a caller can replace it atomically."""

MINIMUM_VOXELS_PER_AXIS = 8
VOXEL_SIZE_RANGE_MM = (0.1, 10.0)
EXTENT_RANGE_MM = (50.0, 600.0)
MAXIMUM_INTENSITY = 1e9
# Interpolation and N4 leave some slightly negative voxels: 0.05 % of the total intensity in the worst MR scan seen.
MAXIMUM_NEGATIVE_SHARE = 0.02
# Headers keep float32, and tools derive the affine in different ways; a shift this small moves no voxel.
MASK_TOLERANCE_MM = 0.05

MAXIMUM_SLICE_STEP_DEVIATION = 0.1
"""Of DICOM slices, relative to their usual distance."""

_NIFTI_HEADER_BYTES = 348
_CHUNK_BYTES = 1 << 22
_GEOMETRY_COMPLAINTS = ("orthonormal direction cosines", "Bad direction", "spacing is not supported")
_standard_error_lock = threading.Lock()


def read_volume(path: str | Path) -> Volume:
    """Read a scan: a NIfTI, NRRD or MetaImage file, or the folder of one DICOM series.

    Returns:
        float32 (D, H, W) in the file's own intensity units, on the file's grid.

    Raises:
        InputError: missing, unreadable or truncated; not one 3D scalar image; intensities no MR scan has.
        GeometryError: voxel size, extent or direction no scan has.
    """
    path = Path(path)
    volume = _volume(_read_image(path), path)
    _check_extent(volume.grid, path)
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused
        array = volume.array.astype(np.float32)
    _check_intensities(array, path)
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
    mask = _volume(_read_image(path), path)
    if not mask.grid.is_close(grid, MASK_TOLERANCE_MM):
        msg = (
            f"{path}: the mask is not on its scan's grid ({_describe(mask.grid)} instead of {_describe(grid)}); "
            "resample it to the scan with nearest-neighbour interpolation"
        )
        raise GeometryError(msg)
    _check_finite(mask.array, path)
    return Volume((mask.array > 0.5).astype(np.uint8), grid)


def write_volume(volume: Volume, path: str | Path, compress: bool = True) -> None:
    """Write `volume` to a file and make sure that it is complete; replaces an existing file.

    Args:
        volume: any dtype SimpleITK knows; booleans become uint8.
        path: ends in one of `WRITABLE_SUFFIXES`.
        compress: whether .nrrd and .mha are compressed; for NIfTI the suffix decides.

    Raises:
        OutputError: the folder is missing or unwritable, the disk is full, or the format is unknown.
    """
    path = Path(path)
    if not path.name.endswith(WRITABLE_SUFFIXES):
        msg = f"{path}: cannot write this format; use one of {', '.join(WRITABLE_SUFFIXES)}"
        raise OutputError(msg)
    try:
        with _quiet_itk():
            sitk.WriteImage(to_sitk(volume), str(path), compress)
        if _is_nifti(path):
            _check_nifti(path)
    except (RuntimeError, OSError, InputError) as error:
        msg = f"{path}: could not be written completely; check that the folder exists, is writable and has free space"
        raise OutputError(msg) from error


def to_sitk(volume: Volume) -> Any:
    """Copy a volume into a SimpleITK image; booleans become uint8."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction)
    return image


def from_sitk(image: Any) -> Volume:
    """Copy a 3D scalar SimpleITK image, keeping its pixel type.

    Raises:
        GeometryError: its direction is not orthonormal.
    """
    width, height, depth = image.GetSize()
    grid = Grid((depth, height, width), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(sitk.GetArrayFromImage(image), grid)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_image(path: Path) -> Any:
    """One 3D scalar image, whatever the source."""
    if not path.exists():
        msg = f"{path}: no such file or folder; check the path"
        raise InputError(msg)
    try:
        image = _read_series(path) if path.is_dir() else _read_file(path)
    except RuntimeError as error:
        if any(complaint in str(error) for complaint in _GEOMETRY_COMPLAINTS):
            msg = f"{path}: the header has a zero voxel size or a sheared direction; correct the header or resample"
            raise GeometryError(msg) from error
        msg = f"{path}: cannot be read as an image; it is damaged, truncated or of another format"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        raise InputError(msg) from error
    return _one_scalar_volume(image, path)


def _read_file(path: Path) -> Any:
    if not path.name.endswith(READABLE_SUFFIXES):
        msg = f"{path}: unknown format; give {', '.join(READABLE_SUFFIXES)} or the folder of one DICOM series"
        raise InputError(msg)
    path.open("rb").close()  # ITK reports a missing permission as an unknown format
    if _is_nifti(path):
        _refuse_non_finite(_check_nifti(path), path)
    with _quiet_itk():
        return sitk.ReadImage(str(path))


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
    if len(size) < 3 or min(size) < MINIMUM_VOXELS_PER_AXIS:
        msg = f"{path}: size {size} is not a 3D scan; it needs {MINIMUM_VOXELS_PER_AXIS} or more voxels along each axis"
        raise InputError(msg)
    return image


def _volume(image: Any, path: Path) -> Volume:
    try:
        return from_sitk(image)
    except GeometryError as error:
        msg = f"{path}: {error}"
        raise GeometryError(msg) from error


# --- DICOM ------------------------------------------------------------------------------------------------------------


def _read_series(folder: Path) -> Any:
    """Stack the only DICOM series of a folder; its sub-folders are not searched."""
    reader = sitk.ImageSeriesReader()
    with _quiet_itk():
        series = {uid: reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))}
        if len(series) != 1:
            raise InputError(_choice_of_series(folder, series))
        (names,) = series.values()
        _check_nothing_left_out(folder, names)
        if len(names) == 1:  # a multi-frame file
            return sitk.ReadImage(names[0])
        reader.SetFileNames(names)
        reader.MetaDataDictionaryArrayUpdateOn()
        image = reader.Execute()
        _check_even_slices(reader, len(names), folder)
    return image


def _choice_of_series(folder: Path, series: dict[str, tuple[str, ...]]) -> str:
    if not series:
        return f"{folder}: no DICOM series in this folder; give the folder that holds the files of one series"
    found = "; ".join(f"{_series_description(names[0])} ({len(names)} files)" for names in series.values())
    return (
        f"{folder}: holds {len(series)} DICOM series: {found}; put the files of the wanted one in a folder of their own"
    )


def _series_description(name: str) -> str:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    described = reader.HasMetaDataKey("0008|103e") and reader.GetMetaData("0008|103e").strip()
    return described or f"unnamed, first file {Path(name).name}"


def _check_nothing_left_out(folder: Path, names: tuple[str, ...]) -> None:
    """GDCM leaves damaged files out of a series; one at its end would shorten the scan unnoticed."""
    used = {Path(name).name for name in names}
    for file in sorted(folder.iterdir()):
        if file.name in used or file.name.upper() == "DICOMDIR" or not file.is_file():
            continue
        with file.open("rb") as stream:
            is_dicom = stream.read(132)[128:] == b"DICM"
        if is_dicom:
            msg = f"{file}: this DICOM file is damaged or truncated; copy the series again"
            raise InputError(msg)


def _check_even_slices(reader: Any, count: int, folder: Path) -> None:
    """ITK spreads the slices evenly over their range, whatever the steps between them are."""
    key = "0020|0032"  # image position (patient), LPS mm
    if not all(reader.HasMetaDataKey(slice_, key) for slice_ in range(count)):
        msg = f"{folder}: DICOM files without a slice position; export the series again as MR images"
        raise InputError(msg)
    texts = [reader.GetMetaData(slice_, key).split("\\") for slice_ in range(count)]
    steps = np.linalg.norm(np.diff(np.array(texts, dtype=np.float64), axis=0), axis=1)
    if np.ptp(steps) > MAXIMUM_SLICE_STEP_DEVIATION * np.median(steps):
        msg = f"{folder}: DICOM slices are missing, doubled or unevenly spaced; export the series again"
        raise InputError(msg)


# --- plausibility -----------------------------------------------------------------------------------------------------


def _describe(grid: Grid) -> str:
    numbers = [" x ".join(f"{value:.4g}" for value in values) for values in (grid.shape[::-1], grid.spacing)]
    origin = ", ".join(f"{value:.2f}" for value in grid.origin)
    return f"{numbers[0]} voxels of {numbers[1]} mm at ({origin})"


def _check_extent(grid: Grid, path: Path) -> None:
    for axis, size, spacing in zip("ijk", grid.shape[::-1], grid.spacing, strict=True):
        for name, value, (low, high) in (
            ("a voxel size", spacing, VOXEL_SIZE_RANGE_MM),
            ("an extent", spacing * size, EXTENT_RANGE_MM),
        ):
            if not low <= value <= high:
                limits = f"{low:g} to {high:g} mm"
                msg = f"{path}: {name} of {value:.4g} mm along axis {axis} is not within {limits}; check the header"
                raise GeometryError(msg)


def _check_finite(array: AnyArray, path: Path) -> None:
    _refuse_non_finite(_count_non_finite(array), path)


def _count_non_finite(array: AnyArray) -> int:
    return array.size - int(np.count_nonzero(np.isfinite(array)))


def _refuse_non_finite(count: int, path: Path) -> None:
    if count:
        msg = f"{path}: {count} voxels are NaN or infinite; replace them, for example with 0 outside the brain"
        raise InputError(msg)


def _check_intensities(array: AnyArray, path: Path) -> None:
    _check_finite(array, path)
    low, high = float(array.min()), float(array.max())
    if low == high:
        msg = f"{path}: the image is empty or constant: every voxel is {low:g}; check how it was exported"
        raise InputError(msg)
    if max(-low, high) > MAXIMUM_INTENSITY:
        msg = f"{path}: intensities from {low:g} to {high:g} are not plausible; check the pixel type and rescale slope"
        raise InputError(msg)
    if low < 0:
        negative_share = float(-array.clip(max=0).sum(dtype=np.float64) / np.abs(array).sum(dtype=np.float64))
        if negative_share > MAXIMUM_NEGATIVE_SHARE:
            msg = (
                f"{path}: {negative_share:.0%} of the signal is negative (down to {low:g}), so this looks like CT or a "
                "normalised image, not MR magnitude; give the original T1 or T2 image"
            )
            raise InputError(msg)


# --- what ITK does not check ------------------------------------------------------------------------------------------


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _check_nifti(path: Path) -> int:
    """Refuse a NIfTI-1 file that ends before its last voxel, fails its gzip checksum, or gives no voxel size.

    Returns:
        How many voxels are NaN or infinite, which the NIfTI library turns into zeros.
    """
    held, non_finite = 0, 0
    try:
        with _open_plain_or_gzip(path) as stream:
            offset, needed, floating = _nifti_layout(stream.read(_NIFTI_HEADER_BYTES), path)
            stream.read(offset - _NIFTI_HEADER_BYTES)
            while chunk := stream.read(min(_CHUNK_BYTES, needed - held)):
                held += len(chunk)
                if floating is not None and len(chunk) % floating.itemsize == 0:
                    non_finite += _count_non_finite(np.frombuffer(chunk, floating))
            while stream.read(_CHUNK_BYTES):  # gzip compares its checksum at the very end
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path}: the compressed data are damaged or truncated; copy or download the file again"
        raise InputError(msg) from error
    if held < needed:
        msg = f"{path}: truncated: it holds {held} of {needed} bytes of voxels; copy or download the file again"
        raise InputError(msg)
    return non_finite


def _open_plain_or_gzip(path: Path) -> BinaryIO:
    # As ITK does, go by the content: files named .nii.gz are sometimes not compressed.
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]


def _nifti_layout(header: bytes, path: Path) -> tuple[int, int, np.dtype[Any] | None]:
    """Offset and number of the bytes of voxels, and their type if it is a floating one.

    From fields of the NIfTI-1 header; byte offsets as in nifti1.h.
    """
    if header[344:348] != b"n+1\0":
        msg = f"{path}: is not a NIfTI-1 image, or ends within its header; convert or copy it again"
        raise InputError(msg)
    order = "<" if struct.unpack_from("<i", header, 0)[0] == _NIFTI_HEADER_BYTES else ">"
    dimension, *sizes = struct.unpack_from(f"{order}8h", header, 40)
    type_code, bits_per_voxel = struct.unpack_from(f"{order}2h", header, 70)
    voxel_size = struct.unpack_from(f"{order}3f", header, 80)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    plausible = 1 <= dimension <= 7 and min(sizes[:dimension]) > 0 and bits_per_voxel > 0 and abs(offset) < 2**31
    if not plausible:
        msg = f"{path}: the header of this NIfTI file is damaged; copy or download the file again"
        raise InputError(msg)
    # ITK would silently take 1 mm instead.
    if not all(np.isfinite(voxel_size[:dimension])) or 0 in voxel_size[:dimension]:
        msg = f"{path}: the header gives voxel size {voxel_size} mm; correct the header"
        raise GeometryError(msg)
    floating = {16: np.dtype(f"{order}f4"), 64: np.dtype(f"{order}f8")}.get(type_code)
    return max(int(offset), _NIFTI_HEADER_BYTES), math.prod(sizes[:dimension]) * bits_per_voxel // 8, floating


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keep what ITK, GDCM, MetaIO and the NIfTI library print off the standard error of the process.

    The last two write to the file descriptor directly, so it leads nowhere meanwhile. What went wrong still arrives
    as an exception.
    """
    with _standard_error_lock:
        warnings_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        kept = _silence_standard_error()
        try:
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            sitk.ProcessObject.SetGlobalWarningDisplay(warnings_shown)


def _silence_standard_error() -> int | None:
    """Point descriptor 2 to nowhere; returns the duplicate to restore, or None in a program without standard error."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept
