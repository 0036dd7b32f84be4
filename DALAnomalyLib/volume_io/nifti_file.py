"""What ITK does not check in a NIfTI file: that it is complete and its numbers are numbers."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume_io.scan_checks import count_non_finite

_HEADER_BYTES = 348
_CHUNK_BYTES = 1 << 22
_SAME_SIZE = 0.01
"""Programs round voxel sizes; less than this share is no contradiction."""


def is_nifti(path: Path) -> bool:
    """Whether the name of `path` says NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_nifti(path: Path) -> int:
    """Refuse a NIfTI-1 file that ends before its last voxel, fails its gzip checksum, or gives no voxel size.

    Returns:
        How many voxels are NaN or infinite, which the NIfTI library turns into zeros.
    """
    held, non_finite = 0, 0
    try:
        with open_plain_or_gzip(path) as stream:
            offset, needed, floating = _nifti_layout(stream.read(_HEADER_BYTES), path)
            stream.read(offset - _HEADER_BYTES)
            while chunk := stream.read(min(_CHUNK_BYTES, needed - held)):
                held += len(chunk)
                if floating is not None and len(chunk) % floating.itemsize == 0:
                    non_finite += count_non_finite(np.frombuffer(chunk, floating))
            while stream.read(_CHUNK_BYTES):  # gzip compares its checksum at the very end
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path}: the compressed data are damaged or truncated; copy or download the file again"
        raise InputError(msg) from error
    if held < needed:
        msg = f"{path}: truncated: it holds {held} of {needed} bytes of voxels; copy or download the file again"
        raise InputError(msg)
    return non_finite


def open_plain_or_gzip(path: Path) -> BinaryIO:
    """As ITK does, go by the content: files named .nii.gz are sometimes not compressed."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]


def _check_directions(header: bytes, order: str, voxel_size: Sequence[float], path: Path) -> None:
    """Refuse an sform that gives other voxel sizes than `pixdim`: programs disagree about every volume then.

    Beside a qform, whose voxels are those of `pixdim`, an sform into another space (code 2 or more) may scale; see
    `orientation_doubt`.
    """
    qform_code, sform_code = struct.unpack_from(f"{order}2h", header, 252)
    affine = np.array(struct.unpack_from(f"{order}12f", header, 280)).reshape(3, 4)[:, :3]
    lengths = np.linalg.norm(affine, axis=0)
    of_these_voxels = sform_code == 1 or (sform_code > 1 and qform_code <= 0)
    if of_these_voxels and lengths.all() and not np.allclose(lengths, voxel_size, rtol=_SAME_SIZE):
        given = " x ".join(f"{size:.4g}" for size in lengths)
        pixdim = " x ".join(f"{size:.4g}" for size in voxel_size)
        msg = f"{path}: the header gives voxels of {pixdim} mm (pixdim) and of {given} mm (sform); correct the header"
        raise GeometryError(msg)


def _nifti_layout(header: bytes, path: Path) -> tuple[int, int, np.dtype[Any] | None]:
    """Offset and number of the bytes of voxels, and their type if it is a floating one.

    From fields of the NIfTI-1 header; byte offsets as in nifti1.h.
    """
    if header[344:348] != b"n+1\0":
        msg = f"{path}: is not a NIfTI-1 image, or ends within its header; convert or copy it again"
        raise InputError(msg)
    order = "<" if struct.unpack_from("<i", header, 0)[0] == _HEADER_BYTES else ">"
    dimension, *sizes = struct.unpack_from(f"{order}8h", header, 40)
    type_code, bits_per_voxel = struct.unpack_from(f"{order}2h", header, 70)
    voxel_size = struct.unpack_from(f"{order}3f", header, 80)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    plausible = 1 <= dimension <= 7 and min(sizes[:dimension]) > 0 and bits_per_voxel > 0 and abs(offset) < 2**31
    if not plausible:
        msg = f"{path}: the header of this NIfTI file is damaged; copy or download the file again"
        raise InputError(msg)
    # ITK would silently take 1 mm, or mirror the image.
    if not all(np.isfinite(voxel_size[:dimension])) or min(voxel_size[:dimension]) <= 0:
        msg = f"{path}: the header gives voxel size {voxel_size} mm; correct the header"
        raise GeometryError(msg)
    _check_directions(header, order, voxel_size, path)
    floating = {16: np.dtype(f"{order}f4"), 64: np.dtype(f"{order}f8")}.get(type_code)
    return max(int(offset), _HEADER_BYTES), math.prod(sizes[:dimension]) * bits_per_voxel // 8, floating
