"""What a DICOM file says about its image, without decoding the pixels (PS3.5 section 7, PS3.10).

GDCM, as far as SimpleITK shows it, keeps the items of sequences to itself, and with them the positions of the frames
of an enhanced MR file; nor does it tell a damaged file from one of another format. Hence a reader of our own for the
headers; the pixels stay with GDCM.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from DALAnomalyLib.volume_io.dicom_elements import DataSet
from DALAnomalyLib.volume_io.dicom_reader import LONG_KINDS, MAXIMUM_VALUE_BYTES, DamagedError, ElementReader

DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"

_META_ELEMENT = struct.Struct("<HH2sH")
_TRANSFER_SYNTAX = 0x00020010
_MAXIMUM_INFLATED_BYTES = 1 << 30


@dataclass(frozen=True)
class Header:
    """What is known of a DICOM file.

    Attributes:
        data_set: the elements, as far as they could be read.
        complete: False when the file ends early or makes no sense.
        pixel_range: first byte and number of bytes of the pixel data in the file; None without such data, or where
            they are not bytes of the file (deflated).
        compressed: whether the pixel data are encapsulated or deflated.
    """

    data_set: DataSet
    complete: bool
    pixel_range: tuple[int, int] | None = None
    compressed: bool = False


def is_dicom_source(path: Path) -> bool:
    """Whether a path is a folder, or a file of which the first bytes say DICOM."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Header | None:
    """Read the header of a file; None when it is no DICOM file."""
    with path.open("rb", buffering=1 << 15) as stream:
        start = stream.read(132)
        if start[128:] == b"DICM":
            return _read_data_set(stream, *_transfer_syntax(stream))
        # Some archives export without the preamble; such a data set begins with group 8, in implicit form.
        if len(start) > 16 and start[:2] == b"\x08\x00" and start[3] == 0 and start[6:8] == b"\0\0":
            stream.seek(0)
            header = _read_data_set(stream, "", complete=True)
            return header if header.data_set.text("SeriesInstanceUID") else None
    return None


def _transfer_syntax(stream: BinaryIO) -> tuple[str, bool]:
    """Transfer syntax from the file meta information, which is explicit and little-endian; False if it is cut off."""
    syntax = ""
    while True:
        start = stream.tell()
        head = stream.read(8)
        if len(head) < 8:
            return syntax, False
        group, element, kind, length = _META_ELEMENT.unpack(head)
        if group != 2:
            stream.seek(start)
            return syntax, True
        if kind in LONG_KINDS:
            (length,) = struct.unpack("<I", stream.read(4).ljust(4, b"\0"))
        value = stream.read(min(length, MAXIMUM_VALUE_BYTES))
        stream.seek(max(0, length - len(value)), io.SEEK_CUR)
        if (group << 16) + element == _TRANSFER_SYNTAX:
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")


def _is_explicit(stream: BinaryIO) -> bool:
    """Whether elements carry their representation, going by the first: the transfer syntax is sometimes wrong."""
    start = stream.tell()
    kind = stream.read(6)[4:]
    stream.seek(start)
    return kind.isalpha() and kind.isupper()


def _read_data_set(stream: BinaryIO, syntax: str, complete: bool) -> Header:
    if syntax == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            stream = io.BytesIO(inflater.decompress(stream.read(), _MAXIMUM_INFLATED_BYTES))
        except zlib.error:
            return Header(DataSet(), complete=False)
        complete = complete and inflater.eof
    reader = ElementReader(stream, _is_explicit(stream), ">" if syntax == BIG_ENDIAN else "<")
    values: dict[str, bytes] = {}
    sequences: dict[str, tuple[DataSet, ...]] = {}
    try:
        reader.read_elements(values, sequences, end=reader.size)
    except DamagedError:
        complete = False
    data_set = DataSet(values, sequences, reader.order)
    if syntax == DEFLATED:
        return Header(data_set, complete, None, compressed=reader.pixel_range is not None)
    return Header(data_set, complete, reader.pixel_range, reader.compressed)
