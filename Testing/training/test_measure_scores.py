"""The scripts that measure on real scans, without any: which model they take, and what they count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import development_cases
import measure_scores
import numpy as np
import pytest
import torch

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.evaluation.metrics import count_detections
from DALAnomalyTraining.checkpoint import load_checkpoint, save_checkpoint, weights_of

CPU = torch.device("cpu")


def test_a_checkpoint_lends_its_weights(finished_run: Any, tmp_path: Path) -> None:
    content = load_checkpoint(finished_run.folder / "last.pt", CPU)
    content["average"] = {name: value + 1 for name, value in weights_of(content).items()}
    save_checkpoint(tmp_path / "changed.pt", content)
    _, model = measure_scores.load(finished_run.folder / "model.dalmodel", tmp_path / "changed.pt")
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, content["average"][name])


def test_a_checkpoint_that_knows_other_intensities_is_refused(finished_run: Any, tmp_path: Path) -> None:
    content = load_checkpoint(finished_run.folder / "last.pt", CPU)
    content["landmarks"]["T1"]["values"] = [0.5 * value for value in content["landmarks"]["T1"]["values"]]
    save_checkpoint(tmp_path / "other.pt", content)
    with pytest.raises(UsageError, match=r"other\.pt did not begin with this model.*dal-anomaly export"):
        measure_scores.load(finished_run.folder / "model.dalmodel", tmp_path / "other.pt")


def test_a_checkpoint_of_another_network_is_refused(finished_run: Any, tmp_path: Path) -> None:
    content = load_checkpoint(finished_run.folder / "last.pt", CPU)
    content["average"] = {"weight": torch.zeros(1)}
    save_checkpoint(tmp_path / "other.pt", content)
    with pytest.raises(UsageError, match=r"other\.pt is of another network"):
        measure_scores.load(finished_run.folder / "model.dalmodel", tmp_path / "other.pt")


def case(dataset: str, labels: np.ndarray) -> Any:
    scan = SimpleNamespace(sequence="T2")
    return SimpleNamespace(case=SimpleNamespace(dataset=dataset), scan=scan, labels=labels, voxel_ml=0.5)


def test_figures_pool_lesions_and_count_false_positives_of_healthy_scans() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.random(400) < 0.2, rng.random(300) < 0.1, np.zeros(200, bool)]
    scores = [rng.random(each.size) + 0.5 * each for each in labels]
    cases = [case("glioma", labels[0]), case("glioma", labels[1]), case("healthy", labels[2])]
    found = measure_scores.figures(cases, [measure_scores.Scored(each, 0.25) for each in scores])
    pooled = count_detections(np.concatenate(scores[:2]), np.concatenate(labels[:2]))
    dice, threshold = pooled.best_dice()
    assert found == {
        "glioma T2": f"{pooled.average_precision():.3f} / {dice:.3f}",
        "healthy T2": f"{0.5 * np.count_nonzero(scores[2] >= threshold):.2f} ml",
        "spread": "0.25",
    }


def test_development_cases_name_every_scan_once(tmp_path: Path) -> None:
    heads = {*development_cases.HELD_OUT, *development_cases.TRAINED_ON, *development_cases.CALIBRATED_ON, "IXI999"}
    files = [f"ixi_t1_2mm/{name}_{kind}.nii.gz" for name in heads for kind in ("T1", "labels")]
    files += [f"healthy_pair/kirby113_{sequence}.nii.gz" for sequence in ("T1", "T2")]
    files += [f"lesions/glioma/A_{kind}.nii.gz" for kind in ("T1", "T2", "lesion")]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    rows = development_cases.rows(tmp_path)
    assert [row["sequence"] for row in rows if row["lesion"]] == ["T1", "T2"]
    assert len({(row["subject"], row["dataset"], row["sequence"]) for row in rows}) == len(rows)
    assert {row["subject"] for row in rows if row["dataset"] == "IXI held out, raw"} == set(development_cases.HELD_OUT)
    assert all(row["brain_mask"] for row in rows if row["dataset"] == "IXI held out")
    further = {row["subject"] for row in development_cases.further_heads(tmp_path)}
    assert further == heads - set(development_cases.HELD_OUT) - development_cases.CALIBRATED_ON


def test_missing_development_data_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="development data's folder"):
        development_cases.rows(tmp_path)
