"""What is kept of a pack in the making: finished subjects, and the list of those that were skipped."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.result_folder import writing
from DALAnomalyLib.preprocessing.chain import CACHE_VERSION as CHAIN_VERSION
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.step_cache import StepCache, cache_key
from DALAnomalyTraining.label_classes import OUTER_CSF

VERSION = 2
"""Raised when subjects are prepared differently, so that no older one is taken for a new one."""
SKIPPED_FILE = "skipped.csv"
_LIMIT_BYTES = 10**12

PackedSubject: TypeAlias = tuple[
    npt.NDArray[np.uint8], dict[str, npt.NDArray[np.uint8]], tuple[float, float, float], float
]
"""Label classes (D, H, W), images (D, H, W) by sequence, LPS mm of the first voxel in the frame, voxel size in mm."""


def subject_key(
    images: Mapping[str, Path], spacing: float, n4: bool, template: sitk.Image | None, equipment: Equipment
) -> str:
    """The name of all that a packed subject depends on: its files' bytes, the options, atlas and network."""
    try:
        files = [(name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in sorted(images.items())]
    except OSError as error:
        msg = f"{error.filename} cannot be read ({error.strerror}); check the file or unpack it again"
        raise InputError(msg) from error
    pose = None if template is None else sitk.Hash(template)
    tools = (equipment.atlas().digest, equipment.extractor().digest)
    return cache_key(VERSION, CHAIN_VERSION, files, spacing, n4, pose, tools)


class SubjectCache:
    """Finished real pairs in a folder beside the pack, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which may be deleted whenever no pack is being made."""
        self._folder = folder

    def get(self, key: str) -> PackedSubject | None:
        """A subject prepared before, or None."""
        kept = StepCache(self._folder, _LIMIT_BYTES).get(key) if self._folder.is_dir() else None
        if kept is None:
            return None
        shape = tuple(kept.pop("shape").tolist())
        inside = np.unpackbits(kept.pop("brain"), count=int(np.prod(shape))).reshape(shape)
        x, y, z, steps = kept.pop("place").tolist()
        return (inside * np.uint8(OUTER_CSF)).astype(np.uint8), dict(kept), (x, y, z), steps

    def put(self, key: str, packed: PackedSubject) -> None:
        """Keep a subject whose labels say brain or not, and no more."""
        labels, images, origin, steps = packed
        numbers = {"shape": np.array(labels.shape), "place": np.array([*origin, steps])}
        StepCache(self._folder, _LIMIT_BYTES).put(key, numbers | {"brain": np.packbits(labels > 0)} | images)

    def discard_if_empty(self) -> None:
        """Leave no empty folder behind."""
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()


def write_skipped(folder: Path, skipped: list[tuple[str, str]]) -> None:
    """Write `skipped.csv` (subject, reason) into the pack's folder; without any, remove an older list."""
    path = folder / SKIPPED_FILE
    if not skipped:
        path.unlink(missing_ok=True)
        return
    temporary = folder / f".{SKIPPED_FILE}.part"
    with writing(path):
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("subject", "reason"), *skipped])
        os.replace(temporary, path)
