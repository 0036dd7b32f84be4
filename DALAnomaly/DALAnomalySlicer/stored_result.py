"""A result read back from its nodes, as after reopening a saved scene."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer.segment_labels import read_segments
from DALAnomalySlicer.segment_terms import BRAIN, EDGES, TISSUES

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.result_nodes import ResultNodes

_SUMMARY = "DALAnomaly.summary"
_SUMMARY_FIELDS = ("sequence", "sequence_evidence", "threshold", "minimum_finding_ml", "warnings")
_NEEDED = ("heatmap", "pseudo_healthy", "tissues", "edges", "brain_mask")


def store_summary(heatmap: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult) -> None:
    """Keep with the heatmap what no other node says about the result."""
    summary = {name: getattr(result, name) for name in _SUMMARY_FIELDS}
    heatmap.SetAttribute(_SUMMARY, json.dumps(summary))


def read_stored_result(nodes: ResultNodes) -> DetectionResult:
    """The result that `update_results` turned into these nodes.

    Raises:
        InputError: the user has removed a node that is needed.
    """
    from DALAnomalySlicer.detection_result import DetectionResult

    _check_present(nodes)
    summary = json.loads(nodes.heatmap.GetAttribute(_SUMMARY))
    return DetectionResult(
        score=slicer.util.arrayFromVolume(nodes.heatmap),
        pseudo_healthy=slicer.util.arrayFromVolume(nodes.pseudo_healthy),
        tissues=read_segments(nodes.tissues, TISSUES, nodes.heatmap),
        edges=read_segments(nodes.edges, (EDGES,), nodes.heatmap),
        brain_mask=read_segments(nodes.brain_mask, (BRAIN,), nodes.heatmap),
        uncertainty=None if nodes.uncertainty is None else slicer.util.arrayFromVolume(nodes.uncertainty),
        manifest=json.loads(nodes.manifest.GetText()) if nodes.manifest else {},
        **{**summary, "warnings": tuple(summary["warnings"])},
    )


def _check_present(nodes: ResultNodes) -> None:
    missing = [name.replace("_", " ") for name in _NEEDED if getattr(nodes, name) is None]
    if missing or nodes.heatmap.GetImageData() is None or nodes.heatmap.GetAttribute(_SUMMARY) is None:
        msg = _("The stored result lacks {missing}; detect anomalies in this scan again.")
        raise InputError(msg.format(missing=", ".join(missing) or _("its heatmap")))
