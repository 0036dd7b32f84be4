"""Starts the stand-in for Slicer before these tests are collected, and keeps the tests apart from one another."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import slicer_standin

NEEDED = {"slicer_core": "slicer-core", "PySide6": "PySide6-Essentials"}
MISSING = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]

if not MISSING:
    slicer_standin.start()


class SkippedModule(pytest.Module):
    """A test file that cannot even be imported, since it imports Slicer."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs {' and '.join(MISSING)}: pip install -e .[test]", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What tests elsewhere left uncaught, such as the way in which N4 is cancelled, is not this test's."""
    slicer_standin.take_slot_errors()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Qt and VTK go on after an exception in a slot or observer; the test in which it happened has failed."""
    yield
    _fail_for_slot_errors()


@pytest.fixture(autouse=True)
def _empty_scene() -> Iterator[None]:
    """Nothing that a test leaves in the scene, the layout or the settings reaches the next one."""
    yield
    import slicer.util

    slicer.app.processEvents()
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        slicer.mrmlScene.RemoveNode(node)  # closing the scene would only reset it, and all that still watch it
    slicer.mrmlScene.Clear(False)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.app.settings().clear()
    _fail_for_slot_errors()


def _fail_for_slot_errors() -> None:
    errors = slicer_standin.take_slot_errors()
    if errors:
        pytest.fail("exception in a slot or observer:\n" + "\n".join(errors), pytrace=False)
