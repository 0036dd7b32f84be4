"""File names that users give."""

from __future__ import annotations

from pathlib import Path

from DALAnomalyLib.errors import DALAnomalyError, InputError


def text_of(path: Path, error: type[DALAnomalyError] = InputError) -> str:
    """The path as text for ITK, which ends the whole program, without a word, over one that is not UTF-8.

    Raises:
        DALAnomalyError: of the class `error`: it is not, as with names in Latin-1 that an old archive unpacked.
    """
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        msg = f"{shown}: the name of the file or of a folder is not valid UTF-8; rename it"
        raise error(msg) from None
    return text


def refuse_missing(path: Path) -> None:
    """See that there is something at a path.

    Raises:
        InputError: there is nothing, or nothing that this user may see.
    """
    try:
        there = path.exists()
    except OSError as error:  # in a folder that may not be entered, say
        msg = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise InputError(msg) from error
    if not there:
        msg = f"{path}: no such file or folder; check the path"
        raise InputError(msg)
