from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.errors import CancelledError, InputError
from DALAnomalyLib.preprocessing import external_extraction
from DALAnomalyLib.preprocessing.external_extraction import ExternalTool, ToolName, extract_with, find_tool
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from Testing.lib.phantom import oblique, reordered

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake tools are scripts that start by #!")

GRID = oblique(Grid((20, 36, 30), (5.0, 5.0, 6.0), (-70.0, -90.0, -60.0)), 12.0)

# What the fakes share: the options of the real command lines, and a threshold as the mask.
PREAMBLE = """#!{python}
import argparse, os, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("-i", required=True)
if os.path.basename(sys.argv[0]) == "hd-bet":
    parser.add_argument("-o", required=True)
    parser.add_argument("-device", default="cuda")
    for flag in ("--disable_tta", "--save_bet_mask", "--no_bet_image"):
        parser.add_argument(flag, action="store_true")
else:
    parser.add_argument("-m")
    parser.add_argument("--model")
    parser.add_argument("-g", action="store_true")
arguments = parser.parse_args()
target = getattr(arguments, "m", None) or arguments.o[:-7] + "_bet.nii.gz"
import SimpleITK as sitk
def mask():
    return sitk.Cast(sitk.ReadImage(arguments.i) > 50, sitk.sitkUInt8)
"""
GOOD = "sitk.WriteImage(mask(), target)\n"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH, with the weights of both tools in place."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FREESURFER_HOME", str(tmp_path / "freesurfer"))
    for weights in ("hd-bet_params/release_2.0.0/fold_all/checkpoint_final.pth", "freesurfer/models/synthstrip.1.pt"):
        (tmp_path / weights).parent.mkdir(parents=True)
        (tmp_path / weights).write_bytes(b"weights")
    return folder


def install(folder: Path, executable: str, body: str) -> None:
    path = folder / executable
    path.write_text(PREAMBLE.format(python=sys.executable) + body)
    path.chmod(0o755)


def head() -> Volume:
    centre = np.array(GRID.shape) / 2
    distance = np.linalg.norm((np.moveaxis(np.indices(GRID.shape), 0, -1) - centre) * (6, 5, 5), axis=-1)
    array = np.where(distance < 58, 100.0, 0.0)
    array[centre.astype(int)[0] :, 5:9, 3:9] = 100  # one corner more, so that no turn of it looks the same
    return Volume(array.astype(np.float32), GRID)


def installed(name: ToolName) -> ExternalTool:
    tool = find_tool(name)
    assert tool is not None
    return tool


@pytest.mark.parametrize(
    ("name", "executable"),
    [("hd-bet", "hd-bet"), ("synthstrip", "mri_synthstrip"), ("synthstrip", "nipreps-synthstrip")],
)
def test_mask_comes_back_on_the_scan(bin_folder: Path, name: ToolName, executable: str) -> None:
    install(bin_folder, executable, GOOD)
    volume = head()
    mask = extract_with(installed(name), volume)
    assert mask.grid == volume.grid
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.array, volume.array > 50)


def test_mask_fits_a_scan_stored_in_another_order_and_type(bin_folder: Path) -> None:
    install(bin_folder, "hd-bet", GOOD)
    volume = reordered(head(), (2, 0, 1), (True, False, True))
    volume = Volume(volume.array.astype(np.int16), volume.grid)
    mask = extract_with(installed("hd-bet"), volume)
    assert mask.grid == volume.grid
    np.testing.assert_array_equal(mask.array, volume.array > 50)


