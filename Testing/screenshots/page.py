"""Pictures put together: views under their coloured bars, in rows and columns, as a small PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from Testing.screenshots.drawn_view import Picture

BAR = 24
"""Height of the bar above a view in pixels."""
GAP = 3
"""Pixels between views."""

_BACKGROUND, _INK, _LIGHT = (239, 239, 239), (25, 25, 25), (252, 252, 252)
_FONT, _MARGIN = 14, 8
_POSITION_WIDTH = 88
_GROOVE, _HANDLE = 1.5, 7


@dataclass(frozen=True, eq=False)
class Frame:
    """A view and the bar above it.

    Attributes:
        picture: uint8 (height, width, 3).
        colour: of the bar; red, green, blue from 0 to 1.
        label: at the left of the bar.
        position: at its right, such as `S: 12.50mm`; "" for a 3D view.
        share: of the slider between them, 0 to 1; None for a 3D view.
    """

    picture: Picture
    colour: tuple[float, float, float]
    label: str
    position: str = ""
    share: float | None = None

    def image(self) -> Image.Image:
        """The view below its bar."""
        view = Image.fromarray(self.picture)
        red, green, blue = (round(255 * channel) for channel in self.colour)
        image = Image.new("RGB", (view.width, BAR + view.height), (red, green, blue))
        image.paste(view, (0, BAR))
        self._draw_bar(ImageDraw.Draw(image), view.width)
        return image

    def _draw_bar(self, canvas: ImageDraw.ImageDraw, width: int) -> None:
        font, middle = ImageFont.load_default(_FONT), BAR / 2
        canvas.text((_MARGIN, middle), self.label, fill=_INK, font=font, anchor="lm")
        canvas.text((width - _MARGIN, middle), self.position, fill=_INK, font=font, anchor="rm")
        if self.share is not None:
            first, last = 3 * _MARGIN + font.getlength(self.label), width - _MARGIN - _POSITION_WIDTH
            _draw_slider(canvas, first, last, self.share)


def _draw_slider(canvas: ImageDraw.ImageDraw, first: float, last: float, share: float) -> None:
    middle, at = BAR / 2, first + share * (last - first)
    groove = (first, middle - _GROOVE, last, middle + _GROOVE)
    handle = (at - _HANDLE, middle - _HANDLE, at + _HANDLE, middle + _HANDLE)
    canvas.rounded_rectangle(groove, radius=_GROOVE, fill=_LIGHT, outline=_INK)
    canvas.rounded_rectangle(handle, radius=3, fill=_LIGHT, outline=_INK)


def grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures in rows and columns; the first row and the first column say how wide and high the others are."""
    widths, heights = [image.width for image in rows[0]], [row[0].height for row in rows]
    page = Image.new("RGB", (_with_gaps(widths), _with_gaps(heights)), _BACKGROUND)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            page.paste(image, (sum(widths[:column]) + GAP * column, sum(heights[:row]) + GAP * row))
    return page


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG file with a palette of 256 colours, which is a third as large and looks the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def _with_gaps(sizes: Sequence[int]) -> int:
    return sum(sizes) + GAP * (len(sizes) - 1)
