from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from DALAnomalyLib.errors import CancelledError, DALAnomalyError, GeometryError, InputError
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import describe_series, dicom_files, find_scan, list_series, read_mask, read_volume
from Testing.lib.dicom_phantom import (
    FLAIR,
    IDENTIFIER,
    NAME,
    T1_SPIN_ECHO,
    T2_SPIN_ECHO,
    classic,
    enhanced,
    head,
    save,
    write_series,
)

Change = Callable[[int, Dataset], None]

COSINE, SINE = math.cos(0.3), math.sin(0.3)
DIRECTIONS = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "feet last": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, -1, 0),
    "sagittal, right first": (0, 0, -1, 1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "oblique": (COSINE, -SINE, 0, SINE * COSINE, COSINE * COSINE, -SINE, SINE * SINE, COSINE * SINE, COSINE),
}
SCAN = head()


def refused(path: Path, error: type[DALAnomalyError] = InputError, **choice: Any) -> str:
    with pytest.raises(error) as raised:
        read_volume(path, **choice)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(str(path))


def assert_same(read: Volume, written: Volume) -> None:
    """Equal in space: the slices of `read` may come in the opposite order."""
    if (
        np.dot(
            np.subtract(*read.grid.index_to_physical([[1, 0, 0], [0, 0, 0]])),
            np.subtract(*written.grid.index_to_physical([[1, 0, 0], [0, 0, 0]])),
        )
        < 0
    ):
        corner = read.grid.index_to_physical([len(read.array) - 1, 0, 0])
        np.testing.assert_allclose(corner, written.grid.origin, atol=1e-3)
        np.testing.assert_array_equal(read.array[::-1], written.array)
        np.testing.assert_allclose(read.grid.spacing, written.grid.spacing, rtol=1e-5)
    else:
        assert read.grid.is_close(written.grid, 1e-3)
        np.testing.assert_array_equal(read.array, written.array)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIRECTIONS)
def test_voxels_lie_where_they_were_acquired(tmp_path: Path, name: str) -> None:
    volume = head(DIRECTIONS[name])
    assert_same(read_volume(write_series(tmp_path, volume, change=_shuffled_numbers)), volume)


def _shuffled_numbers(index: int, data_set: Dataset) -> None:
    """Neither the instance number nor the file name follows the position."""
    data_set.InstanceNumber = 7 * index % 24
    data_set.SOPInstanceUID = f"1.2.3.{100 - index}"


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("order", ["forwards", "backwards", "interleaved"])
def test_frames_of_an_enhanced_file_lie_where_they_were_acquired(tmp_path: Path, name: str, order: str) -> None:
    volume = head(DIRECTIONS[name])
    stored = enhanced(volume)
    indices = {
        "forwards": range(24),
        "backwards": range(23, -1, -1),
        "interleaved": [*range(0, 24, 2), *range(1, 24, 2)],
    }
    stored.PerFrameFunctionalGroupsSequence = [stored.PerFrameFunctionalGroupsSequence[k] for k in indices[order]]
    stored.PixelData = volume.array[list(indices[order])].astype("<i2").tobytes()
    path = save(stored, tmp_path / "IM0001")
    assert_same(read_volume(tmp_path), volume)
    assert_same(read_volume(path), volume)


def test_the_step_between_slices_counts_not_their_thickness(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN, SliceThickness=5.0, SpacingBetweenSlices=99.0)
    assert read_volume(tmp_path).grid.spacing[2] == pytest.approx(7.0)


def test_rounded_directions_make_an_orthonormal_grid(tmp_path: Path) -> None:
    volume = head(DIRECTIONS["oblique"])

    def rounded(_: int, data_set: Dataset) -> None:
        data_set.ImageOrientationPatient = [round(value, 4) for value in data_set.ImageOrientationPatient]
        data_set.ImagePositionPatient = [round(value, 2) for value in data_set.ImagePositionPatient]

    grid = read_volume(write_series(tmp_path, volume, change=rounded)).grid
    rotation = np.reshape(grid.direction, (3, 3))
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert grid.is_close(volume.grid, 0.1)


def _tilted(index: int, data_set: Dataset) -> None:
    x, y, z = data_set.ImagePositionPatient
    data_set.ImagePositionPatient = [x, y + 0.1 * index, z]


def _sheared_axes(_: int, data_set: Dataset) -> None:
    data_set.ImageOrientationPatient = [1, 0, 0, 0.2, 0.98, 0]


