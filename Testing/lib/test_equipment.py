from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from DALAnomalyLib import resources
from DALAnomalyLib.errors import InputError, ModelFileError
from DALAnomalyLib.network.brain_extractor import BrainExtractor
from DALAnomalyLib.network.brain_extractor_file import FILE_NAME, save_extractor
from DALAnomalyLib.preprocessing import equipment as equipment_file
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.step_cache import StepCache, cache_key
from DALAnomalyLib.resources import resource_folder

KEY = cache_key("a step", 1)


class Step:
    """A slow step that counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.runs += 1
        return {"mask": np.arange(6, dtype=np.uint8).reshape(1, 2, 3) + self.runs}


def test_step_runs_once_and_is_remembered_across_runs(tmp_path: Path) -> None:
    step = Step()
    made, cached = Equipment(step_cache=StepCache(tmp_path)).remembered(KEY, step)
    assert (cached, step.runs) == (False, 1)
    kept, cached = Equipment(step_cache=StepCache(tmp_path)).remembered(KEY, step)
    assert (cached, step.runs) == (True, 1)
    assert kept.keys() == made.keys()
    np.testing.assert_array_equal(kept["mask"], made["mask"])
    assert kept["mask"].dtype == np.uint8


def test_another_key_runs_the_step_again(tmp_path: Path) -> None:
    step, equipment = Step(), Equipment(step_cache=StepCache(tmp_path))
    equipment.remembered(KEY, step)
    made, cached = equipment.remembered(cache_key("a step", 2), step)
    assert (cached, step.runs) == (False, 2)
    assert made["mask"][0, 0, 0] == 2


def test_result_without_arrays_is_remembered_too(tmp_path: Path) -> None:
    equipment = Equipment(step_cache=StepCache(tmp_path))
    assert equipment.remembered(KEY, dict) == ({}, False)
    assert equipment.remembered(KEY, dict) == ({}, True)


def test_without_a_cache_the_step_runs_every_time() -> None:
    step, equipment = Step(), Equipment()
    assert [equipment.remembered(KEY, step)[1] for _ in range(3)] == [False] * 3
    assert step.runs == 3


def test_step_that_fails_is_not_remembered(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        msg = "no brain"
        raise InputError(msg)

    step, equipment = Step(), Equipment(step_cache=StepCache(tmp_path))
    with pytest.raises(InputError, match="no brain"):
        equipment.remembered(KEY, fail)
    assert equipment.remembered(KEY, step)[1] is False


def test_damaged_entry_is_computed_again(tmp_path: Path) -> None:
    step, equipment = Step(), Equipment(step_cache=StepCache(tmp_path))
    equipment.remembered(KEY, step)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:50])
    assert equipment.remembered(KEY, step)[1] is False
    assert equipment.remembered(KEY, step)[1] is True
    assert step.runs == 2


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of models, empty, of an installation that has nothing else."""
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "installed" / "DALAnomalyLib" / "resources.py"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme="": str(tmp_path / "nowhere"))
    folder = tmp_path / "installed" / "Resources" / "Models"
    folder.mkdir(parents=True)
    equipment_file._extractor.cache_clear()
    yield folder
    equipment_file._extractor.cache_clear()


def test_network_is_loaded_on_first_use_and_once(models: Path) -> None:
    equipment = Equipment(device=torch.device("cpu"))
    with pytest.raises(ModelFileError, match=f"{FILE_NAME} is not in"):
        equipment.extractor()
    save_extractor(models / FILE_NAME, BrainExtractor((2,)), 2.5, {})
    loaded = equipment.extractor()
    assert loaded.spacing_mm == 2.5
    assert loaded.device == torch.device("cpu")
    (models / FILE_NAME).unlink()
    assert equipment.extractor() is loaded
    assert Equipment(device=torch.device("cpu")).extractor() is loaded


def test_atlas_comes_from_the_named_folder_or_the_installation(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelFileError, match="no folder Atlas"):
        Equipment().atlas()
    with pytest.raises(InputError, match="no such folder"):
        Equipment(tmp_path / "atlas").atlas()
    monkeypatch.undo()
    named, shipped = Equipment(resource_folder("Atlas")).atlas(), Equipment().atlas()
    assert named.digest == shipped.digest
    assert named.brain_mask.array.any()
