"""Brain extraction by HD-BET or SynthStrip where the user has installed them; nothing is ever downloaded.

The tool runs as a process of its own in a folder that is deleted afterwards. It sees voxels and geometry under a
neutral file name, never the scan's name or header.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from DALAnomalyLib.errors import DALAnomalyError, InputError
from DALAnomalyLib.preprocessing.reorient import from_anatomical_order, to_anatomical_order
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_mask, write_volume

ToolName = Literal["hd-bet", "synthstrip"]

DEFAULT_TIMEOUT_S = 900.0
"""HD-BET takes about 2 minutes on a CPU, SynthStrip less than one; slow machines get their time."""
PLAUSIBLE_BRAIN_ML = (300.0, 2500.0)
"""Wide, for a scan may hold a part of the brain only."""

_POLL_S = 0.1
_GRACE_S = 3.0
"""Time to end by itself before a process is killed."""
_TAIL_CHARACTERS = 300
_WINDOWS_GROUP = 0x200  # CREATE_NEW_PROCESS_GROUP, which subprocess knows on Windows only
# A proxy that refuses: HD-BET would otherwise fetch missing weights on its own.
_OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@dataclass(frozen=True)
class ExternalTool:
    """An installed brain extraction program.

    Attributes:
        name: "hd-bet" or "synthstrip".
        executable: where it was found.
        weights: the file of its weights, where the command line has to name it.
    """

    name: ToolName
    executable: Path
    weights: Path | None = None

    def command(self, source: Path, target: Path, device: str) -> list[str]:
        """Arguments that make it write the mask of `source` to `target`, both .nii.gz."""
        if self.name == "hd-bet":
            # version 2; its mask is called like the image (which is not asked for) with _bet appended
            image = target.with_name(target.name.replace("_bet.nii.gz", ".nii.gz"))
            options = ["-device", device, "--disable_tta", "--save_bet_mask", "--no_bet_image"]
            return [str(self.executable), "-i", str(source), "-o", str(image), *options]
        options = [] if self.weights is None else ["--model", str(self.weights)]
        return [str(self.executable), "-i", str(source), "-m", str(target), *options, *["-g"][: device != "cpu"]]


def find_tool(name: ToolName) -> ExternalTool | None:
    """Look for a tool on PATH, and for its weights where it keeps them; None unless both are there.

    HD-BET must be version 2 or later. SynthStrip is FreeSurfer's `mri_synthstrip` or `nipreps-synthstrip`; its
    container wrappers are not used, for they download an image and outlive being killed.
    """
    if name == "hd-bet":
        executable = shutil.which("hd-bet")
        weights = Path.home() / "hd-bet_params" / "release_2.0.0" / "fold_all" / "checkpoint_final.pth"
        return ExternalTool(name, Path(executable)) if executable and weights.is_file() else None
    home = os.environ.get("FREESURFER_HOME")
    if not home:
        return None
    executable = shutil.which("mri_synthstrip")
    if executable:
        return ExternalTool(name, Path(executable))
    executable = shutil.which("nipreps-synthstrip")
    weights = Path(home) / "models" / "synthstrip.1.pt"
    return ExternalTool(name, Path(executable), weights) if executable and weights.is_file() else None


def extract_with(
    tool: ExternalTool,
    volume: Volume,
    *,
    device: str = "cpu",
    cancel: CancelToken | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Volume:
    """Let an external tool find the brain.

    Args:
        tool: from `find_tool`.
        volume: scan (D, H, W) with its skull, in any orientation.
        device: "cpu" or "cuda".
        cancel: ends the tool and all that it started.
        timeout_s: so does this time in seconds.

    Returns:
        uint8 (D, H, W), 1 in the brain, on exactly the scan's grid.

    Raises:
        InputError: the tool failed, took too long, or its mask is missing, on another grid or no brain's.
        CancelledError: `cancel` was turned on.
    """
    cancel = cancel or CancelToken()
    cancel.raise_if_cancelled()
    ordered = to_anatomical_order(volume)
    # HD-BET wants the axes of the MNI template: i to the right, j to the front, k up.
    turned = _half_turn(Volume(ordered.array.astype(np.float32), ordered.grid))
    with tempfile.TemporaryDirectory(prefix="dal-", ignore_cleanup_errors=True) as folder:
        source, target = Path(folder) / "scan.nii.gz", Path(folder) / "brain_bet.nii.gz"
        write_volume(turned, source)
        _run(tool, tool.command(source, target, device), Path(folder), cancel, timeout_s)
        mask = _read_checked(tool, target, turned.grid)
    return from_anatomical_order(_half_turn(mask), volume.grid)


def _half_turn(volume: Volume) -> Volume:
    """The axes i and j reversed, voxels staying where they are; doing it twice changes nothing."""
    grid = volume.grid
    a, b, c, d, e, f, g, h, m = grid.direction
    x, y, z = (float(value) for value in grid.index_to_physical([0, grid.shape[1] - 1, grid.shape[2] - 1]))
    turned = Grid(grid.shape, grid.spacing, (x, y, z), (-a, -b, c, -d, -e, f, -g, -h, m))
    return Volume(np.ascontiguousarray(volume.array[:, ::-1, ::-1]), turned)


def _run(tool: ExternalTool, command: list[str], folder: Path, cancel: CancelToken, timeout_s: float) -> None:
    """Run the command in `folder` until it ends, is cancelled or takes too long."""
    log = folder / "log.txt"
    with log.open("wb") as output, _process(tool, command, folder, output.fileno()) as process:
        deadline = time.monotonic() + timeout_s
        while process.poll() is None:
            cancel.raise_if_cancelled()
            if time.monotonic() > deadline:
                msg = f"{tool.name} did not finish within {timeout_s:.0f} s; allow more time or give a brain mask"
                raise InputError(msg)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
    if process.returncode != 0:
        msg = (
            f"{tool.name} failed with exit code {process.returncode} ({_tail(log, folder)}); "
            f"try '{tool.executable.name} --help' in a terminal, or give a brain mask"
        )
        raise InputError(msg)


@contextlib.contextmanager
def _process(tool: ExternalTool, command: list[str], folder: Path, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own; whatever happens, nothing of the group is left behind."""
    windows = sys.platform == "win32"
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_OFFLINE},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            creationflags=_WINDOWS_GROUP if windows else 0,
            start_new_session=not windows,
        )
    except OSError as error:
        msg = f"{tool.name} cannot be started ({error.strerror}); reinstall it, or give a brain mask"
        raise InputError(msg) from error
    try:
        yield process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)  # also what a process that has ended left running
    process.wait()


def _tail(log: Path, folder: Path) -> str:
    """The last lines that the tool printed, on one line, without the name of the temporary folder."""
    text = log.read_text(encoding="utf-8", errors="replace").replace(f"{folder}{os.sep}", "")
    line = " ".join(text.split())
    return "..." + line[-_TAIL_CHARACTERS:] if len(line) > _TAIL_CHARACTERS else line or "it printed nothing"


def _read_checked(tool: ExternalTool, path: Path, grid: Grid) -> Volume:
    advice = "give a brain mask"
    if not path.is_file():
        msg = f"{tool.name} ended without writing a brain mask; check that its version is supported, or {advice}"
        raise InputError(msg)
    try:
        mask = read_mask(path, grid)
    except DALAnomalyError as error:
        msg = f"the mask that {tool.name} wrote cannot be used ({str(error).replace(str(path), 'mask')}); {advice}"
        raise InputError(msg) from error
    millilitres = float(mask.array.sum()) * grid.voxel_volume_ml
    low, high = PLAUSIBLE_BRAIN_ML
    if not low <= millilitres <= high or mask.array.all():
        msg = f"the mask that {tool.name} wrote measures {millilitres:.0f} ml, which is no brain's volume; {advice}"
        raise InputError(msg)
    return mask
