"""Intensity standardisation by histogram landmarks (Nyul and Udupa 1999; section 4.1.2 of the paper).

Scanners assign arbitrary numbers to tissues. Mapping a scan's percentiles onto fixed landmarks, learned from the
training images of the same sequence, gives the network one scale, [0, 1], whatever the scanner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from DALAnomalyLib.errors import InputError

PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Percentiles inside the brain whose values are the landmarks."""
LOWEST, HIGHEST = 0.05, 0.8
"""Standard values of the first and last landmark: headroom for what is darker or brighter than any healthy tissue."""


@dataclass(frozen=True)
class Landmarks:
    """The standard scale of one sequence: where each percentile of a brain's intensities belongs."""

    values: tuple[float, ...]
    percentiles: tuple[float, ...] = PERCENTILES


@dataclass(frozen=True)
class IntensityMap:
    """A monotone piecewise linear map from a scan's intensities to the standard scale, and back."""

    scan: Tensor
    """Float (n,), the scan's landmarks, strictly increasing."""
    standard: Tensor
    """Float (n,), the standard landmarks, strictly increasing."""

    def to_standard(self, intensities: Tensor) -> Tensor:
        """Standard values of scan intensities of any shape; beyond the landmarks the end pieces continue."""
        return _interpolate(intensities, self.scan, self.standard)

    def to_scan(self, values: Tensor) -> Tensor:
        """The inverse of `to_standard`."""
        return _interpolate(values, self.standard, self.scan)


def measure_landmarks(image: Tensor, brain: Tensor, percentiles: tuple[float, ...] = PERCENTILES) -> Tensor:
    """The intensities at `percentiles` inside the brain, float32 (n,), made strictly increasing.

    Args:
        image: Any shape, the scan's own units.
        brain: Same shape, above 0.5 inside.
        percentiles: Ascending, 0 to 100.

    Raises:
        InputError: The brain is empty or its intensities are all the same.
    """
    inside = image[brain > 0.5].float()
    if inside.numel() == 0:
        msg = "the brain mask is empty on the model grid; give a mask that covers the brain of this scan"
        raise InputError(msg)
    # by index into the sorted values: torch.quantile refuses more than 16 million of them
    ranks = torch.tensor(percentiles, device=image.device) / 100 * (inside.numel() - 1)
    values = inside.sort().values[ranks.round().long()]
    extent = float(values[-1] - values[0])
    if not extent > 1e-6 * float(values.abs().max()):  # resampling makes a constant differ in the last digit
        msg = "the scan has the same intensity everywhere inside the brain; is this an image and not a mask?"
        raise InputError(msg)
    # plateaus (8-bit scans) would make the map vertical
    steps = values.diff().clamp_min(1e-4 * extent)
    return torch.cat((values[:1], values[:1] + steps.cumsum(0)))


def intensity_map(image: Tensor, brain: Tensor, landmarks: Landmarks) -> IntensityMap:
    """The map that takes this scan to the standard scale of `landmarks`; see `measure_landmarks` for arguments."""
    standard = torch.tensor(landmarks.values, device=image.device, dtype=torch.float32)
    return IntensityMap(measure_landmarks(image, brain, landmarks.percentiles), standard)


def fixed_scaling(image: Tensor, brain: Tensor) -> IntensityMap:
    """Without landmarks: the 1st and 99th percentile go to the ends of the standard scale, all else linearly."""
    ends = measure_landmarks(image, brain, (PERCENTILES[0], PERCENTILES[-1]))
    return IntensityMap(ends, torch.tensor((LOWEST, HIGHEST), device=image.device))


def standardise(image: Tensor, brain: Tensor, landmarks: Landmarks) -> Tensor:
    """The scan on the standard scale, clipped to [0, 1] and masked again, float32 of the same shape."""
    return intensity_map(image, brain, landmarks).to_standard(image.float()).clamp(0, 1) * (brain > 0.5)


def learn_landmarks(measured: Iterable[Tensor]) -> Landmarks:
    """The standard scale of a sequence: the mean of many brains' landmarks, each first brought to a common range.

    Args:
        measured: Results of `measure_landmarks` of healthy training images.
    """
    rows = torch.stack(list(measured))
    first, last = rows[:, :1], rows[:, -1:]
    common = LOWEST + (rows - first) / (last - first) * (HIGHEST - LOWEST)
    return Landmarks(values=tuple(common.mean(dim=0).tolist()))


def _interpolate(values: Tensor, nodes: Tensor, targets: Tensor) -> Tensor:
    piece = torch.bucketize(values, nodes).sub(1).clamp(0, len(nodes) - 2)
    slopes = targets.diff() / nodes.diff()
    return targets[piece] + (values - nodes[piece]) * slopes[piece]
