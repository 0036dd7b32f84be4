"""The picture of the preprocessing: was the brain found, does the scan lie on the atlas, were intensities mapped well.

Slices are cut as in `overview.py`: upright, in radiological order, with true proportions. Only the command line draws;
it needs matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.ndimage import find_objects

from DALAnomalyCLI.overview import Plane, planes_through, sample
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalyLib.volume import Grid, Points, Volume

Values = npt.NDArray[Any]

# the colours of overview.py
_BACKGROUND, _TEXT, _DIM, _ACCENT, _WARNING = "#0b0d10", "#e8eaed", "#8b939c", "#35e0d0", "#ffb74d"
_ATLAS_TINT = np.array([0.92, 0.72, 0.48], np.float32)
_SQUARE_MM = 24.0
_HEAD_MARGIN_MM, _BRAIN_MARGIN_MM = 16.0, 0.0
"""Around the brain, in addition to what `planes_through` leaves: room for skull and skin, if there are any."""
_LANDMARKS = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
"""Percentiles that standardisation maps."""
_WIDTH, _SIDE, _GAP, _DPI = 16.0, 0.3, 0.06, 110
_LINE, _CHARACTERS = 0.19, 205


@dataclass(frozen=True, eq=False)
class QualityPicture:
    """What the picture shows.

    Attributes:
        name: how the scan is called in the title.
        scan: the scan with its own intensities.
        corrected: the scan without its bias field, on the scan's grid, or None.
        brain: mask on the scan's grid.
        moved_scan: the scan with its header in atlas space, or None without registration.
        atlas_image: the atlas' image of the sequence, 0 outside its brain, or None.
        before: intensities in the brain as they were, 1D.
        after: the same intensities on the standard scale, 1D.
        lines: one line on what each step did.
        warnings: one line each.
    """

    name: str
    scan: Volume
    corrected: Volume | None
    brain: Volume
    moved_scan: Volume | None
    atlas_image: Volume | None
    before: Values
    after: Values
    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def write_quality_picture(path: Path, data: QualityPicture) -> None:
    """Draw the picture as a PNG.

    Raises:
        InputError: the brain mask is empty.
    """
    outline_planes = _slices(data)
    texts = _wrapped(data)
    scale = (_WIDTH - 2 * _SIDE - 6 * _GAP) / sum(plane.size[1] for plane in outline_planes)
    first = max(plane.size[0] for plane in outline_planes) * scale
    second = 2.75
    bottom = 0.45 + _LINE * len(texts)
    height = 1.05 + first + 0.5 + second + 0.5 + bottom
    figure = Figure(figsize=(_WIDTH, height), facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    page = _Page(figure, height)
    page.text(_SIDE, height - 0.28, f"{data.name}   ·   preprocessing", size=14, weight="bold")
    page.text(_SIDE, height - 0.72, "brain outline on the scan", size=11)
    page.text(_WIDTH - _SIDE, height - 0.72, "radiological order: the patient's right is at the left", _DIM, ha="right")
    _draw_outlines(page, data, outline_planes, scale, height - 0.9)
    floor = bottom + 0.5
    left = _draw_registration(page, data, floor, second)
    left = _draw_field(page, data, outline_planes[1], left, floor, second)
    _draw_histograms(page, data, left, floor, second)
    for row, (text, colour) in enumerate(texts):
        page.text(_SIDE, bottom - _LINE * (row + 0.2), text, colour, size=9.5)
    page.text(_SIDE, 0.18, RESEARCH_USE, size=10, weight="bold")
    figure.savefig(path, dpi=_DPI, facecolor=_BACKGROUND)


@dataclass(frozen=True)
class _Page:
    """A figure measured in inches from its lower left corner."""

    figure: Figure
    height: float

    def axes(self, left: float, bottom: float, width: float, tall: float) -> Axes:
        return self.figure.add_axes((left / _WIDTH, bottom / self.height, width / _WIDTH, tall / self.height))

    def text(self, x: float, y: float, text: str, colour: str = _TEXT, size: float = 9, **style: Any) -> None:
        # a name may hold a dollar sign, which would start a formula
        escaped = text.replace("$", r"\$")
        self.figure.text(x / _WIDTH, y / self.height, escaped, color=colour, fontsize=size, va="center", **style)

    def tile(self, plane: Plane, image: Values, left: float, bottom: float, scale: float, **style: Any) -> Axes:
        """A slice at `scale` inches per mm, with its letters and position."""
        height, width = plane.size
        axes = self.axes(left, bottom, width * scale, height * scale)
        axes.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="bilinear", **style)
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0), facecolor="black")
        axes.spines[:].set_visible(False)
        places = ((0.03, 0.5, "left"), (0.97, 0.5, "right"), (0.5, 0.955, "center"), (0.5, 0.045, "center"))
        for letter, (x, y, side) in zip(plane.letters, places, strict=True):
            _label(axes, x, y, letter, ha=side, va="center", fontsize=9, weight="bold")
        _label(axes, 0.03, 0.97, plane.position, ha="left", va="top", fontsize=7.5)
        return axes


def _label(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    halo = [withStroke(linewidth=2, foreground="black")]
    axes.text(x, y, text, transform=axes.transAxes, color=_TEXT, path_effects=halo, **style)


def _slices(data: QualityPicture) -> list[Plane]:
    """Three axial, two coronal and two sagittal slices through the brain."""
    low, high = _brain_limits(data.brain)
    outside = data.scan.array[data.brain.array == 0]
    bare = outside.size == 0 or float((outside == outside.flat[0]).mean()) > 0.99
    frame = _frame(low, high, _BRAIN_MARGIN_MM if bare else _HEAD_MARGIN_MM)
    planes = [
        planes_through(low + (high - low) * np.array(fractions), frame)
        # along left, posterior, superior; the middle sagittal slice would show the gap between the hemispheres
        for fractions in ((0.44, 0.38, 0.3), (0.7, 0.62, 0.52), (0.5, 0.5, 0.74))
    ]
    axial, coronal, sagittal = zip(*planes, strict=True)
    return [*axial, *coronal[:2], *sagittal[:2]]


def _brain_limits(brain: Volume) -> tuple[Points, Points]:
    """Lowest and highest LPS coordinates of the brain in mm, (3,) each."""
    if not (brain.array > 0).any():
        msg = "the brain mask is empty, so there is nothing to draw; give a mask that covers the brain"
        raise InputError(msg)
    box = find_objects((brain.array > 0).astype(np.uint8))[0]
    inside = np.argwhere(brain.array[box] > 0)[::11] + [side.start for side in box]
    points = brain.grid.index_to_physical(inside)
    return points.min(axis=0), points.max(axis=0)


def _frame(low: Points, high: Points, margin: float) -> Volume:
    """A mask of two corners, 1 mm apart per voxel, that makes `planes_through` show a box with a margin."""
    depth, height, width = (int(size) for size in np.ceil(high - low + 2 * margin)[::-1] + 1)
    x, y, z = (float(value) for value in low - margin)
    corners = np.zeros((depth, height, width), np.uint8)
    corners[0, 0, 0] = corners[-1, -1, -1] = 1
    return Volume(corners, Grid(corners.shape, (1.0, 1.0, 1.0), (x, y, z)))


def _draw_outlines(page: _Page, data: QualityPicture, planes: list[Plane], scale: float, ceiling: float) -> None:
    low, high = _window(data.scan, data.brain)
    mask = data.brain.with_array((data.brain.array > 0).astype(np.float32))
    left = _SIDE
    for plane in planes:
        bottom = ceiling - plane.size[0] * scale
        axes = page.tile(plane, sample(data.scan, plane), left, bottom, scale, cmap="gray", vmin=low, vmax=high)
        _contour(axes, plane, sample(mask, plane))
        left += plane.size[1] * scale + _GAP


def _contour(axes: Axes, plane: Plane, inside: Values) -> None:
    if inside.max() <= 0.5:
        return
    height, width = plane.size
    rows, columns = ((np.arange(count) + 0.5) / count for count in inside.shape)
    axes.contour(columns * width, rows * height, inside, levels=[0.5], colors=[_ACCENT], linewidths=1.0)


def _draw_registration(page: _Page, data: QualityPicture, floor: float, tall: float) -> float:
    """Scan and atlas in alternating squares; returns where the next drawing may begin."""
    title_height = floor + tall + 0.18
    if data.moved_scan is None or data.atlas_image is None:
        page.text(_SIDE, title_height, "no registration with the atlas", _DIM, size=11)
        return _SIDE
    page.text(_SIDE, title_height, "registration: scan (grey) and atlas (amber) in atlas space", size=11)
    scan = data.corrected or data.scan
    moved = Volume(scan.array, data.moved_scan.grid)
    brain = Volume((data.brain.array > 0).astype(np.float32), data.moved_scan.grid)
    atlas_brain = data.atlas_image.with_array((data.atlas_image.array > 0).astype(np.uint8))
    limits = [_brain_limits(brain), _brain_limits(atlas_brain)]
    low, high = np.minimum(limits[0][0], limits[1][0]), np.maximum(limits[0][1], limits[1][1])
    frame = _frame(low, high, 0.0)
    # left of the middle, where ventricles and sulci show in all three planes
    planes = planes_through(low + (high - low) * np.array([0.56, 0.52, 0.56]), frame)
    scale = tall / max(plane.size[0] for plane in planes)
    windows = _window(moved, brain), _window(data.atlas_image, atlas_brain)
    left = _SIDE
    for plane in planes:
        inside = sample(brain, plane)
        grey, amber = (
            _shade(sample(volume, plane), window)
            for volume, window in zip((moved, data.atlas_image), windows, strict=True)
        )
        squares = _squares(plane)[..., None]
        picture = np.where(squares, (grey * (inside > 0.5))[..., None], amber[..., None] * _ATLAS_TINT)
        axes = page.tile(plane, picture, left, floor + tall - plane.size[0] * scale, scale)
        _contour(axes, plane, inside)
        left += plane.size[1] * scale + _GAP
    return left + 0.25


def _squares(plane: Plane) -> npt.NDArray[np.bool_]:
    """True in every other square, as on a chessboard."""
    rows, columns = (
        np.floor((np.arange(count) + 0.5) / count * size / _SQUARE_MM).astype(int)
        for count, size in zip(plane.points.shape[:2], plane.size, strict=True)
    )
    chess: npt.NDArray[np.bool_] = (rows[:, None] + columns) % 2 == 0
    return chess


def _draw_field(page: _Page, data: QualityPicture, plane: Plane, left: float, floor: float, tall: float) -> float:
    """How much brighter or darker the bias field made the scan; returns where the next drawing may begin."""
    if data.corrected is None:
        return left
    inside = (data.brain.array > 0) & (data.scan.array > 0) & (data.corrected.array > 0)
    ratio = np.ones(inside.shape, np.float32)
    np.divide(data.scan.array, data.corrected.array, out=ratio, where=inside)
    shown = sample(data.scan.with_array((ratio - 1) * 100), plane, nearest=True)
    mask = sample(data.scan.with_array(inside.astype(np.uint8)), plane, nearest=True) > 0
    scale = (tall - 0.45) / plane.size[0]
    limit = max(10.0, float(np.ceil(np.percentile(np.abs(ratio[inside] - 1), 99) * 10) * 10))
    style = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}
    axes = page.tile(plane, np.ma.masked_where(~mask, shown), left, floor + 0.45, scale, **style)
    page.text(left, floor + tall + 0.18, "bias field taken out", size=11)
    width = plane.size[1] * scale
    bar = page.axes(left, floor + 0.25, width, 0.09)
    page.figure.colorbar(axes.images[0], cax=bar, orientation="horizontal", format="%+.0f %%")
    bar.set_xticks([-limit, 0, limit])
    bar.tick_params(colors=_DIM, labelsize=8, length=2)
    first, *_, last = bar.get_xticklabels()  # kept inside the bar's width
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    return left + width + 0.35


def _draw_histograms(page: _Page, data: QualityPicture, left: float, floor: float, tall: float) -> None:
    """Intensities before and after, with the percentiles that standardisation maps."""
    page.text(left, floor + tall + 0.18, "intensities in the brain, with landmarks", size=11)
    each = (tall - 0.75) / 2
    upper = floor + each + 0.7
    for bottom, values, name in ((upper, data.before, "before"), (floor + 0.25, data.after, "standardised")):
        axes = page.axes(left, bottom, _WIDTH - _SIDE - left, each)
        axes.set(facecolor="#14171b", yticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=_DIM, labelsize=8, length=2)
        _label(axes, 0.985, 0.93, name, ha="right", va="top", fontsize=9.5)
        if values.size == 0:
            _label(axes, 0.5, 0.5, "none", ha="center", va="center", fontsize=9)
            continue
        marks = np.percentile(values, _LANDMARKS)
        room = max(float(marks[-1] - marks[0]), 1e-6) * 0.08
        span = (float(marks[0]) - room, float(marks[-1]) + room)
        counts, edges = np.histogram(values, 64, span)
        axes.fill_between((edges[1:] + edges[:-1]) / 2, counts, color="#9aa4ae", linewidth=0)
        axes.vlines(marks, 0, counts.max() * 1.05, color=_ACCENT, linewidth=0.8)
        axes.set(xlim=span, ylim=(0, counts.max() * 1.1 + 1))


def _window(volume: Volume, mask: Volume) -> tuple[float, float]:
    low, high = np.percentile(volume.array[mask.array > 0], (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _shade(image: Values, window: tuple[float, float]) -> Values:
    low, high = window
    return np.clip((image - low) / (high - low), 0, 1)


def _wrapped(data: QualityPicture) -> list[tuple[str, str]]:
    """Lines of text with their colours, none wider than the page."""
    marked = [(line, _TEXT, "") for line in data.lines] + [(line, _WARNING, "warning: ") for line in data.warnings]
    return [
        (part if n == 0 else f"    {part}", colour)
        for line, colour, prefix in marked
        for n, part in enumerate(wrap(prefix + line, _CHARACTERS))
    ]
