"""The repository as a whole: what the wheel holds, how large it may be, and that its files agree with one another."""

import re

import pytest
import yaml

import DALAnomalyLib
from Testing.repository import ROOT, below, repository_files

ONLY_FOR_SLICER = ("Resources/Icons/", "Resources/Screenshots/", "Resources/UI/")
MEGABYTE = 1_000_000


def test_wheel_carries_every_resource() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    setuptools_table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = [pattern for patterns in setuptools_table["data-files"].values() for pattern in patterns]
    matched = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    assert below("Resources/") - below(*ONLY_FOR_SLICER) <= matched


def test_no_file_is_too_large_for_git() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    assert {name: size for name, size in sizes.items() if size > 12 * MEGABYTE} == {}


def test_models_fit_their_budget() -> None:
    assert sum((ROOT / name).stat().st_size for name in below("Resources/Models/")) <= 12 * MEGABYTE


def test_versions_agree() -> None:
    version = DALAnomalyLib.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == version
    assert re.findall(r"^## \[(\d\S*)\]", changelog, flags=re.MULTILINE)[0] == version
    assert 'version = { attr = "DALAnomalyLib.__version__" }' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_constraints_pin_every_declared_dependency() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = dict(
        line.lower().split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    names = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in declared}
    assert names <= pinned.keys()
    assert next(iter(pinned)) == "torch"
