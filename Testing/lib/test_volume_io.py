from __future__ import annotations

import gzip
import itertools
import math
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from DALAnomalyLib.errors import DALAnomalyError, GeometryError, InputError, OutputError
from DALAnomalyLib.volume import Grid, Volume, lps_to_ras
from DALAnomalyLib.volume_io import describe_scan, from_sitk, read_map, read_mask, read_volume, to_sitk, write_volume
from DALAnomalyLib.volume_io.file_orientation import UNKNOWN

SHAPE = (20, 24, 28)
SPACING = (3.0, 4.0, 5.0)
COSINE, SINE = math.cos(0.3), math.sin(0.3)
OBLIQUE = (COSINE, -SINE, 0.0, SINE, COSINE, 0.0, 0.0, 0.0, 1.0)
GRID = Grid(SHAPE, SPACING, (-40.0, 50.5, -60.25), OBLIQUE)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def scan(grid: Grid = GRID) -> Volume:
    """Noise of integers, so that every format keeps it exactly."""
    return Volume(np.random.default_rng(0).integers(0, 1000, grid.shape).astype(np.float32), grid)


def refused(error: type[DALAnomalyError], path: Path) -> str:
    """What `read_volume` says about `path` when it refuses it, in one line that starts with the path."""
    with pytest.raises(error) as raised:
        read_volume(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))  # a path may hold the very words that a test looks for


def write_array(path: Path, array: np.ndarray, grid: Grid = GRID) -> Path:
    write_volume(Volume(array, grid), path)
    return path


def write_series(folder: Path, uid: str = "1.2.3", description: str = "T2", positions: Any = range(0, 60, 3)) -> None:
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, position in enumerate(positions):
        slice_ = sitk.GetImageFromArray(np.full((32, 30), number + 1, np.int16))
        slice_.SetSpacing((2.0, 2.5))
        tags = {
            "0008|0060": "MR",
            "0008|0008": r"DERIVED\SECONDARY",
            "0008|0018": f"{uid}.{number + 1}",
            "0008|103e": description,
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": rf"-30\-40\{position}",
            "0020|0037": r"1\0\0\0\1\0",
        }
        for key, value in tags.items():
            slice_.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{number:03}.dcm"))
        writer.Execute(slice_)


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_written_scan_is_read_back_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"with space, ü and 脳{suffix}"
    write_volume(scan(), path)
    back = read_volume(path)
    assert back.array.dtype == np.float32
    np.testing.assert_array_equal(back.array, scan().array)
    assert back.grid.is_close(GRID)


def test_mhd_is_read(tmp_path: Path) -> None:
    sitk.WriteImage(to_sitk(scan()), str(tmp_path / "scan.mhd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.mhd").array, scan().array)


def test_every_axis_order_and_sense_survives_nifti(tmp_path: Path) -> None:
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        direction = (np.reshape(OBLIQUE, (3, 3))[:, order] * signs).ravel().tolist()
        grid = Grid(SHAPE, SPACING, GRID.origin, tuple(direction))
        write_volume(scan(grid), tmp_path / "scan.nii")
        assert read_volume(tmp_path / "scan.nii").grid.is_close(grid), (order, signs)


