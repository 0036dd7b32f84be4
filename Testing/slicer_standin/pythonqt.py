"""PythonQt's way of using Qt objects, on top of PySide6.

In Slicer a property is an attribute (`button.text`, never `button.text()`), signals are connected by their signature
(`button.connect("clicked(bool)", slot)`), and attributes that do not exist in C++ cannot be made up. `install()` gives
the classes of PySide6 that behaviour, once and for the whole process. Code of the stand-in itself lives by it, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from PySide6.QtCore import Property, QMetaObject, QObject, SignalInstance
from PySide6.QtWidgets import QFileDialog

_read_property = QObject.property
_write_property = QObject.setProperty
_meta_object = QObject.metaObject
_native_connect = QObject.connect
_native_disconnect = QObject.disconnect
_native_getattribute = QObject.__getattribute__
_native_find_children = QObject.findChildren

Slot = Callable[..., object]

STAND_INS: dict[str, type[QObject]] = {}
"""The stand-ins for classes of CTK and Slicer by name."""


def cpp_class(cls: type[QObject]) -> type[QObject]:
    """Class decorator: `cls` stands for a C++ class, so that nobody may add attributes to its instances.

    Its public names are what Python reaches of the C++ class: properties, signals, slots and invokable functions. A
    plain setter such as setCollapsed is none of these.
    """
    STAND_INS[cls.__name__] = cls
    return cls


def install(modules: Iterable[ModuleType]) -> None:
    """Changes all QObject classes of these modules of PySide6."""
    for cls in _qobject_classes(modules):
        _make_properties_attributes(cls)
        if "__setattr__" in vars(cls):  # most classes of PySide6 carry a slot of their own
            cls.__setattr__ = _setattr
    QObject.name = _QtProperty("objectName", None)
    QObject.connect, QObject.disconnect = connect, disconnect
    QObject.__getattribute__ = _getattribute
    QObject.findChildren = find_children
    QObject.className = lambda self: _meta_object(self).className()
    QObject.delete = lambda self: self.deleteLater()
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
        setattr(QFileDialog, name, _first_of_result(getattr(QFileDialog, name)))


def _first_of_result(function: Slot) -> staticmethod[..., Any]:
    """PySide adds the chosen filter to what a file dialog returns."""
    return staticmethod(lambda *arguments: function(*arguments)[0])


def _qobject_classes(modules: Iterable[ModuleType]) -> set[type[QObject]]:
    members = [getattr(module, name) for module in modules for name in dir(module)]  # PySide loads classes when asked
    return {member for member in members if isinstance(member, type) and issubclass(member, QObject)}


# ---------------------------------------------------------------------------------------------------------------------
# properties


class _QtProperty:
    """A property of Qt as an attribute of the class."""

    _being_read: set[tuple[int, str]] = set()  # noqa: RUF012 -- shared on purpose

    def __init__(self, name: str, on_class: Any) -> None:
        self._name = name
        self._on_class = on_class

    def __get__(self, instance: QObject | None, owner: type) -> Any:
        if instance is None:
            return self._on_class  # QTimer.singleShot is a property of a timer, and a function of the class
        key = (id(instance), self._name)
        if key in self._being_read:
            return None  # PySide asks whether Python overrides a virtual getter, such as sizeHint: it does not
        self._being_read.add(key)
        try:
            value = _read_property(instance, self._name)
        finally:
            self._being_read.discard(key)
        return tuple(value) if isinstance(value, list) else value  # PythonQt gives a QStringList as a tuple

    def __set__(self, instance: QObject, value: object) -> None:
        """Present so that the instance's dictionary cannot hide the property; `_setattr` does the work."""


def _make_properties_attributes(cls: type[QObject]) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        # Own properties, and getters that the class has overridden: those hide the attribute of the base class.
        if index >= meta.propertyOffset() or name in vars(cls):
            setattr(cls, name, _QtProperty(name, getattr(cls, name, None)))


def _set_property(instance: QObject, name: str, value: object) -> None:
    class_name = _meta_object(instance).className()
    definition = _meta_object(instance).property(_meta_object(instance).indexOfProperty(name))
    if not definition.isWritable():
        msg = f"Property '{name}' of {class_name} object is not writable"
        raise AttributeError(msg)
    given = list(value) if isinstance(value, tuple) else value
    if given is None or not _write_property(instance, name, given):
        msg = (
            f"Property '{name}' of type '{definition.typeName()}' of {class_name} object "
            f"does not accept an object of type {type(value).__name__} ({value!r})"
        )
        raise AttributeError(msg)


# ---------------------------------------------------------------------------------------------------------------------
# attributes


_kept_by_pyside: set[str] = set()


@contextmanager
def children_not_kept(names: Iterable[str]) -> Iterator[None]:
    """While a .ui file is loaded PySide makes its widgets attributes of the root, which PythonQt does not."""
    _kept_by_pyside.update(names)
    try:
        yield
    finally:
        _kept_by_pyside.clear()


