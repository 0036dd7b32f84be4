"""The findings at the threshold of the slider: label map, table rows and marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.findings import Finding
from DALAnomalyLib.findings_forest import FindingsForest
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.chosen_threshold import Choice, choice_of, store_choice
from DALAnomalySlicer.drawn_findings import keep_drawing, remember_shown
from DALAnomalySlicer.finding_context import FindingContext, FindingRow, make_rows, peak_voxels
from DALAnomalySlicer.finding_marks import FindingStatus, read_marks, set_mark
from DALAnomalySlicer.findings_table_node import write_rows
from DALAnomalySlicer.node_roles import scan_of
from DALAnomalySlicer.scan_volume import grid_of
from DALAnomalySlicer.score_range import threshold_limits
from DALAnomalySlicer.segment_labels import holds_image_of, show_changes, write_segments
from DALAnomalySlicer.segment_terms import ANOMALY

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.result_nodes import ResultNodes


class LiveFindings:
    """Findings of one result, quick enough to follow a slider; nodes that the user removes meanwhile are left out.

    Attributes:
        lowest: the lowest threshold that can be asked for.
        highest: no voxel lies above this threshold.
        rows: the findings table, with the user's marks.
        choice: threshold and smallest volume of the last `update`, at first those that were stored or recommended.
    """

    def __init__(self, nodes: ResultNodes, result: DetectionResult, shown: bool = True) -> None:
        """Prepare a result, which takes about a second; nothing is shown before `update`.

        Args:
            nodes: the result's.
            result: what was found.
            shown: whether segmentation, table and the stored choice follow; if not, the scene stays as it is.
        """
        grid = grid_of(nodes.heatmap)
        brain_mask = Volume(result.brain_mask, grid)
        self.lowest, self.highest = threshold_limits(result)
        self.rows: tuple[FindingRow, ...] = ()
        self.choice = choice_of(nodes.heatmap, result)
        self._nodes = nodes
        self._follow = shown
        self._forest = FindingsForest(Volume(result.score, grid), brain_mask, self.lowest)
        self._context = FindingContext(result.tissues, brain_mask)
        self._findings: tuple[Finding, ...] = ()
        self._segment_voxels = np.empty(0, dtype=np.uint8)
        self._shown = np.empty(0, dtype=np.intp)

    @property
    def labels(self) -> Volume:
        """Which finding each voxel belongs to, uint16 (D, H, W), 0 for none; the next `update` overwrites it."""
        return self._forest.labels

    def update(self, threshold: float, minimum_volume_ml: float) -> tuple[Finding, ...]:
        """Find, and show it in the segmentation and the table.

        Args:
            threshold: from `lowest` on.
            minimum_volume_ml: smaller findings are dropped; 0 keeps all.

        Raises:
            UsageError: the threshold is too low, or so low that there are more findings than labels.
        """
        _volume, self._findings = self._forest.findings(threshold, minimum_volume_ml)
        self.choice = Choice(float(threshold), float(minimum_volume_ml))  # NumPy's cannot be stored
        if self._follow:
            self._show_segment()
        self._update_rows()
        if self._follow and _is_in_scene(self._nodes.heatmap):
            store_choice(self._nodes.heatmap, self.choice)
        return self._findings

    def mark(self, number: int, status: FindingStatus) -> None:
        """Mark finding `number` as "marked" or "dismissed", or take its mark away with "".

        Raises:
            InputError: the findings node, which keeps the marks, was removed.
        """
        if not _is_in_scene(self._nodes.findings):
            msg = _("The findings segmentation was removed, so marks cannot be saved; detect anomalies again.")
            raise InputError(msg)
        peaks = peak_voxels(self._findings, self._forest.voxels, self.labels.grid)
        set_mark(self._nodes.findings, peaks[number - 1], status)
        self._update_rows()

    def _show_segment(self) -> None:
        node = self._nodes.findings
        if not _is_in_scene(node):
            return
        if not holds_image_of(node, ANOMALY, self._segment_voxels):
            self._take_over_segment()
        voxels = self._segment_voxels.reshape(-1)
        voxels[self._shown] = 0
        self._shown = self._forest.voxels.index
        voxels[self._shown] = ANOMALY.value
        remember_shown(node, self._shown)
        show_changes(node, ANOMALY)

    def _take_over_segment(self) -> None:
        """Give the segment an empty label map of the whole grid: at first, after reopening, and after a user's edit."""
        scan = scan_of(self._nodes.heatmap) or self._nodes.heatmap
        keep_drawing(self._nodes.findings, scan, scan)
        empty = np.zeros(self.labels.grid.shape, dtype=np.uint8)
        self._segment_voxels = write_segments(self._nodes.findings, empty, (ANOMALY,), scan)
        self._shown = np.empty(0, dtype=np.intp)

    def _update_rows(self) -> None:
        voxels, count = self._forest.voxels, len(self._findings)
        marks = read_marks(self._nodes.findings) if _is_in_scene(self._nodes.findings) else {}
        statuses = [marks.get(peak, "") for peak in peak_voxels(self._findings, voxels, self.labels.grid)]
        tissues, sides = self._context.tissues(voxels, count), self._context.sides(voxels, count)
        self.rows = make_rows(self._findings, tissues, sides, statuses)
        if self._follow and _is_in_scene(self._nodes.table):
            write_rows(self._nodes.table, self.rows)


def _is_in_scene(node: slicer.vtkMRMLNode | None) -> bool:
    return node is not None and node.GetScene() is not None
