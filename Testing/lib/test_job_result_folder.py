from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

import pytest

from DALAnomalyLib.errors import OutputError
from DALAnomalyLib.job import result_folder as module
from DALAnomalyLib.job.result_folder import is_free, refuse_existing, result_folder, writing, writing_into

NAMES = ("a.txt", "b.txt")


def write_result(final: Path, text: str = "new", force: bool = False, more: str = "") -> None:
    with result_folder(final, NAMES, force) as folder:
        (folder / "a.txt").write_text(text)
        if more:
            (folder / "b.txt").write_text(more)


def write_half(final: Path, force: bool = False) -> None:
    with result_folder(final, NAMES, force) as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError("boom")


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("refused", range(6))
def test_older_result_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """Two files leave, the folder where they wait gets its name, two come, and the older ones are let go."""
    final = tmp_path / "out"
    write_result(final, "old", more="old")
    replace, calls = Path.replace, iter(range(100))

    def sometimes(path: Path, target: Path) -> Path:
        if next(calls) == refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", sometimes)
    with pytest.raises(OutputError, match="cannot be written"):
        write_result(final, "new", more="new", force=True)
    assert [(final / name).read_text() for name in entries(final)] == ["old", "old"]


def test_a_lock_file_that_its_last_holder_removed_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run opens the lock file, the other ends and removes it, the first locks what nobody else would open."""
    lock = module._try_lock

    def too_late(handle: IO[str]) -> bool:
        Path(handle.name).unlink()
        return lock(handle)

    monkeypatch.setattr(module, "_try_lock", too_late)
    with pytest.raises(OutputError, match="another run is writing this result"):
        write_result(tmp_path / "out")
    assert entries(tmp_path) == []


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"lat\\udce4: the name .* is not valid UTF-8; rename it"):
        write_result(tmp_path / "lat\udce4")
    assert entries(tmp_path) == []


def test_result_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "made" / "on the way" / "out"
    with result_folder(final, NAMES) as folder:
        (folder / "a.txt").write_text("new")
        assert folder.parent == final, "on one file system, so that files need only be renamed"
        assert all(name.startswith(".") for name in entries(final))
    assert entries(final) == ["a.txt"]
    assert entries(final.parent) == ["out"]


def test_the_last_name_appears_last_and_leaves_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path, more="old")
    replace, seen = Path.replace, []

    def watched(path: Path, target: Path) -> Path:
        seen.append((path.parent == tmp_path, path.name))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_result(tmp_path, more="new", force=True)
    files = [(leaves, name) for leaves, name in seen if name in NAMES]
    assert files == [(True, "b.txt"), (True, "a.txt"), (False, "a.txt"), (False, "b.txt")]


@pytest.mark.skipif(os.name == "nt", reason="permission bits are POSIX")
@pytest.mark.parametrize("force", [False, True])
def test_folder_that_was_there_stays_the_same_one(tmp_path: Path, force: bool) -> None:
    """A private folder stays private, a mounted one is not moved, and who stands in it sees the result."""
    final = tmp_path / "out"
    final.mkdir(mode=0o700)
    if force:
        write_result(final, "old")
    before = final.stat()
    write_result(final, "new", force=force)
    after = final.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_nothing_is_made_beside_a_folder_that_was_there(tmp_path: Path) -> None:
    """What it lies in may be somebody else's, where nothing can be made."""
    (tmp_path / "out").mkdir()
    os.utime(tmp_path, ns=(0, 0))
    write_result(tmp_path / "out")
    assert tmp_path.stat().st_mtime_ns == 0
    assert entries(tmp_path / "out") == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="permission bits are POSIX")
def test_result_folder_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_result(tmp_path / "out")
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_failure_leaves_nothing_behind_not_even_the_folders_made_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        write_half(tmp_path / "x" / "y" / "out")
    assert entries(tmp_path) == []


