"""The selector of a node of the scene."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import slicer
import slicer.util
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from .ctk_inputs import ctkComboBox
from .properties import stored_property
from .pythonqt import cpp_class

Scene = slicer.vtkMRMLScene


@dataclass(frozen=True)
class _RequiredAttribute:
    """Nodes of a type are offered only with this attribute; `value` None stands for any."""

    node_type: str
    name: str
    value: str | None

    def allows(self, node: Any) -> bool:
        if not node.IsA(self.node_type):
            return True
        found = node.GetAttribute(self.name)
        return found is not None and self.value in (None, found)


@cpp_class
class qMRMLNodeComboBox(QWidget):
    """Lists the scene's nodes of some types and keeps up with the scene.

    As in Slicer it is disabled without a scene; it chooses a node by itself only where None is not allowed and no
    action (create, delete, ...) is offered; and when the current node is removed its neighbour takes its place.
    """

    _SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_nodeIsChosen",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    _nodeIsChosen = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._requested: str | None = None
        self._ids: list[str | None] = []
        self._id: str | None = None
        self._required: list[_RequiredAttribute] = []
        self._observations = slicer.util.VTKObservationMixin()
        refresh = weakref.WeakMethod(self._refresh)  # neither scene nor nodes shall keep the widget alive
        watch = weakref.WeakMethod(self._watch)
        self._on_event = lambda *_: refresh()()
        self._on_removal = lambda *_: (watch()(), refresh()())
        self._combo_box = ctkComboBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self._combo_box.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._combo_box.setMinimumContentsLength(8)
        self._combo_box.setSizeAdjustPolicy(ctkComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._combo_box.activated.connect(self._on_activated)
        observations = self._observations
        self.destroyed.connect(lambda: observations.removeObservers())
        self.setEnabled(False)

    # -- scene

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._watch()
        self.setEnabled(scene is not None)
        self._refresh()
        if self._requested:
            self.setCurrentNodeID(self._requested)

    def _watch(self) -> None:
        """Forget the nodes that were watched, for the mixin would keep those that leave the scene in memory."""
        self._observations.removeObservers()
        if self._scene is not None:
            self._observations.addObserver(self._scene, Scene.NodeAddedEvent, self._on_event)
            self._observations.addObserver(self._scene, Scene.NodeRemovedEvent, self._on_removal)

    # -- list

    def _nodes(self) -> list[Any]:
        """The nodes on offer, in the order of the scene."""
        if self._scene is None:
            return []
        scene_nodes = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in scene_nodes if self._is_candidate(node) and self._is_offered(node)]

    def _is_candidate(self, node: Any) -> bool:
        """Whether the node's class fits. Such a node is watched: it may be renamed, or come to fit entirely."""
        if not any(self._is_of_type(node, node_type) for node_type in self.nodeTypes):
            return False
        if not self._observations.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_event):
            self._observations.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_event)
        return True

    def _is_of_type(self, node: Any, node_type: str) -> bool:
        if node.GetClassName() == node_type:
            return True
        hidden = any(node.IsA(hidden_type) for hidden_type in self.hideChildNodeTypes)
        return self.showChildNodeTypes and not hidden and bool(node.IsA(node_type))

    def _is_offered(self, node: Any) -> bool:
        visible = self.showHidden or not node.GetHideFromEditors()
        return visible and all(required.allows(node) for required in self._required)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int) -> Any:
        return dict(enumerate(self._nodes())).get(index)

    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        self._required.append(_RequiredAttribute(node_type, name, value))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._required = [r for r in self._required if (r.node_type, r.name) != (node_type, name)]
        self._refresh()

    def _refresh(self, _changed: Any = None) -> None:
        """Lists the nodes anew and keeps the current one, or chooses as a combo box of Qt does."""
        before, old_index, known = self._id, self._combo_box.currentIndex, self._ids
        nodes = self._nodes()
        none = [None] if self.noneEnabled else []
        self._ids = [*none, *(node.GetID() for node in nodes)]
        self._combo_box.clear()
        self._combo_box.addItems([self.noneDisplay if node is None else node.GetName() for node in [*none, *nodes]])
        self._combo_box.defaultText = f"Select a {self.nodeTypeLabel(next(iter(self.nodeTypes), ''))}"
        if before in self._ids:
            self._set_index(self._ids.index(before))
        elif before is not None and nodes:
            self._set_index(min(old_index, len(self._ids) - 1))
        elif nodes and not self.noneEnabled and not self._has_actions():
            self._set_index(0)
        else:
            self._set_index(0 if self.noneEnabled else -1)
        for node in nodes:
            if node.GetID() not in known:
                self.nodeAdded.emit(node)

    def _has_actions(self) -> bool:
        return bool(self.addEnabled or self.removeEnabled or self.editEnabled or self.renameEnabled)

    def nodeTypeLabel(self, node_type: str) -> str:
        """What users call the type."""
        return (self._scene.GetTypeDisplayNameByClassName(node_type) if self._scene is not None else "") or "node"

    # -- current node

    def _set_index(self, index: int) -> None:
        self._combo_box.setCurrentIndex(index)
        chosen = self._ids[index] if index >= 0 else None
        if chosen != self._id:
            self._id = chosen
            self.currentNodeChanged.emit(self.currentNode())
            self._nodeIsChosen.emit(chosen is not None)
            self.currentNodeIDChanged.emit(chosen or "")

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if self._scene is None:
            self._requested = node_id
            return
        self._requested = None
        if node_id and node_id in self._ids:
            self._set_index(self._ids.index(node_id))
        else:
            self._set_index(0 if self.noneEnabled else -1)

    def _on_activated(self, index: int) -> None:
        self._set_index(index)
        self.nodeActivated.emit(self.currentNode())

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._id) if self._scene is not None and self._id else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(None if node is None else node.GetID())

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def addNode(self, node_type: str = "") -> Any:
        """Adds a node as if the user had chosen "Create new ..."."""
        class_name = node_type or self.nodeTypes[0]
        base_name = self.baseName or class_name.removeprefix("vtkMRML").removesuffix("Node")
        node = self._scene.AddNewNodeByClass(class_name, self._scene.GenerateUniqueName(base_name))
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    currentNodeID = Property(str, lambda self: self._id or "", setCurrentNodeID)
    nodeTypes = stored_property("QStringList", "nodeTypes", (), changed="_refresh")
    hideChildNodeTypes = stored_property("QStringList", "hideChildNodeTypes", (), changed="_refresh")
    showChildNodeTypes = stored_property(bool, "showChildNodeTypes", True, changed="_refresh")
    showHidden = stored_property(bool, "showHidden", False, changed="_refresh")
    noneEnabled = stored_property(bool, "noneEnabled", False, changed="_refresh")
    noneDisplay = stored_property(str, "noneDisplay", "None", changed="_refresh")
    addEnabled = stored_property(bool, "addEnabled", True)
    removeEnabled = stored_property(bool, "removeEnabled", True)
    editEnabled = stored_property(bool, "editEnabled", False)
    renameEnabled = stored_property(bool, "renameEnabled", False)
    selectNodeUponCreation = stored_property(bool, "selectNodeUponCreation", True)
    baseName = stored_property(str, "baseName", "")
