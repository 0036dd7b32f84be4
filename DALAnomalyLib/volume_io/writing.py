"""Volumes to files; one that did not become complete is an error."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalyLib.file_names import text_of
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io.nifti_file import check_nifti, is_nifti
from DALAnomalyLib.volume_io.quiet_itk import quiet_itk
from DALAnomalyLib.volume_io.sitk_volume import to_sitk

WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Formats of a single file, so that a caller can replace it atomically."""


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
    name = text_of(path, OutputError)
    try:
        with quiet_itk():
            sitk.WriteImage(to_sitk(volume), name, compress)
        if is_nifti(path):
            check_nifti(path)
    except (RuntimeError, OSError, InputError) as error:
        msg = f"{path}: could not be written completely; check that the folder exists, is writable and has free space"
        raise OutputError(msg) from error
