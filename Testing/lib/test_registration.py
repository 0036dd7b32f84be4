"""Registration of a drawn brain whose pose is known, and of a real one."""

from __future__ import annotations

import sys
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from DALAnomalyLib.errors import CancelledError, GeometryError, InputError, UsageError
from DALAnomalyLib.preprocessing.brain_copy import copy_brain
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.greedy_backend import from_ras_matrix
from DALAnomalyLib.preprocessing.registration import Registration, register_rigidly
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume, lps_to_ras
from DALAnomalyLib.volume_io import read_volume

GRID = Grid((54, 66, 54), (3.0, 3.0, 3.0), (-79.5, -97.5, -79.5))
CENTRE = np.array([4.0, -3.0, 2.0])
UPRIGHT = RigidTransform()
# Centre, radii and intensity of what lies in the brain, in LPS mm; nothing is symmetric.
ORGANS = (
    ((4, -3, 6), (46, 60, 40), 0.8),
    ((14, -10, 12), (8, 24, 10), 0.1),
    ((-14, -6, 12), (7, 20, 9), 0.1),
    ((18, 2, -4), (9, 14, 9), 0.55),
    ((-18, 4, -2), (10, 12, 8), 0.6),
    ((0, 40, -30), (34, 20, 18), 0.65),
    ((34, -24, -18), (14, 20, 12), 0.75),
    ((-36, 20, 24), (10, 16, 12), 0.4),
    ((22, 44, 20), (14, 10, 12), 0.45),
)


def motion(degrees: float, axis: tuple[float, float, float], shift: tuple[float, float, float]) -> RigidTransform:
    """A rotation about the middle of the head, then a shift in mm."""
    unit = np.array(axis) / np.linalg.norm(axis)
    rotation = Rotation.from_rotvec(np.radians(degrees) * unit).as_matrix()
    return RigidTransform.from_matrix(rotation, CENTRE - rotation @ CENTRE + shift)


@cache
def head(grid: Grid = GRID, pose: RigidTransform = UPRIGHT, tumour: float = 0.0) -> tuple[Volume, Volume]:
    """Image and brain mask, drawn in the pose that `pose` takes an upright head to; tumour radius in mm."""
    points = pose.inverse().apply(grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1)))
    brain = depth(points, (0, 0, 6), (62, 78, 54)) > 0
    brain |= (depth(points, (30, -20, -26), (24, 34, 22)) > 0) | (depth(points, (-2, 42, -32), (40, 26, 24)) > 0)
    image = np.full(grid.shape, 0.45)
    for centre, radii, value in ORGANS:
        image += (value - image) / (1 + np.exp(-depth(points, centre, radii)))
    x, y, z = np.moveaxis(points, -1, 0)
    image += 0.08 * np.sin(x / 8 + y / 21 + 1) * np.cos(y / 7 - z / 15) + 0.08 * np.sin(z / 6 + x / 19)
    if tumour:
        image[depth(points, (-26, -24, 20), (tumour,) * 3) > 0] = 1.4
    return Volume((1000 * image).astype(np.float32), grid), Volume(brain.astype(np.uint8), grid)


