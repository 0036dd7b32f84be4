from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.preprocessing.already_stripped import stripped_evidence
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_volume

GRID = Grid((70, 80, 75), (2.5, 2.5, 2.5))
SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"
RAW_HEADS = [
    "TCGA-FG-6692_T1",
    "TCGA-FG-6692_T2",
    "mslub_patient01_study1_T1",
    "mslub_patient01_study1_T2",
    "mslub_patient12_study1_T1",
    "mslub_patient12_study1_T2",
]
STRIPPED = [
    *(f"lesions/glioma/{case}_1" for case in ("TCIA01_378", "TCIA01_425", "TCIA02_135", "TCIA10_628", "TCIA13_623")),
    "lesions/ms/mslub26",
    "healthy_pair/kirby113",
]


def radii() -> np.ndarray:
    offsets = (np.moveaxis(np.indices(GRID.shape), 0, -1) - np.array(GRID.shape) / 2) * 2.5
    return np.linalg.norm(offsets, axis=-1)


def brain() -> np.ndarray:
    """About 1,200 ml, textured, with a dark rim of fluid."""
    texture = np.random.default_rng(0).uniform(80, 140, GRID.shape)
    return np.where(radii() < 62, texture, np.where(radii() < 66, 40.0, 0.0))


def head(skull: float) -> np.ndarray:
    return np.where(radii() < 66, brain(), np.where(radii() < 72, skull, np.where(radii() < 78, 250.0, 0.0)))


def verdict(array: np.ndarray) -> bool:
    check = stripped_evidence(Volume(array.astype(np.float32), GRID))
    assert "\n" not in check.evidence
    return check.is_stripped


@pytest.mark.parametrize("background", [0.0, -1.0, 30.0])
def test_brain_in_a_constant_background_is_stripped(background: float) -> None:
    assert verdict(brain() + background)


@pytest.mark.parametrize("skull", [0.0, 8.0])
def test_head_with_zeroed_air_is_not_though_its_volume_would_fit(skull: float) -> None:
    array = head(skull)
    assert 300 < (array > 0).sum() * GRID.voxel_volume_ml < 2200
    assert not verdict(array)


def test_noise_in_the_air_means_not_stripped() -> None:
    noise = np.abs(np.random.default_rng(1).normal(0, 3, GRID.shape))
    assert not verdict(np.where(brain() > 0, brain(), noise))


@pytest.mark.parametrize("radius", [20.0, 85.0])
def test_foreground_of_another_size_is_no_brain(radius: float) -> None:
    assert not verdict(np.where(radii() < radius, 100.0, 0.0))


def test_image_without_foreground_is_no_brain() -> None:
    assert not verdict(np.zeros(GRID.shape))


def test_evidence_names_the_cause() -> None:
    texts = [stripped_evidence(Volume(array.astype(np.float32), GRID)).evidence for array in (brain(), head(8.0))]
    assert "no skull" in texts[0]
    assert "ml" in texts[0]
    assert "are a skull's" in texts[1]


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_sample_is_stripped(sequence: str) -> None:
    assert stripped_evidence(read_volume(SAMPLES / f"sample_{sequence}.nii.gz")).is_stripped


def test_large_scan_takes_little_time() -> None:
    shape = (256, 256, 256)
    offsets = np.linalg.norm(np.stack(np.meshgrid(*(np.arange(256) - 128,) * 3, indexing="ij")), axis=0)
    volume = Volume(np.where(offsets < 68, 100, 0).astype(np.float32), Grid(shape, (1.0, 1.0, 1.0)))
    start = time.process_time()
    assert stripped_evidence(volume).is_stripped
    assert time.process_time() - start < 2


@pytest.mark.parametrize("name", STRIPPED)
@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_real_stripped_scan_is_recognised(data_folder: Path, name: str, sequence: str) -> None:
    check = stripped_evidence(read_volume(data_folder / f"{name}_{sequence}.nii.gz"))
    assert check.is_stripped, check.evidence


def zeroed(volume: Volume, share: float) -> Volume:
    """Air and whatever else is dark set to 0, as some programs do."""
    return volume.with_array(np.where(volume.array > share * np.percentile(volume.array, 98), volume.array, 0))


def part(volume: Volume, axis: int, start: float, stop: float) -> Volume:
    size = volume.array.shape[axis]
    array = np.take(volume.array, np.arange(int(start * size), int(stop * size)), axis)
    return Volume(array, Grid(array.shape, volume.grid.spacing))


def variants(volume: Volume) -> dict[str, Volume]:
    """A head whole, with zeroed air, and parts of both."""
    made = {"whole": volume, **{f"zeroed {share}": zeroed(volume, share) for share in (0.05, 0.12, 0.25)}}
    for name in ("whole", "zeroed 0.12"):
        for axis in range(3):
            for start, stop in ((0.0, 0.5), (0.3, 0.7), (0.5, 1.0)):
                made[f"{name}, axis {axis} {start}-{stop}"] = part(made[name], axis, start, stop)
    return made


@pytest.mark.parametrize("name", RAW_HEADS)
def test_real_head_keeps_its_skull_however_it_is_cut(data_folder: Path, name: str) -> None:
    volume = read_volume(data_folder / "raw_head" / f"{name}.nii.gz")
    wrong = [label for label, item in variants(volume).items() if stripped_evidence(item).is_stripped]
    assert wrong == []


IXI_SUBJECTS = ("IXI014", "IXI256", "IXI537") if "DAL_DATA" in os.environ else ("needs DAL_DATA",)


@pytest.mark.parametrize("subject", IXI_SUBJECTS)
def test_one_subject_with_and_without_skull(data_folder: Path, subject: str) -> None:
    volume = read_volume(data_folder / "ixi_t1_2mm" / f"{subject}_T1.nii.gz")
    labels = read_volume(data_folder / "ixi_t1_2mm" / f"{subject}_labels.nii.gz")
    assert stripped_evidence(volume.with_array(volume.array * (labels.array > 0))).is_stripped
    wrong = [label for label, item in variants(volume).items() if stripped_evidence(item).is_stripped]
    assert wrong == []