def test_affine_is_the_one_nibabel_sees(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_volume(scan(), path)
    image = nibabel.load(path)
    indices = np.array([[0, 0, 0], [19, 23, 27], [3, 5, 7]])  # k, j, i
    seen = nibabel.affines.apply_affine(image.affine, indices[:, ::-1])
    np.testing.assert_allclose(lps_to_ras(read_volume(path).grid.index_to_physical(indices)), seen, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, scan().array)


def test_boolean_volume_becomes_uint8_and_other_types_stay() -> None:
    assert from_sitk(to_sitk(Volume(np.ones(SHAPE, np.bool_), GRID))).array.dtype == np.uint8
    for dtype in (np.uint8, np.uint16, np.float32):
        back = from_sitk(to_sitk(Volume(np.ones(SHAPE, dtype), GRID)))
        assert back.array.dtype == dtype
        assert back.grid == GRID


def test_compression_can_be_switched_off(tmp_path: Path) -> None:
    flat = Volume(np.zeros(SHAPE, np.uint8), GRID)
    write_volume(flat, tmp_path / "small.nrrd")
    write_volume(flat, tmp_path / "large.nrrd", compress=False)
    assert (tmp_path / "large.nrrd").stat().st_size > 10 * (tmp_path / "small.nrrd").stat().st_size


def test_one_volume_in_a_4d_file_is_taken(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([to_sitk(scan())]), str(tmp_path / "one.nrrd"))
    back = read_volume(tmp_path / "one.nrrd")
    np.testing.assert_array_equal(back.array, scan().array)
    assert back.grid.is_close(GRID)


def test_uncompressed_nifti_named_gz_is_read(tmp_path: Path) -> None:
    write_volume(scan(), tmp_path / "scan.nii")
    path = (tmp_path / "scan.nii").rename(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_volume(path).array, scan().array)


def test_big_endian_nifti_is_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(scan().array.T, np.diag([3, 4, 5, 1]), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, scan().array)


# --- files that are no scan -------------------------------------------------------------------------------------------


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(InputError, tmp_path / "absent.nii.gz")


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_array(tmp_path / "scan.nrrd", scan().array)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refused(InputError, path)


def test_a_scan_in_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_array(tmp_path / "scan.nrrd", scan().array)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)  # as for a user who is not root
    assert "Permission denied" in refused(InputError, path)
    with pytest.raises(InputError, match=r"scan\.nrrd: cannot be read"):
        describe_scan(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process limits its own memory")
def test_a_scan_that_memory_cannot_hold_is_not_called_damaged(tmp_path: Path) -> None:
    large = np.zeros((400, 400, 400), np.int16)
    large[::2] = 7
    path = tmp_path / "large.nii"
    write_volume(Volume(large, Grid(large.shape, (0.5, 0.5, 0.5))), path)
    script = (
        "import resource, sys\n"
        "from DALAnomalyLib.volume_io import read_volume\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[2]) * 2**20,) * 2)\n"
        "try:\n    read_volume(sys.argv[1])\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    # threads take address space as well, on machines of many cores more than there is
    environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for spare in ("60", "330"):  # too little for ITK's image, and for the float32 copy
        command = [sys.executable, "-c", script, path, spare]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("DeviceError there is not enough memory to read"), done.stdout


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"")
    assert ".nii.gz" in refused(InputError, tmp_path / "scan.png")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_text_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"note{suffix}"
    path.write_text("this is no image\n" * 100)
    message = refused(InputError, path)
    assert ("is not a NIfTI-1 image" if "nii" in suffix else "cannot be read as an image") in message


def test_nifti_2_is_refused_by_name(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(scan().array.T, np.diag([3, 4, 5, 1])), tmp_path / "scan.nii")
    assert "is not a NIfTI-1 image" in refused(InputError, tmp_path / "scan.nii")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.9, "all but one byte"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_truncated_file_is_refused_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, kept: float | str
) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(scan(), path, compress=False)
    data = path.read_bytes()
    path.write_bytes(data[:-1] if isinstance(kept, str) else data[: int(len(data) * kept)])
    refused(InputError, path)
    assert capfd.readouterr() == ("", "")


def test_damaged_compressed_nifti_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "scan.nii.gz", scan().array)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # in the gzip checksum
    path.write_bytes(data)
    assert "damaged" in refused(InputError, path)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_damage_inside_compressed_voxels_is_refused(tmp_path: Path, suffix: str) -> None:
    """ITK alone reads both files without an error."""
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(to_sitk(scan()), str(path), True)
    np.testing.assert_array_equal(read_volume(path).array, scan().array)
    (holder,) = [file for file in tmp_path.iterdir() if file != path] or [path]
    data = bytearray(holder.read_bytes())
    data[-2000] ^= 0xFF
    holder.write_bytes(data)
    assert "compressed voxels are damaged" in refused(InputError, path)
    holder.write_bytes(holder.read_bytes()[:-8])
    refused(InputError, path)


def test_series_number_for_a_file_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "scan.nii", scan().array)
    with pytest.raises(InputError, match="no series 2"):
        read_volume(path, series=2)


