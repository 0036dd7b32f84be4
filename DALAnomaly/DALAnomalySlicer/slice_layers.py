"""What the slice views show: layers of their composite nodes, so that it works without a window as well."""

from __future__ import annotations

from collections.abc import Iterator

import slicer

COMPARISON_PREFIX = "DAL"
"""Slice views whose name begins like this belong to the side-by-side layout, each with an image of its own."""


def ordinary_views() -> Iterator[slicer.vtkMRMLSliceCompositeNode]:
    """Composite nodes of all slice views but those that compare images side by side."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if not (view.GetLayoutName() or "").startswith(COMPARISON_PREFIX):
            yield view


def views_showing(foreground: slicer.vtkMRMLVolumeNode) -> Iterator[slicer.vtkMRMLSliceCompositeNode]:
    """Composite nodes of the slice views with this volume in the foreground."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if view.GetForegroundVolumeID() == foreground.GetID():
            yield view


def show_layers(
    background: slicer.vtkMRMLVolumeNode | None, foreground: slicer.vtkMRMLVolumeNode | None, opacity: float
) -> None:
    """Show one volume over the other in all ordinary slice views; the label layer stays as it is."""
    for view in ordinary_views():
        set_layers(view, background, foreground, opacity)


def set_layers(
    view: slicer.vtkMRMLSliceCompositeNode,
    background: slicer.vtkMRMLVolumeNode | None,
    foreground: slicer.vtkMRMLVolumeNode | None,
    opacity: float,
) -> None:
    """Show one volume over the other in one slice view."""
    view.SetBackgroundVolumeID(None if background is None else background.GetID())
    view.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
    view.SetForegroundOpacity(opacity)


def replace_foreground(old: slicer.vtkMRMLVolumeNode, new: slicer.vtkMRMLVolumeNode) -> None:
    """Show `new` wherever `old` lies in the foreground."""
    for view in views_showing(foreground=old):
        view.SetForegroundVolumeID(new.GetID())
