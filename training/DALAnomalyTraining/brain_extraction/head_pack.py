"""The heads that brain extraction is trained on, upright at 2 mm, in one file that needs only numpy to be read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.errors import InputError
from DALAnomalyTraining.brain_extraction.head_labels import BRAIN_END, CSF, SULCUS_MM, compact

SPACING_MM = 2.0
HELD_OUT_OF_FIFTEEN = (0, 5, 7, 10, 13)
"""Positions, modulo 15, of the real heads (sorted by name) that are kept for testing: 20 of 60."""
HELD_OUT_LABEL_MAPS = 4
"""The last label maps (sorted by name) are kept for testing on synthetic contrasts."""


@dataclass(frozen=True)
class Head:
    """One head.

    Attributes:
        name: of its file.
        voxels: uint8 (D, H, W), upright (LPS): numbers of labels, or the intensities of a real T1 scan.
        brain: uint8 (D, H, W), share of brain in a voxel, 0 to 255.
        labels: for a label map, the FreeSurfer label of every number in `voxels`; empty for a scan.
    """

    name: str
    voxels: npt.NDArray[np.uint8]
    brain: npt.NDArray[np.uint8]
    labels: tuple[int, ...]


def is_held_out(position: int) -> bool:
    """Whether the real head at this position of the sorted list is for testing only."""
    return position % 15 in HELD_OUT_OF_FIFTEEN


def real_heads(folder: Path) -> list[Path]:
    """The T1 scans of a folder of NAME_T1.nii.gz with NAME_labels.nii.gz, sorted."""
    found = sorted(folder.glob("*_T1.nii.gz"))
    if not found:
        msg = f"{folder} holds no file NAME_T1.nii.gz; check the path"
        raise InputError(msg)
    return found


def whole_head_maps(folder: Path) -> list[Path]:
    """The label maps of a folder, sorted."""
    found = sorted(folder.glob("*.nii*"))
    if not found:
        msg = f"{folder} holds no label map (.nii, .nii.gz); check the path"
        raise InputError(msg)
    return found


def labels_of(scan: Path) -> Path:
    """The file NAME_labels.nii.gz beside NAME_T1.nii.gz."""
    return scan.with_name(scan.name.removesuffix("_T1.nii.gz") + "_labels.nii.gz")


def write_pack(label_maps: Path, scans: Path, path: Path) -> int:
    """Pack all heads that are not held out; returns how many they are."""
    maps = whole_head_maps(label_maps)[:-HELD_OUT_LABEL_MAPS]
    real = [scan for position, scan in enumerate(real_heads(scans)) if not is_held_out(position)]
    heads = [*map(head_of_label_map, maps), *map(head_of_scan, real)]
    arrays: dict[str, Any] = {}
    for number, head in enumerate(heads):
        arrays[f"{number}_voxels"], arrays[f"{number}_brain"] = head.voxels, head.brain
    index = json.dumps([{"name": head.name, "labels": head.labels} for head in heads])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, index=np.array(index), **arrays)
    return len(heads)


def read_pack(path: Path) -> Iterator[Head]:
    """The heads of a pack; raises `InputError` when it cannot be read."""
    try:
        # opened here: np.load forgets to close a file that is no archive
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            for number, entry in enumerate(json.loads(str(file["index"]))):
                yield Head(entry["name"], file[f"{number}_voxels"], file[f"{number}_brain"], tuple(entry["labels"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        msg = f"{path} is not a readable pack of heads ({type(error).__name__}); make it with `prepare`"
        raise InputError(msg) from error


def head_of_label_map(path: Path) -> Head:
    """A whole-head label map; brain is its parenchyma with the sulci closed, as real masks have it."""
    spacing = SPACING_MM / 2
    labels = compact(sitk.GetArrayFromImage(_upright(path, spacing)).astype(np.int64))
    brain = _closed((labels > 0) & (labels < BRAIN_END) & (labels != CSF), spacing)
    numbers, voxels = np.unique(labels, return_inverse=True)
    even = tuple(slice(0, size - size % 2) for size in labels.shape)
    blocks = brain[even].reshape([n for size in brain[even].shape for n in (size // 2, 2)])
    share = (255 * blocks.mean(axis=(1, 3, 5))).round().astype(np.uint8)
    return Head(
        path.name, voxels.reshape(labels.shape)[even][::2, ::2, ::2].astype(np.uint8), share, tuple(numbers.tolist())
    )


def head_of_scan(path: Path) -> Head:
    """A real T1 scan with its labels, brain where they are above 0."""
    scan, labels = (sitk.GetArrayFromImage(_upright(file, SPACING_MM)) for file in (path, labels_of(path)))
    voxels = (255 * np.clip(scan / np.percentile(scan, 99.9), 0, 1)).round().astype(np.uint8)
    brain = ndimage.binary_fill_holes(labels > 0)
    return Head(path.name, voxels, np.where(brain, 255, 0).astype(np.uint8), ())


def _upright(path: Path, spacing: float) -> sitk.Image:
    image = sitk.ReadImage(str(path))
    if not np.allclose(image.GetSpacing(), spacing, atol=0.01):
        msg = f"{path} has voxels of {image.GetSpacing()} mm; resample it to {spacing} mm"
        raise InputError(msg)
    return sitk.DICOMOrient(image, "LPS")


def _closed(mask: npt.NDArray[np.bool_], spacing: float) -> npt.NDArray[np.bool_]:
    margin = int(np.ceil(SULCUS_MM / spacing)) + 2
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    padded = np.pad(mask[box], margin)
    wide = ndimage.distance_transform_edt(~padded, sampling=spacing) <= SULCUS_MM
    narrow = ndimage.distance_transform_edt(wide, sampling=spacing) > SULCUS_MM
    closed = np.zeros_like(mask)
    closed[box] = narrow[(slice(margin, -margin),) * 3] | mask[box]
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(closed)
    return filled
