"""From a raw scan to what the network takes: the whole of section 4.1.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from DALAnomalyLib.configuration import GridConfig, PreprocessingConfig
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.preprocessing.appearance import LEAST_OVERLAP, look_at
from DALAnomalyLib.preprocessing.chain import PlacedScan, ScanRequest, place_scan
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.intensity_standardisation import (
    IntensityMap,
    Landmarks,
    fixed_scaling,
    intensity_map,
)
from DALAnomalyLib.preprocessing.model_grid import (
    atlas_window_for,
    brain_fraction_inside,
    model_grid_for,
    to_model_grid,
)
from DALAnomalyLib.preprocessing.sequence import (
    AUTOMATIC,
    SequenceDecision,
    SequenceGuess,
    check_sequence,
    decide_sequence,
    guess_sequence,
    likely_sequence,
)
from DALAnomalyLib.preprocessing.steps import StepLog, StepRecord
from DALAnomalyLib.volume import Grid, Volume

Array: TypeAlias = npt.NDArray[np.float32]

WHOLE_BRAIN = 0.97
"""Share of the brain that must lie on the model grid for no warning."""


@dataclass(frozen=True, eq=False)
class Standard:
    """What a model expects of its input."""

    grid: GridConfig
    landmarks: Mapping[str, Landmarks]
    """Standard intensity scales by sequence."""
    templates: Mapping[str, Tensor]
    """Mean images by sequence, float32 (D, H, W) on the model grid."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan as the network sees it, and what is needed to go back."""

    image: Tensor
    """Float32 (1, 1, D, H, W) in [0, 1], 0 outside the brain."""
    raw: Tensor
    """The same before standardisation, in the scan's own units."""
    brain: Tensor
    """Float32 (1, 1, D, H, W), 0 or 1."""
    grid: Grid
    """The model grid, in atlas space where the scan could be registered."""
    placed: PlacedScan
    intensities: IntensityMap
    sequence: str
    sequence_evidence: str
    warnings: tuple[str, ...]
    steps: tuple[StepRecord, ...]

    @property
    def brain_mask(self) -> Volume:
        """uint8, on the scan's own grid."""
        return self.placed.as_read(self.placed.brain.array)


def prepare_scan(
    request: ScanRequest,
    standard: Standard,
    config: PreprocessingConfig,
    equipment: Equipment,
    device: torch.device,
    log: StepLog | None = None,
) -> PreparedScan:
    """Bring a scan to the model grid and the standard scale.

    Args:
        request: The scan and what is known about it.
        standard: Grid, landmarks and mean images of the model.
        config: Which steps are skipped, and how the others work.
        equipment: Atlas, brain extraction network, cache.
        device: Where the tensors should be.
        log: Progress, cancellation; receives records and warnings.

    Raises:
        UsageError: The sequence is unknown.
        InputError: There is no brain, or the scan is neither T1 nor T2.
        GeometryError: The mask lies on another grid.
        CancelledError: The log's token was turned on.
    """
    log = log or StepLog(config.skip)
    check_sequence(request.sequence, standard.landmarks)
    if request.sequence == AUTOMATIC and log.skips("sequence"):
        msg = (
            f"without the step 'sequence' the sequence must be named; this model knows {', '.join(standard.landmarks)}"
        )
        raise UsageError(msg)

    def likely(volume: Volume, brain: Volume) -> str:
        known = likely_sequence(request.sequence, request.description)
        if known is not None:
            return known
        grid = model_grid_for(brain, standard.grid.shape, standard.grid.spacing)
        return _guess(*to_model_grid(volume, brain, grid), standard).name

    placed = place_scan(request, likely, config, equipment, log)
    with log.step("crop") as record:
        grid = _model_grid(placed, standard, config, equipment, log)
        log.cancel.raise_if_cancelled()
        array, inside = to_model_grid(placed.moved, placed.moved_brain, grid)
        log.cancel.raise_if_cancelled()
        share = brain_fraction_inside(placed.moved_brain, grid)
        if share == 0:
            msg = "the brain lies outside the model grid; leave in the step 'crop', which places the grid around it"
            raise InputError(msg)
        if not inside.any():
            msg = "the brain is too small to appear on the model grid; check the brain mask and the scan's voxel size"
            raise InputError(msg)
        record.parameters = {
            "shape_kji": list(grid.shape),
            "spacing_mm": list(grid.spacing),
            "origin": list(grid.origin),
        }
        if share < WHOLE_BRAIN:
            log.warn(f"only {share:.0%} of the brain fits the model grid; the rest gets no score")
    with log.step("sequence") as record:
        decision = _decide(request, placed, array, inside, standard, equipment, log)
        record.parameters, record.evidence = {"sequence": decision.name}, decision.evidence
    raw, brain = (torch.from_numpy(item.astype(np.float32)).to(device)[None, None] for item in (array, inside))
    with log.step("standardisation") as record:
        scale = None if log.skips("standardisation") else standard.landmarks[decision.name]
        intensities = _intensities(raw, brain, scale)
        record.parameters = _intensity_parameters(intensities)
    return PreparedScan(
        image=intensities.to_standard(raw).clamp(0, 1) * brain,
        raw=raw,
        brain=brain,
        grid=grid,
        placed=placed,
        intensities=intensities,
        sequence=decision.name,
        sequence_evidence=decision.evidence,
        warnings=tuple(log.warnings),
        steps=tuple(log.records),
    )


