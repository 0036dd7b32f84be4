"""A folder of results that is either whole or absent.

Results are written into a hidden folder beside the final one and renamed at the end, so a killed run leaves no half
result. One lock file per final folder keeps two runs apart; whoever holds it may clean up what a killed run left.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from DALAnomalyLib.errors import OutputError
from DALAnomalyLib.file_names import text_of

_HARMLESS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the file system refuses inside the block into a one-line message about `target`.

    Raises:
        OutputError: the disk is full, or `target` cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            msg = f"{target}: the disk is full; free some space or choose another folder"
        else:
            reason = error.strerror or str(error)
            msg = f"{target}: cannot be written ({reason}); choose another folder"
        raise OutputError(msg) from error


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make the folder before long work, so that it is refused early; it is gone again if nothing came to lie in it.

    Raises:
        OutputError: as `writing`, of the folder alone: what is written inside the block has a `writing` of its own.
    """
    missing = _missing(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    try:
        yield
    finally:
        _remove_empty(missing)


def refuse_existing(final: Path, names: Collection[str], force: bool) -> None:
    """Make sure that putting a result at `final` destroys nothing the user did not offer.

    An empty folder is free. With `force` so is a folder holding nothing but files called `names`: an older result.

    Raises:
        OutputError: `final` is a file, holds a result and `force` is off, or holds other files.
    """
    with writing(final):
        if not final.exists():
            return
        if not final.is_dir():
            msg = f"{final}: is a file, not a folder; choose another folder"
            raise OutputError(msg)
        present = sorted(entry.name for entry in final.iterdir() if entry.name not in _HARMLESS)
    foreign = [name for name in present if name not in names]
    if foreign:
        msg = f"{final}: holds files that are no result of this command ({foreign[0]}); choose another folder"
        raise OutputError(msg)
    if present and not force:
        msg = f"{final}: holds a result already; add --force to replace it or choose another folder"
        raise OutputError(msg)


@contextmanager
def result_folder(final: Path, names: Collection[str], force: bool = False) -> Iterator[Path]:
    """Give a hidden folder to write into; it becomes `final` when the block ends well and vanishes otherwise.

    Args:
        final: where the result shall appear; missing parent folders are made, and removed again on failure.
        names: every file name a result may hold; nothing else is ever replaced.
        force: whether an older result at `final` is replaced, which happens only once the new one is whole.

    Raises:
        OutputError: see `refuse_existing`; the folder cannot be written, or its name is not UTF-8; another run is
            writing the same result.
    """
    final = Path(os.path.realpath(final))
    text_of(final, OutputError)
    refuse_existing(final, names, force)
    with _parents(final.parent), _lock(final):
        with writing(final):
            _clean_leftovers(final)
        refuse_existing(final, names, force)
        partial = final.with_name(f"{_prefix(final)}{secrets.token_hex(4)}")
        with writing(final):
            partial.mkdir()
        try:
            yield partial
            with writing(final):
                _swap(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _prefix(final: Path) -> str:
    return f".{final.name}.dal-anomaly-"


def _replaced(final: Path) -> Path:
    """Where the older result waits while the new one takes its place."""
    return final.with_name(f"{_prefix(final)}replaced")


def _swap(partial: Path, final: Path) -> None:
    if not final.exists():
        partial.rename(final)
        return
    older = _replaced(final)
    final.rename(older)
    try:
        partial.rename(final)
    except OSError:
        older.rename(final)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _clean_leftovers(final: Path) -> None:
    """Remove what a killed run left; called under the lock, so nothing found here is still in use."""
    older = _replaced(final)
    if older.exists() and not final.exists():
        older.rename(final)
    for leftover in final.parent.iterdir():
        if leftover.name.startswith(_prefix(final)) and leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    missing = _missing(folder)
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        _remove_empty(missing)
        raise


def _missing(folder: Path) -> list[Path]:
    """Which of the folder and its parents are not there, from the inside out."""
    return [parent for parent in (folder, *folder.parents) if not parent.exists()]


def _remove_empty(made: list[Path]) -> None:
    for folder in made:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _lock(final: Path) -> Iterator[None]:
    path = final.with_name(f"{_prefix(final)}lock")
    with writing(final):
        handle = path.open("a")
    with handle:
        if not (_try_lock(handle) and _is_file(handle, path)):
            msg = f"{final}: another run is writing this result; wait for it or choose another folder"
            raise OutputError(msg)
        try:
            yield
        finally:
            if sys.platform == "win32":
                handle.close()  # an open file cannot be removed there
            with suppress(OSError):
                path.unlink()


def _is_file(handle: IO[str], path: Path) -> bool:
    """Whether the locked file is the one that others would open: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(handle: IO[str]) -> bool:
    """Lock a file for this process; the system frees it however the process ends. False when another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks must not keep anybody from writing.
        return error.errno not in {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}
    return True
