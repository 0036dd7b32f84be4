"""What an image file leaves open about how its axes lie in the patient; readers silently assume something there."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyLib.volume_io.nifti_file import is_nifti, open_plain_or_gzip

UNKNOWN = "the file does not say how the scan lies in the patient; left and right may be swapped"
SAME_PLACE_MM = 0.5
"""Two placements closer than this at every corner are rounding."""
_NIFTI_HEADER_BYTES = 348
_NRRD_HEADER_BYTES = 1 << 16
_ANATOMICAL_SPACES = frozenset(
    {"right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps"}
)
"""Of the spaces of NRRD those with left and right; they exist with a time axis, too."""


def orientation_doubt(path: Path) -> str | None:
    """One line for the user if the header leaves open where the scan lies; None for all that cannot be told.

    A NIfTI file has two fields for it, qform and sform. It may use neither, or both and differently; an NRRD file may
    name no space, or one without left and right.
    """
    try:
        if is_nifti(path):
            with open_plain_or_gzip(path) as stream:
                header = stream.read(_NIFTI_HEADER_BYTES)
            return _doubt_of_nifti(header) if len(header) == _NIFTI_HEADER_BYTES else None
        if path.name.lower().endswith((".nrrd", ".nhdr")):
            with path.open("rb") as stream:
                return _doubt_of_nrrd(stream.read(_NRRD_HEADER_BYTES).partition(b"\n\n")[0])
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile):
        pass  # whoever reads the image says what is wrong
    return None


def _doubt_of_nifti(header: bytes) -> str | None:
    """By fields of the NIfTI-1 header; byte offsets as in nifti1.h."""
    order = "<" if struct.unpack_from("<i", header, 0)[0] == _NIFTI_HEADER_BYTES else ">"
    qform_code, sform_code = struct.unpack_from(f"{order}2h", header, 252)
    if not (qform_code or sform_code):
        return UNKNOWN
    if not (qform_code > 0 and sform_code > 0):
        return None
    sizes = struct.unpack_from(f"{order}3h", header, 42)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(sizes) - 1)
    if not np.isfinite(struct.unpack_from(f"{order}18f", header, 256)).all():
        return UNKNOWN
    qform = _qform(header, order)
    sform = np.array(struct.unpack_from(f"{order}12f", header, 280)).reshape(3, 4)
    difference = (qform - sform)[:, :3] @ corners.T + (qform - sform)[:, 3:]
    distance = float(np.linalg.norm(difference, axis=0).max())
    if distance <= SAME_PLACE_MM:
        return None
    return (
        f"the two placements in the file's header (qform and sform) lie up to {distance:.3g} mm apart; results go with "
        "the one that Slicer shows, and programs that use the other show scan and results apart"
    )


def _qform(header: bytes, order: str) -> npt.NDArray[np.float64]:
    """Affine (3, 4) from voxel indices to mm."""
    mirrored, *voxel_size = struct.unpack_from(f"{order}4f", header, 76)
    b, c, d, *offset = struct.unpack_from(f"{order}6f", header, 256)
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    rotation = np.reshape(sitk.VersorTransform((b, c, d, a)).GetMatrix(), (3, 3))
    axes = rotation * voxel_size * (1, 1, -1 if mirrored < 0 else 1)
    return np.column_stack((axes, offset))


def _doubt_of_nrrd(header: bytes) -> str | None:
    if not header.startswith(b"NRRD"):
        return None
    for line in header.decode("latin-1").splitlines():
        field, _, value = line.partition(":")
        if field.strip().lower() == "space":
            space = value.strip().lower()
            if {space, space.removesuffix("-time"), space.removesuffix("t")} & _ANATOMICAL_SPACES:
                return None
    return UNKNOWN
