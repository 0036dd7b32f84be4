"""Damage inside the compressed voxels of MetaImage and NRRD files, which ITK reads over without an error."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from DALAnomalyLib.errors import InputError

_CHUNK_BYTES = 1 << 20
_MAXIMUM_HEADER_BYTES = 1 << 20
_MAXIMUM_INFLATED_BYTES = 1 << 34
_ZLIB_OR_GZIP = zlib.MAX_WBITS + 32
_META_FIELD = re.compile(rb"^\s*(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_NRRD_FIELD = re.compile(rb"^([\w ]+):\s*(.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class _Block:
    """Where compressed voxels lie: a file and the first byte in it."""

    path: Path
    start: int


def check_compressed_data(path: Path) -> None:
    """Refuse compressed voxels that do not inflate to their end or fail their checksum (InputError).

    Does nothing for a file that is not compressed or of which the header makes no sense: the latter ITK reports.
    """
    with path.open("rb") as stream:
        head = stream.read(_MAXIMUM_HEADER_BYTES)
    block = _nrrd_block(path, head) if path.name.lower().endswith((".nrrd", ".nhdr")) else _meta_block(path, head)
    if block is not None and block.path.is_file() and not _inflates(block):
        msg = f"{path}: the compressed voxels are damaged or truncated; copy or download the file again"
        raise InputError(msg)


def _meta_block(path: Path, head: bytes) -> _Block | None:
    last = re.search(rb"^\s*ElementDataFile\s*=\s*(.*?)[ \t\r]*\n", head, re.MULTILINE)
    if last is None:
        return None
    fields = {name.lower(): value for name, value in _META_FIELD.findall(head[: last.start()])}
    if fields.get(b"compresseddata", b"").lower() not in (b"true", b"1"):
        return None
    if last.group(1) == b"LOCAL":
        return _Block(path, last.end())
    return _beside(path, last.group(1))


def _nrrd_block(path: Path, head: bytes) -> _Block | None:
    end = re.search(rb"\r?\n\r?\n", head)
    fields = {name.lower(): value for name, value in _NRRD_FIELD.findall(head[: end.start()] if end else head)}
    skipped = any(fields.get(name, b"0") != b"0" for name in (b"line skip", b"lineskip", b"byte skip", b"byteskip"))
    if fields.get(b"encoding", b"").lower() not in (b"gzip", b"gz") or skipped:
        return None
    detached = fields.get(b"data file") or fields.get(b"datafile")
    if detached:
        return _beside(path, detached)
    return _Block(path, end.end()) if end else None


def _beside(path: Path, name: bytes) -> _Block | None:
    """A data file of its own; lists and patterns of several are left to ITK."""
    if name.split(b" ")[0] == b"LIST" or b"%" in name:
        return None
    return _Block(path.parent / name.decode("utf-8", "surrogateescape"), 0)


def _inflates(block: _Block) -> bool:
    """Whether the data are complete; at no time more than some MB of them are held."""
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    inflated = 0
    with block.path.open("rb") as stream:
        stream.seek(block.start)
        try:
            while not inflater.eof and inflated <= _MAXIMUM_INFLATED_BYTES:
                data = inflater.unconsumed_tail or stream.read(_CHUNK_BYTES)
                if not data:
                    return False
                inflated += len(inflater.decompress(data, _CHUNK_BYTES * 4))
        except zlib.error:
            return False
    return inflater.eof
