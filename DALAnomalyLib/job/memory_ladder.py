"""What is tried when memory runs out: the GPU, the GPU with less on it, the CPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from DALAnomalyLib.memory import is_out_of_memory, not_enough_memory

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Attempt:
    """One way to run a detection.

    Attributes:
        device: where the networks run, as `resolve_device` knows it.
        outline_on_cpu: the brain is outlined on the CPU: with the shipped networks this halves what the GPU has to
            hold (137 MB of activations there, 75 MB in the restoration), and changes no result.
    """

    device: str
    outline_on_cpu: bool = False

    @property
    def outline_device(self) -> str | None:
        """Where the brain is outlined, if not on `device`."""
        return "cpu" if self.outline_on_cpu else None

    def __str__(self) -> str:
        """As users read it."""
        if self.device == "cpu":
            return "on the CPU"
        return f"on the GPU ({self.device}){', outlining the brain on the CPU' if self.outline_on_cpu else ''}"


def attempts_on(device: str) -> tuple[Attempt, ...]:
    """What is tried, in order, where `device` ("cpu", "cuda", "cuda:1") is wished for."""
    if device == "cpu":
        return (Attempt("cpu"),)
    return Attempt(device), Attempt(device, outline_on_cpu=True), Attempt("cpu")


def first_that_fits(
    attempts: Sequence[Attempt], work: Callable[[Attempt], _Result], say: Callable[[str], None]
) -> _Result:
    """Do the work in the first way for which memory suffices.

    Args:
        attempts: at least one, in order.
        work: what is done in each way; it keeps nothing when it fails.
        say: told, for the user, that memory ran out and what is tried next.

    Raises:
        DeviceError: memory does not suffice for any of them.
    """
    for number, attempt in enumerate(attempts):
        try:
            return work(attempt)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if number == len(attempts) - 1:
                raise not_enough_memory(str(attempt)) from error
            say(f"there is not enough memory {attempt}; trying again {attempts[number + 1]}")
        _release_memory()  # here, where the error no longer holds what the work had made
    msg = "no attempt was given"
    raise ValueError(msg)


def _release_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
