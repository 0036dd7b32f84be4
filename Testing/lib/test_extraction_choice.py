from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from DALAnomalyLib import resources
from DALAnomalyLib.errors import CancelledError, InputError, ModelFileError, UsageError
from DALAnomalyLib.network.brain_extractor import BrainExtractor
from DALAnomalyLib.network.brain_extractor_file import FILE_NAME, save_extractor
from DALAnomalyLib.preprocessing import equipment as equipment_file
from DALAnomalyLib.preprocessing.brain_extraction import extract_brain
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.extraction_choice import METHODS, ExtractionMethod, FoundBrain, binary, find_brain
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.resources import CHECKSUMS, resource_folder
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib import phantom

GRID = Grid((64, 60, 56), (3.2, 3.6, 3.4), (-88.0, -106.0, -110.0))
"""All around the head."""


def head(grid: Grid = GRID) -> Volume:
    """The phantom's brain in a layer of dark fluid and skull, and that in a scalp; the neck below."""
    points = grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))

    def within(margin: float) -> np.ndarray:
        return np.linalg.norm((points - (0, 0, 2)) / (63 + margin, 79 + margin, 58 + margin), axis=-1) < 1

    neck = (np.linalg.norm(points[..., :2] - (0, 20), axis=-1) < 55) & (points[..., 2] < 0)
    scalp = np.where(within(14) | neck, 130.0, 0.0)
    array = np.where(within(7), 20.0, scalp)
    brain = phantom.intensities(points, "T1", lesion=False)
    return Volume(np.where(brain > 0, brain, array).astype(np.float32), grid)


def brain(grid: Grid = GRID) -> np.ndarray:
    return phantom.brain_mask(grid).array


