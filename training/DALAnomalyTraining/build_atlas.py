"""A group atlas of T1, T2, tissues and brain, made of label maps alone: no real image enters it.

Rigid poses, an affine average, rounds of deformable averaging (`group_average.py`), then one warp of every subject at
the atlas' own resolution.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.atlas import ATLAS_GRID, CHECKSUMS, DESCRIPTION, FORMAT, IMAGES, STORED_TISSUES
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import to_sitk, write_volume
from DALAnomalyTraining import group_average
from DALAnomalyTraining.label_classes import CSF, GREY, TISSUE_OF_CLASS, WHITE
from DALAnomalyTraining.labelled_brain import RIM_MM, LabelledBrain, common_grid, read_brain
from DALAnomalyTraining.labelled_images import like, read_image, registration_image
from DALAnomalyTraining.subjects import Subject

VERSION = 1
NAME = f"DALAnomaly group atlas {VERSION}"
FILES = (*(f"{name}.nii.gz" for name in (*IMAGES, *STORED_TISSUES, "brain_mask")), DESCRIPTION, CHECKSUMS)
LEVELS = 63
"""Grey values and probabilities are kept in this many steps: finer ones would only be noise that does not compress."""
AFFINE_ROUNDS = 2
AFFINE_SPACING_MM = 4.0
MADE_FROM = "FreeSurfer-style label maps; grey values are published means of T1 and T2 per structure (SynthSR)"

Report = Callable[[str, int, int], None]
Channels = npt.NDArray[np.float64]
"""(D, H, W, 5): T1, T2, CSF, grey matter, white matter, averaged over subjects that are 0 outside their brains."""
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class AtlasSettings:
    """How the average is made; all of it is written into the atlas."""

    rounds: int = 4
    """Rounds of deformable averaging; 0 leaves the affine average."""
    spacing: float = 2.5
    """Voxel size in mm at which brains are deformed onto one another."""
    smoothing: float = 1.5
    """Standard deviation in voxels of the Gaussian that keeps displacements smooth."""
    rim: float = RIM_MM
    """Fluid in mm that the brain mask keeps outside the folds."""


def build_atlas(
    subjects: list[Subject],
    priors: dict[str, list[list[list[float]]]],
    pose: Path,
    folder: Path,
    settings: AtlasSettings,
    report: Report,
    workers: int = 1,
    grid: Grid = ATLAS_GRID,
    command: str = "",
) -> int:
    """Average `subjects` and write the atlas; the same input gives the same files.

    Args:
        subjects: Label maps.
        priors: See `read_priors`; their means become the grey values of T1 and T2.
        pose: A skull-stripped T1 that lies as the atlas shall lie. It serves rigid alignment and nothing else.
        folder: Where the atlas is written; it exists.
        settings: How the average is made.
        report: Called with a step's name, the number of subjects done and of all.
        workers: Subjects worked on at once; the result does not depend on it.
        grid: The atlas' grid.
        command: What was called, for the atlas' description.

    Returns:
        Its size in bytes.
    """
    if not subjects:
        msg = "no label maps to average; name at least one folder with --label-maps"
        raise InputError(msg)
    upright = read_image(pose)
    _check_place(upright, grid, pose)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with ThreadPoolExecutor(workers) as pool:
        averaging = _Averaging(pool, report)
        averaging.read(subjects, registration_image(upright), settings.rim)
        for number in range(AFFINE_ROUNDS):
            averaging.affine_round(f"affine {number + 1}")
        working = common_grid(averaging.brains, settings.spacing)
        for number in range(settings.rounds):
            averaging.deformable_round(f"deformable {number + 1}", working, settings)
        mean = averaging.mean_of_channels(_channels(priors), grid, working)
    groups = dict(sorted(Counter(subject.group for subject in subjects).items()))
    made = {"from": MADE_FROM, "label_maps": groups, "command": command, **asdict(settings)}
    return _write(mean, grid, folder, made)


def _check_place(image: sitk.Image, grid: Grid, path: Path) -> None:
    """Refuse an image whose foreground reaches beyond the atlas' grid, where brains would be cut off."""
    foreground = np.argwhere(sitk.GetArrayViewFromImage(image) > 0)[:, ::-1]
    if not foreground.size:
        msg = f"{path}: nothing in it is above 0; give a skull-stripped T1"
        raise InputError(msg)
    ends = zip(foreground.min(axis=0).tolist(), foreground.max(axis=0).tolist(), strict=True)
    corners = [image.TransformIndexToPhysicalPoint(corner) for corner in itertools.product(*ends)]
    indices = grid.physical_to_index(corners)
    if (indices < 0).any() or (indices > np.array(grid.shape) - 1).any():
        begin, end = np.min(corners, axis=0).round(), np.max(corners, axis=0).round()
        low, high = np.array(grid.origin), np.array(grid.origin) + (np.array(grid.shape[::-1]) - 1) * grid.spacing
        msg = (
            f"{path}: lies at {_span(begin, end)} mm (L, P, S), and the atlas at {_span(low, high)}; give a "
            "skull-stripped T1 in the pose of the BraTS scans (SRI24), or move this one's origin"
        )
        raise InputError(msg)


def _span(low: npt.ArrayLike, high: npt.ArrayLike) -> str:
    pairs = zip(np.asarray(low).tolist(), np.asarray(high).tolist(), strict=True)
    return ", ".join(f"{begin:g} to {end:g}" for begin, end in pairs)


