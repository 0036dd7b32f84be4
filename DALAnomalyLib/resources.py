"""Where the files that ship with the project lie: models, atlas, sample data."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from DALAnomalyLib.errors import ModelFileError

ResourceKind = Literal["Models", "Atlas", "SampleData"]

_INSTALLED = Path("share", "dal-anomaly", "Resources")  # as in [tool.setuptools.data-files]
CHECKSUMS = "SHA256SUMS"
"""In a folder of shipped files: the digest that each of them must have."""
_NEXT_STEP = "install the package again, or name a file of your own"


def resource_folder(kind: ResourceKind) -> Path:
    """Find the folder of one kind of shipped file.

    Looks next to the package (source tree, 3D Slicer), then in the data folders of an installed wheel
    (`pip install --target`, an environment, `--user`).

    Args:
        kind: Which folder of `Resources`.

    Raises:
        ModelFileError: The installation has no such folder.
    """
    candidates = [root / kind for root in _resource_roots()]
    for folder in candidates:
        if folder.is_dir():
            return folder
    places = ", ".join(str(folder) for folder in candidates)
    msg = f"this installation has no folder {kind} (looked for {places}); {_NEXT_STEP}"
    raise ModelFileError(msg)


def resource_file(kind: ResourceKind, name: str) -> Path:
    """Find one shipped file.

    Args:
        kind: Which folder of `Resources`.
        name: The file's name in it.

    Raises:
        ModelFileError: There is no such file; the message lists those that there are.
    """
    folder = resource_folder(kind)
    path = folder / name
    if not path.is_file():
        present = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
        msg = f"{name} is not in {folder} (there: {', '.join(present) or 'nothing'}); {_NEXT_STEP}"
        raise ModelFileError(msg)
    return path


def lies_with_shipped_models(path: Path) -> bool:
    """Whether a file lies in the folder of models that are installed with the program."""
    try:
        return path.resolve().parent == resource_folder("Models").resolve()
    except ModelFileError:
        return False


def check_shipped(path: Path, digest: str) -> None:
    """A shipped model must be the one that was shipped: its own checksum could have been forged with it.

    Raises:
        ModelFileError: the file lies in the shipped folder of models, and its `digest` (SHA256) is not listed there.
    """
    shipped = path.resolve()
    listing = shipped.parent / CHECKSUMS
    if not lies_with_shipped_models(path) or not listing.exists():
        return
    if f"{digest}  {shipped.name}" not in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        msg = f"{path} is not the model that was shipped (see {CHECKSUMS} beside it); install DALAnomaly again"
        raise ModelFileError(msg)


def _resource_roots() -> Iterator[Path]:
    beside = Path(__file__).resolve().parent.parent
    yield beside / "Resources"
    yield beside / _INSTALLED
    yield Path(sysconfig.get_path("data")) / _INSTALLED
    yield Path(sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))) / _INSTALLED
