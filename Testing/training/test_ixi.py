"""IXI as it is downloaded, from the folder to a trained model; with DAL_DATA also with a real raw pair."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scipy import ndimage
from typer.testing import CliRunner

from DALAnomalyCLI.app import app
from DALAnomalyLib.preprocessing.resampling import resample
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import write_volume
from DALAnomalyTraining.pack import Pack
from Testing.lib.atlas_phantom import BRAIN_GRID, CONTRASTS, brain, motion, painted

IXI_CONFIG = Path(__file__).parents[2] / "training" / "configs" / "ixi_paper.yaml"
AXIAL = Grid((34, 44, 41), (3.8, 4.3, 4.6), (41.0, -203.0, -6.0))
"""Another grid around the atlas' brain than the phantom's own."""
GOOD, LONELY, BROKEN = "IXI002-Guys-0828", "IXI016-Guys-0697", "IXI017-Guys-0698"
SPACING = 4.0

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def ixi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person whose two scans differ in grid and pose, one with a T1 alone, one with a truncated T2."""
    folder = tmp_path_factory.mktemp("downloaded") / "IXI"
    for name in ("IXI-T1", "IXI-T2"):
        (folder / name).mkdir(parents=True)
    t1 = motion(12, (1, 0.3, 0.2), (5, -8, 20)).move(painted(CONTRASTS["T1"]))
    straight = painted(CONTRASTS["T2"])
    t2 = Volume(resample(straight.array, straight.grid, AXIAL, "linear"), AXIAL)
    t2 = motion(9, (-0.2, 1, 0.5), (-6, 3, 14)).move(t2)
    for name in (GOOD, LONELY, BROKEN):
        write_volume(t1, folder / "IXI-T1" / f"{name}-T1.nii.gz")
    write_volume(t2, folder / "IXI-T2" / f"{GOOD}-T2.nii.gz")
    whole = (folder / "IXI-T2" / f"{GOOD}-T2.nii.gz").read_bytes()
    (folder / "IXI-T2" / f"{BROKEN}-T2.nii.gz").write_bytes(whole[: len(whole) // 3])
    return folder


@pytest.fixture(scope="module")
def prepared(ixi: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The pack made of it, and what the command said."""
    pack = tmp_path_factory.mktemp("prepared") / "pack"
    code, said = invoke("prepare", "--ixi", ixi, "--spacing", SPACING, "-o", pack)
    assert code == 0, said
    return pack, said


def scans_of(pack: Pack) -> tuple[Array, Array, Array]:
    (record,) = pack.records
    return pack.labels(record) > 0, *(pack.image(record, name).astype(float) for name in ("T1", "T2"))


def likeness(first: Array, second: Array, inside: Array) -> float:
    return float(np.corrcoef(first[inside], second[inside])[0, 1])


def test_two_scans_of_one_head_coincide(prepared: tuple[Path, str]) -> None:
    inside, t1, t2 = scans_of(Pack(prepared[0]))
    together = likeness(t1, t2, ndimage.binary_erosion(inside, iterations=2))
    for axis in range(3):
        for step in (-1, 1):
            both = ndimage.binary_erosion(inside, iterations=3)
            assert likeness(t1, np.roll(t2, step, axis), both) > together + 0.05, "T1 and T2 have opposite contrasts"
    assert together < -0.85


def test_the_head_is_packed_upright(prepared: tuple[Path, str]) -> None:
    """As the atlas' brain lies, centred and from the top, although both scans were turned."""
    inside, _, _ = scans_of(Pack(prepared[0]))
    box = np.argwhere(inside)
    found = inside[tuple(slice(low, high + 1) for low, high in zip(box.min(0), box.max(0), strict=True))]
    assert BRAIN_GRID.spacing == (SPACING,) * 3
    box = np.argwhere(brain().array)
    expected = brain().array[tuple(slice(low, high + 1) for low, high in zip(box.min(0), box.max(0), strict=True))] > 0
    common = [max(a, b) for a, b in zip(found.shape, expected.shape, strict=True)]

    def centred(mask: Array) -> Array:
        padding = [(size - n) // 2 for size, n in zip(common, mask.shape, strict=True)]
        return np.pad(mask, [(p, size - n - p) for p, size, n in zip(padding, common, mask.shape, strict=True)])

    first, second = centred(found), centred(expected)
    assert 2 * (first & second).sum() / (first.sum() + second.sum()) > 0.93


def test_who_cannot_be_prepared_is_skipped_and_listed(prepared: tuple[Path, str]) -> None:
    pack, said = prepared
    assert [record.name for record in Pack(pack).records] == [GOOD]
    assert Pack(pack).description == "1 real pairs (IXI)"
    rows = {row["subject"]: row["reason"] for row in csv.DictReader(io.StringIO((pack / "skipped.csv").read_text()))}
    assert set(rows) == {LONELY, BROKEN}
    assert rows[LONELY] == "no T2 scan of this name"
    assert f"{BROKEN}-T2.nii.gz" in rows[BROKEN]
    assert "1 subject, " in said
    assert "2 skipped" in said
    for name, reason in rows.items():
        assert f"skipped {name}: {reason}" in said


def test_what_cannot_work_is_refused_before_the_first_subject(ixi: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    code, said = invoke("prepare", "--ixi", ixi, "-o", tmp_path / "file")
    assert (code, said.count("(1/")) == (7, 0)
    assert "file: cannot be written" in said
    code, said = invoke("prepare", "--ixi", ixi, "--exclude", LONELY, "-o", tmp_path / "pack")
    assert code == 2
    assert "--exclude names subjects of --labelled-t1" in said
    (tmp_path / "empty").mkdir()
    assert invoke("prepare", "--ixi", tmp_path / "empty", "-o", tmp_path / "pack")[0] == 3
    assert not (tmp_path / "pack").exists()


def test_a_second_call_takes_finished_subjects_as_they_are(ixi: Path, prepared: tuple[Path, str]) -> None:
    pack = prepared[0]
    (kept,) = (pack / "subjects").iterdir()
    original = (pack / "pack.json").read_text(), (pack / "pack.bin").read_bytes(), kept.read_bytes()
    with np.load(kept) as entry:
        arrays = dict(entry)
    arrays["T1"] = np.full_like(arrays["T1"], 7)
    with kept.open("wb") as file:
        np.savez(file, **arrays)
    try:
        code, said = invoke("prepare", "--ixi", ixi, "--spacing", SPACING, "-o", pack)
        assert code != 0
        assert "already holds a pack" in said
        assert invoke("prepare", "--ixi", ixi, "--spacing", SPACING, "-o", pack, "--force")[0] == 0
        assert set(np.unique(scans_of(Pack(pack))[1])) == {7}
    finally:
        (pack / "pack.json").write_text(original[0])
        (pack / "pack.bin").write_bytes(original[1])
        kept.write_bytes(original[2])


def test_a_folder_in_which_nobody_can_be_prepared_is_an_error(ixi: Path, tmp_path: Path) -> None:
    for sequence in ("T1", "T2"):
        broken = ixi / f"IXI-{sequence}" / f"{BROKEN}-{sequence}.nii.gz"
        (tmp_path / broken.name).write_bytes(broken.read_bytes())
    code, said = invoke("prepare", "--ixi", tmp_path, "-o", tmp_path / "pack")
    assert code == 3
    assert "none of 1 subjects can be prepared" in said
    assert f"{BROKEN}-T2.nii.gz" in said
    assert not (tmp_path / "pack").exists()


def test_the_shipped_configuration_trains_on_it(prepared: tuple[Path, str], tmp_path: Path) -> None:
    """The stages and losses of ixi_paper.yaml, two steps each, with the network of the preset `tiny`."""
    values = yaml.safe_load(IXI_CONFIG.read_text(encoding="utf-8"))
    values |= {"model": {"preset": "tiny"}, "landmark_subjects": 2, "validation_subjects": 1, "warm_up_steps": 0}
    values["stages"] = [stage | {"steps": 2} for stage in values["stages"]]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    run = tmp_path / "run"
    options = ("--config", tmp_path / "short.yaml", "--data", prepared[0], "-o", run, "--device", "cpu", "--quiet")
    code, said = invoke("train", *options)
    assert code == 0, said
    rows = list(csv.DictReader(io.StringIO((run / "steps.csv").read_text())))
    assert len(rows) == 6
    clusters = [float(row["tissue_cross_entropy"]) for row in rows if row["tissue_cross_entropy"]]
    assert len(clusters) == 4, "in the stages that E_A learns in"
    assert min(clusters) > 0.01, "0 would mean that no voxel has a cluster"
    assert (run / "model.dalmodel").exists()


def test_a_real_raw_pair(data_folder: Path, tmp_path: Path) -> None:
    """Two clinical scans of one head, with skull and oblique, on different grids."""
    for sequence in ("T1", "T2"):
        scan = data_folder / "raw_head" / f"mslub_patient12_study1_{sequence}.nii.gz"
        coarse = sitk.BinShrink(sitk.ReadImage(str(scan)), [2, 2, 1])  # for speed
        sitk.WriteImage(coarse, str(tmp_path / f"{GOOD}-{sequence}.nii.gz"))
    code, said = invoke("prepare", "--ixi", tmp_path, "-o", tmp_path / "pack")
    assert code == 0, said
    (record,) = Pack(tmp_path / "pack").records
    inside, t1, t2 = scans_of(Pack(tmp_path / "pack"))
    assert 1000 < inside.sum() * record.spacing[0] ** 3 / 1000 < 1700
    both = ndimage.binary_erosion(inside, iterations=4)
    together = likeness(t1, t2, both)
    for axis, step in ((1, 2), (1, -2), (2, 2), (2, -2)):
        assert likeness(t1, np.roll(t2, step, axis), both) > together
