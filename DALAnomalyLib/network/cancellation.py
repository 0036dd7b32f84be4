"""Stopping a network between its layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from DALAnomalyLib.progress import CancelToken


@contextmanager
def cancellable(network: nn.Module, cancel: CancelToken) -> Iterator[None]:
    """Check `cancel` before every layer: no single one takes a second."""

    def check(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        cancel.raise_if_cancelled()

    handles = [module.register_forward_pre_hook(check) for module in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
