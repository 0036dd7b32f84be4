"""How the results of several inputs are called."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_LONGEST_NAME = 150
"""In bytes; file systems take 255, of which names of partial results need some."""


def stem_of(path: Path) -> str:
    """Name of a scan without its image suffix; of a DICOM folder, the folder's own name."""
    name = _absolute(path).name
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name.strip() or "scan"


def unique_stems(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """One folder name per path, in order; names that repeat, be it in another case, get those of their folders.

    `sub-1/T1.nii` and `sub-2/T1.nii` become `sub-1_T1` and `sub-2_T1`, whatever their order; files of one folder, and
    whatever is left or would be too long, get `_2`, `_3`.

    Args:
        paths: of scans or DICOM folders.
        taken: names that are not free any more.
    """
    groups = defaultdict(set)
    for path in paths:
        groups[stem_of(path).casefold()].add(_absolute(path).parent)
    stems = []
    for path in paths:
        stem = stem_of(path)
        name = "_".join((*_telling_end(_absolute(path).parent, groups[stem.casefold()]), stem))
        stems.append(name if len(os.fsencode(name)) <= _LONGEST_NAME else stem)
    return _numbered(stems, taken)


def _absolute(path: Path) -> Path:
    """Links are not followed: in data sets of git-annex they lead to files that are called by their digests."""
    return Path(os.path.abspath(path))


def _telling_end(folder: Path, folders: Collection[Path]) -> tuple[str, ...]:
    """As few of its last names as tell a folder from the others."""
    for count in range(len(folder.parts)):
        end = folder.parts[len(folder.parts) - count :]
        if sum(other.parts[len(other.parts) - count :] == end for other in folders) == 1:
            return end
    return folder.parts[1:]


def _numbered(stems: Iterable[str], taken: Collection[str]) -> list[str]:
    used = {name.casefold() for name in taken}
    unique: list[str] = []
    for stem in stems:
        candidate, number = stem, 1
        while candidate.casefold() in used:
            number += 1
            candidate = f"{stem}_{number}"
        used.add(candidate.casefold())
        unique.append(candidate)
    return unique