def test_complete_gzip_of_a_truncated_nifti_is_refused(tmp_path: Path) -> None:
    data = write_array(tmp_path / "scan.nii", scan().array).read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(data[:-1000]))
    assert "truncated" in refused(InputError, path)


@pytest.mark.parametrize(
    ("field", "kind", "value"),
    [(40, "<h", 8), (42, "<h", -3), (72, "<h", -8), (108, "<f", math.nan), (108, "<f", 1e30)],
    ids=["dim[0]", "dim[1]", "bitpix", "vox_offset NaN", "vox_offset huge"],
)
def test_damaged_nifti_header_is_refused(tmp_path: Path, field: int, kind: str, value: float) -> None:
    path = write_array(tmp_path / "scan.nii", scan().array)
    data = bytearray(path.read_bytes())
    struct.pack_into(kind, data, field, value)
    path.write_bytes(data)
    assert "header" in refused(InputError, path)


def test_header_without_its_data_file_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(to_sitk(scan()), str(tmp_path / "scan.mhd"))
    (tmp_path / "scan.raw").unlink()
    refused(InputError, tmp_path / "scan.mhd")


def test_reading_leaves_standard_error_and_warnings_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    try:
        sitk.ProcessObject.SetGlobalWarningDisplay(True)
        refused(InputError, write_array(tmp_path / "flat.nii", np.zeros(SHAPE, np.float32)))
        assert sitk.ProcessObject.GetGlobalWarningDisplay()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    os.write(2, b"still heard\n")
    assert capfd.readouterr().err == "still heard\n"


# --- images that are no MR scan ---------------------------------------------------------------------------------------


def test_several_volumes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([to_sitk(scan())] * 3), str(path))
    assert "several volumes" in refused(InputError, path)


@pytest.mark.parametrize("pixel", [sitk.sitkVectorUInt8, sitk.sitkComplexFloat32])
def test_colour_and_complex_images_are_refused(tmp_path: Path, pixel: int) -> None:
    path = tmp_path / "colour.nrrd" if pixel == sitk.sitkVectorUInt8 else tmp_path / "complex.nii"
    sitk.WriteImage(sitk.Image([28, 24, 20], pixel, 3 if pixel == sitk.sitkVectorUInt8 else 0), str(path))
    assert "grey-value" in refused(InputError, path)


@pytest.mark.parametrize("size", [[28, 24], [28, 24, 1], [28, 7, 24]])
def test_slices_are_refused(tmp_path: Path, size: list[int]) -> None:
    path = tmp_path / "slice.nii"
    sitk.WriteImage(sitk.Image(size, sitk.sitkFloat32), str(path))
    assert "not a 3D scan" in refused(InputError, path)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_empty_and_constant_images_are_refused(tmp_path: Path, value: float) -> None:
    path = write_array(tmp_path / "flat.nii", np.full(SHAPE, value, np.float32))
    assert f"every voxel is {value:g}" in refused(InputError, path)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_non_finite_voxels_are_refused(tmp_path: Path, value: float, suffix: str) -> None:
    array = scan().array.astype(np.float64)
    array[3, 4, 5] = value
    assert "1 voxels are NaN or infinite" in refused(InputError, write_array(tmp_path / f"scan{suffix}", array))


@pytest.mark.parametrize("value", [2e9, -2e9])
def test_absurd_intensities_are_refused(tmp_path: Path, value: float) -> None:
    array = scan().array
    array[3, 4, 5] = value
    assert "not plausible" in refused(InputError, write_array(tmp_path / "scan.nii", array))


def test_ct_and_normalised_images_are_refused(tmp_path: Path) -> None:
    ct = scan().array - 1024
    assert "looks like CT" in refused(InputError, write_array(tmp_path / "ct.nii", ct))
    skull_stripped = np.zeros(SHAPE, np.float32)
    skull_stripped[5:15, 5:20, 5:20] = np.random.default_rng(0).normal(size=(10, 15, 15))
    assert "normalised" in refused(InputError, write_array(tmp_path / "z_scored.nii", skull_stripped))


