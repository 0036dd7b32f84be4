"""Who goes into a training pack: the files of every subject, as label maps, labelled scans and IXI lie in folders."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from DALAnomalyLib.errors import InputError
from DALAnomalyTraining.pack import Source

IXI_SEQUENCES = ("T1", "T2")
MIXED_SPACING_MM, PAIRED_SPACING_MM = 1.75, 1.25
"""Default voxel size of packs with label maps in them, and of real pairs alone."""


@dataclass(frozen=True)
class Subject:
    """The files of one subject, before they are read."""

    name: str
    source: Source
    labels: Path | None
    scheme: str = "freesurfer"
    images: dict[str, Path] = field(default_factory=dict)
    group: str = ""
    raw: bool = False
    """Scans may still have their skull or lie on different grids; a subject that cannot be prepared is skipped."""


def label_map_subjects(folders: Iterable[Path]) -> list[Subject]:
    """Every NIfTI file of `folders` as a FreeSurfer label map."""
    return [
        Subject(f"{folder.name}/{_stem(path)}", "labels", path, group=folder.name)
        for folder in folders
        for path in _files(folder, "*.nii*")
    ]


def labelled_t1_subjects(folder: Path, exclude: Iterable[str] = ()) -> list[Subject]:
    """Pairs NAME_T1.nii.gz and NAME_labels.nii.gz (MUSE labels) of one folder, less the names in `exclude`."""
    names = [path.name.removesuffix("_T1.nii.gz") for path in _files(folder, "*_T1.nii.gz")]
    return [
        Subject(
            f"{folder.name}/{name}",
            "semi_real",
            folder / f"{name}_labels.nii.gz",
            "muse",
            {"T1": folder / f"{name}_T1.nii.gz"},
            folder.name,
        )
        for name in names
        if name not in set(exclude)
    ]


def manifest_subjects(manifest: Path) -> list[Subject]:
    """Real paired scans of a CSV: columns subject, one per sequence (T1, T2, ...), optional brain_mask.

    Paths are relative to the manifest. Scans of a row must share one grid and be skull-stripped, unless the row gives
    a brain mask.
    """
    try:
        with manifest.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{manifest} cannot be read as a CSV file ({error}); check the path"
        raise InputError(msg) from error
    if not rows or "subject" not in rows[0]:
        msg = f"{manifest} has no column 'subject'; needed are subject, T1, T2, ... and optionally brain_mask"
        raise InputError(msg)
    sequences = [name for name in rows[0] if name not in ("subject", "brain_mask") and name]
    for row in rows:
        missing = [name for name in sequences if not row[name]]
        if missing or not sequences:
            what = ", ".join(missing or ["scan"])
            msg = f"{manifest}: subject {row['subject']} has no {what}; name its file or drop the row"
            raise InputError(msg)
    return [
        Subject(
            row["subject"],
            "paired",
            manifest.parent / row["brain_mask"] if row.get("brain_mask") else None,
            images={name: manifest.parent / row[name] for name in sequences},
            group=manifest.stem,
        )
        for row in rows
    ]


def ixi_subjects(folder: Path) -> list[Subject]:
    """Subjects of IXI as it is downloaded: NAME-T1.nii.gz and NAME-T2.nii.gz in `IXI-T1` and `IXI-T2`, or in `folder`.

    Scans may be raw heads on different grids (see `raw_pairs`). Subjects with only one of the two are listed as well.
    """
    found: dict[str, dict[str, Path]] = {}
    for sequence in IXI_SEQUENCES:
        for place in (folder, folder / f"IXI-{sequence}"):
            for path in sorted(place.glob(f"*-{sequence}.nii*")):
                if not path.name.startswith("."):  # what macOS leaves beside unpacked files
                    found.setdefault(_stem(path).removesuffix(f"-{sequence}"), {})[sequence] = path
    if not any(len(images) == len(IXI_SEQUENCES) for images in found.values()):
        msg = (
            f"{folder} holds no pair NAME-T1.nii.gz, NAME-T2.nii.gz, neither itself nor in IXI-T1 and IXI-T2; "
            "unpack IXI-T1.tar and IXI-T2.tar there"
        )
        raise InputError(msg)
    return [Subject(name, "paired", None, images=found[name], group="IXI", raw=True) for name in sorted(found)]


def default_spacing(subjects: list[Subject]) -> float:
    """Millimetres of the pack's voxels: real pairs alone keep the detail that the paper's grid of 1.4 mm can show."""
    return PAIRED_SPACING_MM if all(subject.source == "paired" for subject in subjects) else MIXED_SPACING_MM


def describe(subjects: list[Subject]) -> str:
    """What a pack of these subjects is made of, for its models' metadata."""
    kinds = {"labels": "label maps", "semi_real": "real T1 with labels", "paired": "real pairs"}
    counts = {kind: sum(subject.source == kind for subject in subjects) for kind in kinds}
    groups = ", ".join(sorted({subject.group for subject in subjects}))
    return ", ".join(f"{count} {kinds[kind]}" for kind, count in counts.items() if count) + f" ({groups})"


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        msg = f"{folder} holds no file {pattern}; check the path"
        raise InputError(msg)
    yield from found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
