"""The score in pictures: clear below the threshold, above it in the colours of the heatmap in the slice views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from DALAnomalySlicer.export.anatomical_planes import FloatImage
from DALAnomalySlicer.score_range import colour_maximum

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult

_OPACITY = 0.75
_SOFT_EDGE = 0.12
"""Share of the threshold below it over which the colours appear, so that voxels do not show as steps."""


@dataclass(frozen=True)
class ScoreColours:
    """Colours between 0 and `top`.

    Attributes:
        threshold: score at and above which voxels belong to findings.
        top: score of the brightest colour.
    """

    threshold: float
    top: float

    @classmethod
    def of(cls, result: DetectionResult, threshold: float) -> ScoreColours:
        """Those of the slice views, with room above a threshold that the user raised."""
        return cls(threshold, max(colour_maximum(result), 1.5 * threshold))

    def over(self, grey: FloatImage, scores: FloatImage) -> FloatImage:
        """Lay the score over a picture: float32 (height, width, 3) from (height, width, 3) and (height, width)."""
        opacity = self._opacity(scores)[..., None]
        return (grey * (1 - opacity) + self._colour(scores) * opacity).astype(np.float32)

    def _opacity(self, scores: FloatImage) -> FloatImage:
        share = (scores / self.threshold - (1 - _SOFT_EDGE)) / _SOFT_EDGE
        return _OPACITY * np.clip(share, 0, 1)

    def _colour(self, scores: FloatImage) -> FloatImage:
        from DALAnomalySlicer.colour_tables import HEAT  # which knows 3D Slicer

        table = HEAT.colours()
        return table[np.clip(scores / self.top * len(table), 0, len(table) - 1).astype(int)]
