from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from DALAnomalySlicer.run_folder import make_run_folder, remove_run_folder
from Testing.lib.small_disks import small_disk


def test_a_folder_is_made_for_this_user_alone_and_removed_with_its_content(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path)
    assert folder.parent == tmp_path
    if os.name != "nt":
        assert folder.stat().st_mode & 0o077 == 0
    (folder / "scan.nii").write_text("patient data")
    remove_run_folder(folder)
    remove_run_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crashed_program_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    abandoned, running = make_run_folder(tmp_path), make_run_folder(tmp_path)
    (abandoned / "scan.nii").write_text("patient data")
    foreign = tmp_path / "dal-anomaly-notes"
    foreign.mkdir()
    yesterday = time.time() - 24 * 3600
    for folder in (abandoned, foreign):
        os.utime(folder, (yesterday, yesterday))
    new = make_run_folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([running, foreign, new])


def test_a_read_only_place_is_an_error_of_the_system(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64, "ro") as disk, pytest.raises(OSError, match=r"[Rr]ead-only"):
        make_run_folder(disk)
