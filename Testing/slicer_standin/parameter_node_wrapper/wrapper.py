"""The class decorator that gives a description of parameters its behaviour."""

from __future__ import annotations

import typing
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import shiboken6
import slicer
import slicer.util
import vtk
from PySide6.QtWidgets import QWidget

from .annotations import Default, first_of, split_annotations
from .connectors import Connector, SlicerParameterNamePropertyName, connector_for
from .serializers import Serializer, serializer_for


@dataclass(frozen=True)
class _Parameter:
    """One field of the class: `annotated` is its type as written."""

    name: str
    annotated: Any
    serializer: Serializer
    default: Default


@dataclass(frozen=True)
class _Link:
    """One parameter and the widget that shows it; `slot` is connected to the widget."""

    parameter: str
    connector: Connector
    slot: Callable[[], None]


@dataclass(frozen=True)
class _Gui:
    """What one call of `connectParametersToGui` has tied; `observer` is the tag of the node's observer."""

    links: list[_Link]
    observer: int


class _Value:
    """The value of one parameter in one node, read anew whenever the node is modified."""

    def __init__(self, parameter: _Parameter, node: Any, stored_name: str) -> None:
        self._parameter, self._node, self._name = parameter, node, stored_name
        self._writing = False
        if not parameter.serializer.has(node, stored_name):
            self.write(parameter.default.value)
        self._cached = parameter.serializer.read(node, stored_name)
        this = weakref.ref(self)  # the observer must not keep this object alive
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: this()._read_again())
        weakref.finalize(self, node.RemoveObserver, tag)

    def _read_again(self) -> None:
        if self._writing:
            return
        if not self._parameter.serializer.has(self._node, self._name):  # the scene was closed: singletons are reset
            self._parameter.serializer.write(self._node, self._name, self._parameter.default.value)
        self._cached = self._parameter.serializer.read(self._node, self._name)

    def read(self) -> Any:
        return self._cached

    def write(self, value: Any) -> None:
        self._parameter.serializer.validate(value)
        self._writing = True
        try:
            with slicer.util.NodeModify(self._node):  # observers see the node once it is complete
                self._parameter.serializer.write(self._node, self._name, value)
                self._cached = self._parameter.serializer.read(self._node, self._name)
        finally:
            self._writing = False


class _ParameterNodeWrapper:
    """The methods of every wrapper; `parameterNode` is the node of the scene."""

    allParameters: Mapping[str, _Parameter]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int | None, _Gui] = {}
        self._next_tag = 0
        self._updating_gui = False
        self._values = {
            name: _Value(parameter, parameterNode, f"{prefix or ''}{name}")
            for name, parameter in self.allParameters.items()
        }

    def default(self, name: str) -> Default:
        return self.allParameters[name].default

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls.allParameters[name].annotated

    def isCached(self, name: str) -> bool:
        return name in self.allParameters

    def getValue(self, name: str) -> Any:
        return self._values[_known(self, name)].read()

    def setValue(self, name: str, value: Any) -> None:
        self._values[_known(self, name)].write(value)

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, wasModified: int) -> int:
        return int(self.parameterNode.EndModify(wasModified))

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def connectGui(self, gui: Any) -> None:
        """Ties every widget that names a parameter to it, both ways.

        Returns nothing, as Slicer's does (issue 7547): who wants to disconnect uses `connectParametersToGui`.
        """
        is_widget = isinstance(gui, QWidget)
        widgets = gui.findChildren(QWidget) if is_widget else vars(gui).values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: Mapping[str, QWidget]) -> int:
        """Ties parameters to widgets; the tag is for `disconnectGui`."""
        connectors = [
            (name, connector_for(widget, self.dataType(_known(self, name)))) for name, widget in mapping.items()
        ]
        links = [_Link(name, connector, self._reader_of(name, connector)) for name, connector in connectors]
        for link in links:
            link.connector.write(self.getValue(link.parameter))
            link.connector.widget.connect(link.connector.signal, link.slot)
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update_gui())
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = _Gui(links, observer)
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        gui = self._guis.pop(tag, None)
        if gui is None:
            return
        self.RemoveObserver(gui.observer)
        for link in gui.links:
            if shiboken6.isValid(link.connector.widget):
                link.connector.widget.disconnect(link.connector.signal, link.slot)

    def _reader_of(self, name: str, connector: Connector) -> Callable[[], None]:
        def read() -> None:
            if not self._updating_gui:
                with slicer.util.NodeModify(self):
                    self.setValue(name, connector.read())

        return read

    def _update_gui(self) -> None:
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self):
                for link in [link for gui in self._guis.values() for link in gui.links]:
                    link.connector.write(self.getValue(link.parameter))
        finally:
            self._updating_gui = False


def _known(wrapper: _ParameterNodeWrapper, name: str) -> str:
    if name not in wrapper.allParameters:
        msg = f"Cannot find a param with the given name: {name}; there are {', '.join(wrapper.allParameters)}"
        raise ValueError(msg)
    return name


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: every annotated field becomes a property kept in the parameter node."""
    return _wrap if cls is None else _wrap(cls)


def isParameterNodeWrapper(candidate: Any) -> bool:
    kind = candidate if isinstance(candidate, type) else type(candidate)
    return issubclass(kind, _ParameterNodeWrapper)


def _wrap(cls: type) -> type:
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _parameter(cls, name, annotated) for name, annotated in hints.items()}
    reserved = {name for name in vars(_ParameterNodeWrapper) if not name.startswith("_")} | {"parameterNode"}
    for name in reserved:
        if name in parameters or hasattr(cls, name):
            msg = f"Cannot use reserved name '{name}' in a parameterNodeWrapper"
            raise ValueError(msg)
    members: dict[str, Any] = {name: _property(name) for name in parameters}
    described = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_ParameterNodeWrapper, cls), {**described, **members, "allParameters": parameters})


def _parameter(cls: type, name: str, annotated: Any) -> _Parameter:
    serializer = serializer_for(annotated)
    if hasattr(cls, name):
        default = Default(getattr(cls, name))
    else:
        default = first_of(split_annotations(annotated)[1], Default) or Default(serializer.default())
    return _Parameter(name, annotated, serializer, default)


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))