def test_failure_keeps_the_folders_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(KeyboardInterrupt), result_folder(tmp_path / "x" / "out", NAMES):
        raise KeyboardInterrupt
    assert entries(tmp_path) == ["x"]
    assert entries(tmp_path / "x") == []


def test_older_result_is_kept_without_force(tmp_path: Path) -> None:
    final = tmp_path / "out"
    write_result(final, "old")
    with pytest.raises(OutputError, match="--force"):
        write_result(final)
    assert (final / "a.txt").read_text() == "old"
    assert entries(tmp_path) == ["out"]


def test_force_replaces_the_whole_result(tmp_path: Path) -> None:
    final = tmp_path / "out"
    write_result(final, "old")
    (final / "b.txt").write_text("only in the old one")
    write_result(final, "new", force=True)
    assert entries(final) == ["a.txt"]
    assert (final / "a.txt").read_text() == "new"
    assert entries(tmp_path) == ["out"]


def test_force_keeps_the_older_result_when_the_new_one_fails(tmp_path: Path) -> None:
    final = tmp_path / "out"
    write_result(final, "old")
    with pytest.raises(RuntimeError, match="boom"):
        write_half(final, force=True)
    assert (final / "a.txt").read_text() == "old"
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_folder_with_the_users_own_files_is_never_replaced(tmp_path: Path, force: bool) -> None:
    final = tmp_path / "out"
    write_result(final, "old")
    (final / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.docx"):
        write_result(final, force=force)
    assert entries(final) == ["a.txt", "thesis.docx"]


def test_empty_folder_is_free_and_what_file_managers_leave_does_not_count(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / ".DS_Store").write_text("")
    write_result(final)
    assert entries(final) == [".DS_Store", "a.txt"]


def test_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write_result(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert entries(tmp_path / "disk") == ["a.txt"]


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        refuse_existing(tmp_path / "out", NAMES, force=True)


def test_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_result(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "disk is full"), (errno.EROFS, "cannot be written")],
)
def test_what_the_file_system_refuses_becomes_one_line(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError, match=words) as caught, writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(caught.value)


def test_folder_for_long_work_is_made_first_and_goes_again_if_nothing_came(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"below: cannot be written"), writing_into(tmp_path / "file" / "below"):
        pytest.fail("the work must not begin")
    with pytest.raises(ZeroDivisionError), writing_into(tmp_path / "new"):
        1 // len(entries(tmp_path / "new"))  # is there, and empty
    with writing_into(tmp_path / "kept"):
        (tmp_path / "kept" / "a.txt").write_text("")
    assert entries(tmp_path) == ["file", "kept"]


def test_two_runs_cannot_write_one_result(tmp_path: Path) -> None:
    with result_folder(tmp_path / "out", NAMES) as folder:
        (folder / "a.txt").write_text("first")
        with pytest.raises(OutputError, match="another run"):
            write_result(tmp_path / "out", "second")
        assert (folder / "a.txt").exists(), "the second run must not clean up what the first is writing"
    assert (tmp_path / "out" / "a.txt").read_text() == "first"
    assert entries(tmp_path) == ["out"]


