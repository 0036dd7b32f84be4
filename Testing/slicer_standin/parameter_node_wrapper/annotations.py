"""What `Annotated[type, ...]` says about a parameter: its default, its valid values, how a widget shows it."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

Annotation = TypeVar("Annotation")


@dataclass(frozen=True)
class Default:
    """The value of a parameter that nobody has set."""

    fixed: Any = None
    generator: Callable[[], Any] | None = None

    @property
    def value(self) -> Any:
        return self.generator() if self.generator else self.fixed


@dataclass(frozen=True)
class Decimals:
    """How many decimals a widget shows."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """By how much one step of a widget changes the value."""

    value: float


class Validator(ABC):
    """Refuses values."""

    @abstractmethod
    def validate(self, value: Any) -> None:
        """Raises ValueError or TypeError for a value that is not valid."""


@dataclass(frozen=True)
class WithinRange(Validator):
    """Between two values, both included."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            msg = f"value {value} is not within [{self.minimum}, {self.maximum}]"
            raise ValueError(msg)


@dataclass(frozen=True)
class Minimum(Validator):
    """At least so much."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            msg = f"value {value} is less than {self.minimum}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Maximum(Validator):
    """At most so much."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            msg = f"value {value} is greater than {self.maximum}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Choice(Validator):
    """One of these."""

    choices: Container[Any]

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            msg = f"value {value!r} is none of {self.choices}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Exclude(Validator):
    """None of these."""

    excludedValues: Container[Any]

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            msg = f"value {value!r} is one of {self.excludedValues}"
            raise ValueError(msg)


@dataclass(frozen=True)
class IsInstance(Validator):
    """An instance of a type; None counts as one of every type where `optional`."""

    kind: type | tuple[type, ...]
    optional: bool = False

    def validate(self, value: Any) -> None:
        if not (isinstance(value, self.kind) or (value is None and self.optional)):
            msg = f"value {value!r} is of type {type(value).__name__}, not {self.kind}"
            raise TypeError(msg)


def split_annotations(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type itself, and what is said about it."""
    if typing.get_origin(annotated) is not Annotated:
        return annotated, ()
    kind, *annotations = typing.get_args(annotated)
    return kind, tuple(annotations)


def first_of(annotations: tuple[Any, ...], kind: type[Annotation]) -> Annotation | None:
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)
