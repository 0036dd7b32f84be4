"""Rigid registration of a scan's brain to an atlas image of the same sequence, and its quality control.

Brain to brain, on small copies: from the header's pose, and where that leads nowhere from the best of all rotations
(`pose_search`), refined at 4 mm by mutual information and at 2 mm by correlation, with SimpleITK or with Greedy. The
scan itself is never resampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.preprocessing import greedy_backend, simpleitk_backend
from DALAnomalyLib.preprocessing.brain_copy import BrainCopy, Likeness, copy_brain
from DALAnomalyLib.preprocessing.pose_search import PoseScore, header_pose, search_poses
from DALAnomalyLib.preprocessing.registration_quality import (
    LEAST_OVERLAP,
    LEAST_SIMILARITY,
    brain_overlap,
    similarity,
)
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Volume

Backend = Literal["simpleitk", "greedy"]
_Refine = Callable[[BrainCopy, BrainCopy, RigidTransform, float, Likeness, CancelToken | None], RigidTransform]

COARSE_MM, MIDDLE_MM, FINE_MM = 8.0, 4.0, 2.0
CLEAR_SIMILARITY = 0.6
"""From here on the pose that the header led to is right, and no other one is looked for."""
_DIGITS = 9
"""Of the transform; what is smaller differs with the placement of arrays in memory."""
_MOST_STARTS = 3
_RIVAL = 0.6
"""A pose found by the search is refined too if its score is more than this share of the best one's."""


@dataclass(frozen=True)
class Registration:
    """Where a scan's brain lies in the atlas, and how far to trust it.

    Attributes:
        transform: scan LPS mm to atlas LPS mm.
        similarity: correlation of the details of both brains where they overlap, -1 to 1, at 4 mm: see
            `registration_quality.similarity`.
        brain_overlap: Dice coefficient of the brain masks within the scan's field of view, 0 to 1, at 4 mm.
        starts: how many poses were refined.
        backend: what refined them.
        accepted: both figures are as high as in a right pose.
        evidence: one line for the user.
    """

    transform: RigidTransform
    similarity: float
    brain_overlap: float
    starts: int
    backend: Backend
    accepted: bool
    evidence: str


def register_rigidly(
    image: Volume,
    brain: Volume,
    atlas_image: Volume,
    atlas_brain: Volume,
    *,
    backend: Backend = "simpleitk",
    cancel: CancelToken | None = None,
) -> Registration:
    """Find the rigid motion that takes a scan's brain to the atlas' brain.

    Args:
        image: scan (D, H, W), with or without its skull, on any grid, in any intensity unit.
        brain: nonzero inside the brain, on the same grid.
        atlas_image: of the same sequence.
        atlas_brain: nonzero inside, on the atlas' grid.
        backend: what refines the pose.
        cancel: stops it.

    Returns:
        The best pose found, which may be wrong: look at `accepted`.

    Raises:
        UsageError: there is no such backend, or its package is not installed.
        GeometryError: an image and its mask lie on different grids.
        InputError: a mask is empty, or too small or thin to be a brain's.
        CancelledError: `cancel` was used.
    """
    refine = _refiner(backend)
    scan = _copies(image, brain, cancel)
    if not scan[COARSE_MM].brain.any():
        msg = "the brain mask is too small or too thin to be registered; give a mask of the whole brain"
        raise InputError(msg)
    atlas = _atlas_copies(atlas_image, atlas_brain)
    starts = [header_pose(scan[COARSE_MM], atlas[COARSE_MM], cancel)]
    best = refine(scan[MIDDLE_MM], atlas[MIDDLE_MM], starts[0], 2.0, "mutual information", cancel)
    if similarity(scan[MIDDLE_MM], atlas[MIDDLE_MM], best) < CLEAR_SIMILARITY:
        rivals = _rivals(scan[COARSE_MM], atlas[COARSE_MM], cancel)
        refined = [
            refine(scan[MIDDLE_MM], atlas[MIDDLE_MM], start, 2.0, "mutual information", cancel) for start in rivals
        ]
        best = max((best, *rivals, *refined), key=PoseScore(scan[MIDDLE_MM], atlas[MIDDLE_MM]))
        starts += rivals
    # Of the same sequence, near the right pose: there the optimum of correlation is the sharper one.
    last = refine(scan[FINE_MM], atlas[FINE_MM], best, 0.5, "correlation", cancel)
    # A descent that went astray does not count.
    pose = max((last, best), key=PoseScore(scan[FINE_MM], atlas[FINE_MM]))
    return _judged(scan[MIDDLE_MM], atlas[MIDDLE_MM], pose, len(starts), backend)


def _refiner(backend: str) -> _Refine:
    if backend == "simpleitk":
        return simpleitk_backend.refine
    if backend == "greedy":
        greedy_backend.load_greedy()  # before any work is done
        return greedy_backend.refine
    msg = f'unknown registration backend "{backend}"; choose "simpleitk" or "greedy"'
    raise UsageError(msg)


def _copies(image: Volume, brain: Volume, cancel: CancelToken | None) -> dict[float, BrainCopy]:
    if cancel is not None:
        cancel.raise_if_cancelled()
    fine = copy_brain(image, brain, FINE_MM)
    return {FINE_MM: fine, MIDDLE_MM: fine.coarser(MIDDLE_MM), COARSE_MM: fine.coarser(COARSE_MM)}


@lru_cache(maxsize=4)
def _atlas_copies(image: Volume, brain: Volume) -> dict[float, BrainCopy]:
    """The same for every scan of a run; volumes are told apart by identity."""
    return _copies(image, brain, None)


def _rivals(scan: BrainCopy, atlas: BrainCopy, cancel: CancelToken | None) -> list[RigidTransform]:
    """The best pose, and those that come near it."""
    poses = search_poses(scan, atlas, _MOST_STARTS, cancel)
    score = PoseScore(scan, atlas)
    return [pose for pose in poses if pose is poses[0] or score(pose) > _RIVAL * score(poses[0])]


def _judged(scan: BrainCopy, atlas: BrainCopy, pose: RigidTransform, starts: int, backend: Backend) -> Registration:
    pose = _rounded(pose)
    alike, overlap = similarity(scan, atlas, pose), brain_overlap(scan, atlas, pose)
    accepted = bool(alike >= LEAST_SIMILARITY and overlap >= LEAST_OVERLAP)
    evidence = (
        f"rotated {pose.angle_degrees:.0f} degrees; correlation with the atlas {alike:.2f}, brain overlap {overlap:.2f}"
        f" ({starts} start{'s' if starts > 1 else ''})"
    )
    if not accepted:
        evidence += f"; not trusted, at least {LEAST_SIMILARITY:.2f} and {LEAST_OVERLAP:.2f} are needed"
    return Registration(pose, float(alike), float(overlap), starts, backend, accepted, evidence)


def _rounded(pose: RigidTransform) -> RigidTransform:
    x, y, z = (round(value, _DIGITS) for value in pose.translation)
    return RigidTransform(tuple(round(value, _DIGITS) for value in pose.rotation), (x, y, z))
