"""Which sequence a scan is: T1 and T2 have opposite contrast, so comparing with mean images of both decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLEAR_DIFFERENCE = 0.1
"""Correlations closer than this leave the sequence in doubt."""


@dataclass(frozen=True)
class SequenceGuess:
    """The sequence that a scan resembles most, and why."""

    name: str
    evidence: str
    """One line for the user, such as "correlation with the mean T1 0.71, T2 -0.44"."""
    is_clear: bool
    """False when no sequence fits, or two fit alike."""


def guess_sequence(
    image: npt.NDArray[np.float32], brain: npt.NDArray[np.uint8], templates: Mapping[str, npt.NDArray[np.float32]]
) -> SequenceGuess:
    """Compare a scan with the mean training image of every sequence.

    Args:
        image: (D, H, W) on the model grid, the scan's own units.
        brain: (D, H, W), above 0 inside.
        templates: Sequence name to mean image (D, H, W) on the same grid, 0 outside the mean brain.
    """
    correlations = {name: _correlation(image, brain, template) for name, template in templates.items()}
    ranked = sorted(correlations, key=lambda name: correlations[name], reverse=True)
    best = correlations[ranked[0]]
    lead = best - correlations[ranked[1]] if len(ranked) > 1 else best
    evidence = "correlation with the mean " + ", ".join(f"{name} {value:.2f}" for name, value in correlations.items())
    return SequenceGuess(ranked[0], evidence, is_clear=best > CLEAR_DIFFERENCE and lead > CLEAR_DIFFERENCE)


def _correlation(
    image: npt.NDArray[np.float32], brain: npt.NDArray[np.uint8], template: npt.NDArray[np.float32]
) -> float:
    shared = (brain > 0) & (template > 0)
    if np.count_nonzero(shared) < 2:
        return 0.0
    # ranks would cost a sort; clipping the tails serves as well against bright vessels and lesions
    values = image[shared]
    values = np.clip(values, *np.percentile(values, (2, 98)))
    if values.std() == 0:
        return 0.0
    return float(np.corrcoef(values, template[shared])[0, 1])
