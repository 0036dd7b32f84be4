from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.job.request import DetectionRequest
from DALAnomalyLib.job.result_layout import PLAIN_VOLUMES
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import write_volume
from DALAnomalySlicer.detection_result import DetectionResult, read_result
from DALAnomalySlicer.python_environment import worker_command, worker_environment
from DALAnomalySlicer.worker_process import WorkerProcess
from Testing.lib.job_inputs import write_inputs
from Testing.lib.phantom import SCAN_GRID, scan

GRID = Grid((9, 10, 11), (1.0, 2.0, 3.0))
TYPES = {"score": "f4", "pseudo_healthy": "f4", "tissues": "u1", "edges": "u1", "brain_mask": "u1"}
MANIFEST: dict[str, Any] = {
    "input": {"shape_kji": [9, 10, 11]},
    "parameters": {"sequence": "T2", "sequence_evidence": "as told", "threshold": 0.5, "minimum_finding_ml": 0.1},
    "warnings": ["first", "second"],
    "outputs": {},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (name, kind) in enumerate(TYPES.items()):
        write_volume(Volume(np.full(GRID.shape, number, kind), GRID), tmp_path / f"{name}.nii")
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    result = read_result(folder)
    for number, (name, kind) in enumerate(TYPES.items()):
        array = getattr(result, name)
        assert (array.dtype, array.shape, array.max()) == (np.dtype(kind), GRID.shape, number)
    assert (result.sequence, result.sequence_evidence) == ("T2", "as told")
    assert (result.threshold, result.minimum_finding_ml) == (0.5, 0.1)
    assert result.warnings == ("first", "second")
    assert result.manifest == MANIFEST


def test_uncertainty_is_read_where_the_run_has_written_it(folder: Path) -> None:
    assert read_result(folder).uncertainty is None
    write_volume(Volume(np.full(GRID.shape, 7, "f4"), GRID), folder / "uncertainty.nii")
    manifest = {**MANIFEST, "outputs": {"uncertainty.nii": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert read_result(folder).uncertainty.max() == 7
    (folder / "uncertainty.nii").unlink()
    with pytest.raises(InputError, match=r"uncertainty\.nii: no such file"):
        read_result(folder)


def test_every_volume_of_the_worker_is_a_field() -> None:
    assert set(PLAIN_VOLUMES.volumes.values()) <= {field.name for field in dataclasses.fields(DetectionResult)}


def remove(folder: Path) -> None:
    (folder / "edges.nii").unlink()


def truncate(folder: Path) -> None:
    (folder / "score.nii").write_bytes((folder / "score.nii").read_bytes()[:-100])


def spoil(folder: Path) -> None:
    (folder / "manifest.json").write_text("{", encoding="utf-8")


def age(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, "parameters": {}}), encoding="utf-8")


def crop(folder: Path) -> None:
    grid = dataclasses.replace(GRID, shape=(9, 10, 12))
    write_volume(Volume(np.zeros(grid.shape, np.uint8), grid), folder / "tissues.nii")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (remove, InputError, "edges.nii: no such file"),
        (truncate, InputError, "score.nii"),
        (spoil, InputError, "manifest.json: cannot be read"),
        (age, InputError, "manifest.json: is of another version"),
        (crop, GeometryError, r"tissues is \(9, 10, 12\) but the input is \(9, 10, 11\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, change: Callable[[Path], None], kind: type[Exception], words: str
) -> None:
    change(folder)
    with pytest.raises(kind, match=words):
        read_result(folder)


def test_a_real_run_through_the_worker_is_read(tmp_path: Path) -> None:
    source, model = write_inputs(tmp_path / "Scans für Müller")
    request = DetectionRequest(source, tmp_path / "Ergebnis", sequence="T2", device="cpu", model=model)
    request.write(tmp_path / "request.json")
    worker = WorkerProcess(worker_command(tmp_path / "request.json"), worker_environment(), silent_seconds=60)
    worker.start()
    events = []
    while worker.running:
        events += worker.poll()
        time.sleep(0.02)
    events += worker.poll()
    assert (events[-1]["event"], worker.exit_code) == ("result", 0), worker.log_tail
    result = read_result(request.output)
    assert result.score.shape == SCAN_GRID.shape
    assert result.score.max() > result.threshold
    inside = result.brain_mask > 0
    assert not result.score[~inside].any()
    assert result.tissues[inside].any()
    assert result.uncertainty is not None, "the model takes two views"
    assert result.uncertainty[inside].any()
    assert 0.2 < result.pseudo_healthy[inside].mean() / scan().array[inside].mean() < 5
    assert result.manifest["requested"]["mode"] == "full"
