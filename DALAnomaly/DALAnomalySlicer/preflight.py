"""What a run will find on this machine, known before torch is installed and without importing it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from slicer.i18n import tr as _

from DALAnomalySlicer.process_tree import NO_WINDOW

NEEDED_GIB = 3.0
"""Twice the peak memory of a run on 256 x 256 x 256 voxels (`training/benchmark_preprocessing.py`)."""
_QUERY = ("--query-gpu=name,memory.free,driver_version,compute_cap", "--format=csv,noheader,nounits")
_SECONDS = 5.0


@dataclass(frozen=True)
class Gpu:
    """One graphics card as its driver describes it; `free_gib` is its free memory."""

    name: str
    free_gib: float
    driver: str
    compute_capability: str


@dataclass(frozen=True)
class Preflight:
    """State of the machine.

    Attributes:
        torch: version with its build, such as "2.8.0+cu128"; None if it is not installed.
        gpus: NVIDIA cards, in the order of their numbers.
        free_gib: memory that is free; None where it cannot be known.
        cores: processor cores.
    """

    torch: str | None
    gpus: tuple[Gpu, ...]
    free_gib: float | None
    cores: int

    @property
    def torch_uses_gpu(self) -> bool:
        """Whether torch was built for NVIDIA cards; wheels without a build suffix were, on Linux."""
        if self.torch is None or "+cpu" in self.torch:
            return False
        return "+cu" in self.torch or sys.platform == "linux"

    @property
    def devices(self) -> tuple[str, ...]:
        """What can be chosen: "auto", "cpu", "cuda:0", ..."""
        cards = range(len(self.gpus)) if self.torch_uses_gpu else ()
        return ("auto", "cpu", *(f"cuda:{number}" for number in cards))

    def device_label(self, device: str) -> str:
        """How a device is shown, a card with its free memory."""
        if device == "auto":
            return _("Automatic")
        if device == "cpu":
            return _("CPU ({cores} cores)").format(cores=self.cores)
        card = self.gpus[int(device.partition(":")[2])]
        return f"{card.name} ({card.free_gib:.1f} GiB)"

    def sentences(self, device: str) -> list[str]:
        """What will happen, and what stands against it, for people."""
        if self.torch is None:
            return [_("PyTorch is not installed yet. Detect offers to install it.")]
        said = [_("Runs on {device} with PyTorch {torch}.").format(device=self._place(device), torch=self.torch)]
        if self.gpus and not self.torch_uses_gpu:
            said.append(_("{card} is not used: this PyTorch is built for CPUs.").format(card=self.gpus[0].name))
        if self.free_gib is not None and self.free_gib < NEEDED_GIB:
            said.append(
                _("Only {free:.1f} GiB of memory are free, {needed:.0f} are wanted: close other programs.").format(
                    free=self.free_gib, needed=NEEDED_GIB
                )
            )
        return said

    def details(self) -> str:
        """The machine in lines, for those who want to know why."""
        memory = _("unknown") if self.free_gib is None else f"{self.free_gib:.1f} GiB"
        lines = [
            f"PyTorch: {self.torch or _('not installed')}",
            _("Processor cores: {cores}, free memory: {memory}").format(cores=self.cores, memory=memory),
        ]
        card = _("{name}: driver {driver}, compute capability {capability}, {free:.1f} GiB free")
        lines += [
            card.format(name=gpu.name, driver=gpu.driver, capability=gpu.compute_capability, free=gpu.free_gib)
            for gpu in self.gpus
        ]
        return "\n".join(lines if self.gpus else [*lines, _("No NVIDIA driver found.")])

    def _place(self, device: str) -> str:
        best = self.devices[2] if len(self.devices) > 2 else "cpu"
        return self.device_label(best if device == "auto" else device)


def look() -> Preflight:
    """Look at this machine; takes as long as the graphics driver takes to answer, a few seconds at most."""
    return Preflight(torch_version(), tuple(_gpus()), _free_gib(), os.cpu_count() or 1)


def torch_version() -> str | None:
    """The installed torch, looked up in its packaging data."""
    if util.find_spec("torch") is None:
        return None
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return _("of unknown version")


def _gpus() -> list[Gpu]:
    try:
        answer = subprocess.run(
            ("nvidia-smi", *_QUERY),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
            creationflags=NO_WINDOW,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # no NVIDIA driver, or one that does not answer
    return [card for line in answer.splitlines() if (card := parse_card(line.split(","))) is not None]


def parse_card(fields: Sequence[str]) -> Gpu | None:
    """One line of the driver's table; None if it is not as expected."""
    try:
        name, free_mib, driver, capability = (field.strip() for field in fields)
        return Gpu(name, float(free_mib) / 1024, driver, capability)
    except ValueError:
        return None


def _free_gib() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # not on Windows and macOS
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) / 2**20
