"""A stand-in for 3D Slicer's application, widgets and Python layer around the real MRML scene of slicer-core.

`start()` makes `slicer.app`, `qt`, `ctk` and the Python modules of Slicer importable as in Slicer itself. What is not
real (widgets, application, layout manager, file manager) offers only what Python reaches of the real classes, see
`contract.json`, and refuses what Slicer refuses. Nothing is drawn in 3D.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

PYTHON_LAYER = {
    "i18n": "i18n",
    "ScriptedLoadableModule": "scripted_module",
    "parameterNodeWrapper": "parameter_node_wrapper",
}
"""Modules of Slicer's Python layer that slicer-core lacks, and the files here that stand for them."""

_application: Any = None


def start() -> Any:
    """Makes the application and the scene, once; returns `slicer.app`."""
    global _application
    if _application is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        _import_slicer()
        _application = _start()
    return _application


def load_module(path: str | Path) -> Any:
    """Makes a scripted module known to `slicer.modules`, once per file; its panel is `widgetRepresentation()`."""
    from .module_loader import load_module

    return load_module(path)


def unload_module(name: str) -> None:
    """Cleans up a module as if Slicer quit."""
    from .module_loader import unload_module

    unload_module(name)


def take_slot_errors() -> list[str]:
    """Tracebacks of exceptions in slots and observers since the last call."""
    from .slot_errors import take_slot_errors

    return take_slot_errors()


def _import_slicer() -> None:
    """Imports slicer-core's package without what lies in our own folder of the same name.

    That package takes in, and imports, every Python file of any folder named `slicer` on the path: `Testing/slicer`.
    """
    before = list(sys.path)
    sys.path[:] = [entry for entry in sys.path if (Path(entry) / "slicer").resolve() != _our_tests()]
    try:
        import slicer.util  # noqa: F401
    finally:
        sys.path[:] = before


def _our_tests() -> Path:
    return Path(__file__).resolve().parents[1] / "slicer"


def _start() -> Any:
    import slicer

    from .qt_module import ctk_module, qt_module
    from .slot_errors import record_slot_errors

    record_slot_errors()
    sys.modules["qt"] = qt_module()
    sys.modules["ctk"] = ctk_module()

    from .application import start_application
    from .pythonqt import STAND_INS

    application = start_application()
    for name, file in PYTHON_LAYER.items():
        module = importlib.import_module(f"{__name__}.{file}")
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    importlib.import_module(f"{__name__}.module_loader")
    vars(slicer).update({name: cls for name, cls in STAND_INS.items() if name.startswith("q")})
    return application