def depth(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    return (1 - np.linalg.norm((points - centre) / np.array(radii), axis=-1)) * min(radii)


def registered(image: Volume, brain: Volume, **options: object) -> Registration:
    return register_rigidly(image, brain, *head(), **options)


def distance(found: RigidTransform, expected: RigidTransform) -> float:
    """Mean distance in mm between where both take the brain's voxels."""
    brain = expected.inverse().move(head()[1])
    points = brain.grid.index_to_physical(np.argwhere(brain.array))
    return float(np.linalg.norm(found.apply(points) - expected.apply(points), axis=-1).mean())


POSES = {
    "as it is": UPRIGHT,
    "turned": motion(45, (1, 2, -3), (30, -40, 20)),
    "nodding": motion(-40, (1, 0, 0), (0, 0, 0)),
    "back to front": motion(180, (0, 0.1, 1), (0, 10, 0)),
    "far off": motion(8, (1, 1, 1), (600, -400, 500)),
}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_known_motion_is_recovered(pose: RigidTransform) -> None:
    image, brain = head()
    result = registered(pose.move(image), pose.move(brain))
    assert distance(result.transform, pose.inverse()) < 1
    assert result.accepted
    assert result.similarity > 0.8
    assert result.brain_overlap > 0.95


def test_head_that_lay_askew_on_thick_slices_is_recovered() -> None:
    """Drawn again rather than moved, on 1 x 1 x 6 mm, with skull, noise and a bias field."""
    pose = motion(20, (3, -1, 2), (10, 5, -8))
    image, brain = head(Grid((30, 190, 190), (1.0, 1.0, 6.0), (-92.0, -100.0, -85.0)), pose)
    noise = np.random.default_rng(0).normal(0, 40, image.grid.shape)
    bias = np.exp(0.4 * np.linspace(-1, 1, image.grid.shape[2]))
    result = registered(image.with_array((image.array + noise) * bias), brain)
    assert distance(result.transform, pose.inverse()) < 1
    assert result.accepted


def test_evidence_tells_the_figures() -> None:
    pose = motion(-12, (0, 0, 1), (0, 0, 0))
    result = registered(*map(pose.move, head()))
    assert result.evidence == (
        f"rotated 12 degrees; correlation with the atlas {result.similarity:.2f}, "
        f"brain overlap {result.brain_overlap:.2f} ({result.starts} start{'s' * (result.starts > 1)})"
    )


def test_brain_with_a_huge_tumour_is_accepted() -> None:
    image, brain = head(tumour=38)
    result = registered(image, brain)
    assert distance(result.transform, UPRIGHT) < 2
    assert result.accepted


def test_slab_is_registered_and_not_blamed_for_what_it_lacks() -> None:
    image, brain = head()
    grid = Grid((22, 66, 54), GRID.spacing, tuple(GRID.index_to_physical((14, 0, 0))))
    slab = [Volume(volume.array[14:36], grid) for volume in (image, brain)]
    pose = motion(15, (1, -2, 1), (20, 10, 30))
    result = registered(*map(pose.move, slab))
    assert distance(result.transform, pose.inverse()) < 2
    assert result.accepted
    assert result.brain_overlap > 0.9


def test_sphere_is_not_accepted() -> None:
    ball = depth(GRID.index_to_physical(np.moveaxis(np.indices(GRID.shape), 0, -1)), (0, 0, 0), (65, 65, 65)) > 0
    result = registered(Volume(ball * np.float32(500), GRID), Volume(ball.astype(np.uint8), GRID))
    assert not result.accepted
    assert "not trusted" in result.evidence


def test_other_anatomy_in_the_same_outline_is_not_accepted() -> None:
    _, brain = head()
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=GRID.shape), 3).astype(np.float32)
    result = registered(Volume(texture, GRID), brain)
    assert not result.accepted
    assert result.brain_overlap > 0.7


def test_opposite_contrast_is_not_accepted() -> None:
    image, brain = head()
    assert not registered(image.with_array(2000 - image.array), brain).accepted


def test_small_piece_of_brain_is_not_accepted() -> None:
    image, brain = head()
    piece = np.zeros_like(brain.array)
    piece[20:28, 20:30, 20:30] = brain.array[20:28, 20:30, 20:30]
    assert not registered(image, brain.with_array(piece)).accepted


def test_two_runs_are_identical() -> None:
    pose = motion(33, (2, 1, 0), (5, 5, 5))
    moved = [pose.move(volume) for volume in head()]
    assert registered(*moved) == registered(*moved)


def test_intensity_unit_does_not_matter() -> None:
    image, brain = head()
    scaled = image.with_array(image.array * 1e-6 + 3e-4)
    assert distance(registered(scaled, brain).transform, registered(image, brain).transform) < 0.05


