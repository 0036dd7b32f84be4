"""Slice and 3D views without their pictures: a slice logic composites the slice, nothing draws it."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QWidget

from .mrml_widgets import qMRMLWidget
from .pythonqt import cpp_class

SIZE = 300
"""Width and height of a slice view in pixels, as if a user had made the window so large."""


class _View(QWidget):
    """Where Slicer draws."""

    def scheduleRender(self) -> None:
        """Nothing is drawn."""

    def forceRender(self) -> None:
        """Nothing is drawn."""


@cpp_class
class qMRMLSliceView(_View):
    """The picture of a slice."""


@cpp_class
class qMRMLThreeDView(_View):
    """The picture of a 3D view."""

    def resetFocalPoint(self) -> None:
        """Nothing is drawn that could be centred."""


@cpp_class
class qMRMLSliceWidget(qMRMLWidget):
    """A slice view and what is above it."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic
        self._view = qMRMLSliceView(self)

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground(SIZE, SIZE)


@cpp_class
class qMRMLThreeDWidget(qMRMLWidget):
    """A 3D view and what is above it."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node
        self._view = qMRMLThreeDView(self)

    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    def mrmlViewNode(self) -> Any:
        return self._node