def dice(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first > 0, second > 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def brightness_network() -> BrainExtractor:
    """A network whose layers pass the image through, so that what is bright is brain."""
    network = BrainExtractor((8,)).requires_grad_(False)
    for layer in network.unet.first:
        layer[0].weight.zero_()
        layer[0].weight[range(8), range(8), 1, 1, 1] = 1
    network.classify.weight.copy_(torch.eye(8).reshape(8, 8, 1, 1, 1))
    network.classify.bias.fill_(-0.7)
    return network


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The resources of an installation without a network or an atlas."""
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "installed" / "DALAnomalyLib" / "resources.py"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme="": str(tmp_path / "nowhere"))
    folder = tmp_path / "installed" / "Resources"
    (folder / "Models").mkdir(parents=True)
    equipment_file._extractor.cache_clear()
    yield folder
    equipment_file._extractor.cache_clear()


@pytest.fixture
def network_file(installation: Path) -> Path:
    path = installation / "Models" / FILE_NAME
    save_extractor(path, brightness_network(), 3.0, {})
    return path


SHIPPED_ATLAS = resource_folder("Atlas")


def find(volume: Volume, method: ExtractionMethod = "auto", given: Volume | None = None, atlas: bool = True):
    return find_brain(volume, given, method, Equipment(SHIPPED_ATLAS if atlas else None), CancelToken())


def test_methods_are_those_of_the_type() -> None:
    assert get_args(ExtractionMethod) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_given_mask_wins(installation: Path, method: ExtractionMethod) -> None:
    given = np.zeros(GRID.shape, np.float32)
    given[5:9, 10:20, 3:40] = 0.75
    given[0, 0, 0] = -1
    found = find(head(), method, Volume(given, GRID), atlas=False)
    assert (found.method, found.rough) == ("given", False)
    assert found.mask.grid == GRID
    assert found.mask.array.dtype == np.uint8
    np.testing.assert_array_equal(found.mask.array, given > 0)


def test_a_mask_of_probabilities_is_brain_above_one_half() -> None:
    mask = binary(Volume(np.linspace(0, 1, 64).reshape(4, 4, 4), Grid((4, 4, 4), (1.0, 1.0, 1.0))))
    assert mask.array.sum() == 32
    assert mask.array.dtype == np.uint8


def test_empty_mask_is_told() -> None:
    for value in (0, -1):
        with pytest.raises(InputError, match=r"the brain mask is empty.*above 0.5 inside the brain"):
            find(head(), given=Volume(np.full(GRID.shape, value, np.int16), GRID))


def test_binary_keeps_grid_and_shape_of_labels() -> None:
    labels = Volume(np.array([[[0, 3, -2], [1, 0, 255]]], np.int32), Grid((1, 2, 3), (1.0, 1.0, 1.0)))
    mask = binary(labels)
    assert (mask.grid, mask.array.dtype) == (labels.grid, np.uint8)
    assert mask.array.tolist() == [[[0, 1, 0], [1, 0, 1]]]


def test_stripped_scan_is_recognised_without_network_and_atlas(installation: Path) -> None:
    volume = phantom.scan(phantom.FINE_GRID)
    found = find(volume, atlas=False)
    assert (found.method, found.rough) == ("stripped", False)
    assert found.evidence.startswith("skull-stripped already: ")
    np.testing.assert_array_equal(found.mask.array, foreground_mask(volume).array)
    assert dice(found.mask.array, brain(volume.grid)) > 0.98


def test_stripped_as_told_is_not_checked(installation: Path) -> None:
    found = find(head(), "stripped", atlas=False)
    assert (found.method, found.evidence) == ("stripped", "taken as skull-stripped, as told")
    np.testing.assert_array_equal(found.mask.array, foreground_mask(head()).array)


@pytest.mark.parametrize("method", ["auto", "network"])
def test_head_is_outlined_by_the_network(network_file: Path, method: ExtractionMethod) -> None:
    found = find(head(), method, atlas=False)
    assert (found.method, found.rough) == ("network", False)
    assert dice(found.mask.array, brain()) > 0.85
    np.testing.assert_array_equal(found.mask.array, extract_brain(head(), Equipment().extractor()).array)
    size = found.mask.array.sum() * GRID.voxel_volume_ml
    assert found.evidence == f"outlined by the network: {size:.0f} ml"


def test_network_outlines_a_stripped_scan_where_it_is_told_to(network_file: Path) -> None:
    assert find(phantom.scan(phantom.FINE_GRID), "network").method == "network"


def test_head_without_a_brain_is_told_and_not_guessed(network_file: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no brain was found"):
        find(Volume(rng.uniform(0, 100, (20, 20, 20)).astype(np.float32), Grid((20, 20, 20), (2.0, 2.0, 2.0))))


@pytest.mark.parametrize("method", ["auto", "network"])
def test_cancelling_stops_the_network(network_file: Path, method: ExtractionMethod) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        find_brain(head(), None, method, Equipment(SHIPPED_ATLAS), token)


def assert_rough_but_near(found: FoundBrain, grid: Grid = GRID) -> None:
    assert (found.method, found.rough) == ("atlas", True)
    assert "rough" in found.evidence
    assert "\n" not in found.evidence
    assert found.mask.grid == grid
    assert found.mask.array.dtype == np.uint8
    assert dice(found.mask.array, brain(grid)) > 0.8


def test_without_the_network_the_atlas_is_placed_and_marked_rough(installation: Path) -> None:
    found = find(head())
    assert_rough_but_near(found)
    assert f"{FILE_NAME} is not in" in found.evidence


def test_with_a_network_that_was_changed_the_reason_is_told(network_file: Path) -> None:
    (network_file.parent / CHECKSUMS).write_text(f"{'0' * 64}  {FILE_NAME}\n")
    found = find(head())
    assert_rough_but_near(found)
    assert "not the model that was shipped" in found.evidence


def test_network_that_was_asked_for_is_not_replaced_by_the_atlas(installation: Path) -> None:
    with pytest.raises(ModelFileError, match=f"{FILE_NAME} is not in"):
        find(head(), "network")


def test_without_network_and_atlas_what_is_missing_is_told(installation: Path) -> None:
    with pytest.raises(ModelFileError, match="no folder Atlas"):
        find(head(), atlas=False)


def test_atlas_lies_below_the_top_of_the_head() -> None:
    found = find(head(), "atlas")
    assert_rough_but_near(found)
    inside = GRID.index_to_physical(np.argwhere(found.mask.array))
    top_of_head = GRID.index_to_physical(np.argwhere(head().array > 0))[:, 2].max()
    assert inside[:, 2].max() == pytest.approx(top_of_head - 12, abs=6)
    np.testing.assert_allclose((inside.min(axis=0) + inside.max(axis=0))[:2] / 2, (0, 0), atol=4)


@pytest.mark.parametrize("kind", ["noise", "reordered", "oblique", "wide", "bright spot above"])
def test_atlas_is_placed_whatever_the_scan_is_like(kind: str) -> None:
    volume = head()
    if kind == "noise":
        noise = np.random.default_rng(0).normal(0, 6, (2, *GRID.shape))
        volume = volume.with_array(np.hypot(volume.array + noise[0], noise[1]).astype(np.float32))
    elif kind == "reordered":
        volume = phantom.reordered(volume, (1, 2, 0), (True, False, True))
    elif kind == "oblique":
        volume = head(phantom.oblique(GRID, 10.0))
    elif kind == "wide":
        volume = head(Grid((90, 100, 100), (4.0, 4.1, 4.2), (-240.0, -180.0, -200.0)))
    else:
        volume.array[-2:, 5:8, 5:8] = 900.0
    assert_rough_but_near(find(volume, "atlas"), volume.grid)


def test_atlas_of_an_empty_scan_is_told() -> None:
    with pytest.raises(InputError, match="the scan is empty"):
        find(Volume(np.zeros(GRID.shape, np.float32), GRID), "atlas")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH, with the weights of HD-BET in place."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FREESURFER_HOME", raising=False)
    weights = tmp_path / "hd-bet_params" / "release_2.0.0" / "fold_all" / "checkpoint_final.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    return folder


@pytest.mark.parametrize("name", ["hd-bet", "synthstrip"])
def test_tool_that_is_not_installed_is_told(tools: Path, name: ExtractionMethod) -> None:
    with pytest.raises(UsageError, match=rf"{name} is not installed.*install it .*choose another brain extraction"):
        find(head(), name)


@pytest.mark.skipif(sys.platform == "win32", reason="the fake tool is a script that starts by #!")
def test_tool_that_is_installed_outlines_the_brain(tools: Path) -> None:
    script = tools / "hd-bet"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nimport SimpleITK as sitk\n"
        "mask = sitk.ReadImage(sys.argv[2]) > 200\n"
        "sitk.WriteImage(sitk.Cast(mask, sitk.sitkUInt8), sys.argv[4].replace('.nii.gz', '_bet.nii.gz'))\n"
    )
    script.chmod(0o755)
    found = find(head(), "hd-bet")
    assert (found.method, found.evidence, found.rough) == ("hd-bet", "outlined by hd-bet", False)
    np.testing.assert_array_equal(found.mask.array, head().array > 200)


@pytest.mark.parametrize("name", ["mslub_patient12_study1_T1", "TCGA-FG-6692_T2"])
def test_atlas_guess_on_a_real_head_overlaps_with_the_networks_outline(data_folder: Path, name: str) -> None:
    volume = read_volume(data_folder / "raw_head" / f"{name}.nii.gz")
    assert dice(find(volume, "atlas").mask.array, find(volume, "network").mask.array) > 0.75


def test_atlas_in_an_installation_is_found_by_itself(installation: Path) -> None:
    shutil.copytree(SHIPPED_ATLAS, installation / "Atlas")
    assert_rough_but_near(find(head(), atlas=False))
