"""The tables of the README's "How good is it?", from folders that `dal-anomaly evaluate` wrote.

    python training/result_tables.py evaluation evaluation_further evaluation_generated

Lesions of data sets whose name begins with "synthetic" count as generated. Commands for the folders: README.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from DALAnomalyCLI.evaluation_presets import LESION_SIZES
from DALAnomalyLib.calibration import PRESETS

Row: TypeAlias = dict[str, str]

IN_WORDS = {"ms": "multiple sclerosis"}
SEQUENCES = ("T2", "T1")
GENERATED = "synthetic"


def tables(folders: Sequence[Path]) -> str:
    """All four tables, in Markdown."""
    scores, presets = (
        [row for folder in folders for row in _read(folder / name)] for name in ("metrics.csv", "presets.csv")
    )
    return "\n\n".join([_detection(scores), _healthy(presets), _found(presets), _outside(presets)])


def _detection(scores: Sequence[Row]) -> str:
    """How well lesions are told from what is healthy, beside the image's own intensities."""
    rows = []
    for dataset, sequence in _groups(scores, "cases"):
        own, plain = (
            next(row for row in scores if (row["dataset"], row["sequence"], row["score"]) == (dataset, sequence, kind))
            for kind in ("hybrid", "intensity")
        )
        figures = [_share(own[column]) for column in ("average_precision", "best_dice", "dice_at_threshold")]
        compared = " / ".join(_share(plain[column]) for column in ("average_precision", "best_dice"))
        rows.append([_label(dataset, sequence), own["cases"], *figures, compared])
    head = ["", "n", "AP pooled", "best Dice pooled", "Dice at Balanced", "plain intensity, same filters (AP / Dice)"]
    return _markdown(head, rows)


def _healthy(presets: Sequence[Row]) -> str:
    """What is found where there is nothing to find."""
    rows = []
    for dataset, sequence in _groups(presets, "healthy_cases"):
        at = _at_presets(presets, dataset, sequence)
        figures = [
            f"{_short(row['healthy_mean_findings'])} / {_short(row['healthy_mean_false_positive_ml'])}" for row in at
        ]
        rows.append([_label(dataset, sequence), at[0]["healthy_cases"], *figures])
    return _markdown(["healthy scans: findings / false-positive ml per scan", "n", *_titles()], rows)


def _found(presets: Sequence[Row]) -> str:
    """How many lesions of each size are hit."""
    rows = []
    for kind, generated in (("", False), ("generated, ", True)):
        lesioned = [row for row in presets if _is_generated(row) == generated and row["dataset"] != "all"]
        for size in reversed(LESION_SIZES):
            column = f"lesions_{size}"
            figures = [
                ", ".join(
                    _summed(row[column] for row in lesioned if (row["preset"], row["sequence"]) == (preset, sequence))
                    for sequence in SEQUENCES
                )
                for preset in PRESETS
            ]
            rows.append([f"{kind}{size.replace('_', ' ')}", *figures])
    return _markdown([f"lesions found (any overlap), {' and '.join(SEQUENCES)}", *_titles()], rows)


def _outside(presets: Sequence[Row]) -> str:
    """What is marked in patients beside their lesions."""
    rows = []
    for dataset, sequence in _groups(presets, "cases"):
        at = _at_presets(presets, dataset, sequence)
        figures = [_short(row["mean_false_positive_ml"]) for row in at]
        rows.append([_label(dataset, sequence), at[0]["cases"], *figures])
    return _markdown(["patients: ml marked outside their lesions per scan", "n", *_titles()], rows)


def _read(path: Path) -> list[Row]:
    if not path.exists():
        sys.exit(f"{path} does not exist; name folders that `dal-anomaly evaluate` wrote with a calibrated model")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _groups(rows: Iterable[Row], counted: str) -> list[tuple[str, str]]:
    """Real data sets and sequences with scans of the column `counted`, in the order of the files but for sequences."""
    named = [(row["dataset"], row["sequence"]) for row in rows if int(row[counted]) and not _is_generated(row)]
    datasets = list(dict.fromkeys(dataset for dataset, _ in named if dataset != "all"))
    return [(dataset, sequence) for dataset in datasets for sequence in SEQUENCES if (dataset, sequence) in named]


def _is_generated(row: Row) -> bool:
    return row["dataset"].startswith(GENERATED)


def _at_presets(presets: Sequence[Row], dataset: str, sequence: str) -> list[Row]:
    found = {row["preset"]: row for row in presets if (row["dataset"], row["sequence"]) == (dataset, sequence)}
    return [found[preset] for preset in PRESETS]


def _label(dataset: str, sequence: str) -> str:
    return f"{IN_WORDS.get(dataset, dataset)} {sequence}"


def _titles() -> list[str]:
    return [preset.title() for preset in PRESETS]


def _summed(ratios: Iterable[str]) -> str:
    """`5 of 9` for `3/7` and `2/2`."""
    pairs = [tuple(map(int, ratio.split("/"))) for ratio in ratios if ratio]
    return f"{sum(hit for hit, _ in pairs)} of {sum(lesions for _, lesions in pairs)}"


def _share(figure: str) -> str:
    return f"{float(figure):.3f}".removeprefix("0")


def _short(figure: str) -> str:
    """Two digits, as `.02`, `.33`, `7.0` and `33`; whole numbers from ten on."""
    value = float(figure)
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return "0" if value == 0 else f"{value:.{digits}f}".removeprefix("0")


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *others = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, *rows))
    return "\n".join([first, f"|{'---|' * len(head)}", *others])


def main() -> None:
    """Print the tables for the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    print(tables(parser.parse_args().folders))


if __name__ == "__main__":
    main()
