"""What is said when memory runs out, on the GPU or on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from DALAnomalyLib.errors import DeviceError

_COMPLAINTS = (
    *("out of memory", "not enough memory", "allocate memory"),
    *("bad_alloc", "bad allocation", "ALLOC_FAILED"),
)
"""What errors without a type of their own say: CUDA's driver, PyTorch and ITK on the CPU, C++, cuDNN and cuBLAS."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on the GPU or on the CPU."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(complaint in str(error) for complaint in _COMPLAINTS)


@contextmanager
def enough_memory(purpose: str) -> Iterator[None]:
    """Turn complaints about memory into one for the user.

    Args:
        purpose: what it is needed for, as "to read scan.nii".

    Raises:
        DeviceError: it did not suffice.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise not_enough_memory(purpose) from error


def not_enough_memory(purpose: str) -> DeviceError:
    """The error for the user; `purpose` as in `enough_memory`."""
    return DeviceError(f"there is not enough memory {purpose}; close other programs, or take another computer")
