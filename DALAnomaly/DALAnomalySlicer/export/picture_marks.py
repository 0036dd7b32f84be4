"""What is drawn into a tile of a key image: an outline and a cross-hair.

Tiles are float32 (height, width, 3), 0 to 1, and are changed in place.
"""

from __future__ import annotations

import numpy as np

from DALAnomalySlicer.export.anatomical_planes import FloatImage

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

ACCENT: Colour = (53, 224, 208)

_EDGE = 0.5
"""Of an interpolated mask: halfway between outside and inside."""


def paint(pixels: FloatImage, opacity: FloatImage | float, colour: Colour) -> None:
    """Lay a colour over pixels (..., 3), in place; opacity is 0 to 1, (...) or one number for all."""
    share = np.asarray(opacity, np.float32)[..., None]
    pixels += share * (np.asarray(colour, np.float32) / 255 - pixels)


def outline(inside: FloatImage, width: float) -> FloatImage:
    """Opacity of a smooth line, `width` pixels wide, around an interpolated mask (0 to 1, same shape)."""
    steepness = np.hypot(*np.gradient(inside))
    distance = np.abs(inside - _EDGE) / np.maximum(steepness, 1e-3)
    return np.clip(width / 2 + 0.5 - distance, 0, 1).astype(np.float32)


def cross_hair(tile: FloatImage, point: tuple[float, float], gap: float) -> None:
    """Thin lines through a point (column, row) that stop `gap` pixels before it."""
    column, row, free = (int(value) for value in (*point, gap))
    vertical, horizontal = tile[:, column], tile[row]
    for line, place in ((vertical, row), (horizontal, column)):
        paint(line[: max(0, place - free)], 0.5, ACCENT)
        paint(line[place + free :], 0.5, ACCENT)
