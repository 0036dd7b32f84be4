"""An error as users and programs see it: one line, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from DALAnomalyLib.errors import CancelledError, DALAnomalyError

UNEXPECTED_EXIT_CODE = 1
_INSTALL = {
    "torch": "install PyTorch: in 3D Slicer with the extension PyTorch, elsewhere with: pip install torch",
    "SimpleITK": "install it with: pip install SimpleITK",
}
_FOR_TRAINING = ("lightning", "tensorboard", "yaml", "tqdm")
_INSTALL_ALL = "install it with: pip install '.[cli{}]' in the folder of the repository"


def one_line(error: BaseException, advice: str = "") -> str:
    """Message of an error on a single line; `advice` says how to learn more about what we did not foresee."""
    if isinstance(error, KeyboardInterrupt):
        return "the run was cancelled"
    if isinstance(error, ModuleNotFoundError):
        package = str(error.name).partition(".")[0]
        everything = _INSTALL_ALL.format(",train" if package in _FOR_TRAINING else "")
        return f"the Python package {package} is missing; {_INSTALL.get(package, everything)}"
    text = " ".join(str(error).split())
    if isinstance(error, DALAnomalyError):
        return text
    return f"unexpected {type(error).__name__}: {text}{advice and f'; {advice}'}"


def exit_code_of(error: BaseException) -> int:
    """The error's own exit code; 130 for an interruption and 1 for what we did not foresee."""
    if isinstance(error, KeyboardInterrupt):
        return CancelledError.exit_code
    return error.exit_code if isinstance(error, DALAnomalyError) else UNEXPECTED_EXIT_CODE


@contextmanager
def naming(source: Path) -> Iterator[None]:
    """Put the file into the messages of what only sees its voxels."""
    try:
        yield
    except CancelledError:
        raise
    except DALAnomalyError as error:
        msg = f"{source}: {error}"
        raise type(error)(msg) from error
