import os
import pickle
from pathlib import Path

import pytest
import torch

from DALAnomalyLib.errors import InputError
from DALAnomalyTraining.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def content(step: int) -> dict[str, object]:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "step": step,
        "best": float("-inf"),
        "config": {"names": ["a", "b"], "nothing": None},
        "pack": "0",
        "landmarks": {},
        "network": layer.state_dict(),
        "average": None,
        "optimizer": optimizer.state_dict(),
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = content(5)
    save_checkpoint(tmp_path / "last.pt", saved)
    loaded = load_checkpoint(tmp_path / "last.pt", CPU)
    assert loaded.keys() == saved.keys()
    assert (loaded["step"], loaded["best"], loaded["config"]) == (5, float("-inf"), saved["config"])
    for name, weight in saved["network"].items():
        assert torch.equal(loaded["network"][name], weight)
    first, second = (values["optimizer"]["state"][0] for values in (saved, loaded))
    assert torch.equal(first["exp_avg"], second["exp_avg"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("failing", ["torch.save", "os.fsync", "os.replace"])
def test_a_save_that_fails_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1))
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        if failing == "torch.save":
            arguments[1].write(b"half a checkpoint")
        msg = "killed"
        raise KeyboardInterrupt(msg)

    module, name = failing.split(".")
    monkeypatch.setattr({"torch": torch, "os": os}[module], name, fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, content(2))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert load_checkpoint(path, CPU)["step"] == 1
    save_checkpoint(path, content(3))
    assert load_checkpoint(path, CPU)["step"] == 3


def test_what_is_saved_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *arguments, name=name, function=function: (calls.append(name), function(*arguments))
        )
    save_checkpoint(tmp_path / "last.pt", content(1))
    assert calls == ["fsync", "replace"]


def refuse(path: Path) -> None:
    with pytest.raises(
        InputError,
        match=rf"{path.name} is not a readable checkpoint \(\w+\); name another",
    ):
        load_checkpoint(path, CPU)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.pt: no such checkpoint; name last\.pt or best\.pt"):
        load_checkpoint(tmp_path / "last.pt", CPU)


@pytest.mark.parametrize("other", [[1, 2], {"state_dict": {}}])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, other: object) -> None:
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt is no checkpoint of such a run; name another"):
        load_checkpoint(tmp_path / "other.pt", CPU)


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refuse(path)


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda value, file: pickle.dump(value, file), torch.save], ids=["pickle", "torch"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, write) -> None:
    path = tmp_path / "last.pt"
    with path.open("wb") as file:
        write({"step": Trap(tmp_path / "trapped")}, file)
    refuse(path)
    assert not (tmp_path / "trapped").exists()
