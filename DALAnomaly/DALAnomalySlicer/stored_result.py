"""A result read back from its nodes, as after reopening a saved scene."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
        InputError: a node that is needed was removed, or holds nothing, as where its file is gone.
    """
    from DALAnomalySlicer.detection_result import DetectionResult

    _check_present(nodes)
    summary = json.loads(nodes.heatmap.GetAttribute(_SUMMARY))
    result = DetectionResult(
        score=slicer.util.arrayFromVolume(nodes.heatmap),
        pseudo_healthy=slicer.util.arrayFromVolume(nodes.pseudo_healthy),
        tissues=read_segments(nodes.tissues, TISSUES, nodes.heatmap),
        edges=read_segments(nodes.edges, (EDGES,), nodes.heatmap),
        brain_mask=read_segments(nodes.brain_mask, (BRAIN,), nodes.heatmap),
        uncertainty=slicer.util.arrayFromVolume(nodes.uncertainty) if _has_image(nodes.uncertainty) else None,
        manifest=_manifest(nodes.manifest),
        **{**summary, "warnings": tuple(summary["warnings"])},
    )
    if result.score.any():  # then there was a brain
        _refuse([name for name in ("tissues", "brain_mask") if not getattr(result, name).any()])
    return result


def _has_image(node: slicer.vtkMRMLScalarVolumeNode | None) -> bool:
    return node is not None and node.GetImageData() is not None


def _manifest(node: slicer.vtkMRMLTextNode | None) -> dict[str, Any]:
    """What the text says; nothing where it is empty, as where its file is gone."""
    try:
        return dict(json.loads(node.GetText())) if node is not None else {}
    except (TypeError, ValueError):
        return {}


def _check_present(nodes: ResultNodes) -> None:
    _refuse([name for name in _NEEDED if getattr(nodes, name) is None])
    _refuse([name for name in ("heatmap", "pseudo_healthy") if not _has_image(getattr(nodes, name))])
    _refuse(["heatmap"] if nodes.heatmap.GetAttribute(_SUMMARY) is None else [])


def _refuse(missing: list[str]) -> None:
    if missing:
        msg = _("The stored result lacks {missing}; detect anomalies in this scan again.")
        raise InputError(msg.format(missing=", ".join(name.replace("_", " ") for name in missing)))
