"""The atlas that ships, folders of the same layout, and SRI24 as users keep it."""

from __future__ import annotations

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from DALAnomalyLib.errors import GeometryError, InputError, ModelFileError
from DALAnomalyLib.preprocessing.atlas import ATLAS_GRID, Atlas, load_atlas
from DALAnomalyLib.resources import resource_folder

LARGEST_BYTES = 4 * 2**20

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def shipped() -> Atlas:
    return load_atlas()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resource_folder("Atlas"), tmp_path / "atlas"))


def total(atlas: Atlas) -> Array:
    return np.sum([volume.array for volume in atlas.tissues.values()], axis=0)


def test_shipped_atlas_lies_on_the_grid_of_brats(shipped: Atlas) -> None:
    assert ATLAS_GRID.shape == (155, 240, 240)
    assert ATLAS_GRID.origin == (0, -239, 0)
    for volume in (*shipped.images.values(), *shipped.tissues.values(), shipped.brain_mask):
        assert volume.grid.is_close(ATLAS_GRID)
    assert set(shipped.images) == {"T1", "T2"}
    assert set(shipped.tissues) == {"csf", "gm", "wm"}


def test_shipped_images_are_positive_in_the_brain_and_zero_outside(shipped: Atlas) -> None:
    inside = shipped.brain_mask.array > 0
    assert shipped.brain_mask.array.dtype == np.uint8
    assert 1.1e6 < inside.sum() < 1.7e6  # mm^3: adults have 1.1 to 1.7 litres
    for volume in shipped.images.values():
        assert volume.array.dtype == np.float32
        np.testing.assert_array_equal(volume.array > 0, inside)


def test_shipped_tissues_are_probabilities_of_what_the_brain_is(shipped: Atlas) -> None:
    inside = shipped.brain_mask.array > 0
    for volume in shipped.tissues.values():
        assert volume.array.dtype == np.float32
        assert volume.array.min() == 0
        assert volume.array.max() <= 1
    np.testing.assert_allclose(total(shipped)[inside], 1, atol=1e-6)
    np.testing.assert_array_equal(total(shipped)[~inside], 0)


def test_shipped_contrasts_are_those_of_t1_and_t2(shipped: Atlas) -> None:
    fluid, grey, white = (shipped.tissues[name].array > 0.8 for name in ("csf", "gm", "wm"))
    t1, t2 = (shipped.images[name].array for name in ("T1", "T2"))
    assert t1[fluid].mean() < 0.7 * t1[grey].mean() < 0.7 * t1[white].mean()
    assert t2[fluid].mean() > 1.3 * t2[grey].mean() > 1.3 * t2[white].mean()


def test_shipped_brain_is_upright_and_looks_to_the_front(shipped: Atlas) -> None:
    """Superior is up and anterior in front; left and right of a brain are too alike to be told from its outline."""
    inside = np.argwhere(shipped.brain_mask.array)
    middle = inside[:, 2].mean()
    assert abs(middle - 119.5) < 5
    low, high = (inside[np.abs(inside[:, 0] - k) < 2] for k in (inside[:, 0].min() + 8, inside[:, 0].max() - 8))
    # lowest are cerebellum and brainstem, behind the middle of the brain
    assert low[:, 1].mean() > inside[:, 1].mean() + 10
    assert np.ptp(low[:, 2]) < np.ptp(inside[:, 2])
    assert high[:, 1].mean() < low[:, 1].mean()


def test_shipped_files_are_small_and_name_nobody() -> None:
    folder = resource_folder("Atlas")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST_BYTES
    made = json.loads((folder / "atlas.json").read_text())["made"]
    assert sum(made["label_maps"].values()) >= 10
    assert "/" not in made["command"]


def test_an_atlas_is_loaded_once(shipped: Atlas, copy: Path) -> None:
    first = load_atlas(copy)
    assert load_atlas(copy) is first
    assert first.digest == shipped.digest
    with pytest.raises(ValueError, match="read-only"):
        first.images["T1"].array[0, 0, 0] = 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names in Unicode")
def test_a_folder_whose_name_is_not_utf_8_is_refused(copy: Path) -> None:
    with pytest.raises(InputError, match=r"lat\\udce4.*: the name .* is not valid UTF-8; rename it"):
        load_atlas(copy.rename(copy.with_name("lat\udce4")))


@pytest.mark.parametrize("name", ["T1.nii.gz", "brain_mask.nii.gz", "atlas.json"])
def test_changed_file_is_noticed_even_when_the_atlas_was_loaded(copy: Path, name: str) -> None:
    load_atlas(copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ModelFileError, match=f"{name} does not match SHA256SUMS"):
        load_atlas(copy)


@pytest.mark.parametrize("name", ["wm.nii.gz", "SHA256SUMS"])
def test_missing_file_is_noticed(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelFileError, match="lacks files"):
        load_atlas(copy)


