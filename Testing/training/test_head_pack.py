from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DALAnomalyLib.errors import InputError
from DALAnomalyTraining.brain_extraction.head_labels import CONTRASTS, CSF, SULCUS_MM, TISSUES, compact, group_of
from DALAnomalyTraining.brain_extraction.head_pack import (
    HELD_OUT_LABEL_MAPS,
    head_of_label_map,
    head_of_scan,
    is_held_out,
    labels_of,
    read_pack,
    real_heads,
    write_pack,
)

CORTEX, RIGHT_CORTEX, WHITE, SKIN = 3, 42, 2, 511


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (2, 41),  # cerebral white matter
        (3, 42),  # cortex
        (4, 43),  # lateral ventricle
        (5, 44),  # its lower horn
        (7, 46),  # cerebellar white matter
        (8, 47),  # cerebellar cortex
        (10, 49),  # thalamus
        (11, 50),  # caudate
        (12, 51),  # putamen
        (13, 52),  # pallidum
        (17, 53),  # hippocampus
        (18, 54),  # amygdala
        (26, 58),  # accumbens
        (28, 60),  # ventral diencephalon
        (30, 62),  # vessel
        (31, 63),  # choroid plexus
    ],
)
def test_right_side_is_named_like_the_left(left: int, right: int) -> None:
    assert compact(np.array([left, right])).tolist() == [left, left]


def test_labels_in_the_middle_and_outside_the_brain_keep_their_names() -> None:
    labels = np.array([[0, 14, 15], [16, CSF, 77], [85, 507, 515]], np.int16)
    np.testing.assert_array_equal(compact(labels), labels)


def test_labels_that_nobody_knows_are_clipped() -> None:
    assert compact(np.array([-5, 1023, 70_000])).tolist() == [0, 1023, 1023]


def test_groups_are_disjoint_merged_and_have_a_brightness_in_every_contrast() -> None:
    members = [label for group in TISSUES.values() for label in group]
    assert len(members) == len(set(members))
    np.testing.assert_array_equal(compact(np.array(members)), members)
    assert {len(values) for values in CONTRASTS.values()} == {len(TISSUES)}


def test_group_of_a_label_is_its_tissue() -> None:
    names = list(TISSUES)
    assert [names[group_of(label)] for label in (CSF, 4, CORTEX, WHITE, 515)] == [
        "fluid", "fluid", "grey", "white", "bone"
    ]  # fmt: skip
    assert names[group_of(999)] == "soft tissue"


def test_twenty_of_sixty_heads_are_held_out() -> None:
    held_out = [position for position in range(60) if is_held_out(position)]
    assert held_out == [0, 5, 7, 10, 13, 15, 20, 22, 25, 28, 30, 35, 37, 40, 43, 45, 50, 52, 55, 58]


