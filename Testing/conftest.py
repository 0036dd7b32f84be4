"""What all tests share: threads, the optional data folder, and the skip of GPU tests."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

# Before torch or numpy is imported (OpenMP reads the variable once), and inherited by every process that a test starts:
# the tests' tensors are small, so that more threads than this cost more than they give, and with `pytest -n` the
# processors are busy with other tests.
_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1)
os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))
os.environ.setdefault("MPLBACKEND", "Agg")

# The background job of a shell inherits the signal ignored, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test may find what an earlier run, or the developer's own work, has left in the user's cache.
os.environ["DAL_CACHE"] = tempfile.mkdtemp(prefix="dal-anomaly-tests-")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of development data (label maps, lesion cases, ...), which are not part of the project."""
    value = os.environ.get("DAL_DATA")
    if not value:
        pytest.skip("needs the development data: set DAL_DATA to their folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"DAL_DATA is {value}, which is not a folder")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
