"""The repository's files, and what its CMake lists say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "DALAnomaly"

_GLOB = re.compile(r"file\(GLOB_RECURSE \w+ CONFIGURE_DEPENDS RELATIVE \$\{CMAKE_CURRENT_SOURCE_DIR\}([^)]*)\)")


def repository_files() -> list[Path]:
    """Every file that is in git or would be with `git add --all`."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the sources is not a git repository")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def below(*folders: str, suffix: str = "") -> set[str]:
    """Paths of the repository's files in some folders, relative to the root; placeholders of empty folders left out."""
    names = {path.relative_to(ROOT).as_posix() for path in repository_files() if path.name != ".gitkeep"}
    return {name for name in names if name.startswith(folders) and name.endswith(suffix)}


def cmake_field(name: str) -> str:
    """The value of a field of the extension in the top-level CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = re.findall(rf'^set\({name} "([^"]*)"\)$', text, flags=re.MULTILINE)
    assert len(values) == 1, f"{name} must be set once, to one quoted string"
    return str(values[0])


def listed_by_cmake(folder: Path) -> set[str]:
    """Paths, relative to the folder, of the files that the CMakeLists.txt there installs."""
    patterns = " ".join(_GLOB.findall((folder / "CMakeLists.txt").read_text(encoding="utf-8"))).split()
    assert patterns, f"{folder}/CMakeLists.txt lists nothing"
    found = set()
    for pattern in patterns:
        parent, _, name = pattern.rpartition("/")
        found |= {path.relative_to(folder).as_posix() for path in (folder / parent).rglob(name) if path.is_file()}
    return found
