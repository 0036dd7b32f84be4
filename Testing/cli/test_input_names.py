from __future__ import annotations

import sys
from pathlib import Path

import pytest

from DALAnomalyCLI.cohort_summary import input_name
from DALAnomalyCLI.input_names import stem_of, unique_stems


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.T1.NII", "scan.T1"),
        ("scan.nrrd", "scan"),
        ("scan.mha", "scan"),
        ("scan.nhdr", "scan"),
        ("series", "series"),
    ],
)
def test_stem_is_the_name_without_its_image_suffix(tmp_path: Path, name: str, stem: str) -> None:
    assert stem_of(tmp_path / name) == stem


def test_stem_of_the_current_folder_is_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert stem_of(Path(".")) == "series"


def test_names_that_repeat_get_those_of_their_folders_in_any_order() -> None:
    paths = [Path("p/sub-1/anat/T1.nii"), Path("p/sub-2/anat/T1.nii.gz"), Path("p/sub-3/t1.mha"), Path("p/T2.nii")]
    stems = ["sub-1_anat_T1", "sub-2_anat_T1", "sub-3_t1", "T2"]
    assert unique_stems(paths) == stems
    assert unique_stems(paths[::-1]) == stems[::-1]


def test_stems_are_unique_also_where_case_does_not_count() -> None:
    paths = [Path("a/scan.nii"), Path("a/scan.nii"), Path("a/SCAN.mha"), Path("b/other.nii")]
    assert unique_stems(paths) == ["scan", "scan_2", "SCAN_3", "other"]
    assert unique_stems(paths, taken=["Scan", "other"]) == ["scan_2", "scan_3", "SCAN_4", "other_2"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_give_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "MD5E-s529.nii").touch()
    paths = [tmp_path / f"sub-{number}" / "T1.nii" for number in (1, 2)]
    for path in paths:
        path.parent.mkdir()
        path.symlink_to(tmp_path / "objects" / "MD5E-s529.nii")
    assert unique_stems(paths) == ["sub-1_T1", "sub-2_T1"]
    assert input_name(paths[0]) == str(paths[0])


def test_names_stay_short_enough_for_file_systems() -> None:
    paths = [Path(f"{number}/{'long' * 40}/T1.nii") for number in (1, 2)]
    assert unique_stems(paths) == ["T1", "T1_2"]


def test_names_that_are_not_utf_8_get_theirs_among_others() -> None:
    assert unique_stems([Path("a/M\udce4rz.nii"), Path("a/other.nii")]) == ["M\udce4rz", "other"]
