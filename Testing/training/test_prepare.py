"""Packs made of small files written here; with DAL_DATA also of one real label map and one real T1."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.errors import DALAnomalyError, InputError, UsageError
from DALAnomalyTraining.label_classes import CLASSES, COUNT, OUTER_CSF, TISSUE_OF_CLASS, to_classes
from DALAnomalyTraining.labelled_images import like
from DALAnomalyTraining.pack import Pack, Record
from DALAnomalyTraining.prepare import prepare, read_priors
from DALAnomalyTraining.subjects import (
    Subject,
    default_spacing,
    describe,
    ixi_subjects,
    label_map_subjects,
    labelled_t1_subjects,
    manifest_subjects,
)

FREESURFER = np.array([0, *(item.freesurfer[0] for item in CLASSES)])
MUSE = np.array([0, *(item.muse[0] if item.muse else 4 for item in CLASSES)])
SPACING = 5.0

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def brain(brain_labels: Callable[..., Array]) -> Array:
    """A lopsided made-up brain with air around it, so that every wrong axis shows."""
    labels = brain_labels(0.8)
    labels[12:17, 17:21, 3:6] = 3
    labels[:, 4:9, 13:] = np.where(labels[:, 4:9, 13:] > 0, 2, 0)
    return np.pad(labels, ((3, 4), (2, 5), (4, 3)))


def as_image(array: Array, spacing: float = SPACING, kind: Any = np.int16) -> sitk.Image:
    image = sitk.GetImageFromArray(array.astype(kind))
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([-31.0, 17.0, 40.0])
    return image


def save(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def packed(subjects: list[Subject], folder: Path, **options: Any) -> Pack:
    settings = {"priors": {}, "spacing": SPACING, "pose": None, "workers": 1}
    prepare(subjects, folder=folder / "pack", report=lambda *_: None, **(settings | options))
    return Pack(folder / "pack")


def label_map(image: sitk.Image, folder: Path, name: str = "one") -> Subject:
    return Subject(name, "labels", save(image, folder / f"{name}.nii.gz"))


def at(pack: Pack, record: Record, positions: Array) -> Array:
    """Class nearest to frame positions (n, 3) in LPS mm."""
    index = np.round((positions - record.origin) / record.spacing).astype(int)[:, ::-1]
    labels = np.pad(pack.labels(record), 1)
    return labels[tuple((index + 1).clip(0, np.array(labels.shape) - 1).T)]


def frame_of(record: Record) -> Array:
    """Frame positions (n, 3) of all voxels of a record."""
    index = np.stack(np.unravel_index(np.arange(np.prod(record.shape)), record.shape)[::-1], axis=1)
    return np.array(record.origin) + index * record.spacing


def overlap(first: Array, second: Array) -> float:
    return float(2 * ((first == second) & (first > 0)).sum() / ((first > 0).sum() + (second > 0).sum()))


@pytest.fixture
def upright(brain: Array, tmp_path: Path) -> Pack:
    return packed([label_map(as_image(FREESURFER[brain]), tmp_path)], tmp_path)


def test_label_maps_keep_their_classes_and_take_their_place_in_the_frame(brain: Array, upright: Pack) -> None:
    (record,) = upright.records
    labels = upright.labels(record)
    inside = np.argwhere(labels)
    top, centre = inside[:, 0].max(), (inside.min(0) + inside.max(0)) / 2
    assert record.origin[2] + top * SPACING == 0
    assert [record.origin[0] + centre[2] * SPACING, record.origin[1] + centre[1] * SPACING] == [0, 0]
    cut = tuple(slice(a, b + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))
    given = np.argwhere(brain)
    expected = brain[tuple(slice(a, b + 1) for a, b in zip(given.min(0), given.max(0), strict=True))]
    # a voxel of a surface may change sides when labels are smoothed, closing fills dents, and the shapes are the same
    assert labels[cut].shape == expected.shape
    assert overlap(labels[cut], expected) > 0.9
    # smoothing lets go of structures of one or two voxels only
    assert {0, 1, 2, 3, OUTER_CSF} < set(np.unique(labels))
    assert len(np.unique(labels)) >= COUNT - 2
    assert record.source == "labels"
    assert record.spacing == (SPACING,) * 3


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (True, False, False)), ((2, 0, 1), (False, True, False)), ((1, 0, 2), (True, True, True))],
)
def test_stored_orientation_does_not_matter(
    brain: Array, upright: Pack, tmp_path: Path, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    """The same brain in space, with voxels stored in another order, gives the same arrays."""
    image = sitk.Flip(sitk.PermuteAxes(as_image(FREESURFER[brain]), order), flips)
    assert image.GetDirection() != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    turned = packed([label_map(image, tmp_path / "turned")], tmp_path / "turned")
    assert turned.records[0].shape == upright.records[0].shape
    assert turned.records[0].origin == pytest.approx(upright.records[0].origin)
    differs = turned.labels(turned.records[0]) != upright.labels(upright.records[0])
    assert differs.mean() < 1e-3  # rounding where two labels weigh the same


def test_an_oblique_scan_is_packed_upright(brain: Array, upright: Pack, tmp_path: Path) -> None:
    straight = as_image(FREESURFER[brain])
    oblique = sitk.Image([70, 80, 70], sitk.sitkInt16)
    oblique.SetSpacing([2.5] * 3)
    turn = sitk.Euler3DTransform([0.0, 0.0, 0.0], 0.35, -0.2, 0.3)
    oblique.SetDirection(turn.GetMatrix())
    middle = np.array(straight.TransformContinuousIndexToPhysicalPoint([n / 2 for n in straight.GetSize()]))
    away = np.array(oblique.TransformContinuousIndexToPhysicalPoint([n / 2 for n in oblique.GetSize()]))
    oblique.SetOrigin((middle - away).tolist())
    stored = sitk.Resample(straight, oblique, sitk.Transform(), sitk.sitkNearestNeighbor)
    positions = frame_of(upright.records[0])
    expected = upright.labels(upright.records[0]).ravel()

    def agreement(image: sitk.Image, name: str) -> tuple[float, float]:
        pack = packed([label_map(image, tmp_path / name)], tmp_path / name)
        found = at(pack, pack.records[0], positions)
        return overlap(found > 0, expected > 0), overlap(TISSUE_OF_CLASS[found], TISSUE_OF_CLASS[expected])

    # both are sampled at 5 mm, which thin layers do not survive unchanged
    shape, tissue = agreement(stored, "oblique")
    assert shape > 0.91
    assert tissue > 0.72
    stored.SetDirection(sitk.Image(3, 3, 3, sitk.sitkUInt8).GetDirection())
    wrong_shape, wrong_tissue = agreement(stored, "forgotten")
    assert wrong_shape < shape - 0.02
    assert wrong_tissue < tissue - 0.1


def test_sulci_become_outer_csf_and_wide_gaps_stay_open(tmp_path: Path) -> None:
    labels = np.zeros((40, 44, 40), int)
    labels[5:35, 5:39, 5:35] = 3
    labels[5:35, 19:22, 15:35] = 0  # 6 mm wide
    labels[25:35, 5:20, 5:20] = 0  # 20 mm and more
    pack = packed([label_map(as_image(labels, 2.0), tmp_path)], tmp_path, spacing=2.0)
    found = pack.labels(pack.records[0])
    offset = np.argwhere(found).min(0) - 5
    assert found[tuple(np.array((15, 20, 25)) + offset)] == OUTER_CSF
    assert found[tuple(np.array((15, 20, 10)) + offset)] == 2
    assert found[tuple(np.array((32, 8, 8)) + offset)] == 0
    # what was brain before stays what it was
    kept = found[tuple(slice(o, o + n) for o, n in zip(offset.clip(0), labels.shape, strict=True))]
    assert (kept == 2).sum() == pytest.approx((labels == 3).sum(), rel=0.02)


def test_only_narrow_gaps_are_sulci_along_thick_slices_too(tmp_path: Path) -> None:
    labels = np.zeros((14, 40, 40), int)
    labels[1:13, 2:38, 2:38] = 3
    labels[5:9, 10:30, 10:30] = 0  # 16 mm high
    labels[1:13, 32:35, 2:38] = 0  # 6 mm wide
    image = as_image(labels, 2.0)
    image.SetSpacing((2.0, 2.0, 4.0))
    pack = packed([label_map(image, tmp_path)], tmp_path, spacing=2.0)
    found = pack.labels(pack.records[0])
    middle = np.array(found.shape) // 2
    assert found[tuple(middle)] == 0
    assert (found == OUTER_CSF).sum() == pytest.approx(3 * 36 * 24, rel=0.2)


def test_parcels_of_cortex_and_white_matter_are_what_they_are_parts_of() -> None:
    """The labels of aparc+aseg, aparc.a2009s+aseg and wmparc."""
    whole = to_classes(np.array([3, 3, 3, 3, 2, 2, 2, 2]), "freesurfer")
    parts = to_classes(np.array([1001, 2035, 11101, 12175, 3001, 4035, 5002, 14175]), "freesurfer")
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(to_classes(np.array([-1, 258, 999, 20000]), "freesurfer"), 0)


def test_labelled_t1_scans_are_packed_with_their_labels(
    brain: Array, brain_image: Callable[..., Array], tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    for name in ("A01", "A02"):
        save(as_image(MUSE[brain]), folder / f"{name}_labels.nii.gz")
        head = np.where(brain > 0, brain_image(brain, "T1").astype(int), 200)  # a bright skull
        save(as_image(head), folder / f"{name}_T1.nii.gz")
    subjects = labelled_t1_subjects(folder, exclude=["A02"])
    assert [(s.name, s.source, s.group, s.scheme) for s in subjects] == [("site/A01", "semi_real", "site", "muse")]
    pack = packed(subjects, tmp_path)
    record = pack.records[0]
    labels, t1 = pack.labels(record), pack.image(record, "T1")
    assert bool((t1[labels == 0] == 0).all())
    assert bool((t1[labels > 0] >= 1).all())
    grey, white = (float(np.median(t1[TISSUE_OF_CLASS[labels] == tissue])) for tissue in (2, 3))
    assert white > grey + 20


def test_scans_coarser_than_the_pack_keep_their_spacing(
    brain: Array, brain_image: Callable[..., Array], tmp_path: Path
) -> None:
    save(as_image(MUSE[brain]), tmp_path / "site" / "A_labels.nii.gz")
    save(as_image(brain_image(brain, "T1")), tmp_path / "site" / "A_T1.nii.gz")
    subjects = [*labelled_t1_subjects(tmp_path / "site"), label_map(as_image(FREESURFER[brain]), tmp_path)]
    pack = packed(subjects, tmp_path, spacing=4.0)
    assert [record.spacing[0] for record in pack.records] == [5.0, 4.0]


@pytest.fixture
def scans(brain: Array, brain_image: Callable[..., Array], tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """`scans(stem)`: skull-stripped T1 and T2 files of one made-up person."""

    def write(pattern: str) -> dict[str, Path]:
        return {
            name: save(as_image(brain_image(brain, name)), tmp_path / pattern.format(sequence=name))
            for name in ("T1", "T2")
        }

    return write


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_manifest_of_real_pairs(brain: Array, scans: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    scans("people/p1_{sequence}.nii.gz")
    smaller = np.where(brain == OUTER_CSF, 0, brain)
    save(as_image(smaller > 0), tmp_path / "people" / "mask.nii.gz")
    row = {"subject": "p1", "T1": "people/p1_T1.nii.gz", "T2": "people/p1_T2.nii.gz"}
    manifest = write_manifest(
        tmp_path / "pairs.csv",
        [row | {"brain_mask": ""}, row | {"subject": "p2", "brain_mask": "people/mask.nii.gz"}],
    )
    subjects = manifest_subjects(manifest)
    pack = packed(subjects, tmp_path)
    stripped, masked = pack.records
    assert [record.name for record in pack.records] == ["p1", "p2"]
    assert {record.source for record in pack.records} == {"paired"}
    assert {record.group for record in pack.records} == {"pairs"}
    assert set(stripped.image_offsets) == {"T1", "T2"}
    assert set(np.unique(pack.labels(stripped))) == {0, OUTER_CSF}
    assert (pack.labels(stripped) > 0).sum() == pytest.approx((brain > 0).sum(), rel=0.02)
    assert (pack.labels(masked) > 0).sum() == pytest.approx((smaller > 0).sum(), rel=0.03)
    t1, t2 = (pack.image(stripped, name)[pack.labels(stripped) > 0].astype(float) for name in ("T1", "T2"))
    assert np.corrcoef(t1, t2)[0, 1] < -0.5, "T1 and T2 of one brain have opposite contrast"
    assert t1.min() >= 1


def test_masks_of_real_pairs_may_be_soft_and_their_background_faint(
    brain: Array, scans: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    images = scans("{sequence}.nii.gz")
    soft = ndimage.gaussian_filter((brain > 0).astype(np.float32), 1.5)
    save(as_image(soft, kind=np.float32), tmp_path / "mask.nii.gz")
    for path in images.values():
        scan = sitk.ReadImage(str(path), sitk.sitkFloat32)
        faint = np.random.default_rng(0).normal(0, 1e-3, brain.shape).astype(np.float32)
        save(scan + like(faint, scan), path)
    subjects = [
        Subject(name, "paired", mask, images=images, group="pairs")
        for name, mask in (("given", tmp_path / "mask.nii.gz"), ("stripped", None))
    ]
    pack = packed(subjects, tmp_path / "pack")
    for record, expected in zip(pack.records, (soft > 0.5, brain > 0), strict=True):
        assert (pack.labels(record) > 0).sum() == pytest.approx(expected.sum(), rel=0.03)


def test_real_pairs_with_their_skulls_need_a_mask(
    brain: Array, scans: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    images = scans("{sequence}.nii.gz")
    for path in images.values():
        skull, head = (ndimage.binary_dilation(brain > 0, iterations=voxels) for voxels in (1, 2))
        scan = sitk.ReadImage(str(path), sitk.sitkFloat32)
        save(scan + like(np.where(head & ~skull, np.float32(200), np.float32(0)), scan), path)
    with pytest.raises(InputError, match=r"p1: is not skull-stripped .*; name its brain mask in the column brain_mask"):
        packed([Subject("p1", "paired", None, images=images, group="pairs")], tmp_path / "pack")


def test_the_border_of_a_stripped_brain_is_not_darkened(brain: Array, tmp_path: Path) -> None:
    """Neither where it was stripped nor where a pose and coarser voxels mix it with its background."""
    for sequence, value in (("T1", 300.0), ("T2", 100.0)):
        even = np.where(brain > 0, value, 0).astype(np.float32)
        even[brain == 3] *= 1.2  # not the same everywhere
        save(as_image(even), tmp_path / f"{sequence}.nii.gz")
    images = {sequence: tmp_path / f"{sequence}.nii.gz" for sequence in ("T1", "T2")}
    pack = packed(
        [Subject("p1", "paired", None, images=images, group="pairs")], tmp_path / "pack", spacing=7.0, n4=False
    )
    (record,) = pack.records
    inside = pack.labels(record) > 0
    assert pack.image(record, "T1")[inside].max() == 255
    # the lowest intensity of the brain is its most frequent one
    assert np.median(pack.image(record, "T1")[inside]) == pack.image(record, "T1")[inside].min() == 1


def test_the_layout_of_ixi(scans: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    scans("IXI-{sequence}/IXI002-Guys-0828-{sequence}.nii.gz")
    for name in ("IXI999-HH-1111-T1.nii.gz", "._IXI002-Guys-0828-T1.nii.gz"):
        (tmp_path / "IXI-T1" / name).write_bytes(b"")
    subject, lonely = ixi_subjects(tmp_path)
    assert (subject.name, subject.source, set(subject.images)) == ("IXI002-Guys-0828", "paired", {"T1", "T2"})
    assert set(lonely.images) == {"T1"}
    pack = packed([subject, lonely], tmp_path)
    assert [record.name for record in pack.records] == ["IXI002-Guys-0828"]
    assert pack.image(pack.records[0], "T2").any()
    assert pack.description == describe([subject]) == "1 real pairs (IXI)"


def test_both_archives_of_ixi_in_one_folder(scans: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    scans("IXI002-Guys-0828-{sequence}.nii")
    (subject,) = ixi_subjects(tmp_path)
    assert (subject.name, set(subject.images)) == ("IXI002-Guys-0828", {"T1", "T2"})


def test_stripped_pairs_of_ixi_on_one_grid_stay_where_they_are(
    scans: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    """The same bytes as from a table, which never registers."""
    images = scans("IXI-{sequence}/IXI002-Guys-0828-{sequence}.nii.gz")
    as_told = packed([Subject("IXI002-Guys-0828", "paired", None, images=images, group="IXI")], tmp_path / "told")
    assert packed(ixi_subjects(tmp_path), tmp_path / "found").sha256 == as_told.sha256


def test_real_pairs_alone_keep_more_detail(tmp_path: Path) -> None:
    pair = Subject("pair", "paired", None)
    assert default_spacing([pair]) == 1.25
    assert default_spacing([pair, Subject("one", "labels", tmp_path)]) == 1.75


def test_folders_of_label_maps(brain: Array, tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii"):
        save(as_image(FREESURFER[brain]), tmp_path / "maps" / name)
    subjects = label_map_subjects([tmp_path / "maps"])
    assert [(s.name, s.group, s.source) for s in subjects] == [
        ("maps/a", "maps", "labels"),
        ("maps/b", "maps", "labels"),
    ]


def test_a_pack_is_half_a_byte_per_label_and_a_byte_per_intensity(
    brain: Array, scans: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    pair = Subject("pair", "paired", None, images=scans("p_{sequence}.nii.gz"))
    maps = label_map(as_image(FREESURFER[brain]), tmp_path)
    told: list[tuple[str, int, int]] = []
    prepared = prepare([pair, maps], {}, tmp_path / "pack", SPACING, None, lambda *news: told.append(news), workers=2)
    size = prepared.size
    assert (prepared.packed, prepared.skipped) == ([pair, maps], [])
    voxels = [int(np.prod(record.shape)) for record in Pack(tmp_path / "pack").records]
    assert size == (voxels[0] + 1) // 2 + 2 * voxels[0] + (voxels[1] + 1) // 2
    assert (tmp_path / "pack" / "pack.bin").stat().st_size == size
    assert told == [("pair", 1, 2), ("one", 2, 2)]


def test_real_scans_lose_their_drift_unless_told_otherwise(
    brain: Array, brain_image: Callable[..., Array], tmp_path: Path
) -> None:
    ramp = np.exp(np.linspace(-0.4, 0.4, brain.shape[2]))
    drifting = save(as_image(brain_image(brain, "T1") * ramp, kind=np.float32), tmp_path / "T1.nii.gz")
    pair = Subject("pair", "paired", None, images={"T1": drifting})

    def drift(pack: Pack) -> float:
        (record,) = pack.records
        image, labels = pack.image(record, "T1").astype(float), pack.labels(record)
        middle = image.shape[2] // 2
        left, right = (image[..., side][labels[..., side] > 0] for side in (slice(middle), slice(middle, None)))
        return float(abs(np.log(np.median(right) / np.median(left))))

    assert drift(packed([pair], tmp_path / "off", n4=False)) > 1.5 * drift(packed([pair], tmp_path / "on"))


def test_all_subjects_take_the_pose_of_the_template(
    brain: Array, brain_image: Callable[..., Array], tmp_path: Path
) -> None:
    straight = as_image(FREESURFER[brain])
    middle = straight.TransformContinuousIndexToPhysicalPoint([n / 2 for n in straight.GetSize()])
    nod = sitk.Euler3DTransform(middle, 0.3, 0.0, 0.0)
    template = save(as_image(brain_image(brain, "T1"), kind=np.float32), tmp_path / "template.nii.gz")
    nodding = label_map(
        sitk.Resample(straight, straight, nod, sitk.sitkNearestNeighbor), tmp_path / "nodding", "nodding"
    )

    def tilt(pack: Pack) -> float:
        """Degrees between the brain's long axis and the horizontal, seen from the side."""
        inside = np.argwhere(pack.labels(pack.records[0]) > 0)
        z, y, _ = np.linalg.eigh(np.cov(inside.T))[1][:, -1]
        return float(np.degrees(np.arctan(z / y)))

    expected = tilt(packed([label_map(straight, tmp_path)], tmp_path))
    assert abs(tilt(packed([nodding], tmp_path / "nodding")) - expected) > 12
    # 17 degrees; so plain a head, in voxels of 5 mm, is not told to the degree
    assert abs(tilt(packed([nodding], tmp_path / "nodding", pose=template)) - expected) < 8


