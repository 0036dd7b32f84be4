"""One two-dimensional image of a DICOM file: the file itself, or a frame of an enhanced multi-frame file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from DALAnomalyLib.volume import Points
from DALAnomalyLib.volume_io.dicom_elements import DataSet
from DALAnomalyLib.volume_io.dicom_header import Header

# the functional groups (PS3.3 C.7.6.16) whose elements a classic file holds at its top level
_FUNCTIONAL_GROUPS = (
    "FrameContentSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "MRImageFrameTypeSequence",
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRDiffusionSequence",
    "ContrastBolusUsageSequence",
)


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a slice comes from and what its header says.

    Attributes:
        path: the file.
        index: which frame of the file, from 0.
        data_set: its elements; those of its functional groups appear as if the file were a classic one.
        pixel_range: first byte and number of bytes of its pixels in the file; of those of all frames where the file is
            compressed; None where it is deflated.
        gdcm_rescale: slope and intercept that GDCM applies to all frames: the shared ones or those of the first.
        shares_pixels: whether `pixel_range` is that of all frames.
    """

    path: Path
    index: int
    data_set: DataSet
    pixel_range: tuple[int, int] | None
    gdcm_rescale: tuple[float, float]
    shares_pixels: bool = False

    @cached_property
    def position(self) -> Points:
        """LPS mm of the centre of the first pixel; of no length if not given."""
        return _vectors(self.data_set.numbers("ImagePositionPatient"), (3,))

    @cached_property
    def orientation(self) -> Points:
        """Float64 (2, 3): LPS direction along a row, and down a column; of no length if not given."""
        return _vectors(self.data_set.numbers("ImageOrientationPatient"), (2, 3))

    @property
    def pixel_spacing(self) -> tuple[float, ...]:
        """Distance in mm between rows, and between columns, if given."""
        return self.data_set.numbers("PixelSpacing")

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept from stored values to the scan's own units."""
        return rescale_of(self.data_set)

    def content_digest(self) -> bytes:
        """Digest of the stored pixels and what they are multiplied with; in a deflated file, unique."""
        if self.pixel_range is None:
            return f"{self.path} {self.index}".encode()
        place = self.index if self.shares_pixels else 0
        with self.path.open("rb") as stream:
            stream.seek(self.pixel_range[0])
            return hashlib.sha256(repr((self.rescale, place)).encode() + stream.read(self.pixel_range[1])).digest()


def _vectors(numbers: tuple[float, ...], shape: tuple[int, ...]) -> Points:
    return np.array(numbers).reshape(shape) if len(numbers) == math.prod(shape) else np.empty(0)


def rescale_of(data_set: DataSet) -> tuple[float, float]:
    """Slope and intercept of an image; (1, 0) where none is given."""
    slope, intercept = data_set.number("RescaleSlope"), data_set.number("RescaleIntercept")
    return slope or 1.0, intercept or 0.0


def frames_of(path: Path, header: Header) -> Iterator[Frame]:
    """All frames of a file, in the order in which they are stored."""
    top = header.data_set
    count = max(1, top.integer("NumberOfFrames") or 1)
    per_frame = top.items("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        if count > 1:  # one position cannot be that of all frames
            values = {name: value for name, value in top.values.items() if name != "ImagePositionPatient"}
            top = DataSet(values, top.sequences, top.byte_order)
        yield Frame(path, 0, top, header.pixel_range, rescale_of(top))
        return
    shared = _flattened(top.items("SharedFunctionalGroupsSequence")[:1])
    by_gdcm = rescale_of(
        shared if "RescaleSlope" in shared.values else _over(top, _flattened(per_frame[:1]), DataSet())
    )
    for index, groups in enumerate(per_frame[:count]):
        data_set = _over(top, shared, _flattened((groups,)))
        yield Frame(path, index, data_set, _range_of_frame(header, index, count), by_gdcm, header.compressed)


def is_stored_completely(header: Header) -> bool:
    """Whether the pixel data are as long as the size of the image demands."""
    top = header.data_set
    if header.compressed:
        return True
    if header.pixel_range is None:
        return False
    sizes = [top.integer(name) or 1 for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    groups = top.items("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != sizes[-1]:
        return False
    # 4:2:2 colours take fewer bytes; colours are refused elsewhere
    needed = sizes[0] * sizes[1] * sizes[3] * (top.integer("BitsAllocated") or 8) // 8
    return header.pixel_range[1] >= needed


def _range_of_frame(header: Header, index: int, count: int) -> tuple[int, int] | None:
    if header.pixel_range is None or header.compressed:
        return header.pixel_range
    start, length = header.pixel_range
    return start + index * (length // count), length // count


def _flattened(groups: tuple[DataSet, ...]) -> DataSet:
    found: dict[str, bytes] = {}
    sequences: dict[str, tuple[DataSet, ...]] = {}
    order = "<"
    for group in groups:
        for name in _FUNCTIONAL_GROUPS:
            for item in group.items(name)[:1]:
                found.update(item.values)
                sequences.update(item.sequences)
        order = group.byte_order
    return DataSet(found, sequences, order)


def _over(top: DataSet, shared: DataSet, own: DataSet) -> DataSet:
    """One data set in which the frame's own elements count most, then the shared ones."""
    sequences = {name: items for name, items in top.sequences.items() if "FunctionalGroups" not in name}
    return DataSet(
        {**top.values, **shared.values, **own.values},
        {**sequences, **shared.sequences, **own.sequences},
        top.byte_order,
    )
