"""The extension as 3D Slicer installs it: all files are listed for CMake, and found from where they are then."""

import json
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
import run_in_slicer

from Testing.repository import MODULE, ROOT, below, listed_by_cmake

RESOURCE_KINDS = ("Atlas", "Icons", "Models", "SampleData", "UI")
NOT_INSTALLED = {"Screenshots"}  # they belong to the documentation

needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("cc")), reason="needs CMake and a C compiler"
)

# What Slicer's macros do with the lists: files keep their place below the destination, tests are registered.
STAND_IN_FOR_SLICER = """
    set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
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
    macro(slicer_add_python_test)
      cmake_parse_arguments(TEST "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS;SCRIPT_ARGS" ${ARGN})
      file(APPEND ${CMAKE_BINARY_DIR}/tests.txt
        "${TEST_TESTNAME_PREFIX};${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT};${TEST_SCRIPT_ARGS}\\n")
    endmacro()
    macro(slicer_add_python_unittest)
      slicer_add_python_test(${ARGN})
    endmacro()
"""

# Run without the site packages' own search paths: an editable installation would find the library in the source tree.
PROBE = """
    import json, sys
    site_packages, standin, module = sys.argv[1:]
    sys.path += [*site_packages.split("\\n"), standin]
    import slicer_standin
    slicer_standin.start()
    import slicer
    loaded = slicer_standin.load_module(module)
    loaded.widgetRepresentation().enter()
    import DALAnomalyLib
    from DALAnomalyLib.resources import resource_file
    from DALAnomalySlicer import module_resources, panel, python_environment, sample_scans
    print(json.dumps({
        "library": DALAnomalyLib.__file__,
        "worker": str(python_environment.library_folder()),
        "package": panel.__file__,
        "model": str(resource_file("Models", "default.dalmodel")),
        "atlas": str(resource_file("Atlas", "atlas.json")),
        "ui": str(module_resources.resource("UI/DALAnomaly.ui")),
        "icon": str(module_resources.resource("Icons/DALAnomaly.png")),
        "icon is shown": not loaded.icon.isNull(),
        "sample": sample_scans.load_sample("T1").GetImageData().GetNumberOfPoints(),
        "errors": slicer_standin.take_slot_errors(),
    }))
    slicer_standin.unload_module("DALAnomaly")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Slicer would make: exactly what the CMake lists name, in a place with a space."""
    target = tmp_path_factory.mktemp("Slicer 5.12") / "lib" / "qt-scripted-modules"
    for folder in (ROOT, MODULE):
        for name in listed_by_cmake(folder):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target / name)
    return target


def probe(module: Path, folder: Path) -> dict[str, object]:
    """What is found where once the module is loaded from `module`."""
    site_packages = "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    command = [sys.executable, "-S", "-c", textwrap.dedent(PROBE), site_packages, str(ROOT / "Testing"), str(module)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def expected_from(module: Path, root: Path) -> dict[str, object]:
    """Everything in its place: the module's folder, and the one that library and resources lie in."""
    return {
        "library": str(root / "DALAnomalyLib" / "__init__.py"),
        "worker": str(root),
        "package": str(module / "DALAnomalySlicer" / "panel.py"),
        "model": str(root / "Resources" / "Models" / "default.dalmodel"),
        "atlas": str(root / "Resources" / "Atlas" / "atlas.json"),
        "ui": str(root / "Resources" / "UI" / "DALAnomaly.ui"),
        "icon": str(root / "Resources" / "Icons" / "DALAnomaly.png"),
        "icon is shown": True,
        "sample": 104 * 128 * 104,
        "errors": [],
    }


def test_cmake_lists_every_script_and_resource() -> None:
    needed = below("DALAnomalyLib/", suffix=".py") | below(*(f"Resources/{kind}/" for kind in RESOURCE_KINDS))
    assert needed <= listed_by_cmake(ROOT)
    scripts = {name.removeprefix("DALAnomaly/") for name in below("DALAnomaly/", suffix=".py")}
    assert scripts <= listed_by_cmake(MODULE)


def test_nothing_else_is_installed() -> None:
    listed = listed_by_cmake(ROOT) | {f"DALAnomaly/{name}" for name in listed_by_cmake(MODULE)}
    assert listed <= below("DALAnomaly/", "DALAnomalyLib/", "Resources/")
    assert {name.split("/")[1] for name in below("Resources/")} - NOT_INSTALLED == set(RESOURCE_KINDS)


def test_the_installed_module_finds_all_that_it_needs(installed: Path, tmp_path: Path) -> None:
    assert probe(installed / "DALAnomaly.py", tmp_path) == expected_from(installed, installed)


def test_the_module_in_a_source_tree_finds_all_that_it_needs(tmp_path: Path) -> None:
    assert probe(MODULE / "DALAnomaly.py", tmp_path) == expected_from(MODULE, ROOT)


def cmake(*arguments: object) -> None:
    command = ["cmake", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of the extension, configured by CMake."""
    folder = tmp_path_factory.mktemp("build")
    slicer = folder / "Slicer"
    slicer.mkdir()
    (slicer / "SlicerConfig.cmake").write_text(textwrap.dedent(STAND_IN_FOR_SLICER), encoding="utf-8")
    (slicer / "nothing.cmake").touch()
    cmake("-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={slicer}", "-DBUILD_TESTING=ON")
    return folder / "build"


@needs_cmake
def test_cmake_installs_what_its_lists_are_read_as(build: Path, installed: Path, tmp_path: Path) -> None:
    cmake("--install", build, "--prefix", tmp_path)
    by_cmake = {
        path.relative_to(tmp_path / "lib/qt-scripted-modules") for path in tmp_path.rglob("*") if path.is_file()
    }
    assert by_cmake == {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}


@needs_cmake
def test_ctest_runs_every_test_that_can_run_in_slicer(build: Path) -> None:
    registered = {tuple(line.split(";")) for line in (build / "tests.txt").read_text(encoding="utf-8").splitlines()}
    marked = [file for file in run_in_slicer.TESTS.glob("test_*.py") if run_in_slicer.is_marked(file)]
    assert marked
    expected = {(f"{file.stem}_", str(ROOT / "Testing" / "run_in_slicer.py"), file.name) for file in marked}
    assert registered == expected | {("", str(MODULE / "DALAnomaly.py"), "")}
