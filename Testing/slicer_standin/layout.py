"""The layout manager: widgets and slice logics for the views that the real layout logic says are there."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Signal

from .pythonqt import cpp_class
from .views import SIZE, qMRMLSliceWidget, qMRMLThreeDWidget


@cpp_class
class qSlicerLayoutManager(QObject):
    """What modules ask of the layout manager; the layouts themselves are in the scene's layout node.

    A view that was shown once stays known, as in Slicer.
    """

    layoutChanged = Signal(int)

    def __init__(self, application_logic: Any, scene: Any) -> None:
        super().__init__()
        self._application_logic = application_logic
        self._slice_widgets: dict[str, qMRMLSliceWidget] = {}
        self._three_d_widgets: dict[str, qMRMLThreeDWidget] = {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        application_logic.SetSliceLogics(vtk.vtkCollection())
        application_logic.SetViewLogics(vtk.vtkCollection())
        layout_node = self._logic.GetLayoutNode()
        self._shown = layout_node.SlicerLayoutNone
        layout_node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show_layout())
        layout_node.SetViewArrangement(layout_node.SlicerLayoutFourUpView)

    def _show_layout(self) -> None:
        nodes = self._logic.GetViewNodes()
        for node in (nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())):
            if node.IsA("vtkMRMLSliceNode"):
                self._add_slice_view(node)
            elif node.IsA("vtkMRMLViewNode"):
                self._add_three_d_view(node)
        if self._shown != self._get_layout():
            self._shown = self._get_layout()
            self.layoutChanged.emit(self._shown)

    def _add_slice_view(self, node: Any) -> None:
        if node.GetLayoutName() in self._slice_widgets:
            return
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        logic.ResizeSliceNode(SIZE, SIZE)
        self._application_logic.GetSliceLogics().AddItem(logic)
        self._slice_widgets[node.GetLayoutName()] = qMRMLSliceWidget(logic)

    def _add_three_d_view(self, node: Any) -> None:
        if node.GetLayoutName() not in self._three_d_widgets:
            self._three_d_widgets[node.GetLayoutName()] = qMRMLThreeDWidget(node)
        if slicer.modules.cameras.logic().GetViewActiveCameraNode(node) is None:  # it comes with the view's picture
            camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode", "Camera")
            camera.SetLayoutName(node.GetLayoutName())

    def _get_layout(self) -> int:
        return int(self._logic.GetLayoutNode().GetViewArrangement())

    def setLayout(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(layout)

    layout = Property(int, _get_layout, setLayout)
    threeDViewCount = Property(int, lambda self: len(self._three_d_widgets))
    tableViewCount = plotViewCount = Property(int, lambda self: 0)

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def mrmlSliceLogics(self) -> Any:
        return self._application_logic.GetSliceLogics()

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slice_widgets)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slice_widgets.get(name)

    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        widgets = list(self._three_d_widgets.values())
        return widgets[index] if index < len(widgets) else None

    def resetSliceViews(self) -> None:
        for widget in self._slice_widgets.values():
            widget.sliceLogic().FitSliceToAll()

    def resetThreeDViews(self) -> None:
        for widget in self._three_d_widgets.values():
            widget.threeDView().resetFocalPoint()