def write(array: np.ndarray, path: Path, spacing: float, orientation: str = "LPS") -> Path:
    """Write an upright (LPS) array with its axes stored in another order."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


def labels(shape: tuple[int, int, int] = (61, 64, 66)) -> np.ndarray:
    """A brain with a left and a right half, and skin around it."""
    array = np.zeros(shape, np.int32)
    array[8:56, 6:60, 5:62] = SKIN
    array[14:50, 12:52, 10:34] = RIGHT_CORTEX
    array[14:50, 12:52, 34:58] = CORTEX
    array[20:44, 20:44, 20:48] = WHITE
    return array


def test_label_map_becomes_upright_numbers_at_two_millimetres(tmp_path: Path) -> None:
    array = labels()
    head = head_of_label_map(write(array, tmp_path / "map.nii.gz", 1.0))
    assert (head.name, head.labels) == ("map.nii.gz", (0, WHITE, CORTEX, SKIN))
    assert head.voxels.dtype == head.brain.dtype == np.uint8
    assert head.voxels.shape == head.brain.shape == (30, 32, 33)
    expected = np.where(array == RIGHT_CORTEX, CORTEX, array)[:60:2, ::2, ::2]
    np.testing.assert_array_equal(np.array(head.labels)[head.voxels], expected)
    inside = np.isin(array, (CORTEX, RIGHT_CORTEX, WHITE))[:60]
    share = inside.reshape(30, 2, 32, 2, 33, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(head.brain / 255, share, atol=0.003)


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "PSR"])
def test_orientation_of_the_file_does_not_matter(tmp_path: Path, orientation: str) -> None:
    array = labels((60, 64, 66))
    array[16:20, 14:30, 36:50] = CSF  # no symmetry
    upright = head_of_label_map(write(array, tmp_path / "upright.nii.gz", 1.0))
    other = head_of_label_map(write(array, tmp_path / "other.nii.gz", 1.0, orientation))
    np.testing.assert_array_equal(other.voxels, upright.voxels)
    np.testing.assert_array_equal(other.brain, upright.brain)


def brain_of(array: np.ndarray, tmp_path: Path) -> np.ndarray:
    """The packed brain of a label map of even size, back at its 1 mm."""
    share = head_of_label_map(write(array, tmp_path / "map.nii.gz", 1.0)).brain / 255
    return share.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)


def test_closing_fills_a_sulcus_but_not_the_outside(tmp_path: Path) -> None:
    array = np.zeros((80, 80, 80), np.int32)
    array[4:76, 4:76, 4:76] = SKIN
    array[12:68, 12:68, 12:68] = CSF
    array[16:64, 16:64, 16:64] = CORTEX
    array[44:64, 38:42, 16:64] = CSF  # a sulcus of 4 mm, 20 mm deep
    array[30:36, 30:36, 30:36] = 4  # ventricle
    array[24:28, 24:28, 24:28] = CSF  # a cavity without an outlet
    brain = brain_of(array, tmp_path)
    sulcus = np.zeros(array.shape, bool)
    sulcus[44:64, 38:42, 16:64] = True
    parenchyma = np.zeros(array.shape, bool)
    parenchyma[16:64, 16:64, 16:64] = ~sulcus[16:64, 16:64, 16:64]
    assert (brain[parenchyma] == 1).all()
    assert brain[sulcus].mean() > 0.9, "a dent remains along its mouth"
    assert brain[44:60, 38:42, 20:60].min() == 1
    assert brain[~parenchyma & ~sulcus].max() == 0


def test_closing_leaves_a_gap_that_is_wider_than_a_sulcus(tmp_path: Path) -> None:
    array = np.zeros((60, 100, 60), np.int32)
    width = 3 * int(SULCUS_MM)
    array[10:50, 10:80, 10:50] = CORTEX
    array[24:50, 40 : 40 + width, 10:50] = CSF
    brain = brain_of(array, tmp_path)
    assert brain[30:50, 40 + width // 2 - 2 : 40 + width // 2 + 2, 20:40].max() == 0
    assert (brain[array == CORTEX] == 1).all()


def real(folder: Path, name: str, orientation: str = "LPS", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Write a scan and its labels, which have a hole; returns both."""
    intensity = np.random.default_rng(seed).integers(10, 200, (20, 22, 24)).astype(np.int16)
    mask = np.zeros(intensity.shape, np.int16)
    mask[4:15, 5:16, 6:17] = 31
    mask[8:10, 9:11, 10:12] = 0
    write(intensity, folder / f"{name}_T1.nii.gz", 2.0, orientation)
    write(mask, folder / f"{name}_labels.nii.gz", 2.0, orientation)
    return intensity, mask


@pytest.mark.parametrize("orientation", ["LPS", "PSR"])
def test_scan_keeps_its_intensities_and_its_brain_has_no_holes(tmp_path: Path, orientation: str) -> None:
    intensity, mask = real(tmp_path / "with_T1_in_its_name", "one_T1_T1", orientation)
    (path,) = real_heads(tmp_path / "with_T1_in_its_name")
    head = head_of_scan(path)
    assert (head.name, head.labels) == ("one_T1_T1_T1.nii.gz", ())
    scaled = 255 * np.clip(intensity / np.percentile(intensity, 99.9), 0, 1)
    np.testing.assert_allclose(head.voxels, scaled, atol=0.51)
    mask[4:15, 5:16, 6:17] = 1
    np.testing.assert_array_equal(head.brain, 255 * (mask > 0))


