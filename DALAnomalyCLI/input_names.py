"""How the results of several inputs are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")


def stem_of(path: Path) -> str:
    """Name of a scan without its image suffix; of a DICOM folder, the folder's own name."""
    name = path.resolve().name
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or "scan"
    return name or "scan"


def unique_stems(paths: Iterable[Path]) -> list[str]:
    """One folder name per path, in order; names that repeat, be it in another case, get those of their folders.

    `sub-1/T1.nii` and `sub-2/T1.nii` become `sub-1_T1` and `sub-2_T1`, whatever their order; the same path given
    twice, and whatever else is left, gets `_2`, `_3`.
    """
    paths = list(paths)
    stems = [stem_of(path) for path in paths]
    for depth in range(1, max((len(path.resolve().parts) for path in paths), default=0)):
        counts = Counter(stem.casefold() for stem in stems)
        if max(counts.values()) == 1:
            break
        stems = [
            stem if counts[stem.casefold()] == 1 else _with_folders(path, depth)
            for path, stem in zip(paths, stems, strict=True)
        ]
    return _numbered(stems)


def _with_folders(path: Path, depth: int) -> str:
    folders = path.resolve().parent.parts[1:][-depth:]
    return "_".join((*folders, stem_of(path)))


def _numbered(stems: Iterable[str]) -> list[str]:
    taken: set[str] = set()
    unique: list[str] = []
    for stem in stems:
        candidate, number = stem, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}_{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
