"""Which device the network runs on."""

from __future__ import annotations

import re

import torch

from DALAnomalyLib.errors import DeviceError, UsageError


def resolve_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto" (a GPU when there is one), "cpu", "cuda" or "cuda:INDEX".

    Raises:
        UsageError: The name is none of these.
        DeviceError: CUDA is asked for but absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::([0-9]+))?", name)
    if match is None:
        msg = f"unknown device '{name}'; use auto, cpu, cuda or cuda:INDEX"
        raise UsageError(msg)
    if name != "cpu" and int(match[1] or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        msg = f"device '{name}' is absent ({found} CUDA devices found); choose cpu, or install torch for CUDA"
        raise DeviceError(msg)
    return torch.device(name)
