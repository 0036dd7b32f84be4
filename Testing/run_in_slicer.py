"""Runs in real Slicer those tests of Testing/slicer that can run there.

    Slicer --testing --no-splash --no-main-window --additional-module-paths DALAnomaly \
        --python-script Testing/run_in_slicer.py [TEST_FILE ...]

A test file can run there if it says `RUNS_IN_SLICER = True`: it holds unittest.TestCase classes and needs neither
pytest nor the stand-in. Slicer's exit code is 1 only if an exception leaves this script, so that one is raised for any
failure, and for finding no tests at all. Not run so far: real Slicer is not on our machines; the stand-in runs it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
import unittest
from collections.abc import Sequence
from pathlib import Path

import slicer

MARK = "RUNS_IN_SLICER"
ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "Testing" / "slicer"


class SceneResult(unittest.TextTestResult):
    """Empties the scene after every test, and fails tests for exceptions in slots and observers, which go unnoticed."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.unnoticed: list[str] = []
        self.excepthook = sys.excepthook
        sys.excepthook = lambda *error: self.unnoticed.append("".join(traceback.format_exception(*error)))

    def stopTest(self, test: unittest.TestCase) -> None:
        slicer.app.processEvents()
        slicer.mrmlScene.Clear(False)
        sys.excepthook = self.excepthook
        if self.unnoticed:
            self.failures.append((test, "".join(self.unnoticed)))
        super().stopTest(test)


def is_marked(file: Path) -> bool:
    """Whether the file says that it can run in Slicer; it is not imported for that."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(name, ast.Name) and name.id == MARK for name in names)


def tests_of(file: Path) -> unittest.TestSuite:
    """The tests of one file, imported under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"dal_anomaly_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def run(names: Sequence[str]) -> None:
    """Runs the marked files, or those of them that are named.

    Raises:
        RuntimeError: A test failed, or there was none.
    """
    sys.path[:0] = [str(ROOT), str(ROOT / "DALAnomaly")]
    files = [file for file in sorted(TESTS.glob("test_*.py")) if is_marked(file)]
    suite = unittest.TestSuite(tests_of(file) for file in files if not names or file.name in names)
    result = unittest.TextTestRunner(verbosity=2, resultclass=SceneResult).run(suite)
    if not result.testsRun:
        msg = f"no tests were found in {TESTS} (of {', '.join(names) or 'all files'})"
        raise RuntimeError(msg)
    if not result.wasSuccessful():
        msg = f"{len(result.failures) + len(result.errors)} of {result.testsRun} tests failed"
        raise RuntimeError(msg)


if __name__ == "__main__":
    run(sys.argv[1:])
