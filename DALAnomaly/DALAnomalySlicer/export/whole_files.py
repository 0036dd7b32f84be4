"""Files that are whole or absent: written under a hidden name beside the final one and renamed at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from DALAnomalyLib.job.result_folder import writing


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden path in the folder of `path`; it replaces `path` when the block ends well and vanishes otherwise.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    partial = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    with writing(path):
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file that is whole or absent (OutputError)."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())  # some file systems report a full disk no earlier
