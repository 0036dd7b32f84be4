"""Who goes into a training pack: the files of every subject, as label maps, labelled scans and IXI lie in folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.file_names import refuse_missing
from DALAnomalyLib.job.csv_table import read_table
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
    """Pairs NAME_T1.nii.gz and NAME_labels.nii.gz (MUSE labels) of one folder, less the names in `exclude`.

    Raises:
        InputError: There is no such pair, or a scan without its labels.
        UsageError: `exclude` has a name that nobody there has; whom it meant would be trained on.
    """
    names = [path.name.removesuffix("_T1.nii.gz") for path in _files(folder, "*_T1.nii.gz")]
    strangers = sorted(set(exclude) - set(names))
    if strangers:
        msg = (
            f"{folder} has no {', '.join(strangers)} to leave out; names are what stands before _T1.nii.gz, such as "
            f"{names[0]}"
        )
        raise UsageError(msg)
    kept = [name for name in names if name not in set(exclude)]
    unlabelled = next((name for name in kept if not (folder / f"{name}_labels.nii.gz").exists()), None)
    if unlabelled is not None:
        msg = (
            f"{folder}: {unlabelled}_T1.nii.gz has no {unlabelled}_labels.nii.gz; add it or leave the scan out with "
            f"--exclude {unlabelled}"
        )
        raise InputError(msg)
    return [
        Subject(
            f"{folder.name}/{name}",
            "semi_real",
            folder / f"{name}_labels.nii.gz",
            "muse",
            {"T1": folder / f"{name}_T1.nii.gz"},
            folder.name,
        )
        for name in kept
    ]


def manifest_subjects(manifest: Path) -> list[Subject]:
    """Real paired scans of a CSV: columns subject, one per sequence (T1, T2, ...), optional brain_mask.

    Paths are relative to the manifest. Scans of a row must share one grid and be skull-stripped, unless the row gives
    a brain mask.
    """
    rows = read_table(manifest, ["subject"])
    sequences = [name for name in rows[0].values if name not in ("subject", "brain_mask") and name]
    subjects = []
    for line, values in rows:
        missing = [name for name in sequences if not values[name]]
        if missing or not sequences:
            what = ", ".join(missing or ["scan"])
            msg = f"{manifest}: line {line}: subject {values['subject']} has no {what}; name its file or drop the row"
            raise InputError(msg)
        images = {name: manifest.parent / values[name] for name in sequences}
        for name, image in images.items():
            if not image.exists():
                msg = (
                    f"{manifest}: line {line}, column {name}: no such file {image}; all columns but subject and "
                    "brain_mask name the scans of a sequence"
                )
                raise InputError(msg)
        mask = manifest.parent / values["brain_mask"] if values.get("brain_mask") else None
        subjects.append(Subject(values["subject"], "paired", mask, images=images, group=manifest.stem))
    return subjects


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
    refuse_missing(folder)
    found = sorted(folder.glob(pattern))
    if not found:
        msg = f"{folder} holds no file {pattern}; check the path"
        raise InputError(msg)
    yield from found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
