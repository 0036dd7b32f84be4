"""What a run has in hand when the detection is done and nothing is written yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.volume import Volume


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a detection came to, before it is written.

    Attributes:
        scan: the input as it was read.
        detection: what was found in it, on the same grid.
        detector: what found it.
    """

    scan: Volume
    detection: Detection
    detector: Detector
