"""Made-up calibrations for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from DALAnomalyLib.calibration import PRESETS, CalibratedPreset, SequenceCalibration
from DALAnomalyLib.configuration import PreprocessingConfig, preset

if TYPE_CHECKING:
    from DALAnomalyLib.model_store import Model


def made_up_calibration(
    thresholds: tuple[float, float, float] = (0.02, 0.03, 0.06), sequence: str = "T2", name: str = "tiny", **more: Any
) -> SequenceCalibration:
    """What fits the scores of the preset model `name`."""
    config = preset(name)
    presets = {
        key: CalibratedPreset(
            target, threshold, (0.9 * threshold, 1.1 * threshold), target, (0.5 * target, 2.0), 0.75, 1.1 * target
        )
        for key, target, threshold in zip(PRESETS, (5.0, 1.0, 0.1), thresholds, strict=True)
    }
    values: dict[str, Any] = {
        "source": "twelve made-up scans",
        "scans": 12,
        "score": config.score.for_sequence(sequence),
        "minimum_finding_ml": config.minimum_finding_ml,
        "preprocessing": PreprocessingConfig(skip=("brain_extraction", "n4", "registration")),
        "presets": presets,
    }
    return SequenceCalibration(**{**values, **more})


def calibrated(model: Model, **calibration: SequenceCalibration) -> Model:
    """A model with calibrations of its sequences: `calibrated(model, T2=...)`."""
    return replace(model, metadata=replace(model.metadata, calibration=calibration))
