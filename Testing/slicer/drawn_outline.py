"""Draws the findings in a slice view with OpenGL, without a window, and prints where their outline is seen, as JSON.

A program of its own, because an error in a graphics driver ends the process.
"""

# ruff: noqa: E402 -- the stand-in has to be started before anything that imports Slicer

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "DALAnomaly"), str(ROOT / "Testing")]
os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"

import slicer_standin

slicer_standin.start()

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.navigation import jump_to
from DALAnomalySlicer.result_nodes import update_results
from DALAnomalySlicer.segment_terms import ANOMALY
from Testing.slicer.mrml_phantom import AFFINES, add_scan, make_result, world_of
from Testing.slicer.slice_pixels import SliceView

INSIDE = (8, 7, 7)
THRESHOLDS = (0.25, 0.95, 0.25)


class Picture:
    """A slice view that draws segmentations."""

    def __init__(self, view: SliceView) -> None:
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetSize(*view.node.GetDimensions()[:2])
        renderer = vtk.vtkRenderer()
        self._window.AddRenderer(renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()  # displayable managers expect one
        self._interactor.SetRenderWindow(self._window)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        factory.RegisterDisplayableManager("vtkMRMLSegmentationsDisplayableManager2D")
        self._managers = factory.InstantiateDisplayableManagers(renderer)
        self._managers.SetMRMLDisplayableNode(view.node)

    @property
    def can_draw(self) -> bool:
        return bool(self._window.SupportsOpenGL())

    def outline(self) -> np.ndarray:
        """Where the picture has the colour of the findings, bool (height, width)."""
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        width, height, _ = grabber.GetOutput().GetDimensions()
        picture = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)
        return np.abs(picture[..., :3] / 255 - ANOMALY.colour).max(axis=-1) < 0.1


def main() -> None:
    """Print, per threshold, how many pixels the outline has and its bounds, and the pixel amid the lesion."""
    scan, result = add_scan(AFFINES["oblique"]), make_result()
    live = LiveFindings(update_results(scan, result), result)
    view = SliceView("Axial")
    view.layers.SetBackgroundVolumeID(scan.GetID())
    view.fit()
    picture = Picture(view)
    if not picture.can_draw:
        print(json.dumps(None))
        return
    inside = world_of(AFFINES["oblique"], INSIDE)
    jump_to(inside)
    x, y, _z, _w = np.linalg.solve(slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS()), (*inside, 1.0))
    drawn = []
    for threshold in THRESHOLDS:
        live.update(threshold, 0.0)
        drawn.append(_bounds(picture.outline()))
    print(json.dumps({"inside": (x, y), "drawn": drawn}))


def _bounds(outline: np.ndarray) -> dict[str, Any]:
    rows, columns = np.nonzero(outline)
    if not rows.size:
        return {"pixels": 0}
    bounds = (columns.min(), columns.max(), rows.min(), rows.max())
    return {"pixels": int(rows.size), "bounds": [int(bound) for bound in bounds]}


if __name__ == "__main__":
    main()
