"""The order of the house, read from the syntax trees: who may import whom."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "DALAnomalyLib"
COMMAND_LINE = ROOT / "DALAnomalyCLI"
TRAINING = ROOT / "training" / "DALAnomalyTraining"
SLICER_MODULE = ROOT / "DALAnomaly"
SLICER_PACKAGE = "DALAnomalySlicer"

LIBRARY_MAY_IMPORT = {"DALAnomalyLib", "numpy", "scipy", "SimpleITK", "torch"} | sys.stdlib_module_names

# The library's own order: a file or folder imports from lines above its own, a folder's files also from one another.
LAYERS = [
    {"errors", "wording"},
    {"device", "file_names", "memory", "volume", "progress", "edges", "scoring"},
    {"configuration", "resources", "rigid_transform", "volume_io", "findings", "evaluation"},
    {"network", "findings_forest", "calibration", "intensity_alignment"},
    {"preprocessing", "calibration_fit", "scan_figures", "restoration"},
    {"out_of_distribution"},
    {"model_store"},
    {"detector"},
    {"job"},
]

# Synthetic lesions measure a model and make the sample subject; the way from them to training has to stay closed.
MAY_IMPORT_SYNTHETIC_LESIONS = {"validation", "sample_subject"}
SCRIPTS_THAT_MAY_IMPORT_SYNTHETIC_LESIONS = {"synthetic_cases.py"}  # cases to measure a finished model on
WHAT_TRAINING_SEES = {"anatomical_noise", "generator", "losses", "objective", "pack", "prepare"}

DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}

COMMANDS_THAT_NEED_TRAINING_CODE = {"train.py", "prepare.py", "build_atlas.py"}


@dataclass(frozen=True)
class Import:
    """One import: `target` is the dotted path, `names` what is taken from it, `deferred` if inside a function."""

    target: str
    names: tuple[str, ...]
    deferred: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def imports_of(source: str, package: str) -> list[Import]:
    """All imports of a file, nested ones included; relative ones are resolved against the file's package."""
    return list(_walk(ast.parse(source), package, deferred=False))


def _walk(node: ast.AST, package: str, *, deferred: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, (), deferred) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
        target = ".".join(part for part in (base, node.module) if part)
        yield Import(target, tuple(alias.name for alias in node.names), deferred)
    inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, deferred=inside)


def module_name(path: Path, root: Path) -> str:
    relative = path.relative_to(root.parent).with_suffix("")
    return ".".join(relative.parts[:-1] if relative.name == "__init__" else relative.parts)


def file_imports(path: Path, root: Path) -> list[Import]:
    return imports_of(path.read_text(encoding="utf-8"), ".".join(path.relative_to(root.parent).parent.parts))


def sources(root: Path) -> list[Path]:
    found = sorted(root.rglob("*.py"))
    assert found, f"no Python file under {root}"
    return found


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def inner_targets(path: Path, root: Path) -> set[str]:
    """Modules of a package that one of its files imports, as paths below it, e.g. {"errors", "network.blocks"}."""
    targets = set()
    for entry in file_imports(path, root):
        if entry.package != root.name:
            continue
        inner = entry.target.split(".")[1:]
        for name in entry.names or ("",):
            submodule = root.joinpath(*inner, name)
            is_module = bool(name) and (submodule.is_dir() or submodule.with_suffix(".py").is_file())
            targets.add(".".join([*inner, name] if is_module else inner))
    return targets - {""}


def import_graph(root: Path) -> dict[str, set[str]]:
    """Each file of a package, its own __init__ aside, with the package's modules that it imports."""
    files = [path for path in sources(root) if path != root / "__init__.py"]
    return {module_name(path, root).partition(".")[2]: inner_targets(path, root) for path in files}


def layer_of(inner: str) -> int:
    head = inner.partition(".")[0]
    for rank, names in enumerate(LAYERS):
        if head in names:
            return rank
    msg = f"DALAnomalyLib/{head} has no place in LAYERS of {Path(__file__).name}: give it one"
    raise AssertionError(msg)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn as nn", Import("torch.nn", (), False)),
        ("def f():\n    from rich import box", Import("rich", ("box",), True)),
        ("from .blocks import UNet", Import("DALAnomalyLib.network.blocks", ("UNet",), False)),
        ("from ..errors import InputError", Import("DALAnomalyLib.errors", ("InputError",), False)),
        ("from .. import edges", Import("DALAnomalyLib", ("edges",), False)),
        ("if TYPE_CHECKING:\n    import vtk", Import("vtk", (), False)),
        ("class A:\n    import qt", Import("qt", (), False)),
    ],
)
def test_import_reader(source: str, expected: Import) -> None:
    assert imports_of(source, "DALAnomalyLib.network") == [expected]


