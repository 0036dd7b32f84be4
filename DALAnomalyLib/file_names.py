"""File names that libraries in C++ can take."""

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