def test_priors_are_looked_up_by_label(tmp_path: Path) -> None:
    """Column of a class: the row that the first FreeSurfer label of the class has in the measured table."""
    labels = [item.freesurfer[0] for item in CLASSES[:-1]]
    np.save(tmp_path / "synthsr_generation_labels.npy", np.array([0, *labels]))
    np.save(tmp_path / "synthsr_generation_classes.npy", np.arange(COUNT - 1)[::-1].copy())
    tables = {}
    for number, name in enumerate(("means_t1_hr", "stds_t1_hr", "means_t2", "stds_t2")):
        tables[name] = 1000 * number + np.arange(2.0 * (COUNT - 1)).reshape(2, COUNT - 1)
        np.save(tmp_path / f"synthsr_prior_{name}.npy", tables[name])
    priors = read_priors(tmp_path)
    assert set(priors) == {"T1", "T2"}
    means, deviations = np.array(priors["T2"])
    for number in range(1, COUNT - 1):
        column = COUNT - 2 - number
        assert means[:, number].tolist() == tables["means_t2"][:, column].tolist()
        assert deviations[:, number].tolist() == tables["stds_t2"][:, column].tolist()
    assert means[:, OUTER_CSF].tolist() == means[:, 3].tolist(), "outer CSF looks like the ventricles"
    assert priors["T1"][0][0][1] == tables["means_t1_hr"][0, COUNT - 3]


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}: no such file or folder" in refused(lambda: label_map_subjects([nowhere]))
    assert f"{nowhere}: no such file or folder" in refused(lambda: labelled_t1_subjects(nowhere))
    assert f"{tmp_path} holds no file *_T1.nii.gz" in refused(lambda: labelled_t1_subjects(tmp_path))
    assert f"{nowhere} holds no pair" in refused(lambda: ixi_subjects(nowhere))
    assert f"{nowhere}/pairs.csv: cannot be read" in refused(lambda: manifest_subjects(nowhere / "pairs.csv"))
    assert f"{nowhere}/synthsr" in refused(lambda: read_priors(nowhere))
    missing = Subject("one", "labels", nowhere / "one.nii.gz")
    assert f"{nowhere}/one.nii.gz cannot be read" in refused(lambda: packed([missing], tmp_path))
    present = save(as_image(np.ones((9, 9, 9))), tmp_path / "one.nii.gz")
    pose = nowhere / "pose.nii.gz"
    assert f"{pose} cannot be read" in refused(lambda: packed([Subject("one", "labels", present)], tmp_path, pose=pose))
    assert not (tmp_path / "pack").exists()