class _Averaging:
    """The subjects while they approach one another."""

    def __init__(self, pool: ThreadPoolExecutor, report: Report) -> None:
        self._pool, self._report = pool, report
        self.brains: list[LabelledBrain] = []

    def read(self, subjects: list[Subject], upright: sitk.Image, rim: float) -> None:
        self.brains = list(self._each("pose", lambda subject: read_brain(subject, upright, rim), subjects))

    def affine_round(self, step: str) -> None:
        template = self._template(common_grid(self.brains, AFFINE_SPACING_MM))
        found = self._each(step, lambda b: group_average.register_affine(template, b.drawn, b.affine), self.brains)
        affines = group_average.mean_affine_removed(list(found), [brain.pose for brain in self.brains])
        for brain, affine in zip(self.brains, affines, strict=True):
            brain.affine = affine

    def deformable_round(self, step: str, working: sitk.Image, settings: AtlasSettings) -> None:
        template = self._template(working)
        still = np.zeros((*working.GetSize()[::-1], 3), np.float32)

        def deformed(brain: LabelledBrain) -> group_average.Field:
            start = still if brain.field is None else brain.field
            picture = brain.draw(working, deformed=False)
            return group_average.register_deformable(template, picture, start, settings.smoothing)

        found = list(self._each(step, deformed, self.brains))
        fields = group_average.mean_displacement_removed(found, settings.spacing)
        for brain, field in zip(self.brains, fields, strict=True):
            brain.field = field

    def mean_of_channels(self, channels: npt.NDArray[np.float32], grid: Grid, working: sitk.Image) -> Channels:
        box = _box(grid, working)
        target = to_sitk(Volume(np.zeros(grid.shape, np.uint8), grid))[box[::-1]]
        total = np.zeros((*grid.shape, len(channels)))
        for warped in self._each("average", lambda brain: brain.warp(channels, target, working), self.brains):
            total[box] += warped
        return total / len(self.brains)

    def _template(self, grid: sitk.Image) -> sitk.Image:
        total = np.zeros(grid.GetSize()[::-1])
        for brain in self.brains:
            total += sitk.GetArrayFromImage(brain.draw(grid))  # a view would outlive its image
        return like((total / len(self.brains)).astype(np.float32), grid)

    def _each(self, step: str, function: Callable[[Any], _Result], items: list[Any]) -> Iterator[_Result]:
        """Results in the items' order, so that sums of them are the same every time."""
        for done, result in enumerate(self._pool.map(function, items), start=1):
            yield result
            self._report(step, done, len(items))


def _box(grid: Grid, working: sitk.Image) -> tuple[slice, ...]:
    """The part of `grid`, of identity direction, that the working grid covers."""
    ends = [working.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), [n - 1 for n in working.GetSize()])]
    low, high = grid.physical_to_index(ends)
    first = np.clip(np.floor(low), 0, np.array(grid.shape) - 1).astype(int).tolist()
    last = np.clip(np.ceil(high), 0, np.array(grid.shape) - 1).astype(int).tolist()
    return tuple(slice(start, stop + 1) for start, stop in zip(first, last, strict=True))


def _channels(priors: dict[str, list[list[list[float]]]]) -> npt.NDArray[np.float32]:
    """What each class is worth as T1, T2, CSF, grey and white matter: float32 (5, classes), 0 for the background."""
    tissues = [tissue == TISSUE_OF_CLASS for tissue in (CSF, GREY, WHITE)]
    channels = np.array([*(priors[name][0][0] for name in IMAGES), *tissues], dtype=np.float32)
    channels[:, 0] = 0
    return channels


def _write(mean: Channels, grid: Grid, folder: Path, made: dict[str, Any]) -> int:
    share = mean[..., len(IMAGES) :].sum(axis=-1)
    brain = _one_piece(share >= 0.5)
    # per voxel of brain, so that neither grey values nor probabilities fade where subjects end
    inside = np.divide(mean, share[..., None], out=np.zeros_like(mean), where=brain[..., None])
    levels, steps = {}, {}
    for number, name in enumerate(IMAGES):
        steps[name] = float(inside[..., number].max()) / LEVELS
        levels[name] = np.where(brain, np.clip(np.round(inside[..., number] / steps[name]), 1, LEVELS), 0)
    csf, _, white = np.moveaxis(inside[..., len(IMAGES) :], -1, 0)
    levels["csf"] = np.round(csf * LEVELS)
    levels["wm"] = np.minimum(np.round(white * LEVELS), LEVELS - levels["csf"])
    levels["brain_mask"] = brain
    for name, array in levels.items():
        write_volume(Volume(array.astype(np.uint8), grid), folder / f"{name}.nii.gz")
    description = {
        "format": FORMAT,
        "name": NAME,
        "version": VERSION,
        "images": {name: {"file": f"{name}.nii.gz", "step": steps[name]} for name in IMAGES},
        "tissues": {name: {"file": f"{name}.nii.gz", "step": 1 / LEVELS} for name in STORED_TISSUES},
        "brain_mask": {"file": "brain_mask.nii.gz"},
        "made": made,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    listed = sorted(set(FILES) - {CHECKSUMS})
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in listed]
    (folder / CHECKSUMS).write_text("".join(sums), encoding="ascii")
    return sum((folder / name).stat().st_size for name in FILES)


def _one_piece(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected part."""
    parts, count = ndimage.label(mask)
    if not count:
        msg = "the subjects' brains do not meet within the atlas' grid; check that the pose image lies on it"
        raise InputError(msg)
    largest: npt.NDArray[np.bool_] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return largest
