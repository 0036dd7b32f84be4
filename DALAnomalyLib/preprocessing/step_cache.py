"""Results of slow steps kept on disk, so that the same scan with the same settings is not computed twice.

An entry is a file of plain numbers under a name that is a hash: no file name, no patient data, nothing that runs when
it is read. The cache may fail in any way (no permission, full disk, a damaged file) without harm: the step is then
computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from DALAnomalyLib.volume import AnyArray, Volume

DEFAULT_LIMIT_BYTES = 1_000_000_000
FOLDER_VARIABLE = "DAL_CACHE"
"""Environment variable that names another folder for the cache to lie in."""

_SUFFIX = ".step.npz"
_PART_SUFFIX = ".step.part"
_KEY = re.compile(r"[0-9a-f]{64}")
_STALE_SECONDS = 3600.0
"""A half-written file older than this belongs to a program that was killed."""


def default_cache_folder() -> Path:
    """`dal-anomaly` where the user's caches belong on this system, or in the folder that `DAL_CACHE` names."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        base = Path(named).expanduser()
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "dal-anomaly"


def cache_key(*parts: object) -> str:
    """One name for all that a result depends on: 64 hexadecimal digits.

    Args:
        parts: versions, parameters, digests: anything whose `repr` tells its whole value. Not arrays, whose `repr` is
            shortened: give their `volume_digest`.
    """
    return hashlib.sha256("\n".join(f"{type(part).__name__} {part!r}" for part in parts).encode()).hexdigest()


def volume_digest(volume: Volume) -> str:
    """Hash of all voxels, their type and their grid: 64 hexadecimal digits."""
    grid = volume.grid
    digest = hashlib.sha256()
    for part in (volume.array.dtype.str, grid.shape, grid.spacing, grid.origin, grid.direction):
        values = part if isinstance(part, str) else tuple(float(value) for value in part)
        digest.update(f"{values!r};".encode())
    digest.update(np.ascontiguousarray(volume.array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class StepCache:
    """Arrays by key in one folder of bounded size; the entries used longest ago go first.

    Several programs may share the folder: an entry appears whole or not at all.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Use `folder`, made when missing and readable by its owner only; `limit_bytes` bounds all entries together."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._usable = _prepare(folder)

    @property
    def usable(self) -> bool:
        """Whether the folder takes entries. If not, every look-up misses and nothing is kept."""
        return self._usable

    def get(self, key: str) -> dict[str, AnyArray] | None:
        """The arrays kept under `key`, or None. A damaged entry counts as missing and is removed."""
        path = self._path(key)
        try:
            # opened here: np.load forgets to close a file that is no archive
            with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
                arrays = {name: entry[name] for name in entry.files}
        except FileNotFoundError:
            return None
        except (
            OSError,
            ValueError,
            EOFError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
            zipfile.BadZipFile,
        ):
            # whatever is wrong with the file, computing again mends it
            _remove(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return arrays

    def put(self, key: str, arrays: Mapping[str, AnyArray]) -> None:
        """Keep arrays of numbers under `key`; does nothing where that is impossible.

        Raises:
            TypeError: an array holds Python objects.
        """
        for name, array in arrays.items():
            if array.dtype.hasobject:
                msg = f"array '{name}' holds Python objects ({array.dtype}); only numbers are kept"
                raise TypeError(msg)
        path = self._path(key)
        if not self._usable or sum(array.nbytes for array in arrays.values()) > self._limit_bytes:
            return
        try:
            _write(path, arrays)
            self._make_room()
        except OSError:
            return

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            msg = f"'{key}' is no cache key; make one with cache_key"
            raise ValueError(msg)
        return self._folder / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        entries = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another program removed it meanwhile
                entries.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit_bytes:
                break
            _remove(path)
            total -= size


def _prepare(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # mkdir obeys the umask, and the folder may be older
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
        _remove_stale(folder)
    except OSError:
        return False
    return True


def _remove_stale(folder: Path) -> None:
    """Half-written files of programs that were killed would otherwise stay for ever."""
    for path in folder.glob(f"*{_PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            newest = max(entry.stat().st_mtime for entry in (folder, path))
            if newest - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _write(path: Path, arrays: Mapping[str, AnyArray]) -> None:
    descriptor, name = tempfile.mkstemp(suffix=_PART_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write_archive(file, arrays)
        os.replace(name, path)
    except BaseException:
        _remove(Path(name))
        raise


def _write_archive(file: IO[bytes], arrays: Mapping[str, AnyArray]) -> None:
    """As np.savez, whose own arguments would forbid some names of arrays."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
