"""Whether a scan looks like those that the model was trained on, and what to tell the user if not.

CT, FLAIR, an image after a contrast agent, or a T2 named T1 all yield a restoration and a score; they only mean
nothing. What training scans look like is measured when a model is exported, one `SequenceReference` per sequence, and
travels in the model file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from DALAnomalyLib.scan_figures import ScanFigures

DISTANCE = "distance"
"""Key of the distance of M, beside the names of the plain figures."""

FIGURES: Mapping[str, tuple[str | None, str | None]] = {
    DISTANCE: (None, "its modality vector lies far from theirs"),
    "share of CSF": ("little of the brain is taken for fluid", None),
    "share of grey matter": ("little of the brain is taken for grey matter", None),
    "share of white matter": ("little of the brain is taken for white matter", None),
    "grey matter less CSF": ("grey matter is too dark beside fluid", "grey matter is too bright beside fluid"),
    "white matter less CSF": ("white matter is too dark beside fluid", "white matter is too bright beside fluid"),
    "white matter less grey matter": (
        "white matter is too dark beside grey matter",
        "white matter is too bright beside grey matter",
    ),
    "edge density": (None, "tissues are broken into specks"),
    "median residual": (None, "the restored image differs everywhere"),
    "correlation with the mean image": ("it differs from their mean image", None),
    "correlation with the healthy image": ("the restored image does not resemble it", None),
    "roughness": (None, "it is very noisy or striped"),
}
"""What it means for a figure to be too low and too high; None where that is no reason to warn."""

SHARES, LEAST_SHARE = ("share of CSF", "share of grey matter", "share of white matter"), 0.5
"""Less than half of the usual share of a tissue is no anatomy. Their limits do not come from the spread of training
scans: atrophy, wide ventricles and large lesions go beyond it, and are no reason to distrust the contrast."""

MOST_REASONS = 3
"""That a warning names; the record has them all."""
ADVICE = "another sequence than named, FLAIR, CT, a contrast agent or strong artefacts? Findings may be meaningless"


@dataclass(frozen=True, eq=False)
class SequenceReference:
    """What the training scans of one sequence look like."""

    centre: Tensor
    """Mean of M, float32 (m,)."""
    directions: Tensor
    """Float32 (k, m), orthonormal rows: the main directions in which M varies."""
    variances: Tensor
    """Float32 (k,), of M along them."""
    rest: float
    """Mean variance of M along each of the other m - k directions."""
    limits: Mapping[str, tuple[float, float]]
    """Lowest and highest value by figure, `DISTANCE` among them; infinite where a side is not limited."""
    usual: Mapping[str, tuple[float, float]]
    """As `limits`, but without the margin: nearly all training scans lie within."""

    def distance(self, modality: Tensor) -> float:
        """Squared Mahalanobis distance of M, (m,), to the training scans, divided by m: about 1 among themselves."""
        away = modality.cpu() - self.centre
        along = self.directions @ away
        # what the main directions do not explain; not below 0 by rounding
        remaining = float((away @ away - along @ along).clamp_min(0))
        return (float((along**2 / self.variances).sum()) + remaining / self.rest) / len(away)

    def content(self) -> dict[str, Any]:
        """Tensors and numbers, as a model file holds them."""
        ranges = {"limits": dict(self.limits), "usual": dict(self.usual)}
        tensors = {"centre": self.centre, "directions": self.directions, "variances": self.variances}
        return tensors | ranges | {"rest": self.rest}

    @classmethod
    def read(cls, content: Mapping[str, Any], length: int) -> SequenceReference:
        """The inverse of `content`; `length` is that of M.

        Raises:
            ValueError: Something does not fit the model or this version.
            LookupError: Something is missing.
            TypeError: Something is of another kind.
        """
        centre, directions, variances = (content[name].float() for name in ("centre", "directions", "variances"))
        tensors, rest, kept = (centre, directions, variances), float(content["rest"]), len(variances)
        shapes, expected = [tuple(each.shape) for each in tensors], [(length,), (kept, length), (kept,)]
        if shapes != expected:
            msg = f"the statistics of M are of shapes {shapes}, but have to be {expected}"
            raise ValueError(msg)
        if not (all(bool(each.isfinite().all()) for each in tensors) and bool((variances > 0).all()) and rest > 0):
            msg = "the statistics of M hold variances that are not above 0, or numbers that are not finite"
            raise ValueError(msg)
        limits, usual = (_ranges(content[name]) for name in ("limits", "usual"))
        if limits.keys() != usual.keys():
            msg = "the limits of training scans are of other figures than their usual ranges"
            raise ValueError(msg)
        return cls(centre, directions, variances, rest, limits, usual)


@dataclass(frozen=True)
class Verdict:
    """The outcome for one scan."""

    record: dict[str, dict[str, float | None]]
    """By figure: "value", "lowest" and "highest" (None: not limited)."""
    warning: str | None
    """One line, or None where every figure is within its limits."""


def judge(figures: ScanFigures, reference: SequenceReference, sequence: str) -> Verdict:
    """Compare a scan with the training scans of the sequence that it is taken for."""
    values = {DISTANCE: reference.distance(figures.modality)} | figures.plain
    record: dict[str, dict[str, float | None]] = {}
    reasons: list[tuple[float, str]] = []
    for name, (lowest, highest) in reference.limits.items():
        value = values[name]
        record[name] = {"value": _rounded(value), "lowest": _rounded(lowest), "highest": _rounded(highest)}
        if not lowest <= value <= highest:
            reasons.append(_reason(name, value, reference, too_high=value > highest))
    if not reasons:
        return Verdict(record, None)
    worst = [text for _, text in sorted(reasons, reverse=True)[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        worst.append(f"and {len(reasons) - MOST_REASONS} more")
    what = f"this scan does not look like the {sequence} scans that the model was trained on"
    return Verdict(record, f"{what} ({'; '.join(worst)}): {ADVICE}")


def _ranges(content: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    ranges = {name: (float(low), float(high)) for name, (low, high) in content.items()}
    for name, (low, high) in ranges.items():
        if name not in FIGURES or not low <= high:  # not a number compares as False
            msg = f"the range of training scans in '{name}' is {low} to {high}; known are {', '.join(FIGURES)}"
            raise ValueError(msg)
    return ranges


def _reason(name: str, value: float, reference: SequenceReference, *, too_high: bool) -> tuple[float, str]:
    """How far beyond the usual range, in widths of the margin, and the words for it with their evidence.

    The usual share of a tissue is one number, and the margin the way from there to the limit.
    """
    what = FIGURES[name][too_high]
    if name in SHARES:
        median = reference.limits[name][0] / LEAST_SHARE
        evidence = f"{name} {_short(value)}, less than half of the usual {_short(median)}"
        return (median - value) / max((1 - LEAST_SHARE) * median, 1e-6), f"{what}: {evidence}"
    usual, limit = reference.usual[name][too_high], reference.limits[name][too_high]
    first, less, second = name.partition(" less ")
    if less and value * usual < 0:
        what = f"{first} is {'darker' if value < 0 else 'brighter'} than {second}"
    side = "below" if too_high else "above"
    evidence = f"{name} {_short(value)}, of 99 % of training scans {side} {_short(usual)}"
    return abs(value - usual) / max(abs(limit - usual), 1e-6), f"{what}: {evidence}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