def test_ixi_without_partners_is_refused(tmp_path: Path) -> None:
    (tmp_path / "IXI-T1").mkdir()
    (tmp_path / "IXI-T1" / "IXI002-Guys-0828-T1.nii.gz").write_bytes(b"")
    assert "holds no pair" in refused(lambda: ixi_subjects(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column subject is missing"),
        ("name,T1\np1,a.nii\n", "column subject is missing. Its first line is 'name,T1'"),
        ("subject,T1\n", "holds no row"),
        ("\ufeffsubject, T1, age\np1, pairs.csv, 34\n", "line 2, column age: no such file"),
        ("subject,T1,T2\np1,a.nii,\n", "subject p1 has no T2; name its file"),
        ("subject,T1,T2\np1,a.nii\n", "subject p1 has no T2; name its file"),
        ("subject,brain_mask\np1,a.nii\n", "subject p1 has no scan"),
    ],
)
def test_manifests_that_say_too_little(tmp_path: Path, text: str, message: str) -> None:
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(text, encoding="utf-8")
    assert message in refused(lambda: manifest_subjects(manifest))


def test_a_name_to_leave_out_that_nobody_has_is_refused(tmp_path: Path) -> None:
    for name in ("IXI014", "IXI016"):
        (tmp_path / f"{name}_T1.nii.gz").write_bytes(b"")
        (tmp_path / f"{name}_labels.nii.gz").write_bytes(b"")
    assert [subject.name for subject in labelled_t1_subjects(tmp_path, ["IXI014"])] == [f"{tmp_path.name}/IXI016"]
    with pytest.raises(UsageError, match=r"has no IXI014_T1, IXI999 to leave out; .* such as IXI014"):
        labelled_t1_subjects(tmp_path, ["IXI016", "IXI999", "IXI014_T1"])


