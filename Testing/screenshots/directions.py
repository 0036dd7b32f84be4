"""Patient directions by their letters, in RAS: what is written at the rims of a slice view and above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_TOWARDS, _AWAY = "RAS", "LPI"


@dataclass(frozen=True)
class RimLetters:
    """Where the patient's sides are in a picture."""

    left: str
    right: str
    top: str
    bottom: str


def rim_letters(xy_to_ras: Matrix) -> RimLetters:
    """The letters for a view, from its (4, 4) matrix from pixels (x to the right, y upwards) to RAS mm."""
    rightwards, upwards = xy_to_ras[:3, 0], xy_to_ras[:3, 1]
    return RimLetters(
        left=_letter(-rightwards), right=_letter(rightwards), top=_letter(upwards), bottom=_letter(-upwards)
    )


def slice_position(slice_to_ras: Matrix) -> str:
    """Where a slice lies, such as `S: 12.50mm`, from its (4, 4) matrix, whose third column is its normal."""
    axis = _main_axis(slice_to_ras[:3, 2])
    millimetres = slice_to_ras[axis, 3]
    return f"{(_TOWARDS if millimetres >= 0 else _AWAY)[axis]}: {abs(millimetres):.2f}mm"


def _letter(direction: Matrix) -> str:
    axis = _main_axis(direction)
    return (_TOWARDS if direction[axis] > 0 else _AWAY)[axis]


def _main_axis(direction: Matrix) -> int:
    return int(np.abs(direction).argmax())
