from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from DALAnomalyLib.errors import DeviceError, InputError
from DALAnomalyLib.job.memory_ladder import Attempt, attempts_on, first_that_fits
from DALAnomalyLib.memory import is_out_of_memory

GPU, SPARING, CPU = attempts_on("cuda:1")


def fill_the_gpu() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fill_the_cpu() -> None:
    torch.empty(2**50)  # really: "DefaultCPUAllocator: can't allocate memory"


def fill_python() -> None:
    bytearray(2**60)


@pytest.mark.parametrize("fill", [fill_the_gpu, fill_the_cpu, fill_python])
def test_real_errors_are_recognised(fill: Callable[[], None]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        fill()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA error: out of memory", True),
        ("CUDNN_STATUS_ALLOC_FAILED", True),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.", True),
        ("Failed to allocate memory for image.", True),
        ("CUDA error: no kernel image is available for execution on the device", False),
    ],
)
def test_errors_are_told_apart_by_what_they_say(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) == expected
    assert not is_out_of_memory(ValueError(text))


def test_the_ladder_of_a_gpu_ends_on_the_cpu_and_that_of_a_cpu_is_one_step() -> None:
    assert (Attempt("cuda:1"), Attempt("cuda:1", outline_on_cpu=True), Attempt("cpu")) == (GPU, SPARING, CPU)
    assert attempts_on("cpu") == (CPU,)


@pytest.mark.parametrize(("failing", "expected"), [((), GPU), ((GPU,), SPARING), ((GPU, SPARING), CPU)])
def test_the_first_attempt_that_fits_wins_and_every_step_is_said(
    failing: tuple[Attempt, ...], expected: Attempt
) -> None:
    def work(attempt: Attempt) -> Attempt:
        if attempt in failing:
            fill_the_gpu()
        return attempt

    said: list[str] = []
    assert first_that_fits((GPU, SPARING, CPU), work, said.append) == expected
    assert len(said) == len(failing)
    if len(said) == 2:
        assert said == [
            "there is not enough memory on the GPU (cuda:1); trying again on the GPU (cuda:1), outlining the brain on"
            " the CPU",
            "there is not enough memory on the GPU (cuda:1), outlining the brain on the CPU; trying again on the CPU",
        ]


def test_what_a_failed_attempt_made_is_freed_before_the_next() -> None:
    class Tensor:
        """Stands for what fills the memory."""

    alive: list[int] = []
    import weakref

    def work(attempt: Attempt) -> int:
        if attempt == CPU:
            return len(alive)
        made = Tensor()
        made.itself = made  # type: ignore[attr-defined]  # as tracebacks and networks do
        alive.append(1)
        weakref.finalize(made, alive.pop)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert first_that_fits((GPU, CPU), work, lambda _text: None) == 0


def test_when_nothing_fits_the_user_is_told_what_to_do() -> None:
    with pytest.raises(DeviceError, match="not enough memory on the CPU; close other programs"):
        first_that_fits(attempts_on("cpu"), lambda _attempt: fill_the_cpu(), lambda _text: None)


def test_other_errors_end_the_work_at_once() -> None:
    def work(attempt: Attempt) -> None:
        tried.append(attempt)
        raise InputError("no brain")

    tried: list[Attempt] = []
    with pytest.raises(InputError, match="no brain"):
        first_that_fits((GPU, CPU), work, lambda text: pytest.fail(text))
    assert tried == [GPU]