def run_and_kill(final: Path, renames: int | None, names: tuple[str, ...] = NAMES) -> None:
    """Write a result in another process that kills itself, after so many renames or, if None, while writing."""
    code = f"""
        import os, signal
        from pathlib import Path
        from DALAnomalyLib.job import result_folder as outputs

        def die(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

        replace, calls = Path.replace, iter(range(100))
        def counted(self, target):
            if next(calls) == {renames!r}:
                die()
            return replace(self, target)
        Path.replace = counted
        with outputs.result_folder(Path({str(final)!r}), {names!r}, force=True) as folder:
            (folder / "a.txt").write_text("new")
            if {renames is None}:
                die()
            (folder / "b.txt").write_text("new")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == (-signal.SIGKILL if renames is None or renames < RENAMES else 0)


RENAMES = 6
"""Two files leave, their folder gets its name, two come, and that folder goes."""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_run_leaves_no_result_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    final = tmp_path / "out"
    run_and_kill(final, None)
    assert entries(final)
    assert all(name.startswith(".") for name in entries(final))
    write_result(final)
    assert entries(final) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("renames", [None, *range(RENAMES)])
def test_older_result_comes_back_wherever_a_run_was_killed(tmp_path: Path, renames: int | None) -> None:
    final = tmp_path / "out"
    write_result(final, "old", more="old")
    run_and_kill(final, renames)
    with pytest.raises(OutputError, match="--force"):
        write_result(final)
    assert [(name, (final / name).read_text()) for name in entries(final)] == [("a.txt", "old"), ("b.txt", "old")]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("renames", [1, 4])
def test_a_run_that_is_killed_while_it_brings_the_older_result_back_loses_nothing(tmp_path: Path, renames: int) -> None:
    final = tmp_path / "out"
    write_result(final, "old", more="old")
    run_and_kill(final, renames)
    run_and_kill(final, 1)  # of its renames, the first of which bring back
    with pytest.raises(OutputError, match="--force"):
        write_result(final)
    assert [(name, (final / name).read_text()) for name in entries(final)] == [("a.txt", "old"), ("b.txt", "old")]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("names", [NAMES, ()])
def test_what_a_killed_run_had_moved_goes_whoever_cleans_up(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Its first file is there, its second not: that is no result, not even to a command with other files."""
    final = tmp_path / "out"
    run_and_kill(final, 2, names)
    assert (final / "a.txt").exists() != (final / "b.txt").exists(), "or this test proves nothing"
    with result_folder(final, ("other.txt",)) as folder:
        (folder / "other.txt").write_text("other")
    assert entries(final) == ["other.txt"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_another_command_brings_back_what_is_not_its_own(tmp_path: Path) -> None:
    final = tmp_path / "out"
    write_result(final, "old", more="old")
    run_and_kill(final, 4)
    with pytest.raises(OutputError, match="no result of this command"), result_folder(final, ("other.txt",), True):
        pytest.fail("the older result is in the way")
    assert [(name, (final / name).read_text()) for name in entries(final)] == [("a.txt", "old"), ("b.txt", "old")]


@pytest.mark.parametrize("force", [False, True])
def test_what_came_into_the_folder_meanwhile_is_kept(tmp_path: Path, force: bool) -> None:
    name = "thesis.docx" if force else "a.txt"

    def write_while_somebody_saves() -> None:
        with result_folder(tmp_path, NAMES, force) as folder:
            (folder / "a.txt").write_text("new")
            (tmp_path / name).write_text("years of work")

    with pytest.raises(OutputError):
        write_while_somebody_saves()
    assert [(one, (tmp_path / one).read_text()) for one in entries(tmp_path)] == [(name, "years of work")]


def test_what_file_managers_put_into_the_hidden_folder_stays_there(tmp_path: Path) -> None:
    (tmp_path / "Thumbs.db").write_text("the user's")
    with result_folder(tmp_path, NAMES) as folder:
        (folder / "a.txt").write_text("new")
        (folder / "Thumbs.db").write_text("of overview.png")
    assert (tmp_path / "Thumbs.db").read_text() == "the user's"
    assert entries(tmp_path) == ["Thumbs.db", "a.txt"]


def test_a_folder_is_free_without_a_result(tmp_path: Path) -> None:
    assert is_free(tmp_path / "missing")
    (tmp_path / "out" / ".dal-anomaly-0123").mkdir(parents=True)
    (tmp_path / "out" / ".DS_Store").write_text("")
    assert is_free(tmp_path / "out")
    (tmp_path / "out" / "a.txt").write_text("")
    assert not is_free(tmp_path / "out")
    assert not is_free(tmp_path / "out" / "a.txt")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_whole_run_needs_the_renames_that_these_tests_know(tmp_path: Path) -> None:
    write_result(tmp_path / "out", "old", more="old")
    run_and_kill(tmp_path / "out", RENAMES)
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
