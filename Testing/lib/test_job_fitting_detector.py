from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from DALAnomalyLib.detector import Detector
from DALAnomalyLib.errors import DeviceError, InputError
from DALAnomalyLib.job.fitting_detector import FittingDetector
from DALAnomalyLib.job.memory_ladder import attempts_on
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions

MODEL = Path("of a hospital.dalmodel")


class Placed:
    """Stands where a detector would stand: this machine has no GPU to fill."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.device = torch.device(given[1])
        self.metadata, self.identity = "its metadata", {"name": "default"}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Placed]:
    placed: list[Placed] = []

    def load(_options: PreprocessingOptions, *given: Any) -> Placed:
        placed.append(Placed(*given))
        return placed[-1]

    monkeypatch.setattr(PreprocessingOptions, "load_detector", load)
    monkeypatch.setattr("DALAnomalyLib.device.resolve_device", torch.device)
    return placed


def work_on(limit: str) -> Any:
    """What fits on the device `limit` alone."""

    def work(detector: Detector) -> str:
        if str(detector.device) != limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return str(detector.device)

    return work


def test_a_scan_that_does_not_fit_moves_the_detector_for_those_after_it(loaded: list[Placed]) -> None:
    said: list[tuple[str, str]] = []
    fitting = FittingDetector(PreprocessingOptions(), MODEL, "cuda:1", lambda *told: said.append(told), "cases.csv")
    assert fitting.run("one", work_on("cuda:1")) == "cuda:1"
    assert (len(loaded), fitting.devices, said) == (1, ["cuda:1"], [])
    assert fitting.run("two", work_on("cpu")) == "cpu"
    assert [one.given for one in loaded] == [(MODEL, a.device, a.outline_device) for a in attempts_on("cuda:1")]
    source, message = said[-1]
    assert source == "two"
    assert "not enough memory on the GPU (cuda:1), outlining the brain on the CPU; trying again on the CPU" in message
    assert fitting.run("three", work_on("cpu")) == "cpu"
    assert (len(loaded), len(said), fitting.devices) == (3, 2, ["cuda:1", "cpu"])
    assert fitting.detector is loaded[-1]
    with pytest.raises(DeviceError, match="not enough memory on the CPU"):
        fitting.run("four", work_on("nowhere"))


def test_other_errors_move_nothing(loaded: list[Placed]) -> None:
    def damaged(_detector: Detector) -> None:
        raise InputError("scan.nii: damaged")

    fitting = FittingDetector(PreprocessingOptions(), None, "cuda", print, "cases.csv")
    with pytest.raises(InputError, match="damaged"):
        fitting.run("one", damaged)
    assert (len(loaded), fitting.devices) == (1, ["cuda"])


def test_a_gpu_too_full_for_the_model_itself_is_left(loaded: list[Placed], monkeypatch: pytest.MonkeyPatch) -> None:
    load = PreprocessingOptions.load_detector

    def load_where_it_fits(options: PreprocessingOptions, *given: Any) -> Any:
        if given[1] != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return load(options, *given)

    monkeypatch.setattr(PreprocessingOptions, "load_detector", load_where_it_fits)
    said: list[tuple[str, str]] = []
    fitting = FittingDetector(PreprocessingOptions(), None, "cuda", lambda *told: said.append(told), "cases.csv")
    assert (fitting.devices, [source for source, _ in said]) == (["cpu"], ["cases.csv"] * 2)


def test_what_is_known_of_the_model_stays_where_moving_it_fails(
    loaded: list[Placed], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = FittingDetector(PreprocessingOptions(), None, "cuda", lambda *_: None, "cases.csv")

    def refuse(*_: Any) -> None:
        raise InputError("the model was moved away")

    monkeypatch.setattr(PreprocessingOptions, "load_detector", refuse)
    with pytest.raises(InputError, match="moved away"):
        fitting.run("one", work_on("cpu"))
    assert (fitting.metadata, fitting.identity) == ("its metadata", {"name": "default"})