@pytest.mark.parametrize("path", sources(LIBRARY), ids=label)
def test_library_needs_only_its_four_packages(path: Path) -> None:
    foreign = {entry.package for entry in file_imports(path, LIBRARY)} - LIBRARY_MAY_IMPORT
    assert not foreign, f"{label(path)} imports {sorted(foreign)}"


@pytest.mark.parametrize(("inner", "targets"), import_graph(LIBRARY).items())
def test_library_flows_one_way(inner: str, targets: set[str]) -> None:
    head = inner.partition(".")[0]
    for target in targets:
        same_folder = (LIBRARY / head).is_dir() and target.partition(".")[0] == head
        assert same_folder or layer_of(target) < layer_of(inner), (
            f"{inner} imports {target} from its own layer or above"
        )


def test_library_has_no_import_cycle() -> None:
    TopologicalSorter(import_graph(LIBRARY)).prepare()  # raises CycleError with the cycle


def test_importing_the_library_leaves_torch_out() -> None:
    code = "import sys, DALAnomalyLib; print(sorted({'torch', 'SimpleITK', 'scipy', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_volume_does_not_import_torch() -> None:
    code = "import sys; from DALAnomalyLib import Volume, read_volume, write_volume; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("path", sources(COMMAND_LINE), ids=label)
def test_command_line_reaches_training_only_from_its_training_commands(path: Path) -> None:
    uses = [entry for entry in file_imports(path, COMMAND_LINE) if entry.package == "DALAnomalyTraining"]
    if path.name in COMMANDS_THAT_NEED_TRAINING_CODE:
        uses = [entry for entry in uses if not entry.deferred]
    assert not uses, f"{label(path)} imports {uses}; `detect` has to start without the training extra"


@pytest.mark.parametrize("path", sources(TRAINING), ids=label)
def test_training_knows_neither_command_line_nor_slicer(path: Path) -> None:
    packages = {entry.package for entry in file_imports(path, TRAINING)}
    assert not packages & {"DALAnomalyCLI", "typer", "slicer", "qt", "ctk", "vtk"}


def test_only_validation_and_the_sample_subject_import_synthetic_lesions() -> None:
    graph = import_graph(TRAINING)
    importers = {inner for inner, targets in graph.items() if "synthetic_lesions" in targets}
    assert importers == MAY_IMPORT_SYNTHETIC_LESIONS


def test_of_the_scripts_only_the_one_that_makes_cases_imports_synthetic_lesions() -> None:
    scripts = [path for folder in (TRAINING.parent, COMMAND_LINE) for path in sorted(folder.glob("*.py"))]
    importers = {
        path.name
        for path in scripts
        for entry in imports_of(path.read_text(encoding="utf-8"), "")
        if "synthetic_lesions" in (*entry.target.split("."), *entry.names)
    }
    assert importers == SCRIPTS_THAT_MAY_IMPORT_SYNTHETIC_LESIONS
    named = {entry.target for path in sources(TRAINING) for entry in file_imports(path, TRAINING)}
    assert "synthetic_cases" not in named, "training would reach lesions through the script"


def test_nothing_that_training_sees_reaches_synthetic_lesions() -> None:
    graph = import_graph(TRAINING)
    reached = {inner for inner in graph if inner.partition(".")[0] in WHAT_TRAINING_SEES}
    assert {inner.partition(".")[0] for inner in reached} == WHAT_TRAINING_SEES
    while following := {target for inner in reached for target in graph.get(inner, ())} - reached:
        reached |= following
    assert "synthetic_lesions" not in reached


@pytest.mark.parametrize(("root", "extra"), [(COMMAND_LINE, "cli"), (TRAINING, "train")], ids=["cli", "train"])
def test_every_imported_package_is_declared(root: Path, extra: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"][extra]]
    declared = {re.split(r"[<>=]", requirement)[0] for requirement in requirements}
    imported = {entry.package for path in sources(root) for entry in file_imports(path, root)}
    outside = imported - sys.stdlib_module_names - {"DALAnomalyLib", "DALAnomalyCLI", "DALAnomalyTraining"}
    assert {DISTRIBUTIONS.get(package, package) for package in outside} <= declared


@pytest.mark.parametrize("path", sources(SLICER_MODULE), ids=label)
def test_slicer_module_loads_without_third_party_packages(path: Path) -> None:
    at_file_scope = {entry.package for entry in file_imports(path, SLICER_MODULE) if not entry.deferred}
    known = {"slicer", "qt", "ctk", "vtk", "numpy", "DALAnomalyLib", SLICER_PACKAGE}
    if path.parent.name == "Examples":  # scripts use the module like its users
        known.add(SLICER_MODULE.name)
    assert at_file_scope <= known | sys.stdlib_module_names
