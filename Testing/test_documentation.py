"""What README.md and docs/ say exists: files, commands, options, names of the configuration, configurations."""

import dataclasses
import re
import shlex
import textwrap
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from DALAnomalyCLI.app import app
from DALAnomalyLib.configuration import GridConfig, ModelConfig, NetworkConfig, PreprocessingConfig
from DALAnomalyLib.scoring.score_config import ScoreConfig
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.objective import LossWeights, ObjectiveConfig
from DALAnomalyTraining.training_config import Stage, TrainingConfig, load_training_config

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "Resources" / "Models" / "MODEL_CARD.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), CARD]
SCRIPTS = sorted((ROOT / "training").glob("*.py"))
CONFIGURATIONS = sorted((ROOT / "training" / "configs").glob("*.yaml"))

PROGRAM = "dal-anomaly"
TRAINING_MODULE = "DALAnomalyTraining"
SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "grid": GridConfig,
    "network": NetworkConfig,
    "score": ScoreConfig,
    "preprocessing": PreprocessingConfig,
    "generator": GeneratorConfig,
    "objective": ObjectiveConfig,
    "stages": Stage,
    "weights": LossWeights,
}
"""How the documentation names the parts of the configuration: `score.mean_filter`."""

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|\b(?:src|href)=\"([^\"]+)\"")
DOTTED = re.compile(r"([a-z_]+)((?:\.[a-z_]+)+)(?:: .*| = .*)?")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str | None = None) -> list[str]:
    """The fenced code blocks of a page, or those of one language."""
    return [textwrap.dedent(code) for _, name, code in FENCE.findall(text) if language in (None, name)]


def inline_code(text: str) -> list[str]:
    """What stands between single backticks, line breaks read as spaces."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def links(text: str) -> list[str]:
    """Targets of the links and pictures of a page."""
    prose = re.sub(r"`[^`]+`", "", FENCE.sub("", text))
    return [first or second for first, second in LINK.findall(prose)]


def words_after(program: str, text: str) -> list[list[str]]:
    """The words after every mention of a program as code, continuation lines joined: [["train", "--config", ...]]."""
    lines = [line for code in blocks(text) for line in code.replace("\\\n", " ").splitlines()]
    found = []
    for line in [*lines, *inline_code(text)]:
        words = shlex.split(line.replace("'", ""), comments=True)
        found += [words[place + 1 :] for place, word in enumerate(words) if Path(word).name == program]
    return found


@cache
def commands() -> dict[tuple[str, ...], frozenset[str]]:
    """Every command of the program with its options."""

    def walk(command: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], frozenset[str]]:
        options = {name for parameter in command.params for name in parameter.opts if name.startswith("-")}
        found = {path: frozenset(options | {"--help", "-h"})}
        for name, inner in getattr(command, "commands", {}).items():
            found |= walk(inner, (*path, name))
        return found

    return walk(typer.main.get_command(app), ())


def problem_with(words: list[str]) -> str:
    """What is wrong with the words that follow the program's name; nothing if empty."""
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in commands():
        path, words = (*path, words[0]), words[1:]
    is_group = any(len(other) > len(path) and other[: len(path)] == path for other in commands())
    if is_group and words and not words[0].startswith("-"):
        return f"there is no command '{' '.join((*path, words[0]))}'"
    options = {word.partition("=")[0].strip("[],;") for word in words if re.match(r"\[?--?[a-z]", word)}
    unknown = sorted(options - commands()[path])
    return f"'{' '.join(path)}' has no {', '.join(unknown)}" if unknown else ""


def resolves(section: str, names: list[str]) -> bool:
    """Whether `names` lead from field to field, starting in a section of the configuration."""
    kind: Any = SECTIONS[section]
    for name in names:
        if not dataclasses.is_dataclass(kind) or name not in {item.name for item in dataclasses.fields(kind)}:
            return False
        kind = typing.get_type_hints(kind)[name]
    return True


def configuration_names(text: str) -> list[tuple[str, list[str]]]:
    """Every `section.field` among the inline code of a page; names of files are none."""
    found = []
    for code in inline_code(text):
        match = DOTTED.fullmatch(code)
        if match and match[1] in SECTIONS and f".{match[2].rpartition('.')[2]}" not in (".py", ".pt", ".dalmodel"):
            found.append((match[1], match[2].strip(".").split(".")))
    return found


