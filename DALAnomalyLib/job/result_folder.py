"""A folder that holds a whole result or none.

Results are written into a hidden folder inside the final one and moved out at the end, the file that stands for all of
them last: a killed run leaves nothing that passes for a result. The folder stays the very one that the user made: with
its rights, mounted from elsewhere, or the place where a shell stands. One lock file keeps two runs apart; whoever holds
it may clean up what a killed run left.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from DALAnomalyLib.errors import OutputError
from DALAnomalyLib.file_names import text_of

_HARMLESS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_OURS = ".dal-anomaly-"
"""Begins the names of what lies in the folder only while a run writes, or after one was killed."""
_LEAVING, _REPLACED = f"{_OURS}leaving", f"{_OURS}replaced"
"""Where the older result waits: while its files are moved there, and once all of them are."""
_ARRIVING = f"{_OURS}arriving"
"""File in there that names the new result's files."""
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
        present = _present(final)
    foreign = [name for name in present if name not in names]
    if foreign:
        msg = f"{final}: holds files that are no result of this command ({foreign[0]}); choose another folder"
        raise OutputError(msg)
    if present and not force:
        msg = f"{final}: holds a result already; add --force to replace it or choose another folder"
        raise OutputError(msg)


def is_free(final: Path) -> bool:
    """Whether nothing lies there, or no more than what a killed run left and file managers keep."""
    return not final.exists() or (final.is_dir() and not _present(final))


@contextmanager
def result_folder(final: Path, names: Sequence[str], force: bool = False) -> Iterator[Path]:
    """Give a hidden folder to write into; what it holds moves to `final` when the block ends well, else it vanishes.

    Args:
        final: where the result shall appear; missing folders are made, and removed again on failure.
        names: every file name a result may hold, in the order in which they appear in `final`: whoever sees the last
            one there sees all. Nothing else is ever replaced.
        force: whether an older result at `final` is replaced, which happens only once the new one is whole.

    Raises:
        OutputError: see `refuse_existing`; the folder cannot be written, or its name is not UTF-8; another run is
            writing the same result.
    """
    final = Path(os.path.realpath(final))
    text_of(final, OutputError)
    if not _leftovers(final):  # where a run was killed, an older result must first be brought back
        refuse_existing(final, names, force)
    with _made(final), _lock(final):
        with writing(final):
            _clean_leftovers(final)
        refuse_existing(final, names, force)
        partial = final / f"{_OURS}{secrets.token_hex(4)}"
        with writing(final):
            partial.mkdir()
        try:
            yield partial
            refuse_existing(final, names, force)  # once more: a run takes minutes
            with writing(final):
                _take_place(partial, final, names)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, final: Path, names: Sequence[str]) -> None:
    """Move the new result to where the older one is, if there is one; whatever hinders that, one of them is whole."""
    leaving, replaced = final / _LEAVING, final / _REPLACED
    arriving = _in_order((entry for entry in partial.iterdir() if entry.name not in _HARMLESS), names)
    try:
        leaving.mkdir()
        # what may be undone must not depend on who undoes it
        (leaving / _ARRIVING).write_text("\n".join(entry.name for entry in arriving), encoding="utf-8")
        for entry in reversed(_in_order((entry for entry in _visible(final) if entry.name in names), names)):
            entry.replace(leaving / entry.name)
        leaving.replace(replaced)
        for entry in arriving:
            entry.replace(final / entry.name)
        replaced.replace(partial / _REPLACED)  # from here on the new one holds
    except BaseException:
        _bring_back(final)
        raise


def _bring_back(final: Path) -> None:
    """Undo what `_take_place` had begun; a run that is killed here is undone in the same way."""
    leaving, replaced = final / _LEAVING, final / _REPLACED
    if replaced.exists():
        for name in (replaced / _ARRIVING).read_text(encoding="utf-8").splitlines():
            (final / name).unlink(missing_ok=True)
        replaced.replace(leaving)
    if leaving.exists():
        for entry in _visible(leaving):
            entry.replace(final / entry.name)
        shutil.rmtree(leaving)


def _clean_leftovers(final: Path) -> None:
    """Remove what a killed run left; called under the lock, so nothing found here is still in use."""
    _bring_back(final)
    for leftover in _leftovers(final):
        shutil.rmtree(leftover, ignore_errors=True)


def _present(final: Path) -> list[str]:
    return sorted(entry.name for entry in _visible(final) if entry.name not in _HARMLESS)


def _leftovers(final: Path) -> list[Path]:
    """Folders of ours: a run writes there, or was killed while it did."""
    return [entry for entry in final.glob(f"{_OURS}*") if entry.is_dir()]


def _visible(final: Path) -> list[Path]:
    return [entry for entry in final.iterdir() if not entry.name.startswith(_OURS)]


def _in_order(entries: Iterable[Path], names: Sequence[str]) -> list[Path]:
    """As `names` has them, after what it does not name."""
    place = {name: position for position, name in enumerate(names)}
    return sorted(entries, key=lambda entry: place.get(entry.name, -1))


@contextmanager
def _made(folder: Path) -> Iterator[None]:
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
    path = final / f"{_OURS}lock"
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
