"""At which threshold a result is looked at, kept with its heatmap: each result of a scene has its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult

_CHOICE = "DALAnomaly.choice"


@dataclass(frozen=True)
class Choice:
    """Score at and above which voxels belong to findings, and the volume below which findings are dropped."""

    threshold: float
    minimum_volume_ml: float


def choice_of(heatmap: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult) -> Choice:
    """What was chosen last for the result of this heatmap; the model's recommendation if nothing was."""
    stored = heatmap.GetAttribute(_CHOICE)
    return Choice(result.threshold, result.minimum_finding_ml) if stored is None else Choice(**json.loads(stored))


def store_choice(heatmap: slicer.vtkMRMLScalarVolumeNode, choice: Choice | None) -> None:
    """Keep it with the heatmap, also in a saved scene; None goes back to the model's recommendation."""
    heatmap.SetAttribute(_CHOICE, None if choice is None else json.dumps(asdict(choice)))
