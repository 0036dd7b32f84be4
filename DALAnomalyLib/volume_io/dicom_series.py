"""The one DICOM series of a folder as an image, or why not."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume_io.quiet_itk import quiet_itk

MAXIMUM_SLICE_STEP_DEVIATION = 0.1
"""Of DICOM slices, relative to their usual distance."""


def read_series(folder: Path) -> Any:
    """Stack the only DICOM series of a folder; its sub-folders are not searched."""
    reader = sitk.ImageSeriesReader()
    with quiet_itk():
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
