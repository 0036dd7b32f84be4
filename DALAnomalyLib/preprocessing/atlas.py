"""A group atlas: the T1 and T2 of an average healthy brain, its tissues and its mask, on one upright grid.

One ships with DALAnomaly. A user may name a folder of another one in the same layout (`dal-anomaly build-atlas` makes
them), or a folder of SRI24, which is not shipped (Rohlfing et al. 2010).
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.errors import GeometryError, InputError, ModelFileError
from DALAnomalyLib.file_names import text_of
from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.resources import resource_folder
from DALAnomalyLib.volume import AnyArray, Grid, Volume
from DALAnomalyLib.volume_io import from_sitk, read_volume

FORMAT = "dal-anomaly-atlas-1"
DESCRIPTION = "atlas.json"
CHECKSUMS = "SHA256SUMS"
IMAGES = ("T1", "T2")
STORED_TISSUES = ("csf", "wm")
"""Grey matter is what they leave of the brain."""
ATLAS_GRID = Grid((155, 240, 240), (1.0, 1.0, 1.0), (0.0, -239.0, 0.0))
"""The grid of BraTS and SRI24 in LPS order: i towards left, j towards posterior, k towards superior."""

_SRI24_NAMES: Mapping[str, tuple[str, ...]] = {
    "T1": ("sri24_t1", "t1", "t1_brain", "spgr", "sri24_spgr", "spgr_unstrip"),
    "T2": ("sri24_t2", "t2", "t2_brain", "late", "sri24_late", "late_unstrip"),
    "brain": ("sri24_brainmask", "brainmask", "brain_mask", "sri24_brain_mask", "sri24_mask", "mask"),
    "tissues": ("sri24_tissues", "tissues"),
}
"""Names without suffix, in lower case, under which people keep the parts of SRI24; the first one present is taken."""
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_SRI24_TISSUE_LABELS = {"csf": 1, "gm": 2, "wm": 3}


@dataclass(frozen=True, eq=False)
class Atlas:
    """An average healthy brain. Its arrays are shared and read-only.

    Attributes:
        name: for reports.
        images: "T1" and "T2": float32 (D, H, W), arbitrary units, 0 outside the brain.
        brain_mask: uint8, 1 inside: a tight mask, with the fluid between the folds.
        tissues: "csf", "gm", "wm": float32 probabilities, which sum to 1 inside the brain and are 0 outside. Empty
            for an SRI24 folder without a map of tissues.
        digest: SHA-256 over its files.
    """

    name: str
    images: Mapping[str, Volume]
    brain_mask: Volume
    tissues: Mapping[str, Volume]
    digest: str


def load_atlas(folder: Path | None = None) -> Atlas:
    """Load an atlas; the one used last stays in memory.

    Args:
        folder: one of `dal-anomaly build-atlas`, or of SRI24's files. None: the one that ships.

    Raises:
        ModelFileError: the shipped atlas, or one of its layout, is missing, damaged or changed.
        InputError: the folder has no T1, T2 or brain mask.
        GeometryError: SRI24's files are not 240 x 240 x 155 voxels of 1 mm.
    """
    place = (resource_folder("Atlas") if folder is None else Path(folder)).resolve()
    try:
        if not place.is_dir():
            msg = f"{place}: no such folder; name the folder of an atlas, or leave it out to use the one that ships"
            raise InputError(msg)
        own_layout = folder is None or (place / DESCRIPTION).exists()
        files = sorted(path for path in place.iterdir() if path.is_file())
        # a file that was replaced has another time or size, and the atlas is read again
        state = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    except OSError as error:
        msg = f"{place}: cannot be read ({error.strerror}); check its permissions"
        raise InputError(msg) from error
    return _load(place, own_layout, state)


@lru_cache(maxsize=1)
def _load(folder: Path, own_layout: bool, state: tuple[tuple[str, int, int], ...]) -> Atlas:
    return _load_own(folder) if own_layout else _load_sri24(folder, [name for name, _, _ in state])


def _load_own(folder: Path) -> Atlas:
    """Our layout: uint8 images of few levels, `atlas.json` with the value of a level, and checksums of all files."""
    digest = _verified(folder)
    try:
        header = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            msg = f"{folder} has atlas format {header['format']}, this version reads {FORMAT}; build it again"
            raise ModelFileError(msg)
        brain = from_sitk(sitk.ReadImage(text_of(folder / header["brain_mask"]["file"])))
        images = {name: _scaled(folder, header["images"][name], brain.grid) for name in IMAGES}
        fluid, white = (_scaled(folder, header["tissues"][name], brain.grid) for name in STORED_TISSUES)
        grey = np.clip(brain.array - fluid.array - white.array, 0, 1, dtype=np.float32)
        tissues = {"csf": fluid, "gm": _read_only(grey, brain.grid), "wm": white}
        return Atlas(str(header["name"]), images, _read_only(brain.array, brain.grid), tissues, digest)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        msg = f"{folder} is not a complete atlas ({error!r}); build it again, or leave the folder out"
        raise ModelFileError(msg) from error


def _verified(folder: Path) -> str:
    """Compare every file with SHA256SUMS; returns the digest of that list, and so of the atlas."""
    try:
        listing = (folder / CHECKSUMS).read_bytes()
        lines = (line.split("  ", 1) for line in listing.decode("ascii").splitlines())
        stated = {name: digest for digest, name in lines}
        wrong = [name for name, digest in stated.items() if _sha256(folder / name) != digest]
    except (OSError, ValueError) as error:
        msg = f"the atlas in {folder} lacks files or its list {CHECKSUMS}; install DALAnomaly again or build it again"
        raise ModelFileError(msg) from error
    if wrong or DESCRIPTION not in stated:
        what = wrong[0] if wrong else DESCRIPTION
        msg = f"{folder / what} does not match {CHECKSUMS} beside it; install DALAnomaly again or build it again"
        raise ModelFileError(msg)
    return hashlib.sha256(listing).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _scaled(folder: Path, part: Mapping[str, Any], grid: Grid) -> Volume:
    levels = sitk.GetArrayFromImage(sitk.ReadImage(text_of(folder / part["file"])))
    return _read_only(levels.astype(np.float32) * np.float32(part["step"]), grid)


def _load_sri24(folder: Path, names: list[str]) -> Atlas:
    """SRI24: its files share their voxel order, while the origins in their headers need not agree."""
    paths = {part: _sri24_file(folder, names, part) for part in _SRI24_NAMES}
    missing = [part for part in ("T1", "T2", "brain") if paths[part] is None]
    if missing:
        wanted = ", ".join(f"{_SRI24_NAMES[part][0]}.nii.gz" for part in missing)
        msg = f"{folder} holds no atlas: no file for {', '.join(missing)}; put {wanted} there or name another folder"
        raise InputError(msg)
    digest = hashlib.sha256()
    parts = {}
    for part, path in paths.items():
        if path is not None:
            digest.update(part.encode() + hashlib.sha256(path.read_bytes()).digest())
            parts[part] = _in_atlas_order(path)
    inside = parts["brain"] > 0.5
    images = {name: _read_only(np.where(inside, parts[name], np.float32(0)), ATLAS_GRID) for name in IMAGES}
    tissues = {}
    if "tissues" in parts:
        for name, label in _SRI24_TISSUE_LABELS.items():
            tissues[name] = _read_only((inside & (parts["tissues"] == label)).astype(np.float32), ATLAS_GRID)
    return Atlas("SRI24", images, _read_only(inside.astype(np.uint8), ATLAS_GRID), tissues, digest.hexdigest())


def _sri24_file(folder: Path, names: list[str], part: str) -> Path | None:
    present = {name.lower(): name for name in names}
    candidates = (present.get(stem + suffix) for stem in _SRI24_NAMES[part] for suffix in _SUFFIXES)
    found = next((name for name in candidates if name), None)
    return None if found is None else folder / found


def _in_atlas_order(path: Path) -> AnyArray:
    """The file's voxels (D, H, W) in LPS order."""
    volume = to_anatomical_order(read_volume(path))
    if volume.grid.shape != ATLAS_GRID.shape or not np.allclose(volume.grid.spacing, 1.0, atol=1e-3):
        size = " x ".join(str(count) for count in volume.grid.shape[::-1])
        msg = f"{path}: is {size} voxels, SRI24 has 240 x 240 x 155 of 1 mm; use its original files"
        raise GeometryError(msg)
    return volume.array


def _read_only(array: AnyArray, grid: Grid) -> Volume:
    array.flags.writeable = False
    return Volume(array, grid)
