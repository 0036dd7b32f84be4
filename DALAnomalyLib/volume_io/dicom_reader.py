"""From the bytes of a DICOM data set to its elements (PS3.5 section 7)."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from DALAnomalyLib.volume_io.dicom_elements import ELEMENTS, DataSet

LONG_KINDS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations whose length takes four bytes, after two that are reserved."""
MAXIMUM_VALUE_BYTES = 1 << 14
_PIXELS = 0x7FE00010
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_MAXIMUM_DEPTH = 16


class DamagedError(Exception):
    """The bytes end early or make no sense."""


class ElementReader:
    """Walks through the elements of one data set."""

    def __init__(self, stream: BinaryIO, explicit: bool, order: str) -> None:
        self.stream, self.explicit, self.order = stream, explicit, order
        self.position = stream.tell()
        self.size = stream.seek(0, io.SEEK_END)
        stream.seek(self.position)
        self.pixel_range: tuple[int, int] | None = None
        self.compressed = False
        self._tag = struct.Struct(f"{order}HH")
        self._short, self._long = struct.Struct(f"{order}H"), struct.Struct(f"{order}I")

    def read_elements(
        self, values: dict[str, bytes], sequences: dict[str, tuple[DataSet, ...]], end: int, depth: int = 0
    ) -> None:
        """Read elements up to `end`, the end of the item, or the pixels."""
        while self.position < end:
            tag, kind, length = self._element()
            if tag == _END_OF_ITEM:
                return
            if tag == _PIXELS and depth == 0:
                self._pass_pixels(length)
                return
            name, representation = ELEMENTS.get(tag, ("", ""))
            if length == _UNDEFINED and kind in (b"OB", b"OW"):
                self._pass_fragments()
            elif length == _UNDEFINED or (representation == "SQ" and kind in (b"SQ", b"")):
                items = self._items(length, depth + 1, implicit=kind == b"UN")
                if representation == "SQ":
                    sequences[name] = items
            elif name and representation != "SQ" and length <= MAXIMUM_VALUE_BYTES:
                values[name] = self._take(length)
            else:
                self._skip(length)

    def _element(self) -> tuple[int, bytes, int]:
        """Tag, value representation (empty if implicit) and length of the next element."""
        group, element = self._tag.unpack(self._take(4))
        tag = (group << 16) + element
        if not self.explicit or group == 0xFFFE:
            return tag, b"", self._long.unpack(self._take(4))[0]
        kind = self._take(2)
        if not kind.isalpha() or not kind.isupper():
            raise DamagedError
        if kind not in LONG_KINDS:
            return tag, kind, self._short.unpack(self._take(2))[0]
        self._skip(2)
        return tag, kind, self._long.unpack(self._take(4))[0]

    def _items(self, length: int, depth: int, implicit: bool) -> tuple[DataSet, ...]:
        """Items of a sequence; one of unknown representation is always implicit (PS3.5 section 6.2.2)."""
        if depth > _MAXIMUM_DEPTH:
            raise DamagedError
        explicit, self.explicit = self.explicit, self.explicit and not implicit
        end = self.size if length == _UNDEFINED else self._end_of(length)
        found = []
        while self.position < end:
            tag, _, item_length = self._element()
            if tag == _END_OF_SEQUENCE:
                break
            if tag != _ITEM:
                raise DamagedError
            values: dict[str, bytes] = {}
            sequences: dict[str, tuple[DataSet, ...]] = {}
            item_end = self.size if item_length == _UNDEFINED else self._end_of(item_length)
            self.read_elements(values, sequences, item_end, depth)
            found.append(DataSet(values, sequences, self.order))
        else:
            if length == _UNDEFINED:
                raise DamagedError
        self.explicit = explicit
        return tuple(found)

    def _pass_pixels(self, length: int) -> None:
        start = self.position
        self.compressed = length == _UNDEFINED
        if self.compressed:
            self._pass_fragments()
        else:
            self._skip(length)
        self.pixel_range = (start, self.position - start)

    def _pass_fragments(self) -> None:
        tag = _ITEM
        while tag == _ITEM:
            tag, _, length = self._element()
            self._skip(length)
        if tag != _END_OF_SEQUENCE:
            raise DamagedError

    def _end_of(self, length: int) -> int:
        if self.position + length > self.size:
            raise DamagedError
        return self.position + length

    def _take(self, length: int) -> bytes:
        self.position = self._end_of(length)
        return self.stream.read(length)

    def _skip(self, length: int) -> None:
        self.position = self._end_of(length)
        self.stream.seek(length, io.SEEK_CUR)
