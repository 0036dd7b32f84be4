from __future__ import annotations

from pathlib import Path

import pytest

from DALAnomalyCLI.input_names import stem_of, unique_stems


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.T1.NII", "scan.T1"),
        ("scan.nrrd", "scan"),
        ("scan.mha", "scan"),
        ("series", "series"),
    ],
)
def test_stem_is_the_name_without_its_image_suffix(tmp_path: Path, name: str, stem: str) -> None:
    assert stem_of(tmp_path / name) == stem


def test_stem_of_the_current_folder_is_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert stem_of(Path(".")) == "series"


def test_stems_are_unique_also_where_case_does_not_count() -> None:
    paths = [Path("a/scan.nii"), Path("b/scan.nii.gz"), Path("c/scan_2.nii"), Path("d/SCAN.mha")]
    stems = unique_stems(paths)
    assert stems == ["scan", "scan_2", "scan_2_2", "SCAN_3"]
    assert len({stem.casefold() for stem in stems}) == len(paths)