def test_labels_lie_beside_their_scan() -> None:
    assert labels_of(Path("a_T1", "b_T1c_T1.nii.gz")) == Path("a_T1", "b_T1c_labels.nii.gz")


@pytest.mark.parametrize("read", [head_of_label_map, head_of_scan])
def test_file_with_other_voxels_is_refused(tmp_path: Path, read) -> None:
    path = write(labels(), tmp_path / "head_T1.nii.gz", 1.5)
    with pytest.raises(InputError, match=r"head_T1\.nii\.gz has voxels of \(1\.5, .*resample it to \d\.0 mm"):
        read(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six label maps and sixteen real heads."""
    folder = tmp_path_factory.mktemp("heads")
    small = labels()[::2, ::2, ::2]
    for number in range(6):
        write(np.where(small == SKIN, SKIN - number, small), folder / "maps" / f"map_{number}.nii.gz", 1.0)
    for number in range(16):
        real(folder / "scans", f"head_{number:02d}", seed=number)
    return folder


def test_what_is_packed_is_read_without_the_heads_held_out(folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "heads.npz"
    assert write_pack(folders / "maps", folders / "scans", path) == 2 + 10
    heads = list(read_pack(path))
    kept = [number for number in range(16) if number not in (0, 5, 7, 10, 13, 15)]
    assert [head.name for head in heads] == [
        *(f"map_{number}.nii.gz" for number in range(6 - HELD_OUT_LABEL_MAPS)),
        *(f"head_{number:02d}_T1.nii.gz" for number in kept),
    ]
    for head in heads:
        source = head_of_label_map(folders / "maps" / head.name) if head.labels else head_of_scan(
            folders / "scans" / head.name
        )  # fmt: skip
        assert head.labels == source.labels
        np.testing.assert_array_equal(head.voxels, source.voxels)
        np.testing.assert_array_equal(head.brain, source.brain)
    assert json.dumps(heads[0].labels), "plain numbers"


@pytest.mark.parametrize("folder", ["maps", "scans"])
def test_folder_without_heads_is_told(folders: Path, tmp_path: Path, folder: str) -> None:
    chosen = {"maps": folders / "maps", "scans": folders / "scans"} | {folder: tmp_path}
    with pytest.raises(InputError, match=f"{tmp_path.name} holds no .*; check the path"):
        write_pack(chosen["maps"], chosen["scans"], tmp_path / "pack.npz")


@pytest.mark.parametrize("content", [None, b"", b"no pack", b"PK\x03\x04 half a pack"])
def test_file_that_is_no_pack_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "heads.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"heads\.npz is not a readable pack of heads \(\w+\); make it with `prepare`"):
        list(read_pack(path))


@pytest.mark.slow
def test_real_label_map_has_a_brain_of_adult_size_in_its_head(data_folder: Path) -> None:
    head = head_of_label_map(data_folder / "labelmaps" / "whole_head" / "subject_01.nii.gz")
    assert head.voxels.shape == (128, 128, 128)
    assert 1000 < head.brain.sum(dtype=np.int64) / 255 * 0.008 < 1800
    assert not {41, 42, 43, 53} & set(head.labels)
    parts = {2, 3, 4, 8, 16, CSF, 515}
    assert parts <= set(head.labels)
    # the brain lies in the upper part of the head, and its stem below its middle
    height = np.argwhere(head.brain > 127)[:, 0]
    assert np.argwhere(head.voxels > 0)[:, 0].mean() < height.mean()
    assert np.argwhere(head.voxels == head.labels.index(16))[:, 0].max() < height.mean()
