"""Threshold, smallest volume and the table of findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.export.findings_csv import csv_text
from DALAnomalySlicer.heatmap_display import show_threshold
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.navigation import jump_to
from DALAnomalySlicer.presets import ThresholdPreset, threshold_presets

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.finding_context import FindingRow
    from DALAnomalySlicer.result_nodes import ResultNodes

_REST_MS = 400
_PRESETS = ("sensitive", "balanced", "specific")
_SYMBOLS = {"": "", "marked": "\N{BLACK STAR}", "dismissed": "\N{MULTIPLICATION SIGN}"}


class FindingsSection:
    """Follows the sliders with the findings of one result."""

    def __init__(self, ui: Any, on_rest: Callable[[], None]) -> None:
        """Connect the section's widgets; it is disabled until there is a result, see `show`.

        Args:
            ui: the widgets by name.
            on_rest: called when the findings changed and the slider has come to rest, for what is slow to follow.
        """
        self._ui = ui
        self._rest = qt.QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.connect("timeout()", on_rest)
        self._nodes: ResultNodes | None = None
        self._result: DetectionResult | None = None
        self._live: LiveFindings | None = None
        self._presets: dict[str, ThresholdPreset] = {}
        ui.thresholdSlider.connect("valueChanged(double)", self._on_threshold)
        ui.minimumVolumeSlider.connect("valueChanged(double)", self._on_minimum_volume)
        for key in _PRESETS:
            self._button(key).connect("clicked()", lambda key=key: self._choose_preset(key))
        ui.resetButton.connect("clicked()", self.reset)
        ui.findingsTable.connect("itemSelectionChanged()", self._on_row_selected)
        ui.previousButton.connect("clicked()", self.previous)
        ui.nextButton.connect("clicked()", self.next)
        ui.markButton.connect("clicked()", lambda: self._toggle("marked"))
        ui.dismissButton.connect("clicked()", lambda: self._toggle("dismissed"))
        ui.copyButton.connect("clicked()", self._copy)
        self._prepare_table()
        self.clear()

    @property
    def live(self) -> LiveFindings | None:
        """The findings as shown, or None."""
        return self._live

    def show(self, nodes: ResultNodes, result: DetectionResult) -> None:
        """Show a result at the threshold that was chosen for it, or at the model's."""
        self._live = None  # setting up the sliders is no choice of the user's
        self._nodes, self._result = nodes, result
        live = LiveFindings(nodes, result)
        self._set_up_sliders(live)
        self._explain_presets()
        self._live = live
        self._choose(live.choice.threshold, live.choice.minimum_volume_ml)
        self._ui.findingsSection.enabled = True

    def clear(self) -> None:
        """There is no result."""
        self._live = self._nodes = self._result = None
        self._ui.findingsSection.enabled = False
        self._ui.presetLabel.text = ""
        self._fill(())

    def reset(self) -> None:
        """Back to what the model recommends."""
        self._choose(self._result.threshold, self._result.minimum_finding_ml)

    def next(self) -> None:
        """Go to the next finding, after the last one to the first."""
        self._step(1)

    def previous(self) -> None:
        """Go to the previous finding, before the first one to the last."""
        self._step(-1)

    def _button(self, key: str) -> Any:
        return getattr(self._ui, f"{key}Button")

    def _set_up_sliders(self, live: LiveFindings) -> None:
        slider = self._ui.thresholdSlider
        slider.decimals = 4 if live.highest < 1 else 2  # first: a range is rounded to them
        slider.minimum, slider.maximum = live.lowest, live.highest
        slider.singleStep = (live.highest - live.lowest) / 500

    def _explain_presets(self) -> None:
        self._presets = {preset.key: preset for preset in threshold_presets(self._result)}
        for key, preset in self._presets.items():
            self._button(key).toolTip = f"{preset.threshold:.4g}: {preset.meaning}"

    def _choose_preset(self, key: str) -> None:
        preset = self._presets[key]
        self._choose(preset.threshold, self._live.choice.minimum_volume_ml)
        self._ui.presetLabel.text = _("{name}: {meaning}.").format(name=preset.name, meaning=preset.meaning)

    def _choose(self, threshold: float, minimum_volume_ml: float) -> None:
        live, self._live = self._live, None  # sliders are silent if they stood there already, and they round
        self._ui.minimumVolumeSlider.value = minimum_volume_ml
        self._ui.thresholdSlider.value = threshold
        self._live = live
        self._follow(threshold, minimum_volume_ml)

    def _on_threshold(self, value: float) -> None:
        if self._live is not None:
            self._follow(value, self._live.choice.minimum_volume_ml)

    def _on_minimum_volume(self, value: float) -> None:
        if self._live is not None:
            self._follow(self._live.choice.threshold, value)

    def _follow(self, threshold: float, minimum_volume_ml: float) -> None:
        """Show the findings at and above the threshold that are not smaller."""
        threshold = max(threshold, self._live.lowest)  # a slider rounds
        recommended = math.isclose(threshold, self._result.threshold, abs_tol=self._ui.thresholdSlider.singleStep / 2)
        self._ui.presetLabel.text = _("Recommended by the model.") if recommended else ""
        try:
            self._live.update(threshold, minimum_volume_ml)
        except DALAnomalyError as error:
            self._ui.presetLabel.text = str(error)
            return
        if self._nodes.heatmap.GetScene() is not None:
            show_threshold(self._nodes.heatmap, threshold)
        self._fill(self._live.rows)
        self._rest.start()

    def _prepare_table(self) -> None:
        table = self._ui.findingsTable
        titles = ("", _("ml"), _("Peak"), _("Mean"), _("Tissue"), _("Side"), _("Size (mm)"))
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(list(titles))
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(len(titles) - 1, qt.QHeaderView.Stretch)

    def _fill(self, rows: Sequence[FindingRow]) -> None:
        table = self._ui.findingsTable
        blocked = table.blockSignals(True)
        table.clearSelection()
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(_texts(row)):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.blockSignals(blocked)
        self._ui.totalsLabel.text = _totals(rows)

    def _selected(self) -> int | None:
        rows = self._ui.findingsTable.selectionModel().selectedRows()
        return rows[0].row() if rows else None

    def _step(self, step: int) -> None:
        count = self._ui.findingsTable.rowCount
        if count:
            selected = self._selected()
            first = 0 if step > 0 else count - 1
            row = first if selected is None else (selected + step) % count
            self._ui.findingsTable.selectRow(row)
            jump_to(self._live.rows[row].centroid_ras)  # also back to the only one, which is selected already

    def _on_row_selected(self) -> None:
        selected = self._selected()
        if selected is not None and self._live is not None:
            jump_to(self._live.rows[selected].centroid_ras)

    def _toggle(self, status: str) -> None:
        selected = self._selected()
        if selected is None or self._live is None:
            return
        row = self._live.rows[selected]
        try:
            self._live.mark(row.number, "" if row.status == status else status)
        except DALAnomalyError as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("Brain MRI Anomaly Detection (DAL)"))
            return
        self._fill(self._live.rows)
        self._ui.findingsTable.selectRow(selected)

    def _copy(self) -> None:
        if self._live is not None:
            slicer.app.clipboard().setText(csv_text(self._live.rows))


def _shown_words() -> dict[str, str]:
    """What the table says for the words of a row, which files keep in English."""
    tissues = {"CSF": _("CSF"), "grey matter": _("GM"), "white matter": _("WM")}
    return tissues | {"left": _("left"), "right": _("right"), "midline": _("midline")}


def _texts(row: FindingRow) -> tuple[str, ...]:
    words = _shown_words()
    extent = " \N{MULTIPLICATION SIGN} ".join(f"{size:.0f}" for size in row.extent_mm)
    return (
        f"{row.number} {_SYMBOLS[row.status]}".rstrip(),
        f"{row.volume_ml:.2f}",
        f"{row.peak:.3g}",
        f"{row.mean:.3g}",
        words.get(row.tissue, row.tissue),
        words.get(row.side, row.side),
        extent,
    )


def _totals(rows: Sequence[FindingRow]) -> str:
    kept = [row for row in rows if row.status != "dismissed"]
    text = _("Findings: {count}, {volume:.1f} ml").format(count=len(kept), volume=sum(row.volume_ml for row in kept))
    dismissed = len(rows) - len(kept)
    return text + (_(", {count} dismissed").format(count=dismissed) if dismissed else "")
