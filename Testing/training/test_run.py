from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from DALAnomalyLib.errors import DeviceError, InputError, OutputError, UsageError
from DALAnomalyLib.model_store import load_model
from DALAnomalyTraining import run as run_module
from DALAnomalyTraining.run import train

STAGES = [{"name": "joint", "steps": 2, "learning_rates": {"modality_extractor": 1.0}}]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    """Which checkpoint was exported where; exporting itself has tests of its own."""
    calls: list[tuple[Path, Path]] = []
    monkeypatch.setattr(run_module, "export", lambda checkpoint, pack, path: calls.append((checkpoint, path)))
    return calls


def test_a_finished_run_has_a_model_that_loads(finished_run: Any) -> None:
    model = load_model(finished_run.folder / "model.dalmodel", torch.device("cpu"))
    assert model.metadata.config.name == "tiny"
    best = finished_run.folder / "best.pt"
    source = best if best.exists() else finished_run.folder / "last.pt"
    assert model.metadata.training["steps"] == torch.load(source, weights_only=True)["step"]


def test_a_model_appears_when_the_last_step_is_done(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path], exported: list[tuple[Path, Path]]
) -> None:
    config, run = write_config(stages=STAGES), tmp_path / "run"
    train(config, toy_pack_folder, run, accelerator="cpu", until=1, quiet=True)
    assert exported == []
    assert (run / "last.pt").exists()
    train(config, toy_pack_folder, run, resume=True, accelerator="cpu", quiet=True)
    checkpoint = run / ("best.pt" if (run / "best.pt").exists() else "last.pt")
    assert exported == [(checkpoint, run / "model.dalmodel")]


def test_the_model_of_a_finished_run_is_left_alone(
    toy_pack_folder: Path,
    tmp_path: Path,
    write_config: Callable[..., Path],
    exported: list[tuple[Path, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may have been calibrated since."""
    config, run = write_config(stages=STAGES), tmp_path / "run"
    train(config, toy_pack_folder, run, accelerator="cpu", until=1)
    assert capsys.readouterr().out.splitlines()[-1] == f"{run}: stopped at step 1, --resume goes on"
    train(config, toy_pack_folder, run, resume=True, accelerator="cpu")
    (run / "model.dalmodel").touch()
    train(config, toy_pack_folder, run, resume=True, accelerator="cpu")
    assert capsys.readouterr().out.splitlines()[-1] == f"{run / 'model.dalmodel'}: finished"
    assert len(exported) == 1


@pytest.mark.parametrize("has_best", [True, False])
def test_the_best_checkpoint_is_exported_where_there_is_one(
    toy_pack_folder: Path,
    tmp_path: Path,
    write_config: Callable[..., Path],
    exported: list[tuple[Path, Path]],
    has_best: bool,
) -> None:
    config, run = write_config(stages=STAGES), tmp_path / "run"
    train(config, toy_pack_folder, run, accelerator="cpu", quiet=True)
    exported.clear()
    (run / "best.pt").unlink(missing_ok=True)
    if has_best:
        (run / "best.pt").write_bytes((run / "last.pt").read_bytes())
    train(config, toy_pack_folder, run, resume=True, accelerator="cpu", quiet=True)
    assert exported[0][0].name == ("best.pt" if has_best else "last.pt")


def test_a_folder_that_cannot_be_written_is_an_output_error(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    run = tmp_path / "file" / "run"
    with pytest.raises(OutputError, match=r"run: cannot be written \(Not a directory\)"):
        train(write_config(stages=STAGES), toy_pack_folder, run, accelerator="cpu", quiet=True)


@pytest.mark.parametrize(("device", "kind"), [("cuda", DeviceError), ("abacus", UsageError)])
def test_a_device_that_is_not_there_is_refused(
    toy_pack_folder: Path,
    tmp_path: Path,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    kind: type[Exception],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(kind, match=f"device '{device}'"):
        train(write_config(stages=STAGES), toy_pack_folder, tmp_path / "run", accelerator=device)
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_before_the_inputs_are_sound(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="unknown learning_rat"):
        train(write_config("typo.yaml", learning_rat=1.0), toy_pack_folder, run, accelerator="cpu")
    with pytest.raises(InputError, match="is not a training pack"):
        train(write_config(), tmp_path, run, accelerator="cpu")
    with pytest.raises(UsageError, match="subjects_per_step 3"):
        train(write_config(subjects_per_step=3), toy_pack_folder, run, accelerator="cpu")
    assert not run.exists()


@pytest.mark.parametrize("devices", [0, -1])
def test_at_least_one_device_trains(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path], devices: int
) -> None:
    with pytest.raises(UsageError, match=f"--devices is {devices}; it must be at least 1"):
        train(write_config(), toy_pack_folder, tmp_path / "run", accelerator="cpu", devices=devices)


def test_until_0_trains_nothing(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path], exported: list[tuple[Path, Path]]
) -> None:
    train(write_config(stages=STAGES), toy_pack_folder, tmp_path / "run", accelerator="cpu", until=0, quiet=True)
    assert not (tmp_path / "run" / "last.pt").exists()
    assert exported == []


def test_one_card_cannot_be_named_by_its_number(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "resolve_device", torch.device)
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
        train(write_config(stages=STAGES), toy_pack_folder, tmp_path / "run", accelerator="cuda:1", quiet=True)


def test_automatic_is_what_detection_means_by_it(
    toy_pack_folder: Path, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what Lightning would choose, which is the graphics processor of a Mac."""
    chosen: list[object] = []

    def remember(config: object, pack: object, run: object, hardware: object) -> None:
        chosen.append(hardware)
        raise UsageError("far enough")

    monkeypatch.setattr(run_module, "Trainer", remember)
    monkeypatch.setattr(run_module, "resolve_device", lambda name: torch.device("cpu"))
    with pytest.raises(UsageError, match="far enough"):
        train(write_config(stages=STAGES), toy_pack_folder, tmp_path / "run", quiet=True)
    assert chosen == [run_module.Hardware("cpu", 1)]
