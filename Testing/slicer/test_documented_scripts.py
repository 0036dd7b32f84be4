"""The scripts in README.md and docs/tutorial.md, run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from DALAnomalyLib.volume_io import read_map
from Testing.slicer.script_runner import ROOT, run_script

SAMPLE = ROOT / "Resources" / "SampleData" / "sample_T2.nii.gz"
WAIT = "while not finished: slicer.app.processEvents()\nprint(type(finished[0]).__name__)\n"
"""What Slicer does by itself after a script: its event loop runs."""


def scripts_of(page: str) -> str:
    """The Python code in the section of a page that uses the module."""
    sections = (ROOT / page).read_text(encoding="utf-8").split("\n## ")
    section = next(section for section in sections if "DALAnomalyLogic" in section)
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


def run_page(page: str, folder: Path, afterwards: str = "") -> list[str]:
    """Run the code in a folder that holds `scan.nii.gz`; returns the lines that it printed."""
    shutil.copy(SAMPLE, folder / "scan.nii.gz")
    script = folder / "script.py"
    script.write_text(scripts_of(page) + afterwards, encoding="utf-8")
    done = run_script(script, folder=folder)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_script_of_the_readme_prints_the_findings(tmp_path: Path) -> None:
    (line,) = run_page("README.md", tmp_path)
    found = re.fullmatch(r"([\d.]+) ([\d.]+) white matter right", line)
    assert found, line
    truth = read_map(ROOT / "Resources" / "SampleData" / "sample_lesion.nii.gz")
    lesion_ml = float((truth.array > 0).sum()) * truth.grid.voxel_volume_ml
    tutorial = " ".join((ROOT / "docs/tutorial.md").read_text("utf-8").split())
    said = re.search(r"one finding of about (\d+) ml .* its lesion of (\d+) ml", tutorial)
    assert said
    assert (float(found[1]), lesion_ml) == pytest.approx([float(figure) for figure in said.groups()], rel=0.05)
    assert float(found[2]) > 0


@pytest.mark.slow
def test_scripts_of_the_tutorial_detect_and_export(tmp_path: Path) -> None:
    printed = run_page("docs/tutorial.md", tmp_path, WAIT)
    assert printed[0].startswith("T2 0.")
    assert printed[-1] == "Detected"
    assert (tmp_path / "score.nrrd").is_file()
    assert {"findings.nrrd", "score.nrrd", "manifest.json"} <= {path.name for path in (tmp_path / "results").iterdir()}
    assert "Research use only" in (tmp_path / "report.html").read_text(encoding="utf-8")
