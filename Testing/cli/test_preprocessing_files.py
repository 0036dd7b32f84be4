from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (extra cli)")

from matplotlib.image import imread
from scipy import ndimage

from DALAnomalyCLI.preprocessing_files import INTERMEDIATE_FILES, QUALITY_FILE, write_intermediate, write_quality_file
from DALAnomalyLib.preprocessing.chain import PlacedScan
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.intensity_standardisation import IntensityMap
from DALAnomalyLib.preprocessing.model_grid import model_grid_for, to_model_grid
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.preprocessing.registration import Registration
from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.preprocessing.steps import StepRecord
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib.atlas_phantom import brain, likeness, motion
from Testing.lib.phantom import reordered

TO_ATLAS = motion(25, (1, 2, -3), (0, 0, 0)).after(RigidTransform(translation=(119.0, -109.0, 70.0)))
ORDER, FLIPS = (2, 0, 1), (False, True, True)
DETECTOR: Any = SimpleNamespace(equipment=Equipment())


def original() -> tuple[Volume, Volume]:
    """The atlas' T1 and its brain where `TO_ATLAS` brings them from, in a strange order of axes."""
    image, mask = (reordered(TO_ATLAS.inverse().move(volume), ORDER, FLIPS) for volume in (likeness("T1"), brain()))
    return image, mask


def prepared(accepted: bool, sequence: str = "T1") -> PreparedScan:
    image, mask = original()
    upright, inside = to_anatomical_order(image), to_anatomical_order(mask)
    registration = Registration(TO_ATLAS, 0.9, 0.9, 1, "simpleitk", accepted, "as told")
    to_atlas = TO_ATLAS if accepted else RigidTransform()
    corrected = upright.with_array(upright.array / 2)
    gain = np.full(upright.array.shape, 2, np.float32)
    placed = PlacedScan(image.grid, upright, corrected, gain, inside, False, to_atlas, registration)
    grid = model_grid_for(placed.moved_brain, (24, 28, 24), (6.5, 6.5, 6.5))
    raw, weight = (torch.from_numpy(a.astype(np.float32))[None, None] for a in to_model_grid(corrected, inside, grid))
    if accepted:
        arrays = to_model_grid(placed.moved, placed.moved_brain, grid)
        raw, weight = (torch.from_numpy(a.astype(np.float32))[None, None] for a in arrays)
    scale = IntensityMap(torch.tensor([0.0, 600.0]), torch.tensor([0.0, 1.0]))
    standard = scale.to_standard(raw).clamp(0, 1) * weight
    steps = (StepRecord("n4", "done", 1.2, {}, "hardly any bias"), StepRecord("crop", "skipped"))
    return PreparedScan(standard, raw, weight, grid, placed, scale, sequence, "as told", ("thick slices",), steps)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_intermediate(folder, prepared(True), DETECTOR)
    return folder


def test_the_transform_leads_from_the_atlas_to_the_scan(registered: Path) -> None:
    """As resampling wants it: for every point of the output, the atlas, the place in the input, the scan."""
    transform = sitk.ReadTransform(str(registered / "atlas_to_scan.tfm"))
    grid = likeness("T1").grid
    for index in ((10, 20, 30), (30, 5, 12), (19, 23, 19)):
        in_atlas = grid.index_to_physical(index)
        in_scan = np.array(transform.TransformPoint(in_atlas.tolist()))
        np.testing.assert_allclose(TO_ATLAS.apply(in_scan), in_atlas, atol=1e-3)
        image, _ = original()
        k, j, i = np.rint(image.grid.physical_to_index(in_scan)).astype(int)
        assert image.array[k, j, i] == likeness("T1").array[index], "the same anatomy"


def test_resampling_with_the_transform_gives_the_scan_in_atlas_space(registered: Path) -> None:
    """What a user does with the files in another program."""
    scan = sitk.ReadImage(str(registered / "corrected.nii.gz"))
    atlas_space = sitk.ReadImage(str(registered / "atlas_space.nii.gz"))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(registered / "atlas_space_brain_mask.nii.gz"))) > 0
    transform = sitk.ReadTransform(str(registered / "atlas_to_scan.tfm"))
    moved = sitk.GetArrayFromImage(sitk.Resample(scan, atlas_space, transform, sitk.sitkLinear))
    core = ndimage.binary_erosion(mask, iterations=8)  # the border is divided by a weight
    found = sitk.GetArrayFromImage(atlas_space)
    np.testing.assert_allclose(found[core], np.clip(moved[core] / 600, 0, 1), atol=0.01)


def test_the_corrected_scan_lies_on_the_scan_as_it_was_read(registered: Path) -> None:
    written = read_volume(registered / "corrected.nii.gz")
    assert written.grid.is_close(original()[0].grid)
    np.testing.assert_allclose(written.array, original()[0].array / 2, rtol=1e-5)


def test_the_models_input_is_what_the_network_is_given(registered: Path) -> None:
    written = read_volume(registered / "model_input.nii.gz")
    assert written.grid.is_close(prepared(True).grid)
    np.testing.assert_allclose(written.array, prepared(True).image[0, 0], atol=1e-6)


def test_atlas_space_is_the_atlas_grid_and_shows_the_atlas(registered: Path) -> None:
    atlas = Equipment().atlas()
    image, mask = (read_volume(registered / f"atlas_space{end}.nii.gz") for end in ("", "_brain_mask"))
    assert image.grid.is_close(atlas.brain_mask.grid)
    assert mask.grid.is_close(atlas.brain_mask.grid)
    assert image.array.min() == 0
    assert image.array.max() <= 1
    assert not image.array[mask.array == 0].any()
    both = (mask.array > 0) & (atlas.brain_mask.array > 0)
    assert 2 * both.sum() / (mask.array.sum() + atlas.brain_mask.array.sum()) > 0.95
    assert np.corrcoef(image.array[both], atlas.images["T1"].array[both])[0, 1] > 0.85  # of 4 mm and 1 mm voxels


def test_without_registration_nothing_claims_to_be_in_the_atlas(tmp_path: Path) -> None:
    write_intermediate(tmp_path, prepared(False), DETECTOR)
    assert {path.name for path in tmp_path.iterdir()} == {"corrected.nii.gz", "model_input.nii.gz"}
    assert {path.name for path in tmp_path.iterdir()} < set(INTERMEDIATE_FILES)


@pytest.mark.parametrize(("accepted", "sequence"), [(True, "T1"), (True, "FLAIR"), (False, "T1")])
def test_the_picture_is_drawn_with_or_without_the_atlas(tmp_path: Path, accepted: bool, sequence: str) -> None:
    """Even for a sequence that the atlas does not have."""
    write_quality_file(tmp_path / QUALITY_FILE, prepared(accepted, sequence), DETECTOR, "scan.nii.gz")
    picture = imread(tmp_path / QUALITY_FILE)
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.05


def test_grids_of_the_tests_are_not_alike_by_chance() -> None:
    grids: list[Grid] = [original()[0].grid, prepared(True).placed.scan.grid, likeness("T1").grid]
    assert len({grid.origin for grid in grids}) == 3
