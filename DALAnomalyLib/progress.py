"""How a long computation reports where it is and learns that it should stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from DALAnomalyLib.errors import CancelledError

ProgressCallback = Callable[[str, float], None]
"""Called with the stage's name and the finished fraction of the whole run, 0 to 1."""


class CancelToken:
    """A switch that one thread turns on and the computing thread looks at between steps."""

    def __init__(self) -> None:
        """Start as not cancelled."""
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the computation to stop; cannot be taken back."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop the computation here if it was cancelled.

        Raises:
            CancelledError: `cancel` was called.
        """
        if self.cancelled:
            msg = "the run was cancelled"
            raise CancelledError(msg)
