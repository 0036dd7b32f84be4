"""Where the frames of a DICOM image lie, be it a classic one or a multi-frame one with functional groups.

The groups (PS3.3 C.7.6.16) are kept once for all frames or per frame, as the scanner likes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume import Points

DicomData: TypeAlias = Any
"""A pydicom.Dataset; pydicom may be imported inside functions only."""

_SHARED_GEOMETRY = {
    "PlaneOrientationSequence": "ImageOrientationPatient",
    "PixelMeasuresSequence": "PixelSpacing",
}
_ROUNDING = 1e-3


def is_multi_frame(image: DicomData) -> bool:
    """Whether an image keeps its geometry in functional groups."""
    return "PerFrameFunctionalGroupsSequence" in image


def share_geometry(image: DicomData) -> None:
    """Move orientation and pixel size of a multi-frame image to the shared groups, where highdicom expects them.

    Raises:
        InputError: they differ between the frames.
    """
    shared = image.SharedFunctionalGroupsSequence[0]
    for sequence, element in _SHARED_GEOMETRY.items():
        if sequence in shared:
            continue
        groups = [frame[sequence].value for frame in image.PerFrameFunctionalGroupsSequence]
        values = np.array([group[0][element].value for group in groups], dtype=np.float64)
        if np.ptp(values, axis=0).max() > _ROUNDING:
            msg = f"the frames of the source image differ in their {element}; export NIfTI instead"
            raise InputError(msg)
        setattr(shared, sequence, groups[0])


def positions(image: DicomData) -> Points:
    """Float64 (frames, 3): LPS mm of the centre of each frame's first pixel."""
    frames = image.PerFrameFunctionalGroupsSequence if is_multi_frame(image) else ()
    holders = [frame.PlanePositionSequence[0] for frame in frames] or [image]
    return np.array([holder.ImagePositionPatient for holder in holders], dtype=np.float64)


def orientation(image: DicomData) -> DicomData:
    """The data set that holds the ImageOrientationPatient of all frames."""
    return image.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0] if is_multi_frame(image) else image


def pixel_measures(image: DicomData) -> DicomData:
    """The data set that holds PixelSpacing, SliceThickness and SpacingBetweenSlices of all frames."""
    return image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0] if is_multi_frame(image) else image


def places_along_normal(image: DicomData) -> Points:
    """Float64 (frames,): mm of each frame along the cross product of its row's and its column's direction."""
    along_row, down_column = _axes(image)
    return positions(image) @ np.cross(along_row, down_column)


def corners(image: DicomData) -> Points:
    """Float64 (frames, 3, 3): LPS mm of the first pixel, the last of the first row, the last of the first column."""
    along_row, down_column = _axes(image)
    between_rows, between_columns = (float(value) for value in pixel_measures(image).PixelSpacing)
    row = along_row * between_columns * (image.Columns - 1)
    column = down_column * between_rows * (image.Rows - 1)
    return positions(image)[:, None, :] + np.array([np.zeros(3), row, column])


def _axes(image: DicomData) -> Points:
    """Float64 (2, 3): unit LPS vectors along a row, and down a column."""
    return np.reshape(orientation(image).ImageOrientationPatient, (2, 3)).astype(np.float64)
