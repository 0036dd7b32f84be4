"""How the figures of an evaluation are written, shown in the terminal and drawn."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DALAnomalyCLI.evaluation_measures import BASELINE, Group, Row
from DALAnomalyLib.job.manifest import RESEARCH_USE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType
    from rich.table import Table

_SHOWN = {
    "dataset": "dataset",
    "sequence": "seq",
    "score": "score",
    "cases": "n",
    "average_precision": "AP",
    "best_dice": "Dice",
    "mean_case_best_dice": "/case",
    "dice_at_threshold": "@thr",
    "l1_re_n": "RE_N",
    "l1_re_a": "RE_A",
    "l1_ratio": "ratio",
    "healthy_mean_findings": "FP n",
    "healthy_mean_false_positive_ml": "FP ml",
}
"""Column of a row to its heading in the terminal, where 80 characters must do."""
_SHOWN_PRESETS = {
    "dataset": "dataset",
    "sequence": "seq",
    "preset": "preset",
    "threshold": "thr",
    "healthy_mean_false_positive_ml": "FP ml",
    "healthy_worst_false_positive_ml": "worst",
    "healthy_mean_findings": "FP n",
    "dice": "Dice",
    "best_dice": "best",
    "mean_false_positive_ml": "out ml",
    "lesions_below_1_ml": "<1",
    "lesions_1_to_10_ml": "1-10",
    "lesions_above_10_ml": ">10 ml",
}
"""The same for the rows of presets: healthy scans first, then scans with lesions and how many of them are hit."""
LEGEND = (
    "Dice: at the best single threshold, /case: mean of each case's own best, @thr: at the model's threshold; "
    "RE_N, RE_A: difference to the pseudo-healthy image outside and in lesions; FP: findings in healthy scans"
)
LEGEND_OF_PRESETS = "of presets, best: Dice at the best threshold; out ml: marked outside lesions; then lesions hit"
_SHOWN_LEFT = ("dataset", "sequence", "score", "preset")
_CURVE_COLOURS = ("#0a7d77", "#3b6fb6", "#8a5fb0", "#d1711f")
_MOST_PANELS = 12


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of figures as CSV; what is undefined is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(rows[0])
        table.writerows([_cell(value, "", "{:.6g}") for value in row.values()] for row in rows)


def shown_tables(rows: Sequence[Row], presets: Sequence[Row]) -> RenderableType:
    """The metrics as tables for the terminal; columns that say nothing about these cases are left out.

    Args:
        rows: of the metrics, a group's kinds of score one below the other.
        presets: likewise of the presets; may be none.
    """
    from rich.console import Group as Tables

    metrics = _shown_table(rows, _SHOWN, "score")
    return Tables(metrics, _shown_table(presets, _SHOWN_PRESETS, "preset")) if presets else metrics


def _shown_table(rows: Sequence[Row], headings: Mapping[str, str], first: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    shown = [name for name in headings if any(_cell(row[name], "", "{:.3f}") not in ("", "0") for row in rows)]
    for name in shown:
        table.add_column(headings[name], justify="left" if name in _SHOWN_LEFT else "right", no_wrap=True)
    for number, row in enumerate(rows):
        last = number + 1 == len(rows) or rows[number + 1][first] == rows[0][first]
        cells = [_cell(row[name], "", "{:.4g}" if name == "threshold" else "{:.3f}") for name in shown]
        table.add_row(*cells, end_section=last)
    return table


def _cell(value: str | int | float, undefined: str, number: str) -> str:
    if isinstance(value, float):
        return number.format(value) if math.isfinite(value) else undefined
    return str(value)


def draw_curves(path: Path, groups: Sequence[Group]) -> None:
    """Precision over recall, a panel per group with lesions, the pooled ones last; a dot marks the best Dice.

    Of more than fit, the first are left out, and the figure says so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with_lesions = [group for group in groups if group.curves]
    drawn = with_lesions[-_MOST_PANELS:]
    left_out = len(with_lesions) - len(drawn)
    columns = min(max(len(drawn), 1), 3)
    lines = max(math.ceil(len(drawn) / columns), 1)
    figure = Figure(figsize=(4.6 * columns, 4.2 * lines + 0.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if not drawn:
        figure.text(0.5, 0.5, "no case with a lesion: no curve", ha="center")
    for number, group in enumerate(drawn, start=1):
        axes = figure.add_subplot(lines, columns, number)
        _draw_panel(axes, group)
    remark = f"{left_out} more data sets in metrics.csv. " if left_out else ""
    figure.supxlabel(remark + RESEARCH_USE, fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: Axes, group: Group) -> None:
    for kind, colour in zip(group.curves, _CURVE_COLOURS, strict=False):
        curve = group.curves[kind]
        row = next(row for row in group.rows if row["score"] == kind)
        label = f"{kind}   AP {row['average_precision']:.3f}"
        style: dict[str, Any] = {"linestyle": "--"} if kind == BASELINE else {}
        recall, precision = curve.recall, curve.precision
        axes.plot(recall, precision, color=colour, linewidth=1.6, label=label, **style)
        best = int(np.argmax(2 * precision * recall / (precision + recall)))
        axes.plot(recall[best], precision[best], "o", color=colour, markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"{group.dataset} · {group.sequence}  (n = {group.rows[0]['cases']})", fontsize=11, parse_math=False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="best")