def _getattribute(self: QObject, name: str) -> Any:
    # PySide answers these two natively, past whatever the class defines.
    if name == "connect":
        return connect.__get__(self)
    if name == "disconnect":
        return disconnect.__get__(self)
    return _native_getattribute(self, name)


def _setattr(self: QObject, name: str, value: object) -> None:
    definition = inspect.getattr_static(type(self), name, None)
    if name in _kept_by_pyside and isinstance(value, QObject):
        return
    if isinstance(definition, (Property, _QtProperty)):
        _set_property(self, "objectName" if name == "name" else name, value)
    elif hasattr(definition, "__set__"):  # a property of a class derived in Python
        definition.__set__(self, value)
    elif name.startswith("_") or isinstance(value, SignalInstance):  # PySide keeps bound signals in the instance
        vars(self)[name] = value
    elif definition is not None and _is_cpp(self):
        msg = f"Slot or signal '{name}' can not be overwritten on {type(self).__name__} object"
        raise AttributeError(msg)
    elif _is_cpp(self):
        msg = (
            f"Attribute '{name}' does not exist and creating new attributes on C++ objects is not allowed "
            f"({type(self).__name__})"
        )
        raise AttributeError(msg)
    else:
        vars(self)[name] = value


def _is_cpp(instance: QObject) -> bool:
    """Whether the object stands for one that exists in C++ alone: not an instance of a class derived in Python."""
    cls = type(instance)
    return cls.__module__.startswith("PySide6.") or STAND_INS.get(cls.__name__) is cls


# ---------------------------------------------------------------------------------------------------------------------
# signals


def connect(self: QObject, signal: Any, receiver: Any, slot: Any = None, *rest: Any) -> bool:
    """`sender.connect("signal(type)", function)`, or with a receiver and `"slot(type)"`.

    Raises:
        AttributeError: The class has no such signal. (PythonQt only prints this; a test must not miss it.)
    """
    if not isinstance(signal, str):  # PySide's own use, for instance inside QTimer.singleShot
        return bool(_native_connect(signal, receiver, slot, *rest))
    signature = _checked_signature(self, signal)
    function = _slot(receiver, slot)
    count = _argument_count(signature, function)

    def call(*arguments: object) -> None:
        function(*arguments[:count])

    declared = _declared_signals(type(self)).get(signature)
    if declared:
        getattr(self, declared).connect(call)
    else:
        _native_connect(self, f"2{signature}", call)  # 2: what the macro SIGNAL puts before a signature
    vars(self).setdefault("_connections", []).append((signature, function, call))
    return True


def disconnect(self: QObject, signal: str | None = None, receiver: Any = None, slot: str | None = None) -> bool:
    """Undoes `connect`: all connections of this sender that match what is given."""
    signature = None if signal is None else _checked_signature(self, signal)
    function = None if receiver is None else _slot(receiver, slot)
    connections = vars(self).get("_connections", [])
    gone = [c for c in connections if signature in (None, c[0]) and (function is None or function == c[1])]
    for connection in gone:
        connections.remove(connection)
        _disconnect(self, connection[0], connection[2])
    return bool(gone)


def _disconnect(sender: QObject, signature: str, call: Slot) -> None:
    declared = _declared_signals(type(sender)).get(signature)
    if declared:
        getattr(sender, declared).disconnect(call)
    else:
        _native_disconnect(sender, f"2{signature}", call)


def find_children(self: QObject, kind: Any = QObject, name: str | None = None) -> list[QObject]:
    """Like Qt's, where a class may be given by its C++ name."""
    if isinstance(kind, str):
        found = [child for child in _native_find_children(self, QObject) if kind in _class_names(child)]
    else:
        found = _native_find_children(self, kind)
    return [child for child in found if name is None or _read_property(child, "objectName") == name]


def _class_names(instance: QObject) -> set[str]:
    return {cls.__name__ for cls in type(instance).__mro__}


def _slot(receiver: Any, slot: str | None) -> Slot:
    function: Slot = getattr(receiver, slot.partition("(")[0]) if slot else receiver
    return function


def _checked_signature(sender: QObject, signal: str) -> str:
    """The normalised signature of a signal that the sender's class has."""
    normalised = QMetaObject.normalizedSignature(signal)
    signature = str(normalised if isinstance(normalised, str) else normalised.data().decode())
    if signature not in _declared_signals(type(sender)) and _meta_object(sender).indexOfSignal(signature) < 0:
        msg = f"QObject::connect() signal '{signal}' does not exist on {type(sender).__name__}"
        raise AttributeError(msg)
    return signature


def _declared_signals(cls: type) -> dict[str, str]:
    """Signals whose C++ types Qt does not know here: a stand-in's `_SIGNALS` says which of its signals carries them."""
    return {signature: name for base in cls.__mro__ for signature, name in vars(base).get("_SIGNALS", {}).items()}


def _argument_count(signature: str, function: Slot) -> int:
    """How many arguments reach the slot: those of the signature, as far as the function takes them."""
    types = signature.rstrip(")").partition("(")[2]
    offered = len(types.split(",")) if types else 0
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return offered
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return offered
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(offered, sum(parameter.kind in positional for parameter in parameters))
