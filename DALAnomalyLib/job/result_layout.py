"""Which files a result consists of, and how a detection's volumes become files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from DALAnomalyLib.errors import OutputError
from DALAnomalyLib.job.manifest import file_digests
from DALAnomalyLib.job.result_folder import writing
from DALAnomalyLib.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from DALAnomalyLib.job.outcome import Outcome

MANIFEST_FILE = "manifest.json"
WriteMore: TypeAlias = "Callable[[Path, Outcome, Callable[[str], Path]], None]"
"""Given the folder, what came out, and a function that announces a file of the folder and returns its path."""


@dataclass(frozen=True)
class ResultLayout:
    """The files of a result.

    Attributes:
        volumes: file name to the field of `Detection` that it holds; where that is None, there is no file.
        more: names of further files, without the manifest.
        write_more: writes them; may leave some out.
    """

    volumes: Mapping[str, str]
    more: tuple[str, ...] = ()
    write_more: WriteMore = field(default=lambda _folder, _outcome, _begin: None)

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that the result may hold."""
        return (*self.volumes, *self.more, MANIFEST_FILE)


PLAIN_VOLUMES = ResultLayout(
    {f"{name}.nii": name for name in ("score", "pseudo_healthy", "uncertainty", "tissues", "edges", "brain_mask")}
)
"""What another program reads at once: the volumes alone, uncompressed; the manifest lists those that were written."""


def write_result(
    folder: Path, outcome: Outcome, layout: ResultLayout, progress: ProgressCallback, cancel: CancelToken
) -> None:
    """Write everything but the manifest into an existing folder; `cancel` is looked at before each file."""
    from DALAnomalyLib.volume_io import write_volume

    begun: list[str] = []

    def begin(file: str) -> Path:
        cancel.raise_if_cancelled()
        progress(f"writing {file}", len(begun) / len(layout.names))
        begun.append(file)
        return folder / file

    for file, result in layout.volumes.items():
        volume = getattr(outcome.detection, result)
        if volume is not None:
            write_volume(volume, begin(file))
    layout.write_more(folder, outcome, begin)


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record with the digests of all other files, which have to be there."""
    text = json.dumps({**record, "outputs": file_digests(folder)}, indent=2, allow_nan=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


@contextmanager
def writing_result(final: Path) -> Iterator[None]:
    """Say which result could not be written: the library only knows the hidden folder that stands for it."""
    with writing(final):
        try:
            yield
        except OutputError as error:
            msg = f"{final}: could not be written completely; free some disk space or choose another folder"
            raise OutputError(msg) from error