def keep_registering(cancel: CancelToken) -> None:
    """Again and again: on a fast machine one registration may be over before it is cancelled."""
    for _ in range(20):
        registered(*head(), cancel=cancel)


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.8])
def test_cancel_stops_within_a_second(delay: float) -> None:
    cancel = CancelToken()
    cancelled_at = []

    def stop() -> None:
        cancelled_at.append(time.process_time())
        cancel.cancel()

    timer = threading.Timer(delay, stop)
    timer.start()
    with pytest.raises(CancelledError):
        keep_registering(cancel)
    assert time.process_time() - cancelled_at[0] < 1  # of the processor: other programs do not count


def test_mask_on_another_grid_is_refused() -> None:
    image, brain = head()
    with pytest.raises(GeometryError, match="brain mask is on"):
        registered(image, motion(0, (0, 0, 1), (1, 0, 0)).move(brain))


def test_empty_mask_is_refused() -> None:
    image, brain = head()
    with pytest.raises(InputError, match="mask is empty"):
        registered(image, brain.with_array(np.zeros_like(brain.array)))


def test_a_mask_too_thin_for_a_brain_is_refused() -> None:
    image, brain = head()
    thin = np.zeros_like(brain.array)
    thin[20:22, 20:22, 20] = 1
    with pytest.raises(InputError, match="too small or too thin to be registered; give a mask of the whole brain"):
        registered(image, brain.with_array(thin))


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match='unknown registration backend "ants"'):
        registered(*head(), backend="ants")


def test_absent_greedy_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picsl_greedy", None)
    with pytest.raises(UsageError, match="pip install picsl-greedy"):
        registered(*head(), backend="greedy")


def test_ras_matrix_becomes_the_same_motion_of_lps_points() -> None:
    pose = motion(37, (1, 2, 3), (4, -5, 6))
    frame = np.stack([*np.eye(3), np.zeros(3)])  # three unit points and the origin, in RAS
    moved = lps_to_ras(pose.apply(lps_to_ras(frame)))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (moved[:3] - moved[3]).T, moved[3]
    points = np.random.default_rng(0).uniform(-80, 80, (20, 3))
    np.testing.assert_allclose(from_ras_matrix(matrix).apply(points), pose.apply(points), atol=1e-9)


def test_greedy_agrees_with_simpleitk() -> None:
    pytest.importorskip("picsl_greedy", reason="needs picsl-greedy, which is optional")
    pose = motion(30, (1, -2, 1), (30, 20, -10))
    moved = [pose.move(volume) for volume in head()]
    simpleitk, greedy = registered(*moved), registered(*moved, backend="greedy")
    assert greedy.backend == "greedy"
    assert greedy.accepted
    assert distance(greedy.transform, simpleitk.transform) < 1
    assert distance(greedy.transform, pose.inverse()) < 1


def test_copy_of_fine_voxels_lies_where_the_brain_lies() -> None:
    fine = Grid((320, 380, 320), (0.5, 0.5, 0.5), (-80.0, -96.0, -80.0))
    coarse_copy, fine_copy = copy_brain(*head(), 4.0), copy_brain(*head(fine), 4.0)
    np.testing.assert_allclose(fine_copy.centroid, coarse_copy.centroid, atol=0.3)
    assert fine_copy.millilitres == pytest.approx(coarse_copy.millilitres, rel=0.02)


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_real_scan_is_recovered(data_folder: Path, sequence: str) -> None:
    image = read_volume(data_folder / "healthy_pair" / f"kirby113_{sequence}.nii.gz")
    brain = foreground_mask(image)
    atlas = read_volume(data_folder / "lesions" / "ms" / f"mslub26_{sequence}.nii.gz")
    straight, moved = (
        register_rigidly(pose.move(image), pose.move(brain), atlas, foreground_mask(atlas))
        for pose in (UPRIGHT, POSES["turned"])
    )
    assert straight.accepted
    assert moved.accepted
    points = image.grid.index_to_physical(np.argwhere(brain.array)[::100])
    both = straight.transform.apply(points), moved.transform.after(POSES["turned"]).apply(points)
    assert np.linalg.norm(both[0] - both[1], axis=-1).mean() < 2
