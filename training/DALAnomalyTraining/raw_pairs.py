"""Raw heads of one person, one scan per sequence, brought into the atlas' pose with one outline of the brain.

Section 4.1.2 of the paper, by the code that prepares a scan for detection: the training set looks like what the trained
network will see. No voxel is resampled here, only headers change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.configuration import PreprocessingConfig
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.failures import naming
from DALAnomalyLib.preprocessing import simpleitk_backend
from DALAnomalyLib.preprocessing.already_stripped import stripped_evidence
from DALAnomalyLib.preprocessing.brain_copy import copy_brain
from DALAnomalyLib.preprocessing.chain import PlacedScan, ScanRequest, place_scan
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.resampling import resample
from DALAnomalyLib.preprocessing.steps import StepLog
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_volume

LEAST_OUTLINE_OVERLAP = 0.88
"""Dice of the outlines of two sequences: .96 to .98 in four heads, .82 where they lay 16 mm apart."""
FARTHEST_MM = 12.0
"""Registered to the atlas, two sequences of one head were up to 8 mm apart; farther, one has no pose worth keeping."""
_COPY_MM = 2.0
_RIM_MM = 4.0
"""Beneath the outline, where two outlines of one brain may differ."""


@dataclass(frozen=True, eq=False)
class PlacedPair:
    """Scans of one person in atlas space (LPS mm), without their bias fields.

    Attributes:
        images: float32 by sequence, each on its own grid, skull and all.
        brain: uint8, on the grid of the first image: what the outlines of all sequences share.
    """

    images: Mapping[str, Volume]
    brain: Volume


def read_scans(paths: Mapping[str, Path]) -> dict[str, Volume]:
    """The scans by sequence; what is broken or no scan raises `InputError` or `GeometryError`."""
    return {name: read_volume(path) for name, path in paths.items()}


def need_placing(scans: Mapping[str, Volume]) -> bool:
    """Whether the scans of one person still show a skull, or lie on different grids."""
    first, *others = scans.values()
    if not all(first.grid.is_close(other.grid) for other in others):
        return True
    return not all(stripped_evidence(scan).is_stripped for scan in scans.values())


def place_together(
    scans: Mapping[str, Volume], paths: Mapping[str, Path], equipment: Equipment, cancel: CancelToken
) -> PlacedPair:
    """Find the brain in every scan, take out the bias fields, and bring all into the pose of the atlas.

    Every scan is registered to the atlas image of its sequence, then the others to the first, which is the exacter: it
    is the same brain. Where one outline has brain and another none, the networks' error is to take too much, or a
    scan ends there; so the brain is what all outlines share, and no intensity in it is a skull's or missing.

    Args:
        scans: by sequence; T1 and T2, or what else the atlas has an image of.
        paths: their files, for messages.
        equipment: atlas and brain extraction network.
        cancel: stops between steps.

    Raises:
        InputError: a scan has no brain, or is not found in the atlas, or the scans do not show one brain.
        ModelFileError: atlas or network are missing.
        CancelledError: `cancel` was turned on.
    """
    equipment.extractor()  # without it the atlas' outline would be taken: too rough to train on
    placed = {}
    for name, scan in scans.items():
        with naming(paths[name]):
            placed[name] = _placed(scan, name, equipment, cancel)
    (first_name, first), *others = placed.items()
    brain, images = first.moved_brain, {first_name: first.moved}
    for name, other in others:
        with naming(paths[name]):
            onto_first = align_sequences(first.moved, first.moved_brain, other.moved, other.moved_brain, cancel)
            images[name] = onto_first.move(other.moved)
            outline = onto_first.move(other.moved_brain)
            brain = shared_outline(brain, outline, first_name)
    return PlacedPair(images, brain)


def _placed(scan: Volume, sequence: str, equipment: Equipment, cancel: CancelToken) -> PlacedScan:
    log = StepLog((), cancel=cancel)
    placed = place_scan(ScanRequest(scan, sequence), lambda *_: sequence, PreprocessingConfig(), equipment, log)
    if not placed.in_atlas:
        why = placed.registration.evidence if placed.registration else "no registration"
        msg = f"its brain is not found in the atlas' {sequence} ({why}); is it a whole head, and is it {sequence}?"
        raise InputError(msg)
    return placed


def align_sequences(
    fixed: Volume, fixed_brain: Volume, moving: Volume, moving_brain: Volume, cancel: CancelToken
) -> RigidTransform:
    """The small rigid motion that takes `moving` onto `fixed`, another sequence of the same brain near the same place.

    Mutual information deep inside the brain: at their outlines, which differ between sequences, nothing is compared.

    Raises:
        InputError: they turn out to lie more than `FARTHEST_MM` apart.
        CancelledError: `cancel` was turned on.
    """
    first, other = copy_brain(fixed, fixed_brain, _COPY_MM), copy_brain(moving, moving_brain, _COPY_MM)
    inside = ndimage.distance_transform_edt(first.brain, sampling=_COPY_MM) > _RIM_MM
    onto_other = simpleitk_backend.refine(
        replace(first, compared=inside), other, RigidTransform(), 1.0, "mutual information", cancel
    )
    onto_fixed = onto_other.inverse()
    points = moving_brain.grid.index_to_physical(np.argwhere(moving_brain.array)[::97])
    distance = float(np.linalg.norm(onto_fixed.apply(points) - points, axis=-1).max())
    if distance > FARTHEST_MM:
        msg = f"it lies {distance:.0f} mm from where the atlas put it on its partner; are both of one person?"
        raise InputError(msg)
    return onto_fixed


def shared_outline(brain: Volume, outline: Volume, first: str) -> Volume:
    """What two outlines of one brain share, uint8 on the grid of the first; `InputError` when that is too little."""
    other: npt.NDArray[np.uint8] = resample(outline.array, outline.grid, brain.grid, "nearest")
    shared = brain.array & other
    overlap = 2 * float(shared.sum(dtype=np.int64)) / float(brain.array.sum(dtype=np.int64) + other.sum(dtype=np.int64))
    if overlap < LEAST_OUTLINE_OVERLAP:
        msg = (
            f"its brain outline and that of {first} overlap by {overlap:.2f}, {LEAST_OUTLINE_OVERLAP} is needed; "
            "look at both with 'dal-anomaly preprocess'"
        )
        raise InputError(msg)
    return brain.with_array(shared)
