from __future__ import annotations

import os
import pickle
import stat
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.preprocessing.step_cache import StepCache, cache_key, default_cache_folder, volume_digest
from DALAnomalyLib.volume import Grid, Volume

KEY = cache_key("a step", 1)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "mask": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "log_field": np.linspace(-1, 1, 5, dtype=np.float16),
        "numbers": np.array([[1.5, np.nan]]),
        "one": np.array(7),
        "file": np.array([True, False]),
    }
    StepCache(tmp_path / "new" / "cache").put(KEY, arrays)
    found = StepCache(tmp_path / "new" / "cache").get(KEY)
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert StepCache(tmp_path / "new" / "cache").get(cache_key("another step")) is None


def test_later_entry_replaces_the_earlier_and_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    for value in (1, 2):
        cache.put(KEY, {"x": np.array([value])})
    found = cache.get(KEY)
    assert found is not None
    assert found["x"] == 2
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text", "pickle", "bare array", "folder"])
def test_damaged_entry_is_a_miss_and_goes_away(tmp_path: Path, damage: str) -> None:
    cache = StepCache(tmp_path)
    cache.put(KEY, {"x": np.random.default_rng(0).normal(size=5000)})
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"x": 1}))
    elif damage == "bare array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        path.unlink()
        path.mkdir()
    assert cache.get(KEY) is None
    if damage != "folder":
        assert entries(tmp_path) == []
        cache.put(KEY, {"x": np.ones(3)})
        assert cache.get(KEY) is not None


def test_nothing_that_runs_is_stored_or_loaded(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    with pytest.raises(TypeError, match="only numbers"):
        cache.put(KEY, {"x": np.array([{"a": 1}], dtype=object)})
    cache.put(KEY, {"x": np.ones(3)})
    (path,) = entries(tmp_path)
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    assert cache.get(KEY) is None


def test_entries_used_longest_ago_go_first(tmp_path: Path) -> None:
    keys = [cache_key(n) for n in range(4)]
    cache = StepCache(tmp_path, limit_bytes=3 * 8500)
    for n, key in enumerate(keys[:3]):
        cache.put(key, {"x": np.full(1000, n)})
        os.utime(next(path for path in entries(tmp_path) if path.name.startswith(key)), (1000 + n, 1000 + n))
    assert cache.get(keys[0]) is not None  # now the second is the oldest
    cache.put(keys[3], {"x": np.zeros(1000)})
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 3 * 8500


def test_entry_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = StepCache(tmp_path, limit_bytes=1000)
    cache.put(KEY, {"x": np.zeros(1000)})
    assert entries(tmp_path) == []


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x" * 5000)
    cache = StepCache(tmp_path, limit_bytes=1000)
    cache.put(KEY, {"x": np.zeros(10)})
    assert (tmp_path / "letter.txt").exists()
    assert cache.get(KEY) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_only_the_owner_may_look_inside(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    cache = StepCache(folder)
    cache.put(KEY, {"x": np.ones(3)})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in entries(folder))


def test_names_and_contents_hold_no_path_of_the_scan(tmp_path: Path) -> None:
    secret = "doe_john_1970"
    cache = StepCache(tmp_path)
    cache.put(cache_key("bias field", f"/data/{secret}.nii.gz"), {"x": np.ones(3)})
    (path,) = entries(tmp_path)
    assert secret not in path.name
    assert secret.encode() not in path.read_bytes()
    assert zipfile.ZipFile(path).namelist() == ["x.npy"]


def test_folder_that_cannot_be_written_means_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = StepCache(tmp_path / "file" / "cache")
    assert not cache.usable
    cache.put(KEY, {"x": np.ones(3)})
    assert cache.get(KEY) is None
    assert StepCache(tmp_path / "fine").usable


def test_failed_write_leaves_the_old_entry_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = StepCache(tmp_path)
    cache.put(KEY, {"x": np.ones(3)})

    def full_disk(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    cache.put(KEY, {"x": np.zeros(3)})
    monkeypatch.undo()
    found = cache.get(KEY)
    assert found is not None
    assert found["x"].all()
    assert len(entries(tmp_path)) == 1


def test_rests_of_a_killed_program_are_cleared_but_not_files_being_written(tmp_path: Path) -> None:
    old, new = tmp_path / "tmpold.step.part", tmp_path / "tmpnew.step.part"
    foreign = tmp_path / "download.part"
    foreign.write_bytes(b"half")
    os.utime(foreign, (time.time() - 7200,) * 2)
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    StepCache(tmp_path)
    assert not old.exists()
    assert new.exists()
    assert foreign.exists()


def test_readers_never_see_half_an_entry(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    cache.put(KEY, {"x": np.full(20000, 0)})
    stop = threading.Event()

    def write() -> None:
        value = 1
        while not stop.is_set():
            cache.put(KEY, {"x": np.full(20000, value)})
            value += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            found = StepCache(tmp_path).get(KEY)
            assert found is not None
            assert np.ptp(found["x"]) == 0
    finally:
        stop.set()
        writer.join()


def test_key_depends_on_every_part_its_type_and_its_place() -> None:
    different = [("a", "b"), ("ab",), ("b", "a"), ("a", "b", None), (1,), (1.0,), ("1",), (True,), ((1, 2),), (1, 2)]
    assert len({cache_key(*parts) for parts in different}) == len(different)
    assert cache_key("a\nstr 'b'") != cache_key("a", "b")
    assert cache_key("n4", (50, 4), 1e-3) == cache_key("n4", (50, 4), 1e-3)


@pytest.mark.parametrize("key", ["", "../outside", KEY.upper(), KEY + "0"])
def test_what_is_no_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="cache_key"):
        StepCache(tmp_path).get(key)


def test_digest_changes_with_every_voxel_and_every_part_of_the_grid() -> None:
    grid = Grid((3, 4, 5), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    array = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    changed = array.copy()
    changed[1, 2, 3] = np.nextafter(changed[1, 2, 3], np.float32(9))
    turned = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    volumes = [
        Volume(array, grid),
        Volume(changed, grid),
        Volume(array.astype(np.float64), grid),
        Volume(array.reshape(5, 4, 3), Grid((5, 4, 3), grid.spacing)),
        Volume(array, Grid(grid.shape, (1.0, 1.0, 2.5))),
        Volume(array, Grid(grid.shape, grid.spacing, (0.0, 1e-3, 0.0))),
        Volume(array, Grid(grid.shape, grid.spacing, grid.origin, turned)),
    ]
    assert len({volume_digest(volume) for volume in volumes}) == len(volumes)
    fortran = Volume(np.asfortranarray(array), grid)
    assert volume_digest(fortran) == volume_digest(volumes[0])
    whole_numbers = Grid((3, 4, 5), (1, 1, 2), (0, 0, 0))
    assert volume_digest(Volume(array, whole_numbers)) == volume_digest(volumes[0])


def test_default_folder_is_the_users_or_the_named_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "here"))
    assert default_cache_folder() == tmp_path / "here" / "dal-anomaly"
    monkeypatch.delenv("DAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for platform, expected in (
        ("linux", tmp_path / "xdg"),
        ("win32", tmp_path / "local"),
        ("darwin", tmp_path / "home" / "Library" / "Caches"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert default_cache_folder() == expected / "dal-anomaly"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "dal-anomaly"
