"""The page of a key image: tiles in rows and columns with headings, directions and the colours of the score."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from DALAnomalySlicer.export.anatomical_planes import FloatImage, Plane
from DALAnomalySlicer.export.picture_marks import ACCENT, Colour
from DALAnomalySlicer.export.score_colours import ScoreColours

_BACKGROUND: Colour = (11, 13, 16)
_TEXT: Colour = (232, 234, 237)
_DIM: Colour = (158, 166, 176)
_FONT = 18
_GAP, _TOP, _MARGIN = 6, 38, 8
_BAR_WIDTH, _BAR_INSET, _BAR_SPACE = 18, 22, 104


@dataclass(frozen=True, eq=False)
class Strip:
    """One plane: a row of the page.

    Attributes:
        plane: which one.
        title: what is written into its first tile.
        tiles: float32 (height, width, 3), 0 to 1, all of one size.
    """

    plane: Plane
    title: str
    tiles: tuple[FloatImage, ...]


def sheet_png(strips: list[Strip], headings: tuple[str, ...], colours: ScoreColours) -> bytes:
    """Compose a page of one heading per column, as the bytes of a PNG file."""
    from PIL import Image, ImageDraw

    width = max(strip.tiles[0].shape[1] for strip in strips)
    tops = np.cumsum([_TOP, *(strip.tiles[0].shape[0] + _GAP for strip in strips)]).tolist()
    lefts = [_MARGIN + column * (width + _GAP) for column in range(len(headings))]
    page = Image.new("RGB", (lefts[-1] + width + _BAR_SPACE, tops[-1] - _GAP + _MARGIN), _BACKGROUND)
    canvas = ImageDraw.Draw(page)
    for left, heading in zip(lefts, headings, strict=True):
        _write(canvas, (left + width / 2, _TOP / 2), heading, _TEXT)
    for strip, top in zip(strips, tops, strict=False):
        for left, tile in zip(lefts, strip.tiles, strict=True):
            _place(page, canvas, tile, (left, top), width, strip.plane)
        _write(canvas, (lefts[0] + 6, top + 6), strip.title, _DIM, "la")
    _colour_bar(page, canvas, colours, (lefts[-1] + width + _BAR_INSET, _TOP, tops[-1] - _GAP))
    return _png(page)


def _place(page: Any, canvas: Any, tile: FloatImage, corner: tuple[int, int], width: int, plane: Plane) -> None:
    """Put a tile into the middle of its column, and the letters at its rims."""
    left, top = corner
    tall, wide = tile.shape[:2]
    canvas.rectangle((left, top, left + width - 1, top + tall - 1), fill=(0, 0, 0))
    page.paste(_image(tile), (left + (width - wide) // 2, top))
    inset = 0.8 * _FONT
    middle = (left + width / 2, top + tall / 2)
    places = (
        (left + inset, middle[1]),
        (left + width - inset, middle[1]),
        (middle[0], top + inset),
        (middle[0], top + tall - inset),
    )
    for letter, place in zip(plane.letters, places, strict=True):
        _write(canvas, place, letter, _TEXT)


def _colour_bar(page: Any, canvas: Any, colours: ScoreColours, where: tuple[int, int, int]) -> None:
    """Scores from 0 to the top, with the threshold, at (left, top, bottom)."""
    left, top, bottom = where
    scores = np.linspace(colours.top, 0, bottom - top, dtype=np.float32)
    bar = np.repeat(colours.over(np.zeros((len(scores), 1, 3), np.float32), scores[:, None]), _BAR_WIDTH, axis=1)
    page.paste(_image(bar), (left, top))
    canvas.rectangle((left, top, left + _BAR_WIDTH, bottom), outline=_DIM)
    threshold = round(bottom - (bottom - top) * colours.threshold / colours.top)
    canvas.line((left - 4, threshold, left + _BAR_WIDTH + 4, threshold), fill=ACCENT, width=2)
    beside = left + _BAR_WIDTH + 8
    _write(canvas, (left + _BAR_WIDTH / 2, top / 2), "score", _TEXT)
    _write(canvas, (beside, top), f"{colours.top:.2g}", _DIM, "lt")
    _write(canvas, (beside, threshold), f"{colours.threshold:.2g}", ACCENT, "lm")
    _write(canvas, (beside, bottom), "0", _DIM, "lb")


def _write(canvas: Any, point: tuple[float, float], text: str, colour: Colour, anchor: str = "mm") -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(_FONT)
    canvas.text(point, text, fill=colour, font=font, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def _image(tile: FloatImage) -> Any:
    from PIL import Image

    return Image.fromarray((np.clip(tile, 0, 1) * 255).round().astype(np.uint8))


def _png(page: Any) -> bytes:
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()