def without_anomalies(prepared: PreparedScan, anomalous: Tensor, landmarks: Landmarks | None) -> PreparedScan:
    """Standardise again, with intensities measured outside `anomalous`.

    A large bright lesion shifts the percentiles of the whole brain, and with them the grey values of healthy tissue. At
    least half of the brain is kept, or a warning says that nothing was done.

    Args:
        prepared: the scan.
        anomalous: bool (1, 1, D, H, W).
        landmarks: the standard scale; None where standardisation by landmarks is skipped.
    """
    healthy = prepared.brain * ~anomalous
    if healthy.sum() < 0.5 * prepared.brain.sum():
        warning = "more than half of the brain seems anomalous, so intensities were not standardised again without it"
        return replace(prepared, warnings=(*prepared.warnings, warning))
    intensities = _intensities(prepared.raw, healthy, landmarks)
    image = intensities.to_standard(prepared.raw).clamp(0, 1) * prepared.brain
    steps = tuple(
        replace(step, parameters=_intensity_parameters(intensities)) if step.name == "standardisation" else step
        for step in prepared.steps
    )
    return replace(prepared, image=image, intensities=intensities, steps=steps)


def _intensities(raw: Tensor, brain: Tensor, landmarks: Landmarks | None) -> IntensityMap:
    return fixed_scaling(raw, brain) if landmarks is None else intensity_map(raw, brain, landmarks)


def _intensity_parameters(intensities: IntensityMap) -> dict[str, Any]:
    return {"scan": intensities.scan.tolist(), "standard": intensities.standard.tolist()}


def _guess(array: Array, inside: npt.NDArray[np.uint8], standard: Standard) -> SequenceGuess:
    return guess_sequence(array, inside, {name: image.cpu().numpy() for name, image in standard.templates.items()})


def _decide(
    request: ScanRequest,
    placed: PlacedScan,
    array: Array,
    inside: npt.NDArray[np.uint8],
    standard: Standard,
    equipment: Equipment,
    log: StepLog,
) -> SequenceDecision:
    if log.skips("sequence"):
        return SequenceDecision(request.sequence, "as told", ())
    guess = _guess(array, inside, standard)
    registered = not log.skips("registration")
    appearance = None
    if placed.in_atlas or not registered:
        appearance = look_at(placed.moved, placed.moved_brain, equipment.atlas())
        if not registered and (appearance.overlap < LEAST_OVERLAP or appearance.kind == "unknown"):
            appearance = None  # it was said to lie there, but may not
    decision = decide_sequence(request.sequence, standard.landmarks, request.description, appearance, guess, registered)
    for warning in decision.warnings:
        log.warn(warning)
    return decision


def _model_grid(
    placed: PlacedScan, standard: Standard, config: PreprocessingConfig, equipment: Equipment, log: StepLog
) -> Grid:
    """Where the network looks: around the brain, or at the atlas' fixed place."""
    shape, spacing = standard.grid.shape, standard.grid.spacing
    if log.skips("crop"):
        return model_grid_for(equipment.atlas().brain_mask, shape, spacing)
    if config.window == "atlas" and placed.in_atlas:
        return atlas_window_for(placed.moved_brain, equipment.atlas().brain_mask, shape, spacing)
    return model_grid_for(placed.moved_brain, shape, spacing)
