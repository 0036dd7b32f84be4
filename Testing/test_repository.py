"""The repository as a whole: what gets installed, how large it may be, and that its files agree with one another."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

import DALAnomalyLib

ROOT = Path(__file__).resolve().parents[1]
RESOURCE_KINDS = ("Atlas", "Icons", "Models", "SampleData")
MEGABYTE = 1_000_000


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
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = re.findall(rf'^set\({name} "([^"]*)"\)$', text, flags=re.MULTILINE)
    assert len(values) == 1, f"{name} must be set once, to one quoted string"
    return str(values[0])


def globbed_by_cmake(folder: Path) -> set[str]:
    """Paths, relative to the root, that the file(GLOB_RECURSE ...) lists of one CMakeLists.txt match."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    blocks = re.findall(
        r"file\(GLOB_RECURSE \w+ CONFIGURE_DEPENDS RELATIVE \$\{CMAKE_CURRENT_SOURCE_DIR\}([^)]*)\)", text
    )
    assert blocks
    found = set()
    for pattern in " ".join(blocks).split():
        parent, _, name = pattern.rpartition("/")
        found |= {path.relative_to(ROOT).as_posix() for path in (folder / parent).rglob(name) if path.is_file()}
    return found


def test_cmake_lists_every_script_and_resource() -> None:
    expected = below("DALAnomalyLib/", suffix=".py") | below(*(f"Resources/{kind}/" for kind in RESOURCE_KINDS))
    assert expected <= globbed_by_cmake(ROOT)
    assert below("DALAnomaly/", suffix=".py") <= globbed_by_cmake(ROOT / "DALAnomaly")


def test_every_resource_folder_is_known() -> None:
    assert {name.split("/")[1] for name in below("Resources/")} <= set(RESOURCE_KINDS)


def test_wheel_carries_every_resource() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    setuptools_table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = [pattern for patterns in setuptools_table["data-files"].values() for pattern in patterns]
    matched = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    wanted = below("Resources/") - below("Resources/Icons/")  # the icon is for 3D Slicer alone
    assert wanted <= matched


STAND_IN_FOR_SLICER = """
    set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
    set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
    set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
    set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
    set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
    macro(ctkMacroCompilePythonScript)
      cmake_parse_arguments(
        MY "NO_INSTALL_SUBDIR" "TARGET_NAME;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
      foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
        get_filename_component(folder ${file} DIRECTORY)
        install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/${file} DESTINATION ${MY_INSTALL_DIR}/${folder})
      endforeach()
    endmacro()
    macro(slicerMacroBuildScriptedModule)
      cmake_parse_arguments(SCRIPTED "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
      ctkMacroCompilePythonScript(
        TARGET_NAME ${SCRIPTED_NAME} SCRIPTS "${SCRIPTED_SCRIPTS}" RESOURCES "${SCRIPTED_RESOURCES}"
        DESTINATION_DIR unused INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR} NO_INSTALL_SUBDIR)
    endmacro()
"""


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("cc")), reason="needs CMake and a C compiler")
def test_extension_installs_a_library_that_finds_its_resources(tmp_path: Path) -> None:
    slicer = tmp_path / "slicer"
    slicer.mkdir()
    (slicer / "SlicerConfig.cmake").write_text(textwrap.dedent(STAND_IN_FOR_SLICER), encoding="utf-8")
    for name in ("use.cmake", "nothing.cmake"):
        (slicer / name).touch()

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DSlicer_DIR={slicer}")
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "installed")

    folder = tmp_path / "installed" / "lib" / "qt-scripted-modules"
    installed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    resources = below(*(f"Resources/{kind}/" for kind in RESOURCE_KINDS))
    assert installed >= below("DALAnomalyLib/", suffix=".py") | resources | {"DALAnomaly.py"}
    code = "import DALAnomalyLib.resources as r; print(r.__file__); print(r._resource_roots().__next__())"
    assert run(sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}").splitlines() == [
        str(folder / "DALAnomalyLib" / "resources.py"),
        str(folder / "Resources"),
    ]


@pytest.mark.parametrize("field", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_addresses_of_the_extension_name_pictures_of_this_repository(field: str) -> None:
    raw = (
        cmake_field("EXTENSION_HOMEPAGE").replace("https://github.com/", "https://raw.githubusercontent.com/")
        + "/main/"
    )
    urls = cmake_field(field).split()
    assert urls
    for url in urls:
        assert url.startswith(raw)
        picture = ROOT / url.removeprefix(raw)
        assert picture.is_file(), f"{field} names {url.removeprefix(raw)}, which is not there; try `make figures`"
        assert picture.read_bytes().startswith(b"\x89PNG")


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
