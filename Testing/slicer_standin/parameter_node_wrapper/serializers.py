"""How the value of each type is kept in a parameter node."""

from __future__ import annotations

import pathlib
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import slicer
import slicer.util

from .annotations import IsInstance, Validator, split_annotations


class Serializer(ABC):
    """Reads and writes the parameter of some name."""

    @abstractmethod
    def default(self) -> Any:
        """The value of a parameter without a default of its own."""

    @abstractmethod
    def has(self, node: Any, name: str) -> bool:
        """Whether the node holds the parameter."""

    @abstractmethod
    def validate(self, value: Any) -> None:
        """Raises ValueError or TypeError for a value that the parameter cannot have."""

    @abstractmethod
    def write(self, node: Any, name: str, value: Any) -> None:
        """Stores a valid value."""

    @abstractmethod
    def read(self, node: Any, name: str) -> Any:
        """The stored value."""

    @abstractmethod
    def remove(self, node: Any, name: str) -> None:
        """Takes the parameter out of the node."""


@dataclass(frozen=True)
class Text(Serializer):
    """A value that is one text in the node."""

    kind: type | tuple[type, ...]
    default_value: Any
    to_text: Callable[[Any], str]
    from_text: Callable[[str], Any]

    def default(self) -> Any:
        return self.default_value

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        IsInstance(self.kind).validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self.to_text(value))

    def read(self, node: Any, name: str) -> Any:
        return self.from_text(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


@dataclass(frozen=True)
class NodeReference(Serializer):
    """A node of the scene, or None. An empty parameter of the same name says that it has been set."""

    kind: type

    def default(self) -> Any:
        return None

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        IsInstance(self.kind, optional=True).validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, None if value is None else value.GetID())

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


@dataclass(frozen=True)
class Nothing(Serializer):
    """The value None, as an alternative of a union."""

    def default(self) -> None:
        return None

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        IsInstance(type(None)).validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> None:
        return None

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


@dataclass(frozen=True)
class Validated(Serializer):
    """A serializer with validators from annotations."""

    inner: Serializer
    validators: tuple[Validator, ...]

    def default(self) -> Any:
        return self.inner.default()

    def has(self, node: Any, name: str) -> bool:
        return self.inner.has(node, name)

    def validate(self, value: Any) -> None:
        self.inner.validate(value)
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.inner.write(node, name, value)

    def read(self, node: Any, name: str) -> Any:
        return self.inner.read(node, name)

    def remove(self, node: Any, name: str) -> None:
        self.inner.remove(node, name)


@dataclass(frozen=True)
class Union(Serializer):
    """One of several types: the first that takes the value."""

    alternatives: tuple[Serializer, ...]

    def default(self) -> Any:
        is_optional = len(self.alternatives) == 2 and isinstance(_inner(self.alternatives[1]), Nothing)
        return None if is_optional else self.alternatives[0].default()

    def has(self, node: Any, name: str) -> bool:
        return any(serializer.has(node, part) for part, serializer in self._parts(name))

    def validate(self, value: Any) -> None:
        self._index_for(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        index = self._index_for(value)
        self.remove(node, name)
        self.alternatives[index].write(node, f"{name}_{index}", value)

    def read(self, node: Any, name: str) -> Any:
        return next(serializer.read(node, part) for part, serializer in self._parts(name) if serializer.has(node, part))

    def remove(self, node: Any, name: str) -> None:
        for part, serializer in self._parts(name):
            serializer.remove(node, part)

    def _parts(self, name: str) -> Iterable[tuple[str, Serializer]]:
        return ((f"{name}_{index}", serializer) for index, serializer in enumerate(self.alternatives))

    def _index_for(self, value: Any) -> int:
        for index, serializer in enumerate(self.alternatives):
            if value is None and not isinstance(_inner(serializer), Nothing):
                continue
            try:
                serializer.validate(value)
            except (TypeError, ValueError):
                continue
            return index
        msg = f"value {value!r} of type {type(value).__name__} is none of the types of the parameter"
        raise TypeError(msg)


@dataclass(frozen=True)
class ListOf(Serializer):
    """A list; changing it in place changes the node."""

    element: Serializer

    def default(self) -> Any:
        return []

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}_len"))

    def validate(self, value: Any) -> None:
        for element in value:
            self.element.validate(element)

    def write(self, node: Any, name: str, value: Any) -> None:
        values = list(value)  # it may be the stored list itself
        self.remove(node, name)
        for index, element in enumerate(values):
            self.element.write(node, f"{name}_{index}", element)
        node.SetParameter(f"{name}_len", str(len(values)))

    def read(self, node: Any, name: str) -> Any:
        elements = [self.element.read(node, f"{name}_{index}") for index in range(self._length(node, name))]
        return StoredList(node, name, self, elements)

    def remove(self, node: Any, name: str) -> None:
        for index in range(self._length(node, name)):
            self.element.remove(node, f"{name}_{index}")
        node.UnsetParameter(f"{name}_len")

    def _length(self, node: Any, name: str) -> int:
        return int(node.GetParameter(f"{name}_len") or 0)


class StoredList(MutableSequence[Any]):
    """The value of a list parameter."""

    def __init__(self, node: Any, name: str, serializer: ListOf, elements: list[Any]) -> None:
        self._node, self._name, self._serializer, self._elements = node, name, serializer, elements

    def __getitem__(self, index: Any) -> Any:
        return self._elements[index]

    def __len__(self) -> int:
        return len(self._elements)

    def __eq__(self, other: object) -> bool:
        return self._elements == (other._elements if isinstance(other, StoredList) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"StoredList({self._elements})"

    def __setitem__(self, index: Any, element: Any) -> None:
        changed = list(self._elements)
        changed[index] = element
        self._store(changed)

    def __delitem__(self, index: Any) -> None:
        changed = list(self._elements)
        del changed[index]
        self._store(changed)

    def insert(self, index: int, element: Any) -> None:
        changed = list(self._elements)
        changed.insert(index, element)
        self._store(changed)

    def _store(self, elements: list[Any]) -> None:
        self._serializer.validate(elements)
        with slicer.util.NodeModify(self._node):
            self._serializer.write(self._node, self._name, elements)
        self._elements = elements


def serializer_for(annotated: Any) -> Serializer:
    """The serializer of a type, with the validators of its annotations.

    Raises:
        TypeError: A type that the stand-in does not know.
    """
    kind, annotations = split_annotations(annotated)
    validators = tuple(annotation for annotation in annotations if isinstance(annotation, Validator))
    return Validated(_plain_serializer(kind), validators)


def _plain_serializer(kind: Any) -> Serializer:
    if kind in _TEXT_TYPES:
        return _TEXT_TYPES[kind]
    if kind is type(None):
        return Nothing()
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is list:
        return ListOf(serializer_for(arguments[0]))
    if typing.get_origin(kind) is typing.Union:  # Slicer does not know the union `A | B`
        return Union(tuple(serializer_for(argument) for argument in arguments))
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeReference(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Text(kind, next(iter(kind)), lambda value: str(value.name), lambda text: kind[text])
    msg = f"the stand-in stores no parameter of type {kind}"
    raise TypeError(msg)


def _inner(serializer: Serializer) -> Serializer:
    return serializer.inner if isinstance(serializer, Validated) else serializer


_TEXT_TYPES: dict[Any, Serializer] = {
    str: Text(str, "", str, str),
    int: Text(int, 0, str, int),
    float: Text((int, float), 0.0, str, float),
    bool: Text(bool, False, str, lambda text: text == "True"),
    pathlib.Path: Text(pathlib.Path, pathlib.Path(), str, pathlib.Path),
}