def test_a_few_negative_voxels_and_a_bright_tail_are_accepted(tmp_path: Path) -> None:
    array = scan().array * 1e3
    array.flat[::400] = -9460  # 0.25 % of the voxels
    array[0, 0, 0] = 1.1e7
    np.testing.assert_array_equal(read_volume(write_array(tmp_path / "scan.nii", array)).array, array)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(0.05, 4.0, 5.0), (3.0, 12.0, 5.0), (3.0, 4.0, 2.4), (3.0, 4.0, 9.9)])
def test_absurd_voxel_size_or_extent_is_refused(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    grid = Grid((70, 24, 28) if spacing[2] == 9.9 else SHAPE, spacing)
    message = refused(GeometryError, write_array(tmp_path / "scan.nrrd", scan(grid).array, grid))
    assert "voxel size" in message if spacing[0] < 1 or spacing[1] > 10 else "extent" in message


@pytest.mark.parametrize("size", [0.0, -3.0, math.nan])
def test_impossible_voxel_size_is_refused(tmp_path: Path, size: float) -> None:
    """A negative one would mirror the image."""
    path = write_array(tmp_path / "scan.nii", scan().array)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 80, size)  # pixdim[1]
    path.write_bytes(data)
    assert "voxel size" in refused(GeometryError, path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_suffixes_in_capital_letters_are_read(tmp_path: Path, suffix: str) -> None:
    volume = scan()
    path = write_array(tmp_path / f"scan{suffix}", volume.array).rename(tmp_path / f"SCAN{suffix.upper()}")
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    assert describe_scan(path).orientation_doubt is None


def test_an_sform_into_a_standard_space_may_scale(tmp_path: Path) -> None:
    image = nibabel.load(write_array(tmp_path / "scan.nii", scan().array))
    image.set_sform(image.affine @ np.diag((1.1, 1.1, 1.1, 1)), code=4)
    image.header["pixdim"][1:4] = GRID.spacing
    nibabel.save(image, tmp_path / "standard.nii")
    assert read_volume(tmp_path / "standard.nii").grid.is_close(GRID, 0.01)
    assert "qform and sform" in str(describe_scan(tmp_path / "standard.nii").orientation_doubt)


def test_an_sform_of_other_voxels_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "scan.nii", scan().array)
    image = nibabel.load(path)
    image.set_sform(image.affine @ np.diag((0.5, 1, 1, 1)), code=1)
    image.header["pixdim"][1:4] = GRID.spacing
    nibabel.save(image, tmp_path / "other.nii")
    assert "3 x 4 x 5 mm (pixdim) and of 1.5 x 4 x 5 mm (sform)" in refused(GeometryError, tmp_path / "other.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_file_without_a_placement_leaves_the_orientation_open(tmp_path: Path, suffix: str) -> None:
    path = write_array(tmp_path / f"scan{suffix}", scan().array)
    assert describe_scan(path).orientation_doubt is None
    image = nibabel.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(image, tmp_path / f"silent{suffix}")
    assert describe_scan(tmp_path / f"silent{suffix}").orientation_doubt == UNKNOWN


def test_a_placement_that_is_no_number_leaves_the_orientation_open(tmp_path: Path) -> None:
    content = bytearray(write_array(tmp_path / "scan.nii", scan().array).read_bytes())
    content[252:256] = struct.pack("<2h", 1, 1)
    content[256:260] = struct.pack("<f", math.nan)
    (tmp_path / "nan.nii").write_bytes(content)
    assert describe_scan(tmp_path / "nan.nii").orientation_doubt == UNKNOWN


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 4)])
def test_two_placements_of_a_nifti_file_that_differ_are_told(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = write_array(tmp_path / "scan.nii", scan().array)
    image = nibabel.load(path)
    corner = np.array(image.shape) - 1
    turned = image.affine.copy()
    turned[:3, :3] = Rotation.from_euler("xyz", (0.3, -0.2, 0.1)).as_matrix() @ turned[:3, :3]
    image.set_qform(turned, code=codes[0])
    image.set_sform(turned, code=codes[1])
    nibabel.save(image, tmp_path / "same.nii")
    assert describe_scan(tmp_path / "same.nii").orientation_doubt is None
    moved = turned.copy()
    moved[0, :3] += 7.0 / corner / 3
    image.set_sform(moved, code=codes[1])
    nibabel.save(image, tmp_path / "two.nii")
    doubt = describe_scan(tmp_path / "two.nii").orientation_doubt
    assert doubt is not None
    assert "qform and sform) lie up to 7 mm apart" in doubt


@pytest.mark.parametrize(
    ("space", "known"),
    [
        (b"space: left-posterior-superior", True),
        (b"space: RAS", True),
        (b"space: left-anterior-superior-time", True),
        (b"space: LPST", True),
        (b"space: scanner-xyz", False),
        (b"space: 3D-right-handed", False),
        (b"space dimension: 3", False),
        (b"# nothing", False),
    ],
)
def test_only_an_anatomical_space_of_an_nrrd_file_gives_the_orientation(
    tmp_path: Path, space: bytes, known: bool
) -> None:
    lines = write_array(tmp_path / "scan.nrrd", scan().array).read_bytes().split(b"\n")
    changed = tmp_path / "changed.nrrd"
    changed.write_bytes(b"\n".join(space if line.startswith(b"space:") else line for line in lines))
    assert describe_scan(changed).orientation_doubt == (None if known else UNKNOWN)


def test_a_meta_image_always_gives_the_orientation(tmp_path: Path) -> None:
    assert describe_scan(write_array(tmp_path / "scan.mha", scan().array)).orientation_doubt is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names in Unicode")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "scan.nii", scan().array)
    renamed = path.rename(tmp_path / "lat\udce4.nii")
    with pytest.raises(InputError, match=r"lat\\udce4\.nii: the name .* is not valid UTF-8; rename it"):
        read_volume(renamed)
    with pytest.raises(OutputError, match="is not valid UTF-8"):
        write_volume(scan(), renamed)
    write_series(tmp_path / "series")
    with pytest.raises(InputError, match="is not valid UTF-8"):
        read_volume((tmp_path / "series").rename(tmp_path / "lat\udce4"))


def test_zero_voxel_size_in_a_meta_image_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "scan.mha", scan().array)
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 3 4 5", b"ElementSpacing = 0 4 5"))
    assert "voxel size" in refused(GeometryError, path)


