"""What one case contributes to an evaluation: its scores and labels inside the brain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from DALAnomalyCLI.evaluation_cases import Case, read_inputs
from DALAnomalyCLI.evaluation_presets import PresetOutcome, preset_outcomes
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.evaluation import metrics
from DALAnomalyLib.job.failures import naming
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.progress import CancelToken

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.scoring.score_config import ScoreKind, SignChoice
    from DALAnomalyLib.volume import Volume

Scores: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.bool_]
_LARGEST_SHARE = 0.8
"""More of a brain is no lesion."""


@dataclass(frozen=True, eq=False)
class ScoredVoxels:
    """One kind of score of one case.

    Attributes:
        scores: float32 (N,), the voxels inside the brain mask; of healthy scans none.
        threshold: the model's own for this kind of score.
        findings: how many there are at that threshold.
        false_positive_ml: volume of the findings outside the lesion.
    """

    scores: Scores
    threshold: float
    findings: int
    false_positive_ml: float


@dataclass(frozen=True, eq=False)
class ScoredCase:
    """What the metrics need of one case.

    Attributes:
        case: the row it comes from.
        sequence: as used; the row may say auto.
        labels: bool (N,), the voxels inside the brain mask, true in the lesion; of healthy scans none.
        lesion_ml: volume of the whole lesion mask.
        lesion_outside_brain_ml: volume of its part that no metric sees.
        by_kind: kind of score to its voxels.
        error_normal: mean |x - x_r| over the voxels of the brain mask that are normal, as a fraction of the scan's 99th
            percentile.
        error_abnormal: the same over the lesion; NaN without one.
        warnings: what the detector had to say about the scan.
        presets: what the model's presets show; none if it has no calibration that holds for its score.
    """

    case: Case
    sequence: str
    labels: Labels
    lesion_ml: float
    lesion_outside_brain_ml: float
    by_kind: Mapping[str, ScoredVoxels]
    error_normal: float
    error_abnormal: float
    warnings: tuple[str, ...]
    presets: tuple[PresetOutcome, ...] = ()

    @property
    def has_lesion(self) -> bool:
        """Whether any voxel is labelled, be it outside the brain mask: a lesion that the mask leaves out is missed."""
        return self.lesion_ml > 0


def score_case(
    detector: Detector,
    case: Case,
    sign: str | None,
    cancel: CancelToken,
    preprocessing: PreprocessingOptions,
) -> ScoredCase:
    """Run the network once on a case and keep its scores inside the brain."""
    from DALAnomalyLib.volume_io import read_mask

    inputs = read_inputs(case, cancel)
    scan = inputs.scan
    lesion = None if case.lesion is None else read_mask(case.lesion, scan.grid).array > 0
    if lesion is not None and not lesion.any():
        msg = f"{case.lesion}: has no voxel above 0.5; if the scan is healthy, leave the column lesion empty"
        raise InputError(msg)
    cancel.raise_if_cancelled()
    with naming(case.image):
        detections = detector.detect_all_scores(
            scan,
            case.sequence,
            inputs.brain_mask,
            cast("SignChoice | None", sign),
            cancel=cancel,
            description=inputs.description,
            extraction=preprocessing.extraction_method,
            preprocessing=preprocessing.over(detector.metadata.config.preprocessing),
        )
    first = next(iter(detections.values()))
    brain = first.brain_mask.array > 0
    if lesion is None:
        lesion = np.zeros(brain.shape, dtype=bool)
    share = float(np.mean(lesion[brain]))
    if share > _LARGEST_SHARE:
        msg = f"{case.lesion}: marks {share:.0%} of the brain; name a mask of the lesion, not a scan or a brain mask"
        raise InputError(msg)
    kept = brain if case.lesion is not None else np.zeros_like(brain)  # a cohort of healthy scans would fill memory
    voxel_ml = scan.grid.voxel_volume_ml
    normal, abnormal = _reconstruction_errors(scan, first, brain, lesion)
    return ScoredCase(
        case=case,
        sequence=first.sequence,
        labels=lesion[kept],
        lesion_ml=np.count_nonzero(lesion) * voxel_ml,
        lesion_outside_brain_ml=np.count_nonzero(lesion & ~brain) * voxel_ml,
        by_kind={
            kind: ScoredVoxels(
                scores=detection.score.array[kept].astype(np.float32, copy=False),
                threshold=detection.threshold,
                findings=len(detection.findings),
                false_positive_ml=np.count_nonzero((detection.findings_mask.array > 0) & ~lesion) * voxel_ml,
            )
            for kind, detection in detections.items()
        },
        error_normal=normal,
        error_abnormal=abnormal,
        warnings=detection_warnings(detections.values()),
        presets=_presets(detector, detections, sign, lesion),
    )


def _presets(
    detector: Detector, detections: Mapping[ScoreKind, Detection], sign: str | None, lesion: Labels
) -> tuple[PresetOutcome, ...]:
    """What the presets show in the score that the model itself uses, if they hold for the sign that was asked for."""
    from DALAnomalyLib.calibration import applying

    metadata = detector.metadata
    score = replace(metadata.config.score, sign=cast("SignChoice", sign or metadata.config.score.sign))
    detection = detections[score.kind]
    calibration = applying(metadata.calibration, detection.sequence, score.of_kind(score.kind, detection.sequence))
    if calibration is None:
        return ()
    return preset_outcomes(detection.score, detection.brain_mask, calibration, lesion)


def detection_warnings(detections: Iterable[Detection]) -> tuple[str, ...]:
    """The warnings of several detections of one scan, each once, in order."""
    return tuple(dict.fromkeys(warning for detection in detections for warning in detection.warnings))


def _reconstruction_errors(scan: Volume, detection: Detection, brain: Labels, lesion: Labels) -> tuple[float, float]:
    """Mean |x - x_r| over normal and over lesion voxels of the brain, relative to the scan's 99th percentile there."""
    scale = float(np.percentile(scan.array[brain], 99))
    if scale <= 0:
        return math.nan, math.nan
    image, healthy = scan.array[brain] / scale, detection.pseudo_healthy.array[brain] / scale
    labels = lesion[brain]
    if not labels.any() or labels.all():
        mean = float(np.mean(np.abs(image - healthy), dtype=np.float64))
        return (math.nan, mean) if labels.any() else (mean, math.nan)
    errors = metrics.reconstruction_errors(image, healthy, labels)
    return errors.l1_re_normal, errors.l1_re_abnormal
