"""Whether an image file says how its axes lie in the patient; readers silently assume something where it does not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from DALAnomalyLib.volume_io.nifti_file import is_nifti, open_plain_or_gzip

_NIFTI_CODES = slice(252, 256)
"""qform_code and sform_code, two bytes each: nifti1.h."""
_NRRD_HEADER_BYTES = 1 << 16


def gives_orientation(path: Path) -> bool:
    """False for NIfTI with neither qform nor sform, and for NRRD without a space; True for all that cannot be told."""
    try:
        if is_nifti(path):
            with open_plain_or_gzip(path) as stream:
                codes = stream.read(_NIFTI_CODES.stop)[_NIFTI_CODES]
            return any(codes) or len(codes) < 4
        if path.suffix in (".nrrd", ".nhdr"):
            with path.open("rb") as stream:
                header = stream.read(_NRRD_HEADER_BYTES).partition(b"\n\n")[0]
            lines = header.splitlines()
            return not header.startswith(b"NRRD") or any(
                line.startswith((b"space:", b"space dimension:")) for line in lines
            )
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile):
        pass  # whoever reads the image says what is wrong
    return True
