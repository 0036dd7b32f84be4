"""The entry for Slicer's Extensions Index: what its own checks ask for, as far as that needs no network.

Not checked here, since it is not in the repository: that the addresses answer, and the topic `3d-slicer-extension`.
"""

import json
import re
import subprocess
from typing import Any

import pytest
from PIL import Image

from Testing.repository import ROOT, cmake_field, listed_by_cmake, repository_files

NAME = "DALAnomaly"
ENTRY_FILE = ROOT / f"{NAME}.json"

# slicer-extension-catalog-entry-schema-v1.0.1.json of Slicer; no further keys are allowed.
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
REQUIRED = {"$schema", "category", "scm_url"}
TYPES: dict[str, type] = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
ALLOWED_VALUES: dict[str, tuple[object, ...]] = {"scm_type": ("git", "local"), "tier": (1, 3, 5)}

LICENCE_FILES = ("LICENSE", "LICENCE", "License.txt", "license.txt", "LICENSE.txt", "COPYING", "COPYING.txt")
FIELDS = (
    "EXTENSION_HOMEPAGE",
    "EXTENSION_CONTRIBUTORS",
    "EXTENSION_DESCRIPTION",
    "EXTENSION_ICONURL",
    "EXTENSION_SCREENSHOTURLS",
    "EXTENSION_DEPENDS",
)
MEGABYTE = 1_000_000
LARGEST_CLONE = 100 * MEGABYTE  # with history


def entry() -> dict[str, Any]:
    return dict(json.loads(ENTRY_FILE.read_text(encoding="utf-8")))


def problems(entry: dict[str, Any]) -> list[str]:
    """How an entry breaks the schema."""
    found = [f"{key} is missing" for key in sorted(REQUIRED - entry.keys())]
    for key, value in entry.items():
        if key not in TYPES:
            found.append(f"{key} is unknown")
        elif type(value) is not TYPES[key]:
            found.append(f"{key} is no {TYPES[key].__name__}")
        elif value not in ALLOWED_VALUES.get(key, (value,)):
            found.append(f"{key} may not be {value}")
    found += [f"{name} is no str" for name in entry.get("build_dependencies", ()) if type(name) is not str]
    return found


def pictures(field: str) -> list[str]:
    """Paths in this repository of the pictures that a field of the extension names."""
    raw = cmake_field("EXTENSION_HOMEPAGE").replace("https://github.com/", "https://raw.githubusercontent.com/")
    base = f"{raw}/{entry()['scm_revision']}/"
    urls = cmake_field(field).split()
    assert urls
    assert [url for url in urls if not url.startswith(base)] == []
    return [url.removeprefix(base) for url in urls]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tier": 2}, "tier may not be 2"),
        ({"tier": True}, "tier is no int"),
        ({"scmurl": "https://example.org"}, "scmurl is unknown"),
        ({"build_dependencies": "PyTorch"}, "build_dependencies is no list"),
        ({"build_dependencies": [1]}, "1 is no str"),
        ({"scm_type": "svn"}, "scm_type may not be svn"),
    ],
)
def test_checker_of_entries(change: dict[str, Any], problem: str) -> None:
    assert problem in problems({**entry(), **change})


def test_checker_of_entries_misses_nothing() -> None:
    assert problems({}) == ["$schema is missing", "category is missing", "scm_url is missing"]


def test_entry_follows_the_schema() -> None:
    assert entry()["$schema"] == SCHEMA
    assert problems(entry()) == []


def test_entry_has_the_line_endings_of_the_index() -> None:
    assert b"\r" not in ENTRY_FILE.read_bytes()


def test_entry_says_what_the_extension_is() -> None:
    assert entry()["category"] == cmake_field("EXTENSION_CATEGORY") == "Neuroimaging"
    assert entry()["build_dependencies"] == cmake_field("EXTENSION_DEPENDS").split() == ["PyTorch"]


def test_tier_is_experimental_while_nobody_has_run_it_in_slicer() -> None:
    layers = (ROOT / "docs" / "slicer_module.md").read_text(encoding="utf-8")
    assert "has not been run" in layers
    assert entry()["tier"] == 1


def test_names_agree() -> None:
    project = re.findall(r"^project\((\w+)\)$", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert project == [NAME]
    assert not NAME.lower().startswith("slicer")
    assert f"{NAME}.py" in listed_by_cmake(ROOT / NAME)


def test_repository_has_a_name_that_the_index_accepts() -> None:
    """It holds "Slicer", or what it names is of use without Slicer: the library and the command line."""
    repository = entry()["scm_url"].rpartition("/")[2].removesuffix(".git")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "slicer" in repository.lower() or "[project.scripts]" in project


def test_address_of_the_repository() -> None:
    assert re.fullmatch(r"(https|git)://[\w.]+/\S+\.git", entry()["scm_url"])
    assert entry()["scm_url"].removesuffix(".git") == cmake_field("EXTENSION_HOMEPAGE")


@pytest.mark.parametrize("field", FIELDS)
def test_fields_are_single_quoted_strings_that_say_something(field: str) -> None:
    assert cmake_field(field).strip()


def test_description_is_one_or_two_sentences() -> None:
    assert 1 <= len(re.findall(r"\.(?: |$)", cmake_field("EXTENSION_DESCRIPTION"))) <= 2


def test_icon_is_a_square_picture() -> None:
    (icon,) = pictures("EXTENSION_ICONURL")
    with Image.open(ROOT / icon) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (128, 128))


def test_screenshots_are_pictures() -> None:
    for screenshot in pictures("EXTENSION_SCREENSHOTURLS"):
        with Image.open(ROOT / screenshot) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) >= 256


def test_licence_lies_at_the_root_and_is_named_on_the_homepage() -> None:
    assert any((ROOT / name).is_file() for name in LICENCE_FILES)
    assert "Apache-2.0" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_homepage_has_what_reviewers_look_for() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for needed in (NAME, "![", "docs/tutorial.md", "Medical Image Analysis", "Brain MRI Anomaly Detection (DAL)"):
        assert needed in readme


def test_clone_with_history_is_small_enough() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the sources is not a git repository")
    # every object once: this repository may hold some twice, packed and loose, which a clone of it does not
    command = ["git", "rev-list", "--disk-usage", "--objects", "--all", "HEAD"]
    history = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert history + sum(path.stat().st_size for path in repository_files()) < LARGEST_CLONE