def _moved_slice(index: int, data_set: Dataset) -> None:
    if index == 9:
        x, y, z = data_set.ImagePositionPatient
        data_set.ImagePositionPatient = [x, y, z + 1]


def _wider_slice(index: int, data_set: Dataset) -> None:
    if index == 9:
        data_set.Rows, data_set.Columns = data_set.Columns, data_set.Rows


def _without_position(_: int, data_set: Dataset) -> None:
    del data_set.ImagePositionPatient


def _colour(_: int, data_set: Dataset) -> None:
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, "RGB", 0
    data_set.PixelData = data_set.PixelData * 3


def _mosaic(_: int, data_set: Dataset) -> None:
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]


def _inverted(_: int, data_set: Dataset) -> None:
    data_set.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_tilted, GeometryError, "shifted sideways by up to 2.3 mm"),
        (_sheared_axes, GeometryError, "no perpendicular unit vectors"),
        (_moved_slice, InputError, "unevenly spaced"),
        (_wider_slice, InputError, "different matrix"),
        (_without_position, InputError, "without a slice position"),
        (_colour, InputError, "grey-value"),
        (_mosaic, InputError, "mosaics"),
        (_inverted, InputError, "inverted"),
    ],
)
def test_slices_that_make_no_scan_are_refused(
    tmp_path: Path, change: Change, error: type[DALAnomalyError], words: str
) -> None:
    assert words in refused(write_series(tmp_path, SCAN, change=change), error)


@pytest.mark.parametrize("missing", [1, 12, 22])
def test_missing_slice_is_refused(tmp_path: Path, missing: int) -> None:
    write_series(tmp_path, SCAN)
    (tmp_path / f"IM{missing:04}").unlink()
    assert "missing" in refused(tmp_path)


def test_too_few_and_too_thick_slices_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "few", head(shape=(7, 48, 40), spacing=(4.0, 4.5, 9.0)))
    assert "7 slices of 40 x 48 are not a 3D scan" in refused(tmp_path / "few")
    write_series(tmp_path / "thick", head(shape=(14, 48, 40), spacing=(4.0, 4.5, 12.0)))
    assert "voxel size of 12 mm" in refused(tmp_path / "thick", GeometryError)


# --- copies and repetitions -------------------------------------------------------------------------------------------


def test_identical_copies_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "first", SCAN)
    write_series(tmp_path / "again", SCAN)
    assert_same(read_volume(tmp_path), SCAN)
    (listed,) = list_series(tmp_path)
    assert listed.count == 24
    assert listed.copies == 24
    assert "24 copies left out" in describe_series(listed)


