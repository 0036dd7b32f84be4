"""Group averages of made-up brains: of the mean size, in the pose that was asked for, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.atlas import Atlas, load_atlas
from DALAnomalyLib.volume import Grid
from DALAnomalyTraining import build_atlas as module
from DALAnomalyTraining.build_atlas import FILES, AtlasSettings, build_atlas
from DALAnomalyTraining.group_average import (
    inverse_displacement,
    matrix_of,
    mean_affine_removed,
    mean_displacement_removed,
)
from DALAnomalyTraining.label_classes import CLASSES, COUNT, OUTER_CSF, TISSUE_OF_CLASS, to_classes
from DALAnomalyTraining.labelled_brain import in_tight_outline
from DALAnomalyTraining.subjects import Subject

FREESURFER = np.array([0, *(item.freesurfer[0] for item in CLASSES)])
SPACING = 5.0
GRID = Grid((36, 42, 36), (SPACING,) * 3, (-80.0, -110.0, -85.0))
CENTRE = np.array([7.5, -7.5, 2.5])
SCALES = (0.7, 0.8, 0.95)
SETTINGS = AtlasSettings(rounds=2, spacing=8.0, smoothing=1.0, rim=1.0)

Array = np.ndarray[Any, Any]


def write(array: Array, path: Path, centre: Array, turn: float = 0.0) -> Path:
    """An image whose middle lies at `centre` mm, turned in the axial plane by `turn` degrees."""
    image = sitk.GetImageFromArray(array)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    direction = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    image.SetSpacing([SPACING] * 3)
    image.SetDirection(direction.ravel().tolist())
    middle = direction @ ((np.array(array.shape[::-1]) - 1) / 2 * SPACING)
    image.SetOrigin((centre - middle).tolist())
    sitk.WriteImage(image, str(path))
    return path


def lopsided(labels: Array) -> Array:
    """Grey matter on one side of the front, so that turned and mirrored brains differ."""
    labels = labels.copy()
    depth, height, width = labels.shape
    part = labels[depth // 3 : 2 * depth // 3, height // 8 : height // 3, width // 2 + 2 :]
    part[part == 1] = 2
    return labels


@pytest.fixture(scope="module")
def group(brain_labels: Callable[..., Array], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Subject], Path]:
    """Brains of three sizes at different places and angles, and the picture whose pose they take."""
    folder = tmp_path_factory.mktemp("group")
    subjects = []
    for number, scale in enumerate(SCALES):
        labels = FREESURFER[lopsided(np.pad(brain_labels(scale), 2))].astype(np.int16)
        path = write(labels, folder / f"{number}.nii.gz", np.array([20.0 * number, -9.0, 4.0]), turn=6.0 * number - 6)
        subjects.append(Subject(f"made_up/{number}", "labels", path, group="made_up"))
    tissue = TISSUE_OF_CLASS[lopsided(np.pad(brain_labels(0.8), 4))]
    pose = write(np.array([0, 60, 140, 220], np.float32)[tissue], folder / "pose.nii.gz", CENTRE)
    return subjects, pose


def priors() -> dict[str, list[list[list[float]]]]:
    values = {"T1": (0, 40.0, 90.0, 130.0), "T2": (0, 200.0, 110.0, 80.0)}
    return {name: [[np.array(v)[TISSUE_OF_CLASS].tolist(), [0.0] * COUNT]] * 2 for name, v in values.items()}


def built(group: tuple[list[Subject], Path], folder: Path, **options: Any) -> Atlas:
    subjects, pose = group
    folder.mkdir()
    settings = {"settings": SETTINGS, "report": lambda *_: None, "grid": GRID} | options
    build_atlas(subjects, priors(), pose, folder, **settings)
    return load_atlas(folder)


@pytest.fixture(scope="module")
def atlas(group: tuple[list[Subject], Path], tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return built(group, tmp_path_factory.mktemp("out") / "atlas")


def millilitres(mask: Array) -> float:
    return float(mask.sum()) * (SPACING / 10) ** 3


def tight_volume(path: Path | None) -> float:
    labels = sitk.ReadImage(str(path))
    classes = to_classes(sitk.GetArrayFromImage(labels).astype(np.int64), "freesurfer")
    solid = sitk.GetImageFromArray(np.where(classes == OUTER_CSF, 0, classes).astype(np.uint8))
    solid.CopyInformation(labels)
    return millilitres(sitk.GetArrayFromImage(in_tight_outline(solid)) > 0)


def test_average_has_the_mean_size(group: tuple[list[Subject], Path], atlas: Atlas) -> None:
    """The radius of a sphere as large as the brain is close to the mean of the subjects' radii."""
    radii = [tight_volume(subject.labels) ** (1 / 3) for subject in group[0]]
    found = millilitres(atlas.brain_mask.array) ** (1 / 3)
    assert max(radii) / min(radii) > 1.25
    assert found == pytest.approx(np.mean(radii), rel=0.03)


def test_average_lies_as_the_pose_image_does(group: tuple[list[Subject], Path], atlas: Atlas) -> None:
    pose = sitk.Resample(sitk.ReadImage(str(group[1])), _image(GRID))
    wanted = sitk.GetArrayFromImage(pose)
    centre = GRID.index_to_physical(ndimage.center_of_mass(atlas.brain_mask.array))
    np.testing.assert_allclose(centre, GRID.index_to_physical(ndimage.center_of_mass(wanted > 30)), atol=2.0)
    both = (wanted > 30) & (atlas.brain_mask.array > 0)
    ours = atlas.images["T1"].array
    straight = np.corrcoef(wanted[both], ours[both])[0, 1]
    both &= both[..., ::-1]
    assert straight > 0.8
    assert straight > np.corrcoef(wanted[..., ::-1][both], ours[both])[0, 1] + 0.02


