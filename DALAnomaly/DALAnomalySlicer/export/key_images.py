"""Pictures of the largest findings: three planes through each, as input, pseudo-healthy image and score.

The same scale, brightness and colours hold in all pictures of a result, so that they can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.volume import AnyArray, Grid, lps_to_ras
from DALAnomalySlicer.export.anatomical_planes import PLANES, FieldOfView, FloatImage, Plane
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.export.picture_marks import ACCENT, cross_hair, outline, paint
from DALAnomalySlicer.export.picture_sheet import Strip, sheet_png
from DALAnomalySlicer.export.score_colours import ScoreColours

if TYPE_CHECKING:
    from DALAnomalySlicer.finding_context import FindingRow

MAXIMUM_IMAGES = 6

_TILE_MM, _TILE_PIXELS = 180.0, 400
"""A head of this length fills a tile of this width."""
_FREE_AROUND_CENTRE_MM = 12.0


@dataclass(frozen=True, eq=False)
class KeyImage:
    """A picture as a file.

    Attributes:
        row: the finding in its middle; None for the highest score of a scan without findings.
        png: bytes of a PNG file.
        centre_ras: where the planes meet, in mm.
    """

    row: FindingRow | None
    png: bytes
    centre_ras: tuple[float, float, float]


def key_images(context: ExportContext, limit: int = MAXIMUM_IMAGES) -> tuple[KeyImage, ...]:
    """Pictures of the largest findings that were not dismissed, the largest first.

    Without any, one of the place with the highest score.
    """
    scene = _Scene.of(context)
    largest = sorted(context.kept_rows, key=lambda row: -row.volume_ml)[:limit]
    if not largest:
        return (_key_image(scene, None, np.array(np.unravel_index(scene.score.argmax(), scene.score.shape))),)
    return tuple(_key_image(scene, row, _centre_of(scene.labels == row.number)) for row in largest)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all pictures share; the arrays are (D, H, W) in anatomical order.

    Attributes:
        grid: where their voxels lie.
        window: intensities shown as black and as white.
        sequence: of the scan.
    """

    scan: AnyArray
    pseudo_healthy: AnyArray
    score: AnyArray
    labels: AnyArray
    grid: Grid
    view: FieldOfView
    window: tuple[float, float]
    colours: ScoreColours
    sequence: str

    @classmethod
    def of(cls, context: ExportContext) -> _Scene:
        result, scan = context.result, to_anatomical_order(context.scan)

        def ordered(array: AnyArray) -> AnyArray:
            return to_anatomical_order(context.scan.with_array(array)).array

        brain, score = ordered(result.brain_mask), ordered(result.score)
        inside = brain > 0 if brain.any() else np.ones(brain.shape, bool)
        low, high = np.percentile(scan.array[inside], (1, 99.5))
        return cls(
            scan=scan.array,
            pseudo_healthy=ordered(result.pseudo_healthy),
            score=score,
            labels=ordered(context.kept_labels().array),
            grid=scan.grid,
            view=FieldOfView.around(scan.with_array(brain), _TILE_PIXELS / _TILE_MM),
            window=(float(low), float(max(high, low + 1e-6))),
            colours=ScoreColours.of(result, context.threshold),
            sequence=result.sequence,
        )


def _centre_of(inside: AnyArray) -> AnyArray:
    """The voxel (k, j, i) of a finding nearest to its centre, which itself may lie outside."""
    voxels = np.argwhere(inside)
    return voxels[np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()]


def _key_image(scene: _Scene, row: FindingRow | None, centre: AnyArray) -> KeyImage:
    x, y, z = lps_to_ras(scene.grid.index_to_physical(centre)).tolist()
    strips = [Strip(plane, _where(plane, (x, y, z)), _tiles(scene, row, centre, plane)) for plane in PLANES]
    headings = (f"input ({scene.sequence})", "pseudo-healthy", "score over input")
    return KeyImage(row, sheet_png(strips, headings, scene.colours), (x, y, z))


def _where(plane: Plane, centre_ras: tuple[float, float, float]) -> str:
    """Where a plane lies, such as `axial  S 23 mm`."""
    millimetres = centre_ras[2 - plane.normal]
    direction = ("SI", "AP", "RL")[plane.normal][millimetres < 0]
    return f"{plane.name}  {direction} {abs(millimetres):.0f} mm"


def _tiles(
    scene: _Scene, row: FindingRow | None, centre: AnyArray, plane: Plane
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Input, pseudo-healthy image, and score over the input in one plane."""
    view = scene.view

    def shown(array: AnyArray) -> FloatImage:
        return view.enlarge(view.cut(array, centre, plane), plane)

    scan, healthy = _grey(shown(scene.scan), scene.window), _grey(shown(scene.pseudo_healthy), scene.window)
    found = scene.colours.over(scan, shown(scene.score))
    labels = view.cut(scene.labels, centre, plane)
    number = row.number if row else 0
    paint(found, 0.6 * outline(view.enlarge((labels > 0) & (labels != number), plane), 1.2), ACCENT)
    paint(found, outline(view.enlarge((labels > 0) & (labels == number), plane), 2.5), ACCENT)
    tiles = (scan, healthy, found)
    for tile in tiles:
        cross_hair(tile, view.point(centre, plane), _FREE_AROUND_CENTRE_MM * view.pixels_per_mm)
    return tiles


def _grey(picture: FloatImage, window: tuple[float, float]) -> FloatImage:
    low, high = window
    return np.repeat(np.clip((picture - low) / (high - low), 0, 1)[..., None], 3, axis=-1).astype(np.float32)
