import pytest
import torch

from DALAnomalyLib.device import resolve_device
from DALAnomalyLib.errors import DeviceError, UsageError


def pretend_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("count", "kind"), [(0, "cpu"), (1, "cuda"), (8, "cuda")])
def test_auto_takes_a_gpu_when_there_is_one(monkeypatch: pytest.MonkeyPatch, count: int, kind: str) -> None:
    pretend_devices(monkeypatch, count)
    assert resolve_device() == resolve_device("auto") == torch.device(kind)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_devices(monkeypatch, 2)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:10", 2)])
def test_an_absent_gpu_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    pretend_devices(monkeypatch, count)
    with pytest.raises(DeviceError, match=rf"device '{name}' .*\({count} CUDA devices found\).*choose cpu"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cpu:", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:²"])
def test_other_names_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_devices(monkeypatch, 4)
    with pytest.raises(UsageError, match=r"unknown device .*; use auto, cpu, cuda or cuda:INDEX"):
        resolve_device(name)
