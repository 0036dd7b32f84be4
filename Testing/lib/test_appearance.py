"""What sequence a scan looks like: on brains painted with the atlas' tissues, and on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from DALAnomalyLib.preprocessing.appearance import (
    BRIGHT_FLUID_SHARE,
    BRIGHT_SHARE,
    DEEP_MM,
    Appearance,
    look_at,
)
from DALAnomalyLib.preprocessing.atlas import load_atlas
from DALAnomalyLib.preprocessing.bias_field import estimate_bias_field
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.registration import register_rigidly
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_volume
from Testing.lib.atlas_phantom import BRAIN_GRID, CONTRASTS, brain, likeness, motion, painted


def seen(image: Volume, mask: Volume | None = None) -> Appearance:
    return look_at(image, brain() if mask is None else mask, load_atlas())


# --- painted brains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("sequence", CONTRASTS)
def test_a_painted_brain_looks_like_its_sequence(sequence: str, gain: float) -> None:
    image = painted(CONTRASTS[sequence], noise=0.02)
    assert seen(image.with_array(image.array * np.float32(gain))).kind == sequence


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_the_atlas_looks_like_itself(sequence: str) -> None:
    found = seen(likeness(sequence))
    assert found.kind == sequence
    assert found.correlations[sequence] > 0.7


@pytest.mark.parametrize("seed", [0, 1, 15, 16])
def test_noise_looks_like_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(0, 1000, BRAIN_GRID.shape).astype(np.float32)
    assert seen(Volume(noise, BRAIN_GRID)).kind == "unknown"


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("axis", range(3))
def test_a_ramp_looks_like_nothing(axis: int, sense: int) -> None:
    """Some of them order the tissues as FLAIR does."""
    ramp = (25 + sense * (np.indices(BRAIN_GRID.shape)[axis] - 20)).astype(np.float32)
    assert seen(Volume(ramp, BRAIN_GRID)).kind == "unknown"


def test_strong_noise_does_not_hide_the_contrast() -> None:
    for sequence in ("T1", "T2", "FLAIR"):
        assert seen(painted(CONTRASTS[sequence], noise=0.15)).kind == sequence


def test_a_large_tumour_does_not_hide_the_contrast() -> None:
    points = BRAIN_GRID.index_to_physical(np.moveaxis(np.indices(BRAIN_GRID.shape), 0, -1))
    tumour = np.linalg.norm(points - (90, -80, 85), axis=-1) < 35
    for sequence, value in (("T1", 300), ("T2", 1100)):
        image = painted(CONTRASTS[sequence])
        assert tumour[brain().array > 0].mean() > 0.08
        assert seen(image.with_array(np.where(tumour, value, image.array).astype(np.float32))).kind == sequence


def test_only_the_place_in_the_atlas_counts() -> None:
    """On another lattice, oblique to the atlas, the same brain gives nearly the same figures."""
    straight = seen(likeness("T1"))
    turn = motion(30, (1, 2, 3), (0, 0, 0))
    points = turn.apply(BRAIN_GRID.index_to_physical(np.moveaxis(np.indices(BRAIN_GRID.shape), 0, -1)))
    indices = np.rint(BRAIN_GRID.physical_to_index(points)).astype(int)
    inside = np.all((indices >= 0) & (indices < BRAIN_GRID.shape), axis=-1)
    k, j, i = np.moveaxis(np.where(inside[..., None], indices, 0), -1, 0)
    turned = [turn.move(Volume(v.array[k, j, i] * inside, BRAIN_GRID)) for v in (likeness("T1"), brain())]
    found = look_at(turned[0], turned[1], load_atlas())
    assert found.kind == "T1"
    assert found.correlations["T1"] == pytest.approx(straight.correlations["T1"], abs=0.2)
    ignored = seen(*(Volume(volume.array, BRAIN_GRID) for volume in turned))
    assert ignored.correlations["T1"] < 0.3, "or this test proves nothing"


def test_tissues_and_evidence_state_what_was_painted() -> None:
    found = seen(painted(CONTRASTS["T1"]))
    fluid, grey, white = (found.tissues[name] for name in ("csf", "gm", "wm"))
    assert fluid < 0.5 < grey < 0.8 < white
    assert found.evidence == (
        f"correlation with the atlas T1 {found.correlations['T1']:.2f}, T2 {found.correlations['T2']:.2f}; "
        f"CSF {fluid:.2f}, GM {grey:.2f}, WM {white:.2f}"
    )


def test_a_scan_apart_from_the_atlas_is_unknown() -> None:
    away = motion(0, (0, 0, 1), (400, 0, 0))
    found = look_at(away.move(likeness("T1")), away.move(brain()), load_atlas())
    assert (found.kind, found.evidence) == ("unknown", "the scan hardly overlaps the atlas")


def test_an_atlas_without_tissues_still_tells_t1_from_t2() -> None:
    bare = replace(load_atlas(), tissues={})
    for sequence in ("T1", "T2"):
        found = look_at(likeness(sequence), brain(), bare)
        assert (found.kind, found.bright_share, found.bright_fluid_share) == (sequence, 0.0, 0.0)


def test_enhancing_tissue_is_measured() -> None:
    image = painted(CONTRASTS["T1"])
    assert seen(image).bright_share < BRIGHT_SHARE
    enhancing = (np.random.default_rng(0).random(BRAIN_GRID.shape) < 0.06) & (brain().array > 0)
    found = seen(image.with_array(np.where(enhancing, 1800, image.array).astype(np.float32)))
    assert found.kind == "T1"
    assert 0.03 < found.bright_share < 0.07


def coil() -> np.ndarray:
    """From half to one and a half times the brightness, brightest at the back."""
    return np.linspace(1.5, 0.5, BRAIN_GRID.shape[1], dtype=np.float32)[:, None]


def test_a_bias_field_is_no_contrast_agent() -> None:
    image = painted(CONTRASTS["T1"], noise=0.02)
    found = seen(image.with_array(image.array * coil()))
    assert found.bright_share < 0.1 * BRIGHT_SHARE
    assert found.bright_fluid_share < 0.1 * BRIGHT_FLUID_SHARE


def test_white_matter_may_be_negative() -> None:
    """Where it is, it says nothing of the coil."""
    image = painted(CONTRASTS["T1"], noise=0.02)
    around_zero = image.array - np.median(image.array[image.array > 0.9 * np.percentile(image.array, 99)])
    found = seen(image.with_array(around_zero.astype(np.float32)))
    assert 0 <= found.bright_share <= 1


@pytest.mark.parametrize("bias", [1, coil()], ids=["even", "uneven"])
@pytest.mark.parametrize("deep", [True, False])
def test_an_enhancing_plexus_is_measured_and_vessels_at_the_surface_are_not(deep: bool, bias: int | np.ndarray) -> None:
    image = painted(CONTRASTS["T1"])
    assert seen(image).bright_fluid_share == 0
    atlas = load_atlas()
    points = BRAIN_GRID.index_to_physical(np.moveaxis(np.indices(BRAIN_GRID.shape), 0, -1))
    indices = np.rint(atlas.brain_mask.grid.physical_to_index(points)).astype(int)
    size = np.array(atlas.brain_mask.array.shape)
    k, j, i = np.moveaxis(np.clip(indices, 0, size - 1), -1, 0)
    depth = ndimage.distance_transform_edt(atlas.brain_mask.array)[k, j, i]
    place = (atlas.tissues["csf"].array[k, j, i] > 0.5) & ((depth > DEEP_MM) == deep) & (brain().array > 0)
    enhancing = place & (np.random.default_rng(0).random(BRAIN_GRID.shape) < 0.1)
    found = seen(image.with_array((bias * np.where(enhancing, 1800, image.array)).astype(np.float32)))
    assert found.bright_share < BRIGHT_SHARE
    assert (found.bright_fluid_share > 4 * BRIGHT_FLUID_SHARE) == deep


# --- real brains ------------------------------------------------------------------------------------------------------

GLIOMAS = ("TCIA01_378_1", "TCIA01_425_1", "TCIA02_135_1", "TCIA10_628_1", "TCIA13_623_1")
SEQUENCES = ("T1", "T2")


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("name", GLIOMAS)
def test_a_brain_with_a_glioma_looks_like_its_sequence(data_folder: Path, name: str, sequence: str) -> None:
    image = read_volume(data_folder / "lesions" / "glioma" / f"{name}_{sequence}.nii.gz")  # in the atlas' space
    assert seen(image, foreground_mask(image)).kind == sequence


@pytest.mark.slow
@pytest.mark.parametrize("name", GLIOMAS)
def test_the_enhancing_rim_of_a_glioma_is_told_from_its_other_bright_parts(data_folder: Path, name: str) -> None:
    scan = read_volume(data_folder / "lesions" / "glioma" / f"{name}_T1.nii.gz")
    lesion = read_volume(data_folder / "lesions" / "glioma" / f"{name}_lesion.nii.gz").array > 0
    mask = foreground_mask(scan)
    assert seen(scan, mask).bright_share < BRIGHT_SHARE
    image = corrected(scan, mask)
    assert seen(image, mask).bright_share < BRIGHT_SHARE
    depth = ndimage.distance_transform_edt(lesion)  # mm
    rim = 1.8 * np.median(image.array[mask.array > 0])
    enhanced = np.where((depth > 0) & (depth <= 4), rim, image.array).astype(np.float32)
    assert seen(image.with_array(enhanced), mask).bright_share > BRIGHT_SHARE


@pytest.mark.slow
@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("name", ["lesions/ms/mslub26", "healthy_pair/kirby113"])
def test_a_registered_brain_looks_like_its_sequence(data_folder: Path, name: str, sequence: str) -> None:
    image = read_volume(data_folder / f"{name}_{sequence}.nii.gz")
    assert registered(image, foreground_mask(image), sequence).kind == sequence


@pytest.mark.slow
@pytest.mark.parametrize("name", ["IXI014", "IXI034", "IXI049"])
def test_a_healthy_head_looks_like_its_sequence(data_folder: Path, name: str) -> None:
    image = read_volume(data_folder / "ixi_t1_2mm" / f"{name}_T1.nii.gz")
    labels = read_volume(data_folder / "ixi_t1_2mm" / f"{name}_labels.nii.gz")
    mask = labels.with_array((labels.array > 0).astype(np.uint8))
    for found in (registered(image, mask, "T1"), registered(corrected(image, mask), mask, "T1")):
        assert found.kind == "T1"
        assert found.bright_share < BRIGHT_SHARE, "no contrast agent was given"
        assert found.bright_fluid_share < BRIGHT_FLUID_SHARE


def corrected(image: Volume, mask: Volume) -> Volume:
    """Without its bias field."""
    return estimate_bias_field(image, mask).correct(image)


def registered(image: Volume, mask: Volume, sequence: str) -> Appearance:
    atlas = load_atlas()
    found = register_rigidly(image, mask, atlas.images[sequence], atlas.brain_mask)
    assert found.accepted
    return look_at(found.transform.move(image), found.transform.move(mask), atlas)
