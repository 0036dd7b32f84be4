"""How an anomaly map is made: the options of paper section 3.5.2, without importing torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from DALAnomalyLib.errors import UsageError

ScoreKind: TypeAlias = Literal["hybrid", "l1", "ssim", "intensity"]
SsimWindow: TypeAlias = Literal["uniform7", "gaussian11"]
Sign: TypeAlias = Literal["absolute", "positive", "negative"]

SignChoice: TypeAlias = Literal["absolute", "positive", "negative", "typical"]

SCORE_KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)
DARK_ANOMALIES = frozenset({"T1"})
"""Sequences on which most lesions are darker than healthy tissue; on the others they are brighter."""


@dataclass(frozen=True)
class ScoreConfig:
    """Options of the anomaly map; the defaults of the kernel sizes are the paper's (section 3.5.2, Appendix D).

    Attributes:
        kind: "hybrid" is Eq. 15, "l1" and "ssim" are its factors (Table 5), "intensity" is the image without a model.
        ssim_window: 7-voxel cube, or an 11-tap Gaussian of sigma 1.5.
        difference_power: exponent of |x - x_r| in "hybrid" and "l1"; 1 is the paper's. Above 1, few clear voxels weigh
            more than many faint ones.
        minimum_filter: edge of the cube in voxels of the grid, odd; 0 turns the filter off.
        opening: let a maximum filter follow the minimum filter, so that lesions that survive it keep their extent.
        mean_filter: the same for the mean filter.
        mean_passes: how often the mean filter is applied; twice is close to a Gaussian, without the corners of a cube.
        mask_erosion: the same for the erosion of the brain mask.
        guided_filter: the same for the guided filter, which comes last: it smooths the score along the scan's edges,
            and fills what the eroded mask took away from beside it, where the scan looks alike. Not in the paper.
        guided_epsilon: variance of a guide within the cube below which it counts as flat.
        difference_guides: let the signed difference from the pseudo-healthy image guide beside the scan, so that the
            map also ends where the difference does; not for "intensity", which has no such image.
        signal_floor: where the standardised scan is darker than this (mean of the cube of 3 inside the brain), nothing
            counts on the "negative" side: no signal at all is air, a coil's end or a vessel, not a lesion. The darkest
            hundredth of a brain lies below .05. Not in the paper; 0 turns it off.
        sign: which differences image - pseudo-healthy count: all, only brighter ("positive") or only darker ones
            ("negative"), or "typical": the side on which most lesions of the scan's sequence lie, see `for_sequence`.
            For "intensity", "negative" means that dark is anomalous.

    Raises:
        UsageError: a value is none of the above.
    """

    kind: ScoreKind = "hybrid"
    ssim_window: SsimWindow = "uniform7"
    difference_power: float = 1.0
    minimum_filter: int = 3
    opening: bool = False
    mean_filter: int = 9
    mean_passes: int = 1
    mask_erosion: int = 3
    guided_filter: int = 0
    guided_epsilon: float = 0.01
    difference_guides: bool = False
    signal_floor: float = 0.0
    sign: SignChoice = "absolute"

    def __post_init__(self) -> None:
        """Refuse values that no step of the score could use."""
        _check_choice("kind", self.kind, get_args(ScoreKind))
        _check_choice("ssim_window", self.ssim_window, get_args(SsimWindow))
        _check_choice("sign", self.sign, get_args(SignChoice))
        _check_size("minimum_filter", self.minimum_filter)
        _check_size("mean_filter", self.mean_filter)
        _check_size("mask_erosion", self.mask_erosion)
        _check_size("guided_filter", self.guided_filter)
        if not 0 <= self.signal_floor < 1:
            msg = f"score option signal_floor is {self.signal_floor!r}; give a brightness from 0 (off) to below 1"
            raise UsageError(msg)
        _check_positive("difference_power", self.difference_power)
        _check_positive("guided_epsilon", self.guided_epsilon)
        if self.mean_passes < 1:
            msg = f"score option mean_passes is {self.mean_passes!r}; give at least 1, or mean_filter 0 to turn it off"
            raise UsageError(msg)

    def of_kind(self, kind: ScoreKind, sequence: str) -> ScoreConfig:
        """The same post-processing for another kind of score (Table 5) of a scan of `sequence`."""
        sign: SignChoice = "typical" if kind == "intensity" else self.sign
        return replace(self, kind=kind, sign=sign).for_sequence(sequence)

    def for_sequence(self, sequence: str) -> ScoreConfig:
        """The same with "typical" replaced by the side it stands for on a scan of `sequence`."""
        if self.sign != "typical":
            return self
        return replace(self, sign="negative" if sequence in DARK_ANOMALIES else "positive")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"score option {name} is {value!r}; choose one of {', '.join(choices)}"
        raise UsageError(msg)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        msg = f"score option {name} is {value!r}; give a positive number"
        raise UsageError(msg)


def _check_size(name: str, value: Any) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < 0 or (value > 0 and value % 2 == 0):
        msg = f"score option {name} is {value!r}; give an odd kernel size in voxels, or 0 to turn the step off"
        raise UsageError(msg)
