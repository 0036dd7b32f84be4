"""How the results of several inputs are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".dcm")


def stem_of(path: Path) -> str:
    """Name of a scan without its image suffix; of a DICOM folder, the folder's own name."""
    name = path.resolve().name
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or "scan"
    return name or "scan"


def unique_stems(paths: Iterable[Path]) -> list[str]:
    """One folder name per path, in order; repeated names get `_2`, `_3`, also where only the case differs."""
    taken: set[str] = set()
    stems: list[str] = []
    for path in paths:
        stem = candidate = stem_of(path)
        number = 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}_{number}"
        taken.add(candidate.casefold())
        stems.append(candidate)
    return stems
