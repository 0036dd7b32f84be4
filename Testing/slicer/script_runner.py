"""Runs a script as `Slicer --no-main-window --python-script` does: in a process of its own, the module loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In Slicer, an exception in the script is printed and the application goes on; `slicer.util.exit` ends it afterwards.
_LIKE_SLICER = f"""
import sys, traceback
sys.path.insert(0, {str(ROOT / "Testing")!r})
import slicer_standin
slicer_standin.start()
import slicer.util
slicer_standin.load_module({str(ROOT / "DALAnomaly" / "DALAnomaly.py")!r})
codes = []
slicer.util.exit = codes.append
sys.argv = sys.argv[1:]
try:
    exec(compile(open(sys.argv[0], encoding="utf-8").read(), sys.argv[0], "exec"))
except Exception:
    traceback.print_exc()
sys.exit(codes[-1] if codes else "Slicer would run on for ever")
"""


def run_script(script: Path, *arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script with arguments in a working folder; what it prints and its exit code."""
    command = [sys.executable, "-X", "utf8", "-c", _LIKE_SLICER, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder)