def test_different_frames_of_a_compressed_file_are_no_copies(tmp_path: Path) -> None:
    both = Volume(np.repeat(SCAN.array, 2, axis=0), replace(SCAN.grid, shape=(48, *SCAN.grid.shape[1:])))
    both.array[1::2] += 5

    def doubled(index: int, groups: Dataset) -> None:
        groups.PlanePositionSequence[0].ImagePositionPatient = list(SCAN.grid.index_to_physical([index // 2, 0, 0]))

    stored = enhanced(both, doubled)
    stored.compress(RLELossless)
    save(stored, tmp_path / "IM1")
    assert "different images at the same place" in refused(tmp_path)


def test_identical_copies_of_a_compressed_enhanced_file_are_left_out(tmp_path: Path) -> None:
    stored = enhanced(SCAN)
    stored.compress(RLELossless)
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        save(stored, tmp_path / name / "IM1")
    assert_same(read_volume(tmp_path), SCAN)
    other = enhanced(Volume(SCAN.array + 5, SCAN.grid))
    other.compress(RLELossless)
    save(other, tmp_path / "again" / "IM1")
    assert "different images at the same place" in refused(tmp_path)


def test_different_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN)
    other = classic(SCAN, 5)
    other.PixelData = (SCAN.array[5] + 1).astype("<i2").tobytes()
    save(other, tmp_path / "other")
    assert "different images at the same place" in refused(tmp_path)


@pytest.mark.parametrize(
    "element",
    [
        {"EchoTime": 80},
        {"EchoTime": 12.3},
        {"AcquisitionNumber": 2},
        {"TemporalPositionIdentifier": 2},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"]},
        {"DiffusionBValue": 1000.0},
    ],
    ids=lambda element: next(iter(element)),
)
def test_volumes_that_share_a_series_identifier_are_never_mixed(tmp_path: Path, element: dict[str, Any]) -> None:
    second = Volume(SCAN.array + 5, SCAN.grid)
    write_series(tmp_path, SCAN, EchoTime=12, AcquisitionNumber=1, TemporalPositionIdentifier=1)
    write_series(tmp_path, second, name="second{}", **{"EchoTime": 12, **element})
    assert "--series N" in refused(tmp_path)
    assert [one.part for one in list_series(tmp_path)] == [(1, 2), (2, 2)]
    read = [read_volume(tmp_path, series=number).array for number in (1, 2)]
    assert {int((array - SCAN.array).max()) for array in read} == {0, 5}
    assert all(np.ptp(array - SCAN.array) == 0 for array in read)


@pytest.mark.parametrize(
    ("element", "times"),
    [("EchoTime", (101.049, 101.051)), ("EchoTime", (12.0, 12.09)), ("InversionTime", (2500, 2500.001))],
)
def test_times_that_scanners_measured_for_every_slice_split_no_volume(
    tmp_path: Path, element: str, times: tuple[float, float]
) -> None:
    def measured(index: int, data_set: Dataset) -> None:
        setattr(data_set, element, times[index % 2])

    write_series(tmp_path, SCAN, change=measured)
    np.testing.assert_array_equal(read_volume(tmp_path).array, SCAN.array)


def test_volumes_of_two_inversion_times_are_never_mixed(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN, InversionTime=900)
    write_series(tmp_path, Volume(SCAN.array + 5, SCAN.grid), name="second{}", InversionTime=920)
    assert [(one.part, one.count) for one in list_series(tmp_path)] == [((1, 2), 24), ((2, 2), 24)]


def test_magnitude_is_chosen_beside_its_phase(tmp_path: Path) -> None:
    write_series(tmp_path, Volume(SCAN.array + 5, SCAN.grid), name="p{}", ImageType=["ORIGINAL", "PRIMARY", "P"])
    write_series(tmp_path, SCAN, name="m{}")
    np.testing.assert_array_equal(read_volume(tmp_path).array, SCAN.array)
    assert {one.remarks for one in list_series(tmp_path)} == {(), ("phase or complex part",)}


def test_echoes_and_stacks_of_an_enhanced_file_are_never_mixed(tmp_path: Path) -> None:
    both = Volume(np.repeat(SCAN.array, 2, axis=0), replace(SCAN.grid, shape=(48, *SCAN.grid.shape[1:])))
    both.array[1::2] += 5

    def echoes(index: int, groups: Dataset) -> None:
        groups.PlanePositionSequence[0].ImagePositionPatient = list(SCAN.grid.index_to_physical([index // 2, 0, 0]))
        groups.MREchoSequence[0].EffectiveEchoTime = 12.0 + 8 * (index % 2)

    save(enhanced(both, echoes), tmp_path / "IM1")
    assert "2 of 2" in refused(tmp_path)
    np.testing.assert_array_equal(read_volume(tmp_path, series=1).array, SCAN.array)
    np.testing.assert_array_equal(read_volume(tmp_path, series=2).array, SCAN.array + 5)


def test_localiser_of_three_planes_is_split(tmp_path: Path) -> None:
    for number, name in enumerate(("axial", "sagittal", "coronal")):
        write_series(
            tmp_path, head(DIRECTIONS[name], (3, 40, 40), (6, 6, 20)), name=f"{name}{{}}", InstanceNumber=number
        )
    listed = list_series(tmp_path)
    assert [one.count for one in listed] == [3, 3, 3]
    assert not any(one.usable for one in listed)
    assert "3 DICOM series" in refused(tmp_path)


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_rescale_of_every_slice_is_honoured(tmp_path: Path) -> None:
    def rescaled(index: int, data_set: Dataset) -> None:
        data_set.RescaleSlope, data_set.RescaleIntercept = 0.5 + index / 8, 3

    array = read_volume(write_series(tmp_path, SCAN, change=rescaled)).array
    np.testing.assert_allclose(array, SCAN.array * (0.5 + np.arange(24) / 8)[:, None, None] + 3)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shared_too", [False, True])
def test_rescale_of_every_frame_is_honoured(tmp_path: Path, compressed: bool, shared_too: bool) -> None:
    def rescaled(index: int, groups: Dataset) -> None:
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept = 0.5 + index / 8, 3
        groups.PixelValueTransformationSequence = [item]

    stored = enhanced(SCAN, rescaled)
    if not shared_too:
        del stored.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    if compressed:
        stored.compress(RLELossless)
    save(stored, tmp_path / "IM1")
    expected = SCAN.array * (0.5 + np.arange(24) / 8)[:, None, None] + 3
    np.testing.assert_allclose(read_volume(tmp_path).array, expected, rtol=1e-6)


def _rle(_: int, data_set: Dataset) -> None:
    data_set.compress(RLELossless)


def _deflated(_: int, data_set: Dataset) -> None:
    data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _big_endian(_: int, data_set: Dataset) -> None:
    data_set.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data_set.PixelData = np.frombuffer(data_set.PixelData, "<i2").astype(">i2").tobytes()


@pytest.mark.parametrize("change", [_rle, _deflated, _big_endian])
def test_transfer_syntaxes_are_read(tmp_path: Path, change: Change) -> None:
    assert_same(read_volume(write_series(tmp_path, SCAN, change=change)), SCAN)


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_compressed_series_is_read(tmp_path: Path, compressor: str) -> None:
    write_series(tmp_path / "plain", SCAN)
    (tmp_path / "compressed").mkdir()
    for file in sorted((tmp_path / "plain").iterdir()):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        image = sitk.Cast(reader.Execute(), sitk.sitkUInt16)
        for key in reader.GetMetaDataKeys():
            if not key.startswith(("0002", "0028")):
                image.SetMetaData(key, reader.GetMetaData(key))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(tmp_path / "compressed" / f"{file.name}.dcm"))
        writer.Execute(image)
    assert_same(read_volume(tmp_path / "compressed"), SCAN)


def test_implicit_files_and_files_without_preamble_are_read(tmp_path: Path) -> None:
    write_series(tmp_path / "implicit", SCAN, implicit=True)
    assert_same(read_volume(tmp_path / "implicit"), SCAN)
    for file in (tmp_path / "implicit").iterdir():
        data = file.read_bytes()
        file.write_bytes(data[132 + 12 + int.from_bytes(data[140:144], "little") :])
    assert_same(read_volume(tmp_path / "implicit"), SCAN)


def test_data_set_whose_form_is_not_the_stated_one_is_found(tmp_path: Path) -> None:
    """The bytes of an implicit data set after a header that says explicit; pydicom ships such a file."""
    explicit, implicit = (
        save(classic(SCAN, 0), tmp_path / name, name == "implicit") for name in ("explicit", "implicit")
    )
    start = [144 + int.from_bytes(file.read_bytes()[140:144], "little") for file in (explicit, implicit)]
    explicit.write_bytes(explicit.read_bytes()[: start[0]] + implicit.read_bytes()[start[1] :])
    implicit.unlink()
    assert list_series(tmp_path)[0].scan.modality == "MR"


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [140, 300, 500, 700, 1000, -1])
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_file_is_never_left_out_in_silence(tmp_path: Path, kept: int, compressed: bool) -> None:
    write_series(tmp_path, SCAN, change=_rle if compressed else None)
    last = tmp_path / "IM0023"
    last.write_bytes(last.read_bytes()[:kept])
    assert "damaged or truncated DICOM files (1 beside 23 images)" in refused(tmp_path)


def test_any_truncation_of_a_header_is_seen(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN)
    last = tmp_path / "IM0023"
    data = last.read_bytes()
    start = data.index(b"\xe0\x7f\x10\x00OW")
    for kept in range(132, start + 12, 17):
        last.write_bytes(data[:kept])
        assert not list_series(tmp_path)[0].usable, kept


def test_fewer_pixels_than_the_matrix_has_count_as_damage(tmp_path: Path) -> None:
    """Complete as a file, but written with half an image, or with fewer frames than it says."""
    half = classic(SCAN, 0)
    half.PixelData = half.PixelData[: len(half.PixelData) // 2]
    frames = enhanced(SCAN)
    frames.PerFrameFunctionalGroupsSequence = frames.PerFrameFunctionalGroupsSequence[:-1]
    for name, stored in (("half", half), ("frames", frames)):
        message = refused(save(stored, tmp_path / name))
        assert "damaged or truncated" in message


def test_empty_dicom_file_counts_as_damage(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN, name="{:03}.dcm")
    (tmp_path / "023.dcm").write_bytes(b"")
    assert "damaged" in refused(tmp_path)


def test_random_bytes_in_a_header_never_crash(tmp_path: Path) -> None:
    path = save(enhanced(SCAN), tmp_path / "IM1")
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(data)
        for position in generator.integers(132, len(data) - SCAN.array.nbytes, 4):
            changed[position] = generator.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(DALAnomalyError):
            read_volume(path)


# --- folders and choice -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study as an archive exports it; series numbers say what the number in the list will be."""
    folder = tmp_path_factory.mktemp("study") / "DICOM" / "PAT00001"
    fine = head(shape=(30, 48, 40), spacing=(4.0, 4.5, 5.6))
    axial = folder / "STU1"
    localiser = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_series(
        axial / "A", SCAN, "1.2.1", SeriesNumber=1, SeriesDescription="scout", ImageType=localiser, **T1_SPIN_ECHO
    )
    write_series(axial / "B", SCAN, "1.2.2", SeriesNumber=2, SeriesDescription="t2_tse", **T2_SPIN_ECHO)
    write_series(axial / "B", SCAN, "1.2.3", SeriesNumber=3, SeriesDescription="flair", name="F{}", **FLAIR)
    write_series(axial / "C", SCAN, "1.2.4", SeriesNumber=4, SeriesDescription="t1 se Jane", **T1_SPIN_ECHO)
    write_series(axial / "D", fine, "1.2.5", SeriesNumber=5, SeriesDescription="t1 se thin", **T1_SPIN_ECHO)
    agent = {"ContrastBolusAgent": "Gadolinium 7 ml", **T1_SPIN_ECHO}
    write_series(axial / "E", fine, "1.2.6", SeriesNumber=6, SeriesDescription="t1 se +gd", **agent)
    write_series(axial / "F", SCAN, "1.2.7", SeriesNumber=7, Modality="CT", SOPClassUID=CTImageStorage)
    report = classic(SCAN, 0, "1.2.8", SeriesNumber=8, Modality="SR", PixelData=None)
    save(report, folder / "STU2" / "REPORT")
    (folder.parent / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "viewer.exe").write_bytes(b"MZ" * 1000)
    return folder.parents[1]


def test_listing_says_what_the_series_are(study: Path) -> None:
    listed = list_series(study)
    assert [one.number for one in listed] == [one.series_number for one in listed] == list(range(1, 9))
    assert [one.scan.sequence for one in listed] == ["T1", "T2", "FLAIR", "T1", "T1", "T1", None, None]
    assert [one.usable for one in listed] == [True] * 6 + [False] * 2
    assert listed[0].remarks == ("localiser",)
    assert listed[3].name == "t1 se"
    assert listed[5].scan.contrast_agent is True
    assert "holds CT images" in str(listed[6].problem)
    assert "holds SR" in str(listed[7].problem)
    assert listed[4].grid is not None
    assert listed[4].grid.shape == (30, 48, 40)


def test_headers_choose_the_wanted_sequence(study: Path) -> None:
    assert find_scan(study, sequence="T2").number == 2
    assert find_scan(study, sequence="T1").number == 5, "the finer of the two without contrast agent"
    assert find_scan(study).number == 5
    assert read_volume(study, sequence="T2").grid.is_close(SCAN.grid)


def test_number_chooses(study: Path) -> None:
    assert_same(read_volume(study, series=3), SCAN)
    assert "holds CT images" in refused(study, series=7)
    assert "no series 9" in refused(study, series=9)
    assert "no series 0" in refused(study, series=0)


def test_equal_series_and_no_fitting_series_are_refused_with_their_list(tmp_path: Path) -> None:
    write_series(tmp_path / "one", SCAN, "1.2.3", SeriesNumber=4, **T1_SPIN_ECHO)
    write_series(tmp_path / "two", SCAN, "1.2.4", SeriesNumber=9, **T1_SPIN_ECHO)
    message = refused(tmp_path)
    assert (
        "2 of them fit equally well; choose one with --series N: 1: unnamed (T1, 24 images, 4 x 4.5 x 7 mm)" in message
    )
    assert "none is surely a plain T2 scan" in refused(tmp_path, sequence="T2")


def test_only_image_series_with_a_silent_header_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", SCAN)
    save(classic(SCAN, 0, "1.2.8", Modality="PR"), tmp_path / "STATE")
    assert_same(read_volume(tmp_path), SCAN)


def test_series_numbers_do_not_depend_on_the_names_of_files(tmp_path: Path) -> None:
    for number, (folder, uid) in enumerate([("z", "1.2.1"), ("a", "1.2.3"), ("m", "1.2.2")]):
        write_series(tmp_path / folder, SCAN, uid, SeriesNumber=3, SeriesDescription=f"{'ABC'[number]}")
    assert [one.name for one in list_series(tmp_path)] == ["A", "C", "B"]


@pytest.mark.parametrize("modality", ["CT", "PT", "US", "SEG", "RTSTRUCT", "PR", "KO", "SR"])
def test_other_modalities_are_refused_by_name(tmp_path: Path, modality: str) -> None:
    save(classic(SCAN, 0, Modality=modality, SOPClassUID=SecondaryCaptureImageStorage), tmp_path / "IM1")
    assert f"holds {modality} images, not MR" in refused(tmp_path)


def test_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path.joinpath(*"abcdefgh"), SCAN)
    assert_same(read_volume(tmp_path), SCAN)
    (tmp_path.joinpath(*"abcdefgh") / "i").mkdir()
    assert "levels of folders" in refused(tmp_path)
    monkeypatch.setattr(dicom_files, "MAXIMUM_FILES", 23)
    assert "more than 23 files" in refused(tmp_path.joinpath(*"abcdefgh"))


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_linked_folders_are_not_read(tmp_path: Path) -> None:
    """Neither round in a circle nor, by a link upwards, another patient's scan."""
    write_series(tmp_path / "one" / "series", SCAN)
    write_series(tmp_path / "other" / "series", Volume(SCAN.array + 5, SCAN.grid), "4.5.6")
    (tmp_path / "one" / "all").symlink_to(tmp_path, target_is_directory=True)
    assert_same(read_volume(tmp_path / "one"), SCAN)


def test_mask_may_be_a_series(tmp_path: Path) -> None:
    write_series(tmp_path, Volume((SCAN.array > 100).astype(np.int16), SCAN.grid))
    np.testing.assert_array_equal(read_mask(tmp_path, SCAN.grid).array, SCAN.array > 100)


def test_cancelled_reading_stops(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN)
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        read_volume(tmp_path, cancel=token)


def test_hundreds_of_slices_in_nested_folders_take_seconds(tmp_path: Path) -> None:
    volume = head(shape=(200, 32, 30), spacing=(6.0, 6.0, 0.8))
    first = write_series(tmp_path / "study" / "series1", volume, "9.9.1")
    for number in (2, 3):
        (tmp_path / "study" / f"series{number}").mkdir()
        for file in first.iterdir():
            data = file.read_bytes().replace(b"9.9.1", f"9.9.{number}".encode())
            (tmp_path / "study" / f"series{number}" / file.name).write_bytes(data)
    started = time.process_time()
    assert_same(read_volume(tmp_path, series=2), volume)
    assert time.process_time() - started < 3


# --- privacy ----------------------------------------------------------------------------------------------------------


def test_no_message_and_no_listing_names_the_patient(tmp_path: Path) -> None:
    texts = ["T1 Jane DOE axial", "jane", "Doe_T2_PID-4711", "t1_19700102", "JaneT1", "1970-01-02 t2"]
    for number, text in enumerate(texts):
        write_series(
            tmp_path / str(number),
            SCAN,
            f"1.2.{number}",
            SeriesNumber=number,
            SeriesDescription=text,
            ProtocolName=text,
            ContrastBolusAgent=text,
            **T1_SPIN_ECHO,
        )
    said = [refused(tmp_path), refused(tmp_path, series=99)]
    for one in list_series(tmp_path):
        said += [one.name, one.scan.evidence, str(one.scan), str(one.problem), repr(one.remarks)]
    shutil.copy(tmp_path / "0" / "IM0000", tmp_path / "0" / "Doe_Jane")
    (tmp_path / "0" / "Doe_Jane").write_bytes((tmp_path / "0" / "IM0000").read_bytes()[:900])
    said.append(refused(tmp_path, series=1))
    for text in said:
        for private in (*NAME.split("^"), IDENTIFIER, "4711", "1970", "1.2.0", "1.2.1"):
            assert private.casefold() not in text.casefold(), text
    assert [one.name for one in list_series(tmp_path)] == ["T1 axial", "", "T2", "t1", "", "t2"]


def test_what_macos_keeps_beside_copied_files_is_no_damage(tmp_path: Path) -> None:
    write_series(tmp_path / "series", SCAN, "1.2.3", **T1_SPIN_ECHO)
    for file in list((tmp_path / "series").iterdir()):
        file.with_name(f"._{file.name}").write_bytes(bytes.fromhex("00051607") + bytes(100))
    (only,) = list_series(tmp_path / "series")
    assert only.usable
    assert only.remarks == ()
