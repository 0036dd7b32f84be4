"""The training pack: every subject of a training set in one compact, checksummed, memory-mapped folder.

`pack.json` describes the records, `pack.bin` holds their arrays: 8-bit images and, two voxels to a byte, 4-bit label
maps. All arrays are upright in one frame: LPS mm with the brain's box centred on x = y = 0 and its top at z = 0.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.result_folder import writing

FORMAT = "dal-anomaly-pack-1"
Source = Literal["labels", "semi_real", "paired"]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Record:
    """One subject: arrays that share a box of the frame."""

    name: str
    source: Source
    """`labels`: a label map alone; `semi_real`: one real image and labels; `paired`: real images and brain labels."""
    shape: tuple[int, int, int]
    """(D, H, W)."""
    spacing: tuple[float, float, float]
    """Millimetres along (x, y, z)."""
    origin: tuple[float, float, float]
    """Frame position, LPS mm, of the centre of voxel (0, 0, 0)."""
    labels_offset: int
    image_offsets: dict[str, int] = field(default_factory=dict)
    """Sequence name to offset in `pack.bin`."""
    group: str = ""
    """The folder or data set that the subject comes from."""


class PackWriter:
    """Collects subjects and writes them as one pack; the folder appears whole or not at all."""

    def __init__(self, description: str, priors: dict[str, list[list[list[float]]]]) -> None:
        """Start a pack; `priors` gives sequence -> [means, standard deviations] x [value, spread] x class."""
        self.description = description
        self._header: dict[str, Any] = {"format": FORMAT, "priors": priors}
        self._records: list[Record] = []
        self._data = bytearray()

    def add(
        self,
        name: str,
        source: Source,
        labels: Bytes,
        images: dict[str, Bytes],
        spacing: tuple[float, float, float],
        origin: tuple[float, float, float],
        group: str = "",
    ) -> None:
        """Add one subject: `labels` (D, H, W) of classes 0..15 and images (D, H, W), all on one grid."""
        if any(image.shape != labels.shape for image in images.values()):
            msg = f"{name}: images of shapes {[i.shape for i in images.values()]} beside labels of {labels.shape}"
            raise InputError(msg)
        labels_offset = self._append(_to_nibbles(labels))
        offsets = {sequence: self._append(image) for sequence, image in images.items()}
        shape = (labels.shape[0], labels.shape[1], labels.shape[2])
        self._records.append(Record(name, source, shape, spacing, origin, labels_offset, offsets, group))

    def _append(self, array: Bytes) -> int:
        offset = len(self._data)
        self._data += np.ascontiguousarray(array).tobytes()
        return offset

    def write(self, folder: Path) -> int:
        """Write the pack into `folder`, replacing an earlier one; returns its size in bytes.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        header = self._header | {
            "description": self.description,
            "records": [asdict(record) for record in self._records],
            "sha256": hashlib.sha256(self._data).hexdigest(),
            "bytes": len(self._data),
        }
        contents: dict[str, bytes | bytearray] = {"pack.bin": self._data, "pack.json": json.dumps(header).encode()}
        parts = {name: folder / f".{name}.part" for name in contents}
        try:
            for name, content in contents.items():
                with writing(folder / name):
                    parts[name].write_bytes(content)
            with writing(folder):
                # a pack without its description is not a pack; with an older one it would be a damaged one
                (folder / "pack.json").unlink(missing_ok=True)
                for name, part in parts.items():
                    os.replace(part, folder / name)
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
        return len(self._data)


class Pack:
    """A pack opened for reading; arrays are decoded when asked for."""

    def __init__(self, folder: Path, verify: bool = True) -> None:
        """Open `folder`.

        Raises:
            InputError: It is no pack, is incomplete, or its checksum does not match.
        """
        self.folder = folder
        try:
            header = json.loads((folder / "pack.json").read_text())
            self._data = np.memmap(folder / "pack.bin", dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            msg = f"{folder} is not a training pack ({error}); build one with 'dal-anomaly prepare'"
            raise InputError(msg) from error
        found = header.get("format") if isinstance(header, dict) else None
        if found != FORMAT:
            msg = f"{folder} has pack format {found!r}, this version reads {FORMAT!r}; prepare it again"
            raise InputError(msg)
        try:
            self.sha256: str = header["sha256"]
            self.description: str = header["description"]
            self.priors: dict[str, list[list[list[float]]]] = header["priors"]
            self.records = [_record(item) for item in header["records"]]
        except (KeyError, TypeError) as error:
            msg = f"{folder}/pack.json is damaged ({error!r}); copy it again or prepare it again"
            raise InputError(msg) from error
        if verify and hashlib.sha256(self._data.data).hexdigest() != self.sha256:
            msg = f"{folder}/pack.bin does not match its checksum; copy it again or prepare it again"
            raise InputError(msg)

    def labels(self, record: Record) -> Bytes:
        """Label classes, uint8 (D, H, W)."""
        size = int(np.prod(record.shape))
        nibbles = self._data[record.labels_offset : record.labels_offset + (size + 1) // 2]
        return np.stack((nibbles & 15, nibbles >> 4), axis=-1).reshape(-1)[:size].reshape(record.shape)

    def image(self, record: Record, sequence: str) -> Bytes:
        """The subject's real image of `sequence`, uint8 (D, H, W)."""
        offset = record.image_offsets[sequence]
        return np.array(self._data[offset : offset + int(np.prod(record.shape))]).reshape(record.shape)


def _to_nibbles(labels: Bytes) -> Bytes:
    flat = labels.reshape(-1)
    if flat.max(initial=0) > 15:
        msg = f"label class {flat.max()} does not fit the pack's 4 bits"
        raise InputError(msg)
    flat = np.pad(flat, (0, flat.size % 2))
    return np.bitwise_or(flat[0::2], flat[1::2] << 4, dtype=np.uint8)


def _record(item: dict[str, Any]) -> Record:
    vectors = {name: tuple(item[name]) for name in ("shape", "spacing", "origin")}
    return Record(**(item | vectors))