def _image(grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(grid.shape, np.float32))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    return image


def test_average_has_the_tissues_and_their_grey_values(atlas: Atlas) -> None:
    inside = atlas.brain_mask.array > 0
    csf, grey, white = (atlas.tissues[name].array for name in ("csf", "gm", "wm"))
    np.testing.assert_allclose((csf + grey + white)[inside], 1, atol=1e-6)
    assert min(csf.max(), grey.max(), white.max()) > 0.9
    expected = 40 * csf + 90 * grey + 130 * white
    np.testing.assert_allclose(atlas.images["T1"].array[inside], expected[inside], atol=3)


def test_same_input_gives_the_same_files(group: tuple[list[Subject], Path], atlas: Atlas, tmp_path: Path) -> None:
    again = built(group, tmp_path / "again", workers=2)
    assert again.digest == atlas.digest
    assert {path.name for path in (tmp_path / "again").iterdir()} == set(FILES)


def test_nothing_to_average_is_an_error(group: tuple[list[Subject], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label maps"):
        built(([], group[1]), tmp_path / "empty")


@pytest.mark.parametrize("moved_mm", [900.0, 60.0], ids=["far away", "half a brain beyond"])
def test_pose_beyond_the_grid_is_an_error_before_the_work(
    group: tuple[list[Subject], Path], tmp_path: Path, moved_mm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "read_brain", lambda *_: pytest.fail("the work must not begin"))
    moved = Grid(GRID.shape, GRID.spacing, (GRID.origin[0] + moved_mm, *GRID.origin[1:]))
    with pytest.raises(InputError, match=r"pose\.nii\.gz: lies at .* and the atlas at .* move this one's origin"):
        built(group, tmp_path / "far", grid=moved)


def test_empty_pose_image_is_an_error(group: tuple[list[Subject], Path], tmp_path: Path) -> None:
    empty = write(np.zeros((8, 8, 8), np.float32), tmp_path / "empty.nii.gz", CENTRE)
    with pytest.raises(InputError, match=r"empty\.nii\.gz: nothing in it is above 0"):
        built((group[0], empty), tmp_path / "far")


def test_mean_affine_becomes_the_identity() -> None:
    """Brains of 0.8 and 1.25 times a size, in any pose, are averaged to that size."""
    turned = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, -0.3, (5.0, -4.0, 3.0))
    poses = [np.eye(4), matrix_of(turned)]
    scalings = [np.diag([s, s, s, 1.0]) @ np.diag([1.1, 1.1, 1.1, 1.0]) for s in (0.8, 1.25)]
    found = mean_affine_removed([p @ s for p, s in zip(poses, scalings, strict=True)], poses)
    np.testing.assert_allclose(found[0], np.diag([0.8, 0.8, 0.8, 1.0]), atol=1e-9)
    np.testing.assert_allclose(found[1], poses[1] @ np.diag([1.25, 1.25, 1.25, 1.0]), atol=1e-9)


def smooth_field(seed: int, strength: float = 6.0) -> Array:
    noise = np.random.default_rng(seed).normal(size=(18, 20, 22, 3))
    smooth = ndimage.gaussian_filter(noise, (3, 3, 3, 0))
    return (strength * smooth / np.abs(smooth).max()).astype(np.float32)


def test_inverse_displacement_leads_back() -> None:
    field, spacing = smooth_field(0), 2.5
    back = inverse_displacement(field, spacing)
    index = np.indices(field.shape[:3], dtype=np.float64)
    there = index + np.moveaxis(back[..., ::-1], -1, 0) / spacing
    forth = [ndimage.map_coordinates(field[..., axis], there, order=1, mode="nearest") for axis in range(3)]
    np.testing.assert_allclose(np.stack(forth, axis=-1) + back, 0, atol=0.05)
    assert np.abs(back).max() > 3


def test_mean_displacement_becomes_zero() -> None:
    fields = [smooth_field(seed) + np.float32(2.0) for seed in range(3)]
    removed = mean_displacement_removed(fields, 2.5)
    assert np.abs(np.mean(fields, axis=0)).max() > 3
    np.testing.assert_allclose(np.mean(removed, axis=0), 0, atol=0.05)
    # what tells the brains apart is kept
    np.testing.assert_allclose(np.std(removed, axis=0).mean(), np.std(fields, axis=0).mean(), rtol=0.1)


def test_outer_fluid_is_the_same_whatever_the_source_labels() -> None:
    """A groove and a rim of 1 mm become fluid, the outside stays outside."""
    solid = np.zeros((30, 30, 30), np.uint8)
    solid[8:22, 8:22, 8:22] = 1
    solid[8:22, 14:16, 16:] = 0
    found = sitk.GetArrayFromImage(in_tight_outline(sitk.GetImageFromArray(solid)))
    margin = (found.shape[0] - 30) // 2
    inner = found[(slice(margin, -margin),) * 3]
    np.testing.assert_array_equal(inner[solid > 0], 1)
    assert (inner[10:20, 14:16, 17:22] == OUTER_CSF).all()
    assert (inner[10:20, 10:12, 22] == OUTER_CSF).all()
    assert not inner[:, :, 25:].any()
    assert found.sum() == inner.sum()