@pytest.mark.parametrize("shear", [1e-3, 0.3])
def test_sheared_nifti_is_refused(tmp_path: Path, shear: float) -> None:
    affine = np.diag([3.0, 4.0, 5.0, 1.0])
    affine[0, 1] = shear * 4
    image = nibabel.Nifti1Image(scan().array.T, affine)
    image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "scan.nii.gz")
    assert "sheared" in refused(GeometryError, tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("second_axis", ["(0.9,4,0)", "(3,0,0)"])
def test_sheared_or_degenerate_nrrd_is_refused(tmp_path: Path, second_axis: str) -> None:
    header = (
        "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 28 24 20\n"
        f"space directions: (3,0,0) {second_axis} (0,0,5)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "scan.nrrd"
    path.write_bytes(header.encode() + scan().array.tobytes())
    refused(GeometryError, path)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_mask_is_binarised_at_one_half_and_takes_the_exact_grid_of_its_scan(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, :4] = 0.2, 0.5, 0.51, 255
    nearly = Grid(SHAPE, SPACING, (-40.0, 50.5, -60.24), OBLIQUE)
    mask = read_mask(write_array(tmp_path / "mask.nii.gz", array, nearly), GRID)
    assert mask.array.dtype == np.uint8
    assert np.flatnonzero(mask.array).tolist() == [2, 3]
    assert mask.array.max() == 1
    assert mask.grid is GRID


def test_empty_mask_is_read(tmp_path: Path) -> None:
    assert not read_mask(write_array(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8)), GRID).array.any()


@pytest.mark.parametrize(
    "other",
    [
        Grid(SHAPE, SPACING, (-39.0, 50.5, -60.25), OBLIQUE),
        Grid(SHAPE, SPACING, (-40.0, 50.5, -60.25), IDENTITY),
        Grid((20, 24, 29), SPACING, (-40.0, 50.5, -60.25), OBLIQUE),
    ],
)
def test_mask_on_another_grid_is_refused(tmp_path: Path, other: Grid) -> None:
    path = write_array(tmp_path / "mask.nii.gz", np.ones(other.shape, np.uint8), other)
    with pytest.raises(GeometryError, match=r"mask\.nii\.gz: .*28 x 24 x 20 voxels"):
        read_mask(path, GRID)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_mask_with_nan_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write_array(tmp_path / f"mask{suffix}", np.full(SHAPE, math.nan, np.float32))
    with pytest.raises(InputError, match="NaN"):
        read_mask(path, GRID)


# --- DICOM ------------------------------------------------------------------------------------------------------------


def test_dicom_series_is_stacked(tmp_path: Path) -> None:
    folder = tmp_path / "série T2"
    write_series(folder)
    (folder / "notes.txt").write_text("not a DICOM file, shorter than its preamble")
    volume = read_volume(folder)
    assert volume.grid.is_close(Grid((20, 32, 30), (2.0, 2.5, 3.0), (-30.0, -40.0, 0.0)))
    np.testing.assert_array_equal(volume.array[:, 0, 0], np.arange(1, 21))


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "no DICOM series" in refused(InputError, tmp_path)


def test_folder_with_several_series_is_refused_with_their_list(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path, "1.2.3", "T2 axial")
    write_series(tmp_path, "1.2.4", "T1 axial", range(0, 30, 3))
    write_series(tmp_path, "1.2.5", "", range(0, 30, 3))
    message = refused(InputError, tmp_path)
    assert "choose one with --series N" in message
    assert "1: T2 axial (T2, 20 images" in message
    assert "2: T1 axial (T1, 10 images" in message
    assert "3: unnamed (MR, 10 images" in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("positions", [[0, 3, 6, 9, 15, 18, 21, 24, 27, 30], [0, 3, 6, 6, 9, 12, 15, 18, 21, 24]])
def test_missing_or_doubled_dicom_slice_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], positions: list[int]
) -> None:
    write_series(tmp_path, positions=positions)
    assert re.search("missing, doubled or unevenly spaced|different images at the same", refused(InputError, tmp_path))
    assert capfd.readouterr() == ("", "")


