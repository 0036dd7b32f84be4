from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

import DALAnomalyLib
from DALAnomalyLib.job import manifest
from DALAnomalyLib.volume import Volume
from Testing.lib.dicom_phantom import classic, head, save, write_series


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_versions_name_everything_that_can_change_a_result() -> None:
    versions = manifest.versions()
    assert versions["DALAnomaly"] == DALAnomalyLib.__version__
    assert versions["numpy"] == np.__version__
    assert {"torch", "SimpleITK", "scipy", "python", "platform"} <= set(versions)


def test_file_is_described_by_its_name_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(b"voxels")
    assert manifest.describe_input(path) == {"name": "scan.nii", "files": 1, "sha256": sha256(b"voxels")}


def test_dicom_folder_is_not_named_and_its_digest_knows_no_file_names(tmp_path: Path) -> None:
    scan = head()
    write_series(tmp_path / "DOE^JANE", scan)
    write_series(tmp_path / "other", scan, name="{:02}.ima")
    first, second = (manifest.describe_input(tmp_path / folder) for folder in ("DOE^JANE", "other"))
    assert first == second
    assert first["files"] == len(scan.array)
    assert "DOE" not in json.dumps(first)
    save(classic(Volume(scan.array + 1, scan.grid), 3), tmp_path / "other" / "03.ima")
    assert manifest.describe_input(tmp_path / "other")["sha256"] != first["sha256"]


def test_digest_of_a_dicom_folder_is_that_of_the_chosen_series_whatever_else_lies_there(tmp_path: Path) -> None:
    scan = head()
    write_series(tmp_path, scan)
    alone = manifest.describe_input(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "heatmap.nii.gz").write_bytes(b"an earlier result")
    assert manifest.describe_input(tmp_path) == alone
    write_series(tmp_path, Volume(scan.array + 1, scan.grid), "1.2.4", name="other{}", SeriesNumber=2)
    assert manifest.describe_input(tmp_path, series=1) == alone
    other = manifest.describe_input(tmp_path, series=2)
    assert other["sha256"] != alone["sha256"]
    assert (alone["series"], other["series"], other["part"]) == (1, 2, [1, 1])


def test_digest_of_a_metaimage_header_covers_its_data(tmp_path: Path) -> None:
    header, data = tmp_path / "scan.mhd", tmp_path / "scan.raw"
    header.write_text("NDims = 3\nElementDataFile = scan.raw\n")
    data.write_bytes(b"1")
    before = manifest.describe_input(header)
    data.write_bytes(b"2")
    assert before["files"] == 2
    assert manifest.describe_input(header)["sha256"] != before["sha256"]


@pytest.mark.parametrize(
    ("header", "line", "files"),
    [
        ("scan.nhdr", "data file: slice1.raw", 2),
        ("scan.nhdr", "datafile: LIST\nslice1.raw\nslice2.raw", 3),
        ("scan.nhdr", "data file: slice%d.raw 2 1 -1", 3),
        ("scan.mhd", "ElementDataFile = LIST\nslice2.raw\nslice1.raw", 3),
        ("scan.mhd", "ElementDataFile = slice%d.raw 1 3 1", 3),
    ],
)
def test_digest_of_a_header_covers_all_files_that_it_names(tmp_path: Path, header: str, line: str, files: int) -> None:
    (tmp_path / header).write_text(f"# a header\nfirst: 1\n{line}\n")
    for name in ("slice1.raw", "slice2.raw", "other.raw"):
        (tmp_path / name).write_bytes(b"1")
    before = manifest.describe_input(tmp_path / header)
    (tmp_path / "other.raw").write_bytes(b"2")
    assert manifest.describe_input(tmp_path / header) == before
    (tmp_path / "slice1.raw").write_bytes(b"2")
    assert before["files"] == files
    assert manifest.describe_input(tmp_path / header)["sha256"] != before["sha256"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        ((True, None, 3), [True, None, 3]),
        ({"k": Path("/home/jane/scan.nii")}, {"k": "scan.nii"}),
        ("/home/jane/models/model.pt", "model.pt"),
        (r"C:\Users\jane\model.pt", "model.pt"),
        ("cannot use /home/jane/cache here", "cannot use cache here"),
        ("T1/T2 ratio, 3 / 4", "T1/T2 ratio, 3 / 4"),
    ],
)
def test_plain_values_are_valid_json_without_folders(value: object, expected: object) -> None:
    assert manifest.plain(value) == expected
    json.dumps(manifest.plain(value), allow_nan=False)


def test_times_are_utc_with_a_duration() -> None:
    times = manifest.describe_times(datetime(2020, 1, 1, tzinfo=timezone.utc))
    assert times["started"] == "2020-01-01T00:00:00+00:00"
    assert times["seconds"] > 0
    assert times["finished"].endswith("+00:00")


def test_every_file_of_a_folder_has_its_digest(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    assert manifest.file_digests(tmp_path) == {"a": sha256(b"1"), "b": sha256(b"2")}
