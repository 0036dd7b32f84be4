"""From a scan to what the network takes: brain mask, model grid, sequence, standard intensities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.intensity_standardisation import IntensityMap, Landmarks, intensity_map
from DALAnomalyLib.preprocessing.model_grid import brain_fraction_inside, model_grid_for, to_model_grid
from DALAnomalyLib.preprocessing.sequence import guess_sequence
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume

AUTOMATIC = "auto"
PLAUSIBLE_BRAIN_ML = (600.0, 2200.0)
WHOLE_BRAIN = 0.97
"""Share of the brain that must lie on the model grid for no warning."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan as the network sees it, and what is needed to go back."""

    image: Tensor
    """Float32 (1, 1, D, H, W) in [0, 1], 0 outside the brain."""
    brain: Tensor
    """Float32 (1, 1, D, H, W), 0 or 1."""
    grid: Grid
    brain_mask: Volume
    """uint8, on the scan's own grid."""
    intensities: IntensityMap
    sequence: str
    sequence_evidence: str
    warnings: tuple[str, ...]


def prepare_scan(
    volume: Volume,
    brain_mask: Volume | None,
    sequence: str,
    grid_config: GridConfig,
    landmarks: Mapping[str, Landmarks],
    templates: Mapping[str, Tensor],
    device: torch.device,
    cancel: CancelToken | None = None,
) -> PreparedScan:
    """Bring a skull-stripped, roughly upright scan to the model grid and the standard scale.

    Args:
        volume: The scan.
        brain_mask: On the scan's grid; without one the scan's foreground is taken.
        sequence: One of `landmarks`, or "auto".
        grid_config: The model grid.
        landmarks: Standard scales by sequence.
        templates: Mean images by sequence, on the model grid.
        device: Where the tensors should be.
        cancel: Checked between steps, none of which takes a second on a scan of ten million voxels.

    Raises:
        UsageError: The sequence is unknown.
        InputError: There is no brain.
        GeometryError: The mask lies on another grid.
        CancelledError: `cancel` was turned on.
    """
    if sequence != AUTOMATIC and sequence not in landmarks:
        msg = f"unknown sequence '{sequence}'; this model knows {', '.join(landmarks)} and '{AUTOMATIC}'"
        raise UsageError(msg)
    cancel = cancel or CancelToken()
    mask = foreground_mask(volume) if brain_mask is None else _binary(brain_mask)
    cancel.raise_if_cancelled()
    grid = model_grid_for(mask, grid_config.shape, grid_config.spacing)
    cancel.raise_if_cancelled()
    array, inside = to_model_grid(volume, mask, grid)
    cancel.raise_if_cancelled()
    if not inside.any():
        msg = "the brain is too small to appear on the model grid; check the brain mask and the scan's voxel size"
        raise InputError(msg)
    warnings = _warnings(mask, grid)
    cancel.raise_if_cancelled()
    guess = guess_sequence(array, inside, {name: image.cpu().numpy() for name, image in templates.items()})
    evidence = guess.evidence
    if sequence == AUTOMATIC:
        sequence = guess.name
        if not guess.is_clear:
            warnings.append(f"sequence unclear, taken as {sequence} ({evidence}); name it with --sequence")
    elif guess.is_clear and guess.name != sequence:
        warnings.append(f"told to be {sequence} but looks like {guess.name} ({evidence})")
    image, brain = (torch.from_numpy(item.astype(np.float32)).to(device)[None, None] for item in (array, inside))
    intensities = intensity_map(image, brain, landmarks[sequence])
    standard = intensities.to_standard(image).clamp(0, 1) * brain
    return PreparedScan(standard, brain, grid, mask, intensities, sequence, evidence, tuple(warnings))


def _binary(mask: Volume) -> Volume:
    inside: npt.NDArray[np.uint8] = (mask.array > 0).astype(np.uint8)
    if not inside.any():
        msg = "the brain mask is empty (all zero); give a mask that is above 0 inside the brain"
        raise InputError(msg)
    return mask.with_array(inside)


def _warnings(mask: Volume, grid: Grid) -> list[str]:
    found = []
    size = float(mask.array.sum()) * mask.grid.voxel_volume_ml
    low, high = PLAUSIBLE_BRAIN_ML
    if not low <= size <= high:
        found.append(f"the brain measures {size:.0f} ml, expected {low:.0f} to {high:.0f}; is the scan skull-stripped?")
    share = brain_fraction_inside(mask, grid)
    if share < WHOLE_BRAIN:
        found.append(f"only {share:.0%} of the brain fits the model grid; the rest gets no score")
    return found
