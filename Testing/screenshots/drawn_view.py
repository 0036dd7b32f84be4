"""A view of the scene, drawn by Slicer's own displayable managers into memory instead of a window."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # before the first window: no display needed

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

Picture = npt.NDArray[np.uint8]
"""Red, green, blue, (height, width, 3), the first row at the top."""

_SAMPLES = 8
_LAST_RESORT = "vtkOSOpenGLRenderWindow"
"""What VTK takes where there is neither EGL nor a display; it claims that it can draw, and crashes without OSMesa."""


class NoOpenGLError(RuntimeError):
    """This machine cannot draw without a display."""


class DrawnView:
    """One view; as in Slicer it has to be there before what it shows: legends are noticed when they are added.

    Attributes:
        node: the slice or 3D view node.
        renderer: what is drawn.
    """

    def __init__(
        self,
        node: Any,
        size: tuple[int, int],
        factory: Any,
        managers: Iterable[str],
        background: vtk.vtkProp | None = None,
    ) -> None:
        """Draw a view.

        Args:
            node: the view node.
            size: width and height in pixels.
            factory: makes the displayable managers of this kind of view.
            managers: those that show the scene, by name.
            background: what is drawn below all that they draw.

        Raises:
            NoOpenGLError: neither EGL nor a display is there.
        """
        self.node = node
        self.renderer = vtk.vtkRenderer()
        if background is not None:
            self.renderer.AddViewProp(background)
        self._window = _window(size, self.renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()  # the managers expect one
        self._interactor.SetRenderWindow(self._window)
        self._managers = _managers(factory, managers, self.renderer)
        self._managers.SetMRMLDisplayableNode(node)

    def picture(self) -> Picture:
        """What the view shows now."""
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _depth = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()


def _window(size: tuple[int, int], renderer: vtk.vtkRenderer) -> vtk.vtkRenderWindow:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(_SAMPLES)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    if window.IsA(_LAST_RESORT) or not window.SupportsOpenGL():
        msg = (
            "nothing can be drawn here: OpenGL needs EGL (on Debian: apt install libegl1 libgl1-mesa-dri) or a display"
        )
        raise NoOpenGLError(msg)
    return window


def _managers(factory: Any, names: Iterable[str], renderer: vtk.vtkRenderer) -> Any:
    """The group of displayable managers that draws with this renderer."""
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    return factory.InstantiateDisplayableManagers(renderer)