def test_fields_of_the_sections_are_where_the_documentation_says() -> None:
    kinds = {ModelConfig: "model", GeneratorConfig: "generator", ObjectiveConfig: "objective"}
    hints = typing.get_type_hints(TrainingConfig)
    assert {name for name, kind in hints.items() if kind in kinds} == set(kinds.values())
    assert typing.get_type_hints(Stage)["weights"] is LossWeights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\ndal-anomaly detect a.nii --force\n```", [["detect", "a.nii", "--force"]]),
        ("```\n.venv/bin/dal-anomaly train \\\n  --config c.yaml  # why\n```", [["train", "--config", "c.yaml"]]),
        ("see `dal-anomaly model\ninfo`", [["model", "info"]]),
        ("the dal-anomaly program", []),
    ],
)
def test_reader_of_commands(text: str, expected: list[list[str]]) -> None:
    assert words_after(PROGRAM, text) == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("detect a.nii -o out --device=cpu", ""),
        ("model info --preset paper", ""),
        ("--version", ""),
        ("detect [--force]", ""),
        ("detect --colour", "'detect' has no --colour"),
        ("paint a.nii", "there is no command 'paint'"),
        ("model paint", "there is no command 'model paint'"),
        ("model info --data pack", "'model info' has no --data"),
    ],
)
def test_checker_of_commands(words: str, problem: str) -> None:
    assert problem_with(words.split()) == problem


def test_reader_of_configuration_names() -> None:
    text = "`score.mean_filter: 0`, `model.network.classes`, `model.dalmodel`, `volume_io.py` and `score.colour`"
    found = configuration_names(text)
    assert found == [("score", ["mean_filter"]), ("model", ["network", "classes"]), ("score", ["colour"])]
    assert [resolves(*item) for item in found] == [True, True, False]


def test_reader_of_links() -> None:
    text = '[a](b.md#c) ![d](e.png "f") `[g](h)` <img src="i.png">\n```\n[j](k)\n```\n'
    assert links(text) == ["b.md#c", "e.png", "i.png"]


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = {target.partition("#")[0] for target in links(page.read_text(encoding="utf-8"))}
    relative = {target for target in targets if target and not re.match(r"[a-z]+:", target)}
    assert {target for target in relative if not (page.parent / target).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_and_options_exist(page: Path) -> None:
    mentions = words_after(PROGRAM, page.read_text(encoding="utf-8"))
    assert [problem for words in mentions if (problem := problem_with(words))] == []


@pytest.mark.parametrize("program", [TRAINING_MODULE, *(path.name for path in SCRIPTS)])
def test_options_of_the_training_module_and_scripts_exist(program: str) -> None:
    path = ROOT / "training" / program
    source = (path / "__main__.py" if path.is_dir() else path).read_text(encoding="utf-8")
    known = set(re.findall(r"\"(--?[a-z][a-z-]*)\"", source)) | {"--help", "-h"}
    mentions = [words for page in PAGES for words in words_after(program, page.read_text(encoding="utf-8"))]
    assert {word.strip("[],;") for words in mentions for word in words if re.match(r"\[?--?[a-z]", word)} <= known


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_names_of_the_configuration_exist(page: Path) -> None:
    names = configuration_names(page.read_text(encoding="utf-8"))
    assert [".".join((section, *fields)) for section, fields in names if not resolves(section, fields)] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_examples_of_configurations_load(page: Path, tmp_path: Path) -> None:
    for number, example in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml")):
        path = tmp_path / f"example_{number}.yaml"
        path.write_text(example, encoding="utf-8")
        assert load_training_config(path).steps > 0, example


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=label)
def test_configurations_load(path: Path) -> None:
    assert load_training_config(path).steps > 0


def test_the_model_card_gives_the_figures_of_the_readme() -> None:
    figures = {
        line for line in CARD.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and line.count("|") > 4
    }
    assert len(figures) > 10
    assert figures <= set((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