def test_atlas_of_another_format_is_refused(copy: Path) -> None:
    header = json.loads((copy / "atlas.json").read_text())
    change = json.dumps(header | {"format": "dal-anomaly-atlas-9"}).encode()
    sums = (copy / "SHA256SUMS").read_text()
    old = sha256((copy / "atlas.json").read_bytes()).hexdigest()
    (copy / "atlas.json").write_bytes(change)
    (copy / "SHA256SUMS").write_text(sums.replace(old, sha256(change).hexdigest()))
    with pytest.raises(ModelFileError, match="format dal-anomaly-atlas-9"):
        load_atlas(copy)


def sri24_like(folder: Path, names: dict[str, str], flips: tuple[int, ...] = (1, -1, -1)) -> dict[str, Array]:
    """Write a made-up SRI24: 4D files with header and order as distributed, the mask's origin wrong.

    Returns the arrays in LPS order.
    """
    folder.mkdir(exist_ok=True)
    mask = np.zeros(ATLAS_GRID.shape, np.int16)
    mask[40:120, 60:200, 70:160] = 2
    tissues = np.zeros_like(mask)
    tissues[40:120, 60:100, 70:160], tissues[40:120, 100:150, 70:160], tissues[40:120, 150:200, 70:160] = 1, 2, 3
    ramp = np.arange(mask.size, dtype=np.int64).reshape(mask.shape) % 251
    arrays = {"T1": (ramp + 1).astype(np.int16), "T2": (ramp * 2 + 1).astype(np.int16), "brain": mask}
    arrays["tissues"] = tissues
    for part, name in names.items():
        image = sitk.GetImageFromArray(np.ascontiguousarray(arrays[part][:: flips[0], :: flips[1], :: flips[2]]))
        image.SetDirection((flips[2], 0, 0, 0, flips[1], 0, 0, 0, flips[0]))
        image.SetOrigin((239, 239, -154) if part == "brain" else (239, 0, 0))
        sitk.WriteImage(sitk.JoinSeries(image), str(folder / name))
    return arrays


AS_PACKED = {"T1": "sri24_t1.nii.gz", "T2": "sri24_t2.nii.gz", "brain": "sri24_brainmask.nii.gz"}
AS_DISTRIBUTED = {"T1": "spgr.nii", "T2": "late.nii", "brain": "Brainmask.nii", "tissues": "tissues.nii"}


def test_sri24_folder_is_put_in_order(tmp_path: Path) -> None:
    arrays = sri24_like(tmp_path, AS_DISTRIBUTED)
    atlas = load_atlas(tmp_path)
    inside = arrays["brain"] > 0
    assert atlas.name == "SRI24"
    assert atlas.brain_mask.grid == ATLAS_GRID
    np.testing.assert_array_equal(atlas.brain_mask.array, inside)
    for name, volume in atlas.images.items():
        np.testing.assert_array_equal(volume.array, np.where(inside, arrays[name], 0))
    for label, name in enumerate(("csf", "gm", "wm"), start=1):
        np.testing.assert_array_equal(atlas.tissues[name].array, arrays["tissues"] == label)


def test_sri24_folder_without_tissues_has_none(tmp_path: Path) -> None:
    sri24_like(tmp_path, AS_PACKED)
    assert load_atlas(tmp_path).tissues == {}


@pytest.mark.parametrize("part", ["T1", "T2", "brain"])
def test_sri24_folder_has_to_be_complete(tmp_path: Path, part: str) -> None:
    for name in AS_PACKED.values():
        (tmp_path / name).touch()
    (tmp_path / AS_PACKED[part]).unlink()
    with pytest.raises(InputError, match=f"no file for {part}; put {AS_PACKED[part]} there"):
        load_atlas(tmp_path)


def test_sri24_files_of_another_size_are_refused(tmp_path: Path) -> None:
    for name in AS_PACKED.values():
        array = np.random.default_rng(0).integers(0, 9, (60, 60, 60)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    with pytest.raises(GeometryError, match="is 60 x 60 x 60 voxels"):
        load_atlas(tmp_path)


def test_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_atlas(tmp_path / "nowhere")


def test_real_sri24_meets_the_brains_of_brats(data_folder: Path, shipped: Atlas) -> None:
    atlas = load_atlas(data_folder / "atlas" / "sri24")
    inside = atlas.brain_mask.array > 0
    assert 1.4e6 < inside.sum() < 1.5e6
    case = sitk.ReadImage(str(data_folder / "lesions" / "glioma" / "TCIA13_623_1_T1.nii.gz"))
    brain = sitk.GetArrayFromImage(case) > 0
    assert dice(inside, brain) > 0.9
    assert dice(inside, brain) > dice(inside[:, ::-1], brain) + 0.1
    assert dice(inside, shipped.brain_mask.array > 0) > 0.9
    # the same anatomy in the same place
    both = inside & (shipped.brain_mask.array > 0)
    for name in ("T1", "T2"):
        ours, theirs = shipped.images[name].array, atlas.images[name].array
        straight = np.corrcoef(ours[both], theirs[both])[0, 1]
        turned = both & both[:, ::-1]
        assert straight > 0.45
        assert straight > np.corrcoef(ours[:, ::-1][turned], theirs[turned])[0, 1] + 0.1


def dice(first: Array, second: Array) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))
