"""Draws the screenshots of the documentation: the module's panel beside the views, with the result of the sample scan.

    python Testing/make_screenshots.py [FOLDER]

Nothing in them is made up: the panel is the module's own on the stand-in for Slicer's widgets, its button starts the
real detection, and Slicer's own displayable managers draw the views. The rest of Slicer's window is left out. Needs
OpenGL, but no display.
"""

# ruff: noqa: E402 -- the stand-in has to be started before anything that imports Slicer

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "DALAnomaly"), str(ROOT / "Testing")]

import slicer_standin

slicer_standin.start()

import slicer
from PIL import Image

from DALAnomalySlicer.export.key_images import key_images
from DALAnomalySlicer.node_roles import results_of
from Testing.screenshots.page import BAR, GAP, Frame, grid, save
from Testing.screenshots.slice_view import DrawnSlice
from Testing.screenshots.three_d_view import DrawnScene
from Testing.slicer.panel_driver import open_panel, wait_until

FOLDER = ROOT / "Resources" / "Screenshots"

PANEL_WIDTH = 380
VIEW_SIZE = (470, 470)
COMPARED_VIEWS = ("DALScan", "DALHealthy", "DALHeatmap")
COMPARED_SIZE = (430, 470)
REPORT_WIDTH = 1100
RUN_SECONDS = 600.0
BRAIN_OPACITY = 0.25
FROM_BEHIND_ON_THE_RIGHT = (0.9, -1.0, 0.5)
"""Where the camera stands, RAS."""


def main(folder: Path) -> None:
    """Detect the sample's lesion as a user does, and write the pictures."""
    panel, views = open_panel(), FourViews()
    detect_sample(panel)
    views.fit()
    pictures = {
        "screenshot_compare.png": comparison(panel),
        "screenshot_result.png": result(panel, views),
        "screenshot_report.png": key_image(panel),
    }
    fail_for_slot_errors()
    for name, picture in pictures.items():
        save(picture, folder / name)
        print(folder / name)


class FourViews:
    """Slicer's usual layout: three slices and the 3D view."""

    def __init__(self) -> None:
        """Draw them before there is anything to show, as Slicer does."""
        self._red, self._green, self._yellow = (drawn_slice(name, VIEW_SIZE) for name in ("Red", "Green", "Yellow"))
        self._scene = DrawnScene(slicer.app.layoutManager().threeDWidget(0).mrmlViewNode(), VIEW_SIZE)

    def fit(self) -> None:
        """Show all of the scan."""
        for view in (self._red, self._green, self._yellow):
            view.fit()

    def image(self) -> Image.Image:
        """Axial and 3D above coronal and sagittal."""
        self._scene.look_from(FROM_BEHIND_ON_THE_RIGHT)
        node = self._scene.node
        scene = Frame(self._scene.picture(), node.GetLayoutColor(), node.GetLayoutLabel()).image()
        return grid([[framed(self._red), scene], [framed(self._green), framed(self._yellow)]])


def drawn_slice(name: str, size: tuple[int, int]) -> DrawnSlice:
    """The slice view of this name in the layout."""
    return DrawnSlice(slicer.app.layoutManager().sliceWidget(name).sliceLogic(), size)


def framed(view: DrawnSlice) -> Image.Image:
    """A slice below its bar."""
    node = view.node
    return Frame(view.picture(), node.GetLayoutColor(), node.GetLayoutLabel(), view.position, view.share).image()


def detect_sample(panel: Any) -> None:
    """Press the button, and wait for the result.

    Raises:
        RuntimeError: there is none, or nothing was found.
    """
    panel.ui.sampleButton.click()
    wait_until(lambda: not panel.run.running, RUN_SECONDS)
    if panel.findings.live is None or not panel.findings.live.rows:
        msg = f"the sample's lesion was not found: {panel.ui.statusLabel.text or panel.ui.preflightLabel.text}"
        raise RuntimeError(msg)


def comparison(panel: Any) -> Image.Image:
    """Scan, pseudo-healthy image and heatmap side by side at the first finding, where all views stay."""
    panel.ui.sideBySideButton.click()
    views = [drawn_slice(name, COMPARED_SIZE) for name in COMPARED_VIEWS]
    for view in views:
        view.fit()
    panel.ui.nextButton.click()
    show_cross_hair(panel.findings.live.rows[0].centroid_ras)
    image = grid([[framed(view) for view in views]])
    panel.ui.sideBySideButton.click()
    return image


def result(panel: Any, views: FourViews) -> Image.Image:
    """The panel and four views of the finding."""
    panel.ui.show3DButton.click()
    show_brain_surface(panel.ui.inputSelector.currentNode())
    return grid([[panel_image(), views.image()]])


def key_image(panel: Any) -> Image.Image:
    """The first picture of the report."""
    png = key_images(panel.export.context(), limit=1)[0].png
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return image.resize((REPORT_WIDTH, round(image.height * REPORT_WIDTH / image.width)), Image.Resampling.LANCZOS)


def show_cross_hair(point: tuple[float, float, float]) -> None:
    """Mark a point (RAS, mm) in all slice views."""
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    node.SetCrosshairMode(node.ShowBasic)
    node.SetCrosshairRAS(point)


def show_brain_surface(scan: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show the brain in 3D so that the findings are seen through it."""
    brain = results_of(scan)["brain_mask"]
    brain.CreateClosedSurfaceRepresentation()
    display = brain.GetDisplayNode()
    display.SetOpacity3D(BRAIN_OPACITY)
    display.SetVisibility2D(False)
    display.SetVisibility3D(True)
    display.SetVisibility(True)


def panel_image() -> Image.Image:
    """The panel, as high as the views beside it.

    Raises:
        RuntimeError: it needs more room.
    """
    widget = slicer.modules.dalanomaly.widgetRepresentation()
    needed, height = widget.sizeHint.height(), 2 * (BAR + VIEW_SIZE[1]) + GAP
    if needed > height:
        msg = f"the panel needs {needed} pixels of height but gets {height}; enlarge VIEW_SIZE"
        raise RuntimeError(msg)
    widget.resize(PANEL_WIDTH, height)
    widget.show()
    slicer.app.processEvents()
    path = Path(slicer.app.temporaryPath) / "panel.png"
    widget.grab().save(str(path))
    return Image.open(path).convert("RGB")


def fail_for_slot_errors() -> None:
    """Nothing may have gone wrong unnoticed.

    Raises:
        RuntimeError: with the tracebacks.
    """
    errors = slicer_standin.take_slot_errors()
    if errors:
        raise RuntimeError("\n".join(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
