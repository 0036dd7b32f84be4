"""Draws slices and the 3D view of a phantom's result into a folder, and prints where its lesion must be seen, as JSON.

A program of its own, because an error in a graphics driver ends the process. Prints null where nothing can be drawn.
"""

# ruff: noqa: E402 -- the stand-in has to be started before anything that imports Slicer

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "DALAnomaly"), str(ROOT / "Testing")]

import slicer_standin

slicer_standin.start()

import slicer
from PIL import Image

from DALAnomalySlicer.findings_surface import show_3d
from DALAnomalySlicer.heatmap_display import show_heatmap_legend, show_in_slices
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.navigation import jump_to
from DALAnomalySlicer.result_nodes import update_results
from Testing.screenshots.drawn_view import NoOpenGLError
from Testing.screenshots.slice_view import DrawnSlice
from Testing.screenshots.three_d_view import DrawnScene
from Testing.slicer.mrml_phantom import AFFINES, THRESHOLD, add_scan, make_result, world_of

GRID = AFFINES["LPS"]
INSIDE, OUTSIDE = (8, 7, 7), (8, 12, 20)  # the first lies amid the lesion, at the patient's right
SIZE = (300, 260)
OPACITY = 0.5


def main(folder: Path) -> None:
    layout = slicer.app.layoutManager()
    try:
        views = {name: DrawnSlice(layout.sliceWidget(name).sliceLogic(), SIZE) for name in layout.sliceViewNames()}
        scene = DrawnScene(layout.threeDWidget(0).mrmlViewNode(), SIZE)
    except NoOpenGLError:
        print(json.dumps(None))
        return
    heatmap = show_result(views)
    show_heatmap_legend(heatmap, False)
    facts = {name: draw(view, folder / f"{name}.png") for name, view in views.items()}
    show_heatmap_legend(heatmap, True)
    _save(views["Red"].picture(), folder / "legend.png")
    scene.look_from((1.0, 0.0, 0.0))
    _save(scene.picture(), folder / "3D.png")
    print(json.dumps(facts))


def show_result(views: dict[str, DrawnSlice]) -> slicer.vtkMRMLScalarVolumeNode:
    """Heatmap, outline, surface and cross-hair; returns the heatmap."""
    scan, found = add_scan(GRID), make_result()
    nodes = update_results(scan, found)
    LiveFindings(nodes, found).update(THRESHOLD, 0.0)
    show_in_slices(scan, nodes.heatmap, OPACITY)
    show_3d(nodes.findings, True)
    for view in views.values():
        view.fit()
    centre = world_of(GRID, INSIDE)
    jump_to(centre)
    cross_hair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    cross_hair.SetCrosshairMode(cross_hair.ShowBasic)
    cross_hair.SetCrosshairRAS(centre)
    return nodes.heatmap


def draw(view: DrawnSlice, path: Path) -> dict[str, Any]:
    """Save the picture; the pixels (column, row) of the two points, and what is written above the view."""
    _save(view.picture(), path)
    points = {"inside": _pixel(view, INSIDE), "outside": _pixel(view, OUTSIDE)}
    return {**points, "position": view.position, "share": view.share}


def _pixel(view: DrawnSlice, voxel: tuple[int, int, int]) -> tuple[float, float]:
    xy_to_ras = slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS())
    x, y, _z, _w = np.linalg.solve(xy_to_ras, (*world_of(GRID, voxel), 1.0))
    return x, SIZE[1] - 1 - y


def _save(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