def test_rounded_dicom_positions_are_accepted(tmp_path: Path) -> None:
    write_series(tmp_path, positions=[round(3.3333 * number, 1) for number in range(20)])
    assert read_volume(tmp_path).grid.spacing[2] == pytest.approx(3.3333, abs=0.01)


def test_damaged_last_dicom_file_is_not_left_out_in_silence(tmp_path: Path) -> None:
    write_series(tmp_path)
    last = tmp_path / "1.2.3_019.dcm"
    last.write_bytes(last.read_bytes()[:500])
    assert "damaged or truncated DICOM files (1 beside 19 images)" in refused(InputError, tmp_path)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_unknown_output_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write this format; use one of \.nii"):
        write_volume(scan(), tmp_path / "scan.mhd")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_missing_output_folder_is_reported_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / "absent" / f"scan{suffix}"
    with pytest.raises(OutputError, match="writable") as raised:
        write_volume(scan(), path)
    assert str(raised.value).startswith(str(path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit of the operating system")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_full_disk_is_reported_in_silence(tmp_path: Path, suffix: str) -> None:
    """In a process of its own, whose files may not grow beyond 8 kB."""
    path = tmp_path / f"scan{suffix}"
    program = f"""
import resource, signal, numpy
from DALAnomalyLib.errors import OutputError
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import write_volume
volume = Volume(numpy.random.default_rng(0).random({SHAPE}), Grid({SHAPE}, {SPACING}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    write_volume(volume, {str(path)!r})
except OutputError as error:
    print(error)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-B", "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: could not be written completely")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_map_keeps_its_type_and_may_be_empty(tmp_path: Path, kind: type) -> None:
    grid = Grid((9, 10, 11), (1.0, 2.0, 3.0))
    write_volume(Volume(np.zeros(grid.shape, kind), grid), tmp_path / "map.nii")
    volume = read_map(tmp_path / "map.nii")
    assert volume.array.dtype == kind
    assert volume.grid.is_close(grid)
    assert not volume.array.any()
    with pytest.raises(InputError, match=r"other\.nii: no such file"):
        read_map(tmp_path / "other.nii")