def test_a_labelled_scan_without_its_labels_is_named_before_any_work(tmp_path: Path) -> None:
    for name in ("IXI014_T1", "IXI014_labels", "IXI016_T1"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    message = refused(lambda: labelled_t1_subjects(tmp_path))
    assert "IXI016_T1.nii.gz has no IXI016_labels.nii.gz; add it or leave the scan out with --exclude IXI016" in message
    assert len(labelled_t1_subjects(tmp_path, ["IXI016"])) == 1


def test_files_that_are_no_brain(brain: Array, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.nii.gz"
    garbage.write_bytes(b"no image")
    assert f"{garbage} cannot be read" in refused(lambda: packed([Subject("g", "labels", garbage)], tmp_path))
    skull = label_map(as_image(np.full((9, 9, 9), 501)), tmp_path, "skull")
    assert "skull.nii.gz shows no brain" in refused(lambda: packed([skull], tmp_path))
    image = as_image(FREESURFER[brain])
    series = label_map(sitk.JoinSeries([image, image]), tmp_path, "series")
    assert "no single three-dimensional image" in refused(lambda: packed([series], tmp_path))
    flat = Subject("flat", "paired", None, images={"T1": save(as_image(brain > 0), tmp_path / "flat.nii.gz")})
    assert "flat.nii.gz has the same intensity everywhere" in refused(lambda: packed([flat], tmp_path))


@pytest.mark.parametrize("what", ["size", "place", "mask"])
def test_pairs_on_different_grids_are_refused(
    brain: Array, scans: Callable[..., dict[str, Path]], tmp_path: Path, what: str
) -> None:
    images = scans("p_{sequence}.nii.gz")
    other = sitk.ReadImage(str(images["T2"]))
    mask = None
    if what == "size":
        save(other[:-1], images["T2"])
    elif what == "place":
        other.SetOrigin([0.0, 0.0, 0.0])
        save(other, images["T2"])
    else:
        mask = save(as_image(brain > 0)[:-1], tmp_path / "mask.nii.gz")
    with pytest.raises(DALAnomalyError) as refusal:
        packed([Subject("p1", "paired", mask, images=images)], tmp_path)
    said = "mask.nii.gz: the mask is not on its scan's grid" if mask else "p1: its scans lie on different grids"
    assert said in str(refusal.value)


def millilitres(pack: Pack) -> float:
    (record,) = pack.records
    return float((pack.labels(record) > 0).sum() * record.spacing[0] ** 3 / 1000)


@pytest.mark.slow
def test_a_real_label_map(data_folder: Path, tmp_path: Path) -> None:
    subject = label_map_subjects([data_folder / "labelmaps" / "whole_head"])[0]
    pack = packed([subject], tmp_path, spacing=2.0)
    assert 900 < millilitres(pack) < 1900
    labels = pack.labels(pack.records[0])
    shares = [float((TISSUE_OF_CLASS[labels] == tissue).sum() / (labels > 0).sum()) for tissue in (1, 2, 3)]
    assert all(0.05 < share < 0.7 for share in shares)
    assert len(np.unique(labels)) >= COUNT - 1
    # upright: thalami above the brainstem, cerebellum and brainstem behind the middle (LPS: +y), ventricles central
    place = {number: np.argwhere(labels == number).mean(0) for number in (4, 5, 9)}
    assert place[5][0] > place[4][0]
    assert abs(place[5][2] - (labels.shape[2] - 1) / 2) < 4


@pytest.mark.slow
def test_a_real_labelled_t1(data_folder: Path, tmp_path: Path) -> None:
    subject = labelled_t1_subjects(data_folder / "ixi_t1_2mm")[0]
    pack = packed([subject], tmp_path, spacing=1.7)
    assert 900 < millilitres(pack) < 1900
    (record,) = pack.records
    assert record.spacing[0] == pytest.approx(2.0)
    labels, t1 = pack.labels(record), pack.image(record, "T1")
    csf, grey, white = (float(np.median(t1[TISSUE_OF_CLASS[labels] == tissue])) for tissue in (1, 2, 3))
    assert csf < grey < white
