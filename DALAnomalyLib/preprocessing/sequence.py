"""Which sequence a scan is: what the header says, what the user says, and what the image looks like."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.preprocessing.appearance import BRIGHT_FLUID_SHARE, BRIGHT_SHARE, Appearance
from DALAnomalyLib.volume_io import ScanDescription

AUTOMATIC = "auto"
WITHOUT_AGENT = "the model knows scans without one, findings may be wrong"
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


@dataclass(frozen=True)
class SequenceDecision:
    """The sequence that a scan is treated as."""

    name: str
    evidence: str
    warnings: tuple[str, ...]


def check_sequence(name: str, known: Collection[str]) -> None:
    """Refuse a sequence that the model does not know (`UsageError`)."""
    if name != AUTOMATIC and name not in known:
        msg = f"unknown sequence '{name}'; this model knows {', '.join(known)} and '{AUTOMATIC}'"
        raise UsageError(msg)


def likely_sequence(told: str, description: ScanDescription | None) -> str | None:
    """The sequence to begin with: the user's, else the header's; None when the image has to be asked."""
    if told != AUTOMATIC:
        return told
    described = description.sequence if description is not None else None
    return described if described in ("T1", "T2") else None


def decide_sequence(
    told: str,
    known: Collection[str],
    description: ScanDescription | None,
    appearance: Appearance | None,
    guess: SequenceGuess,
    registered: bool = True,
) -> SequenceDecision:
    """Weigh all that is known; an explicit sequence always wins, but contradictions are said.

    Args:
        told: the user's choice, or "auto".
        known: sequences of the model.
        description: from the header, if there is any.
        appearance: against the atlas, if the scan could be registered.
        guess: against the model's mean images.
        registered: whether the scan was laid onto the atlas, not just said to lie there: then the atlas tells which
            fluid is deep in the brain.

    Raises:
        InputError: the scan is something else than the model knows, and the user did not name a sequence.
    """
    described = description.sequence if description is not None else None
    seen = appearance.kind if appearance is not None else (guess.name if guess.is_clear else None)
    evidence = "; ".join(
        part
        for part in (
            description.evidence if description is not None else "",
            appearance.evidence if appearance is not None else guess.evidence,
        )
        if part
    )
    warnings = []
    if description is not None and description.modality not in (None, "MR"):
        msg = f"the header says that this is a {description.modality} image; give a T1 or T2 MR scan"
        raise InputError(msg)
    if told != AUTOMATIC:
        name = told
        for source, other in (("the header says", described), ("it looks like", seen)):
            if other not in (None, told, "unknown"):
                warnings.append(f"told to be {told} but {source} {other} ({evidence})")
    elif described is not None:
        name = _supported(described, known, evidence)
        if seen not in (None, described, "unknown"):
            warnings.append(f"the header says {described} but the image looks like {seen} ({evidence})")
    elif appearance is not None:
        name = _supported(appearance.kind, known, evidence)
    else:
        name = guess.name
        if not guess.is_clear:
            warnings.append(f"sequence unclear, taken as {name} ({evidence}); name it yourself")
    if description is not None and description.contrast_agent:
        warnings.append(f"the header names a contrast agent; {WITHOUT_AGENT}")
    elif name == "T1" and appearance is not None:
        warnings += _enhancing(appearance, registered)[:1]
    return SequenceDecision(name, evidence, tuple(warnings))


def _enhancing(appearance: Appearance, registered: bool) -> list[str]:
    places = [(appearance.bright_share, BRIGHT_SHARE, "the brain")]
    if registered:
        places.append((appearance.bright_fluid_share, BRIGHT_FLUID_SHARE, "the fluid deep in the brain"))
    return [
        f"{share:.1%} of {place} is clearly brighter than white matter, as after a contrast agent; {WITHOUT_AGENT}"
        for share, limit, place in places
        if share > limit
    ]


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


def _supported(kind: str, known: Collection[str], evidence: str) -> str:
    if kind in known:
        return kind
    what = "no brain that this model knows" if kind == "unknown" else kind
    msg = (
        f"this looks like {what} ({evidence}); the model knows {' and '.join(known)}. If it is one of them, name the "
        "sequence yourself"
    )
    raise InputError(msg)


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
