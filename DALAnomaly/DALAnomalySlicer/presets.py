"""Thresholds to begin with, from sensitive to specific."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from DALAnomalySlicer.score_range import brain_scores, threshold_limits

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult

_PERCENTILES = {"sensitive": 95.0, "balanced": 98.0, "specific": 99.5}


@dataclass(frozen=True)
class ThresholdPreset:
    """A threshold with a name.

    Attributes:
        key: "sensitive", "balanced" or "specific".
        name: what the user reads.
        threshold: in units of the score.
        meaning: what the user can expect of it, in a few words.
    """

    key: str
    name: str
    threshold: float
    meaning: str


def threshold_presets(result: DetectionResult) -> tuple[ThresholdPreset, ...]:
    """Sensitive, balanced and specific threshold of a result.

    From the model's calibration on healthy scans, if the manifest's model has one: `calibration`, by sequence and
    preset, with `threshold`, `false_positive_ml` and `false_positives_per_scan`, and `about` what they were measured
    on. A manifest has it only if it holds for the run's kind of score and sign. Without it, thresholds that a fixed
    share of this brain exceeds, which says nothing about how many findings are false; their meaning says so.
    """
    calibration = result.manifest.get("model", {}).get("calibration", {}).get(result.sequence)
    return _from_percentiles(result) if calibration is None else _from_calibration(calibration)


def _from_calibration(calibration: Mapping[str, Mapping[str, Any]]) -> tuple[ThresholdPreset, ...]:
    reservations = _reservations(calibration.get("about", {}))
    return tuple(
        ThresholdPreset(key, name, entry["threshold"], _cost(entry) + reservations)
        for key, name in _names().items()
        for entry in [calibration[key]]
    )


def _cost(entry: Mapping[str, Any]) -> str:
    volume, count = _rounded(entry["false_positive_ml"]), _rounded(entry["false_positives_per_scan"])
    return _("about {volume} ml false per healthy scan ({count} findings)").format(volume=volume, count=count)


def _rounded(value: float) -> str:
    # 0.04 ml must not read as nothing
    return f"{value:.1f}" if value >= 0.1 or value == 0 else f"{value:.1g}"


def _reservations(about: Mapping[str, Any]) -> str:
    """Why the figures may be off for this run: few scans, or preprocessing that was another one."""
    texts = []
    if about.get("warnings"):
        texts.append(_("measured on {scans} scans, with reservations").format(scans=about["scans"]))
    if not about.get("same_preprocessing", True):
        texts.append(_("measured with other preprocessing"))
    return "".join(f"; {text}" for text in texts)


def _from_percentiles(result: DetectionResult) -> tuple[ThresholdPreset, ...]:
    scores = brain_scores(result)
    lowest, highest = threshold_limits(result)
    meaning = _("highest {share:g} % of this brain, not calibrated on healthy scans")
    presets = []
    for key, name in _names().items():
        percentile = _PERCENTILES[key]
        threshold = float(np.percentile(scores, percentile)) if scores.size else lowest
        within = min(max(threshold, lowest), highest)
        presets.append(ThresholdPreset(key, name, within, meaning.format(share=100 - percentile)))
    return tuple(presets)


def _names() -> dict[str, str]:
    return {"sensitive": _("Sensitive"), "balanced": _("Balanced"), "specific": _("Specific")}