def test_tool_sees_the_axes_of_the_template_and_no_name(bin_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    body = (
        "image = sitk.ReadImage(arguments.i)\n"
        f"open({str(report)!r}, 'w').write(repr((image.GetDirection(), sys.argv[1:], os.getcwd(), dict(os.environ),"
        "[image.GetMetaData(key) for key in image.GetMetaDataKeys()])))\n"
    )
    install(bin_folder, "hd-bet", body + GOOD)
    volume = head()
    upright = Grid(GRID.shape, GRID.spacing, GRID.origin)
    extract_with(installed("hd-bet"), reordered(Volume(volume.array, upright), (1, 2, 0), (False, True, True)))
    direction, arguments, folder, environment, _ = eval(report.read_text())
    np.testing.assert_allclose(direction, np.diag([-1, -1, 1]).ravel(), atol=1e-6)
    assert "--disable_tta --save_bet_mask --no_bet_image" in " ".join(arguments)
    assert arguments[arguments.index("-device") + 1] == "cpu"
    assert Path(arguments[1]).name == "scan.nii.gz"
    assert not Path(folder).exists(), "the temporary folder is deleted"
    assert "127.0.0.1" in environment["https_proxy"], "nothing can be downloaded"


def test_device_is_passed_on(tmp_path: Path) -> None:
    source, target = tmp_path / "scan.nii.gz", tmp_path / "brain_bet.nii.gz"
    hd_bet, synthstrip = ExternalTool("hd-bet", Path("hd-bet")), ExternalTool("synthstrip", Path("mri_synthstrip"))
    assert "cuda" in hd_bet.command(source, target, "cuda")
    assert str(tmp_path / "brain.nii.gz") in hd_bet.command(source, target, "cuda")
    assert "-g" in synthstrip.command(source, target, "cuda")
    assert "-g" not in synthstrip.command(source, target, "cpu")


def test_tool_that_is_not_there_is_none(bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tool("hd-bet") is None
    assert find_tool("synthstrip") is None
    for executable in ("hd-bet", "nipreps-synthstrip", "synthstrip-docker"):
        install(bin_folder, executable, GOOD)
    assert find_tool("hd-bet") is not None
    assert find_tool("synthstrip") is not None
    (tmp_path / "freesurfer/models/synthstrip.1.pt").unlink()
    (tmp_path / "hd-bet_params/release_2.0.0/fold_all/checkpoint_final.pth").unlink()
    assert find_tool("hd-bet") is None, "without weights it would download them"
    assert find_tool("synthstrip") is None
    install(bin_folder, "mri_synthstrip", GOOD)
    monkeypatch.delenv("FREESURFER_HOME")
    assert find_tool("synthstrip") is None, "mri_synthstrip ends at once without FREESURFER_HOME"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('CUDA out of memory')", r"exit code 1 \(CUDA out of memory\)"),
        ("sys.exit(3)", r"exit code 3 \(it printed nothing\)"),
        ("print('x' * 5000, 'the cause'); sys.exit(2)", r"exit code 2 \(\.\.\.x+ the cause\)"),
        ("parser.parse_args(['--unknown'])", "exit code 2 .*required"),
        ("", "without writing a brain mask"),
        ("open(target, 'w').write('no image')", "cannot be used"),
        ("sitk.WriteImage(mask() * 0, target)", "measures 0 ml"),
        ("sitk.WriteImage(mask() * 0 + 1, target)", "no brain's volume"),
        ("sitk.WriteImage(mask()[2:, :, :], target)", "not on its scan's grid"),
        ("m = mask(); m.SetOrigin((0, 0, 0)); sitk.WriteImage(m, target)", "not on its scan's grid"),
    ],
)
def test_failure_is_told_with_its_cause(bin_folder: Path, body: str, message: str) -> None:
    install(bin_folder, "hd-bet", body)
    with pytest.raises(InputError, match=message) as caught:
        extract_with(installed("hd-bet"), head())
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    assert "give a brain mask" in text or "--help" in text
    assert "dal-" not in text, "the temporary folder means nothing to the user"


def test_executable_that_cannot_start_is_told(bin_folder: Path) -> None:
    (bin_folder / "hd-bet").write_text("#!/nowhere/python\n")
    (bin_folder / "hd-bet").chmod(0o755)
    with pytest.raises(InputError, match="cannot be started"):
        extract_with(installed("hd-bet"), head())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # a dead child that nobody has waited for yet still has its number
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


HANGING = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open({pids!r} + ".part", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.rename({pids!r} + ".part", {pids!r})
time.sleep(60)
"""


@pytest.mark.parametrize("reason", ["cancel", "timeout"])
def test_hanging_tool_is_ended_with_all_it_started(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(external_extraction, "_GRACE_S", 0.2)
    pids = tmp_path / "pids.txt"
    install(bin_folder, "hd-bet", HANGING.format(pids=str(pids)))
    token = CancelToken()

    def cancel_once_it_hangs() -> None:
        while not pids.exists():
            time.sleep(0.02)
        token.cancel()

    if reason == "cancel":
        threading.Thread(target=cancel_once_it_hangs).start()
        with pytest.raises(CancelledError):
            extract_with(installed("hd-bet"), head(), cancel=token)
    else:
        # the deadline must come after the fake has started its child, however slow the machine
        clock = time.monotonic
        monkeypatch.setattr(external_extraction.time, "monotonic", lambda: clock() + 1000 * pids.exists())
        with pytest.raises(InputError, match="did not finish within 500 s"):
            extract_with(installed("hd-bet"), head(), timeout_s=500)
    deadline = time.time() + 5
    while any(alive(int(pid)) for pid in pids.read_text().split()) and time.time() < deadline:
        time.sleep(0.05)
    assert [alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_cancelled_before_it_starts(bin_folder: Path) -> None:
    install(bin_folder, "hd-bet", GOOD)
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        extract_with(installed("hd-bet"), head(), cancel=token)
