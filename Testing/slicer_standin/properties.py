"""Properties of stand-ins: real Qt properties, so that .ui files can set them and `property("name")` reads them."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property


def stored_property(kind: type | str, name: str, default: Any, changed: str = "") -> Property:
    """A property that only keeps its value; the method named `changed`, if any, is called with each new one."""

    def read(self: Any) -> Any:
        return vars(self).get(f"_{name}", default)

    def write(self: Any, value: Any) -> None:
        given = tuple(value) if isinstance(value, list) else value
        if given != read(self):
            vars(self)[f"_{name}"] = given
            if changed:
                getattr(self, changed)(given)

    return Property(kind, read, write)


def inner_property(kind: type | str, widget: str, name: str) -> Property:
    """A property of a widget that the stand-in is made of: `self.<widget>.<name>`."""

    def read(self: Any) -> Any:
        return getattr(getattr(self, widget), name)

    def write(self: Any, value: Any) -> None:
        setattr(getattr(self, widget), name, value)

    return Property(kind, read, write)
