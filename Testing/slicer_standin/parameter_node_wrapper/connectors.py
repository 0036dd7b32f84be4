"""How each kind of widget shows a parameter and changes it."""

from __future__ import annotations

import pathlib
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import slicer
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLineEdit,
    QPushButton,
    QSlider,
    QSpinBox,
    QTextEdit,
    QWidget,
)

from ..ctk_buttons import ctkDirectoryButton
from ..ctk_inputs import ctkPathLineEdit, ctkSliderWidget
from ..mrml_widgets import qMRMLSliderWidget
from ..node_combo_box import qMRMLNodeComboBox
from .annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, first_of, split_annotations

SlicerParameterNamePropertyName = "SlicerParameterName"
"""The dynamic property that names the parameter of a widget in a .ui file."""

SLIDERS = (QSlider, ctkSliderWidget, qMRMLSliderWidget)


@dataclass(frozen=True)
class Connector:
    """Reads and writes the value of one widget; `signal` tells that the user has changed it."""

    widget: QWidget
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


def connector_for(widget: QWidget, annotated: Any) -> Connector:
    """The connector of a widget and a type.

    Raises:
        RuntimeError: Slicer cannot connect such a widget to such a type (a ctkComboBox to anything, for instance).
    """
    kind, annotations = split_annotations(annotated)
    make = _makers(kind).get(type(widget))
    if make is None:
        msg = f"Unable to create GUI connector from datatype '{annotated}' to widget type '{type(widget)}'"
        raise RuntimeError(msg)
    return make(widget, kind, annotations)


Maker = Callable[[Any, Any, "tuple[Any, ...]"], Connector]


def _makers(kind: Any) -> dict[type, Maker]:
    """What shows values of a type, by the exact class of the widget."""
    if _node_classes(kind):
        return {qMRMLNodeComboBox: _node_selector}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {QComboBox: _enum_choice}
    return {
        bool: {QCheckBox: _check, QPushButton: _toggle, QComboBox: _choice},
        int: dict.fromkeys((QSlider, QSpinBox, QDoubleSpinBox, ctkSliderWidget), _number) | {QComboBox: _choice},
        float: dict.fromkeys((QDoubleSpinBox, ctkSliderWidget, qMRMLSliderWidget), _number) | {QComboBox: _choice},
        str: {QLineEdit: _line, QTextEdit: _text, QComboBox: _choice},
        pathlib.Path: {ctkPathLineEdit: _path, ctkDirectoryButton: _directory},
    }.get(kind, {})


def _of_property(widget: Any, signal: str, name: str) -> Connector:
    return Connector(widget, signal, lambda: getattr(widget, name), lambda value: setattr(widget, name, value))


def _check(widget: Any, _kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    return _of_property(widget, "stateChanged(int)", "checked")


def _toggle(widget: Any, _kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    widget.checkable = True
    return _of_property(widget, "toggled(bool)", "checked")


def _line(widget: Any, _kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    return _of_property(widget, "textChanged(QString)", "text")


def _text(widget: Any, _kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    return Connector(widget, "textChanged()", widget.toPlainText, widget.setPlainText)


def _path(widget: Any, kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    return Connector(
        widget,
        "currentPathChanged(QString)",
        lambda: kind(widget.currentPath),
        lambda value: setattr(widget, "currentPath", str(value)),
    )


def _directory(widget: Any, kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    return Connector(
        widget,
        "directoryChanged(QString)",
        lambda: kind(widget.directory),
        lambda value: setattr(widget, "directory", str(value)),
    )


def _number(widget: Any, kind: Any, annotations: tuple[Any, ...]) -> Connector:
    decimals, step = first_of(annotations, Decimals), first_of(annotations, SingleStep)
    if decimals is not None:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    widget.minimum, widget.maximum = _range(widget, kind, annotations)
    signal = "valueChanged(int)" if isinstance(widget, (QSlider, QSpinBox)) else "valueChanged(double)"
    return Connector(widget, signal, lambda: kind(widget.value), lambda value: setattr(widget, "value", value))


def _range(widget: Any, kind: Any, annotations: tuple[Any, ...]) -> tuple[float, float]:
    within = first_of(annotations, WithinRange)
    if within is not None:
        return within.minimum, within.maximum
    lowest, highest = first_of(annotations, Minimum), first_of(annotations, Maximum)
    if type(widget) in SLIDERS and (lowest is None or highest is None):
        msg = f"a slider needs a type with bounds, which {kind} has not: annotate it with WithinRange"
        raise RuntimeError(msg)
    unbounded = (-(2**31), 2**31 - 1) if kind is int else (float("-inf"), float("inf"))
    return (
        unbounded[0] if lowest is None else lowest.minimum,
        unbounded[1] if highest is None else highest.maximum,
    )


def _choice(widget: Any, _kind: Any, annotations: tuple[Any, ...]) -> Connector:
    choice = first_of(annotations, Choice)
    if choice is None:
        msg = "a combo box needs a type with the annotation Choice"
        raise RuntimeError(msg)
    choices = list(choice.choices)
    return _item_of(widget, choices, [str(value) for value in choices])


def _enum_choice(widget: Any, kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    label = getattr(kind, "label", lambda member: member.name)
    members = list(kind)
    return _item_of(widget, members, [label(member) for member in members])


def _item_of(widget: Any, values: Sequence[Any], labels: Sequence[str]) -> Connector:
    widget.clear()
    widget.addItems(labels)
    return Connector(
        widget,
        "currentIndexChanged(int)",
        lambda: values[widget.currentIndex],
        lambda value: widget.setCurrentIndex(values.index(value)),
    )


def _node_selector(widget: Any, kind: Any, _annotations: tuple[Any, ...]) -> Connector:
    widget.nodeTypes = [node_class.__name__ for node_class in _node_classes(kind)]
    return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)


def _node_classes(kind: Any) -> list[type]:
    """The classes of a node type, or of a union of node types and None; empty for anything else."""
    is_union = typing.get_origin(kind) is typing.Union
    parts = [part for part in (typing.get_args(kind) if is_union else (kind,)) if part is not type(None)]
    nodes = [part for part in parts if isinstance(part, type) and issubclass(part, slicer.vtkMRMLNode)]
    return nodes if len(nodes) == len(parts) else []
