"""The DICOM files below a folder, as archives export them: nested, without extension, beside other files."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume_io.dicom_frame import Frame, frames_of, is_stored_completely
from DALAnomalyLib.volume_io.dicom_header import Header, read_header

MAXIMUM_DEPTH = 8
MAXIMUM_FILES = 20_000
# MR spectra, raw data, presentation states and reports: of modality MR, too, or of none
_NO_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("4.2", "66", "11.", "88."))
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


@dataclass(eq=False)
class FoundSeries:
    """The files that share one series identifier.

    Attributes:
        header: of the first file, in the order of the paths.
        frames: all images of the undamaged files.
        files: how many files, damaged ones included.
        damaged: how many of them end early or make no sense.
        folders: where the files lie.
    """

    header: Header
    frames: list[Frame] = field(default_factory=list)
    files: int = 0
    damaged: int = 0
    folders: set[Path] = field(default_factory=set)


def find_series(path: Path, cancel: CancelToken | None = None) -> dict[str, FoundSeries]:
    """Read the headers of all DICOM files below a folder, or of one file; by series identifier.

    A damaged file without a readable series identifier counts as damage of every series in its folder.

    Raises:
        InputError: there are more files than one study has.
        CancelledError: the token was cancelled.
    """
    found: dict[str, FoundSeries] = {}
    stray_damage: dict[Path, int] = defaultdict(int)
    for file in _files(path):
        if cancel is not None:
            cancel.raise_if_cancelled()
        header = read_header(file)
        if header is None:
            stray_damage[file.parent] += file.suffix.lower() in _DICOM_SUFFIXES
            continue
        uid = header.data_set.text("SeriesInstanceUID")
        if uid:
            series = found.setdefault(uid, FoundSeries(header))
            _add(series, file, header)
        elif "FileSetID" not in header.data_set.values:  # which only a DICOMDIR has
            stray_damage[file.parent] += 1
    for series in found.values():
        series.damaged += sum(stray_damage[folder] for folder in series.folders)
    return found


def _add(series: FoundSeries, file: Path, header: Header) -> None:
    series.files += 1
    series.folders.add(file.parent)
    kind = header.data_set.text("SOPClassUID")
    is_image = header.data_set.text("Modality") in ("MR", "") and not kind.startswith(_NO_IMAGES)
    if not header.complete or (is_image and not is_stored_completely(header)):
        series.damaged += 1
    elif is_image:
        series.frames.extend(frames_of(file, header))


def _is_companion(name: str) -> bool:
    """Whether a file describes others: the list of a medium, or what macOS keeps beside a copied file."""
    return name.upper() == "DICOMDIR" or name.startswith("._")


def _files(path: Path) -> Iterator[Path]:
    """Files below `path`, sorted, so that nothing depends on the order of the file system."""
    if path.is_file():
        yield path
        return
    count = 0
    folders = [(path, 0)]
    while folders:
        folder, depth = folders.pop()
        below = []
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):  # a link may lead to another patient's scans
                below.append((folder / entry.name, depth + 1))
            elif not _is_companion(entry.name) and entry.is_file():
                count += 1
                yield folder / entry.name
        if count > MAXIMUM_FILES or (below and depth == MAXIMUM_DEPTH):
            msg = (
                f"{path}: holds more than {MAXIMUM_FILES} files or {MAXIMUM_DEPTH} levels of folders; "
                "give the folder of one study or series"
            )
            raise InputError(msg)
        folders.extend(reversed(below))
