"""Where a command may put a model file."""

from __future__ import annotations

from pathlib import Path

from DALAnomalyLib.errors import OutputError


def check_model_output(output: Path, force: bool) -> None:
    """Refuse before the long work what could not be written after it, and what `force` must not replace.

    Raises:
        OutputError: it is not the name of a model file, or one lies there and `force` is off.
    """
    if output.suffix != ".dalmodel" or output.is_dir():
        msg = f"{output}: give the name of a model file, NAME.dalmodel"
        raise OutputError(msg)
    if output.exists() and not force:
        msg = f"{output} exists already; choose another name or add --force"
        raise OutputError(msg)
