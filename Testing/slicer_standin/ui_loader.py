"""Loading .ui files that name widgets of CTK and Slicer."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import QBuffer, QIODevice, QObject, qInstallMessageHandler
from PySide6.QtUiTools import QUiLoader as NativeLoader
from PySide6.QtWidgets import QWidget

from .pythonqt import STAND_INS, children_not_kept


@dataclass(frozen=True)
class _Connection:
    """A connection that was drawn in Designer."""

    sender: str
    signal: str
    receiver: str
    slot: str

    def apply(self, objects: dict[str, Any]) -> None:
        objects[self.sender].connect(self.signal, objects[self.receiver], self.slot)


@dataclass(frozen=True)
class _Flags:
    """A property whose value is written as names of enumerators, `ctkPathLineEdit::Files|ctkPathLineEdit::Readable`."""

    widget: str
    name: str
    value: str

    def apply(self, objects: dict[str, Any]) -> None:
        setattr(objects[self.widget], self.name, reduce(or_, map(_enumerator, self.value.split("|"))))


class QUiLoader(NativeLoader):
    """Makes stand-ins for the custom widgets of a .ui file.

    Raises:
        RuntimeError: A custom widget has no stand-in, or Qt complains about a property. (Slicer only logs these.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._complaints: list[str] = []

    def createWidget(self, class_name: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        if class_name in STAND_INS:
            widget: QWidget = STAND_INS[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)

    def load(self, device: QIODevice, parent: QWidget | None = None) -> QWidget:
        root = ElementTree.fromstring(bytes(device.readAll()))
        self._complaints = []
        # Qt knows nothing of what is Python's: enumerators, signals and slots of stand-ins are for afterwards.
        later: list[_Connection | _Flags] = [*_take_flags(root), *_take_connections(root)]
        with children_not_kept({element.get("name", "") for element in root.iter()}):
            widget = self._load_source(ElementTree.tostring(root), parent)
        if self._complaints:
            raise RuntimeError("; ".join(self._complaints))
        objects = {child.objectName: child for child in [widget, *widget.findChildren(QObject)]}
        for change in later:
            change.apply(objects)
        return widget

    def _load_source(self, source: bytes, parent: QWidget | None) -> QWidget:
        buffer = QBuffer()
        buffer.setData(source)
        buffer.open(QIODevice.ReadOnly)
        before = qInstallMessageHandler(lambda _kind, _context, message: self._complaints.append(message))
        try:
            return super().load(buffer, parent)
        finally:
            qInstallMessageHandler(before)


def _take_connections(root: ElementTree.Element) -> list[_Connection]:
    parts = ("sender", "signal", "receiver", "slot")
    connections = [_Connection(*(c.findtext(part) or "" for part in parts)) for c in root.iter("connection")]
    for element in root.findall("connections"):
        root.remove(element)
    return connections


def _take_flags(root: ElementTree.Element) -> Iterator[_Flags]:
    for widget in root.iter("widget"):
        for element in widget.findall("property"):
            value, name = element.findtext("set") or element.findtext("enum"), element.get("name", "")
            if value and name in _own_properties(widget.get("class", "")):
                widget.remove(element)
                yield _Flags(widget.get("name", ""), name, value)


def _own_properties(class_name: str) -> set[str]:
    """Properties that a stand-in defines in Python."""
    bases = STAND_INS[class_name].__mro__ if class_name in STAND_INS else ()
    return {name for base in bases for name, member in vars(base).items() if isinstance(member, QtCore.Property)}


def _enumerator(text: str) -> Any:
    """The value of `Scope::Name` or `Scope::Enumeration::Name`."""
    scope, _, name = text.partition("::")
    owner = STAND_INS.get(scope) or getattr(QtCore, scope, None) or getattr(QtWidgets, scope)
    return getattr(owner, name.rpartition("::")[2])
