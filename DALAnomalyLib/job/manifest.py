"""The record beside every result: what was run on what, by which versions; never who the patient is."""

from __future__ import annotations

import hashlib
import math
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from DALAnomalyLib import __version__
from DALAnomalyLib.errors import InputError

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector
    from DALAnomalyLib.volume_io import ScanSeries

MANIFEST_VERSION = 1
RESEARCH_USE = "Research use only. Not for diagnosis."
_CHUNK = 1 << 20


def run_record(
    detector: Detector,
    inputs: Mapping[str, Any],
    requested: Mapping[str, Any],
    outcome: Mapping[str, Any],
    started: datetime,
) -> dict[str, Any]:
    """What every run records; the digests of its outputs are added when they are written.

    Args:
        detector: what ran, on which device.
        inputs: name of each input to its description, see `describe_input`.
        requested: the user's wishes; of paths only the last name is kept.
        outcome: what came of it.
        started: with its time zone.
    """
    return {
        "tool": "DALAnomaly",
        "manifest_version": MANIFEST_VERSION,
        "notice": RESEARCH_USE,
        "versions": versions(),
        "model": detector.identity,
        "device": str(detector.device),
        **inputs,
        "requested": plain(requested),
        **plain(outcome),
        "times": describe_times(started),
    }


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    found = {package: _package_version(package) for package in ("torch", "SimpleITK", "numpy", "scipy")}
    return {
        "DALAnomaly": __version__,
        **found,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _package_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe_input(path: Path, series: int | ScanSeries | None = None, sequence: str = "auto") -> dict[str, Any]:
    """File name, number of files and SHA-256 of an input; of a DICOM folder also number and part of the series.

    A DICOM folder is not named (its name is often the patient's), and of its files those of the chosen series alone
    count, so that neither their names nor what else lies there, such as earlier results, changes the digest: it is the
    digest of the sorted digests.

    Args:
        path: a file, or a folder of DICOM series.
        series: which of them, see `find_scan`.
        sequence: what the series should be, see `find_scan`.
    """
    if path.is_dir():
        from DALAnomalyLib.volume_io import find_scan

        chosen = find_scan(path, series, sequence)
        files = sorted({frame.path for frame in chosen.frames})
        named = {"series": chosen.number, "part": list(chosen.part)}
    else:
        files, named = [path, *_detached_data_of(path)], {}
    digests = sorted(_digest(file) for file in files)
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return {"name": shown_name(path), "files": len(files), "sha256": digest, **named}


def describe_inputs(
    scan: Path, brain_mask: Path | None, series: int | ScanSeries | None = None, sequence: str = "auto"
) -> dict[str, Any]:
    """Both inputs of a run, as `run_record` takes them; to be asked for at once, for a file may vanish during the run.

    Raises:
        InputError: a file has vanished already.
    """
    try:
        return {
            "input": describe_input(scan, series, sequence),
            "brain_mask": None if brain_mask is None else describe_input(brain_mask),
        }
    except OSError as error:
        msg = f"{error.filename}: cannot be read any more ({error.strerror}); leave it in its place during the run"
        raise InputError(msg) from error


def shown_name(path: Path) -> str:
    """The name under which an input appears in results: its file name, or `DICOM series` for a folder."""
    return "DICOM series" if path.is_dir() else path.name


_DATA_FIELDS = {".mhd": ("=", ("elementdatafile",)), ".nhdr": (":", ("data file", "datafile"))}
"""Of headers that name their data: what stands between a field's name and its value, and the names of this one."""


def _detached_data_of(header: Path) -> list[Path]:
    """The files with the voxels that a MetaImage or NRRD header names, where they exist."""
    separator, fields = _DATA_FIELDS.get(header.suffix.lower(), ("", ()))
    if not fields:
        return []
    lines = header.read_text(encoding="latin-1").splitlines()
    for number, line in enumerate(lines):
        name, _, value = line.partition(separator)
        if name.strip().lower() in fields:
            named = _named_files(value.strip(), lines[number + 1 :])
            return [file for file in (header.parent / each for each in named) if file.is_file()]
    return []


def _named_files(value: str, rest: list[str]) -> list[str]:
    """One file, `LIST` and a file in every further line, or `slice%03d.raw 1 60 1`: pattern, first, last, step."""
    words = value.split()
    if words[:1] == ["LIST"]:
        return [line.strip() for line in rest if line.strip()]
    if len(words) >= 4 and "%" in words[0]:
        first, last, step = (int(word) for word in words[1:4])
        return [words[0] % number for number in range(first, last + (1 if step > 0 else -1), step)]
    return [value]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder of results, by name."""
    return {file.name: _digest(file) for file in sorted(folder.iterdir())}


def describe_times(started: datetime) -> dict[str, Any]:
    """Start and end in UTC and the seconds between them; `started` must carry its time zone."""
    finished = datetime.now(timezone.utc)
    return {
        "started": started.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 3),
    }


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers without NaN, lists, text; of an absolute path only the last name stays."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return _without_folders(str(value))


def _without_folders(text: str) -> str:
    """Shorten the words of a text that are absolute paths (POSIX or Windows) to their last name."""
    return " ".join(_last_name(word) for word in text.split(" "))


def _last_name(word: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(word)
        if path.is_absolute() and len(path.parts) > 2:
            return path.name
    return word
