"""Checkpoints of a training run: written atomically, read without executing anything; model files to begin with."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.model_store import load_model

RUN_PARTS = ("config", "pack", "step", "landmarks", "network", "average")
"""What a checkpoint of a run of `Trainer` holds, and that of a brain extraction network does not."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` so that `path` always holds either the old checkpoint or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    # by way of memory: of a full disk torch.save says no more than "unexpected pos"
    saved = io.BytesIO()
    torch.save(content, saved)
    try:
        with temporary.open("wb") as file:
            file.write(saved.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # on a full disk the half of it would leave no room for anything else
        with suppress(OSError):
            temporary.unlink()
        raise


def weights_of(content: dict[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint that are validated and exported: the moving average where there is one."""
    weights: dict[str, Any] = content["average"] or content["network"]
    return weights


def load_checkpoint(path: Path, device: torch.device, parts: Collection[str] = RUN_PARTS) -> dict[str, Any]:
    """Read a checkpoint onto `device`, of which these parts are needed.

    Raises:
        InputError: there is none, it is damaged, or of another kind of run.
    """
    if not path.exists():
        msg = f"{path}: no such checkpoint; name last.pt or best.pt of a run that has saved one"
        raise InputError(msg)
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        # PyTorch's own message advises to execute what an untrusted file contains
        reason = type(error).__name__
        msg = f"{path} is not a readable checkpoint ({reason}); name another, such as last.pt or best.pt of a run"
        raise InputError(msg) from error
    if not isinstance(content, dict) or not content.keys() >= {*parts}:
        msg = f"{path} is no checkpoint of such a run; name another, such as last.pt or best.pt of a run"
        raise InputError(msg)
    return content


def load_beginning(path: Path, device: torch.device) -> dict[str, Any]:
    """What another run can begin with: weights, landmarks and steps, of a checkpoint or of a model file (`.dalmodel`).

    Raises:
        InputError: There is no such checkpoint or it is damaged.
        ModelFileError: The same of a model file.
    """
    if path.suffix != ".dalmodel":
        return load_checkpoint(path, device)
    model = load_model(path, device)
    return {
        "network": model.network.state_dict(),
        "average": None,
        "landmarks": {name: dataclasses.asdict(each) for name, each in model.metadata.landmarks.items()},
        "step": model.metadata.training.get("steps", 0),
        "start": model.metadata.training.get("start"),
    }
