"""The README's tables, from files with the columns that `dal-anomaly evaluate` gives them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import result_tables

from DALAnomalyCLI.evaluation_preset_table import preset_rows
from DALAnomalyCLI.evaluation_presets import PresetOutcome
from DALAnomalyLib.calibration import PRESETS


def seen(preset: str, findings: int, false_ml: float, lesions: tuple[int, ...], hit: tuple[int, ...]) -> PresetOutcome:
    return PresetOutcome(preset, 0.1, findings, false_ml, 5, 8, 10, lesions, hit)


def case(*outcomes: PresetOutcome) -> Any:
    return SimpleNamespace(has_lesion=any(outcomes[0].lesions), presets=outcomes)


def patient(false_ml: float, lesions: tuple[int, ...]) -> Any:
    """Sensitive hits all lesions, Balanced the largest size alone and Specific none."""
    hits = (lesions, (0, 0, lesions[2]), (0, 0, 0))
    return case(*(seen(name, 3, false_ml, lesions, hit) for name, hit in zip(PRESETS, hits, strict=True)))


def healthy(false_ml: float) -> Any:
    return case(*(seen(name, int(false_ml > 0), false_ml, (0, 0, 0), (0, 0, 0)) for name in PRESETS))


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scores(dataset: str, cases: int) -> list[dict[str, Any]]:
    kinds = {"hybrid": 0.8904, "l1": 0.7, "intensity": 0.5318}
    return [
        {
            "dataset": dataset,
            "sequence": "T2",
            "score": kind,
            "cases": cases,
            "average_precision": ap if cases else "",
            "best_dice": 0.5,
            "dice_at_threshold": 0.45,
        }
        for kind, ap in kinds.items()
    ]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    real, generated = tmp_path / "evaluation", tmp_path / "generated"
    write(real, "metrics.csv", [row for name, n in (("ms", 2), ("well", 0), ("all", 2)) for row in scores(name, n)])
    write(generated, "metrics.csv", scores("synthetic plaques", 1))
    patients, people = [patient(33.4, (4, 2, 1)), patient(0.04, (1, 0, 0))], [healthy(0.66), healthy(0.0)]
    groups = {"ms": patients, "well": people, "all": [*patients, *people]}
    write(real, "presets.csv", [row for name, cases in groups.items() for row in preset_rows(name, "T2", cases, 0.5)])
    write(generated, "presets.csv", preset_rows("synthetic plaques", "T2", [patient(7.0, (9, 3, 2))], 0.5))
    return real, generated


def test_tables_hold_every_figure_where_it_belongs(folders: tuple[Path, Path]) -> None:
    detection, found_nothing, found, outside = result_tables.tables(folders).split("\n\n")
    assert detection.splitlines()[2:] == ["| multiple sclerosis T2 | 2 | .890 | .500 | .450 | .532 / .500 |"]
    assert found_nothing.splitlines()[2:] == ["| well T2 | 2 | .50 / .33 | .50 / .33 | .50 / .33 |"]
    assert found.splitlines() == [
        "| lesions found (any overlap), T2 and T1 | Sensitive | Balanced | Specific |",
        "|---|---|---|---|",
        "| above 10 ml | 1 of 1, 0 of 0 | 1 of 1, 0 of 0 | 0 of 1, 0 of 0 |",
        "| 1 to 10 ml | 2 of 2, 0 of 0 | 0 of 2, 0 of 0 | 0 of 2, 0 of 0 |",
        "| below 1 ml | 5 of 5, 0 of 0 | 0 of 5, 0 of 0 | 0 of 5, 0 of 0 |",
        "| generated, above 10 ml | 2 of 2, 0 of 0 | 2 of 2, 0 of 0 | 0 of 2, 0 of 0 |",
        "| generated, 1 to 10 ml | 3 of 3, 0 of 0 | 0 of 3, 0 of 0 | 0 of 3, 0 of 0 |",
        "| generated, below 1 ml | 9 of 9, 0 of 0 | 0 of 9, 0 of 0 | 0 of 9, 0 of 0 |",
    ]
    assert outside.splitlines()[2:] == ["| multiple sclerosis T2 | 2 | 17 | 17 | 17 |"]


def test_a_folder_without_presets_is_told(folders: tuple[Path, Path]) -> None:
    (folders[1] / "presets.csv").unlink()
    with pytest.raises(SystemExit, match=r"presets\.csv does not exist.*calibrated model"):
        result_tables.tables(folders)


@pytest.mark.parametrize(
    ("figure", "shown"), [("0", "0"), ("0.0196", ".02"), ("0.3312", ".33"), ("7.0176", "7.0"), ("79.7", "80")]
)
def test_figures_have_two_digits(figure: str, shown: str) -> None:
    assert result_tables._short(figure) == shown
