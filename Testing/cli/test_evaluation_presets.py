"""What `evaluate` says about presets: counts on hand-made scans, and the file that it writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import Result

from DALAnomalyCLI.evaluation_cases import Case
from DALAnomalyCLI.evaluation_preset_table import preset_rows
from DALAnomalyCLI.evaluation_presets import PresetOutcome, preset_outcomes
from DALAnomalyCLI.evaluation_scores import ScoredCase
from DALAnomalyLib.model_store import load_model, save_model
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import read_map, read_mask, write_volume
from Testing.lib.calibrations import made_up_calibration

GRID = Grid((20, 40, 60), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
"""Voxels of 0.125 ml."""


def boxes(*places: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def volumes(score: np.ndarray, brain: np.ndarray | None = None) -> tuple[Volume, Volume]:
    """Score and brain, which without one is everything."""
    mask = np.ones(GRID.shape) if brain is None else brain
    return Volume(score.astype(np.float32), GRID), Volume(mask.astype(np.uint8), GRID)


SMALL, EIGHT, TEN, LARGE = (
    (slice(2, 3), slice(2, 3), slice(2, 9)),  # 7 voxels, 0.875 ml
    (slice(6, 8), slice(2, 4), slice(2, 4)),  # 8 voxels, 1 ml
    (slice(10, 14), slice(20, 24), slice(2, 7)),  # 80 voxels, 10 ml
    (slice(10, 14), slice(20, 24), slice(20, 30)),  # 160 voxels, 20 ml
)


def test_findings_false_volume_overlap_and_lesions_hit_of_a_scan_made_by_hand() -> None:
    lesion = boxes(SMALL, EIGHT, TEN, LARGE)
    score = np.zeros(GRID.shape)
    score[2, 2, 2] = 0.025  # one voxel of the small lesion: too small to be a finding on its own,
    score[1, 1, 1] = 0.025  # but two that share a corner are none the less one of 0.25 ml
    score[10:14, 20:24, 28:34] = 0.05  # the end of the large one and as much again outside
    score[18, 38, 50:58] = 0.07  # a false finding of 1 ml
    brain = np.ones(GRID.shape)
    brain[10, 20, 20] = 0
    calibration = made_up_calibration((0.02, 0.03, 0.06), minimum_finding_ml=0.2)
    sensitive, balanced, specific = preset_outcomes(*volumes(score, brain), calibration, lesion)
    assert sensitive == PresetOutcome(
        preset="sensitive",
        threshold=0.02,
        findings=3,
        false_positive_ml=(1 + 4 * 4 * 4 + 8) * 0.125,
        overlap=1 + 4 * 4 * 2,
        found=2 + 4 * 4 * 6 + 8,
        abnormal=7 + 8 + 80 + 159,
        lesions=(1, 2, 1),
        hit=(1, 0, 1),
    )
    assert (balanced.findings, balanced.hit) == (2, (0, 0, 1))
    assert (specific.findings, specific.hit, specific.false_positive_ml) == (1, (0, 0, 0), 1.0)
    alone = preset_outcomes(*volumes(score, brain), replace(calibration, minimum_finding_ml=0.3), lesion)[0]
    assert alone.hit == (0, 0, 1)


def test_a_healthy_scan_has_no_lesion_to_hit() -> None:
    score = boxes(LARGE) * 0.05
    outcome = preset_outcomes(*volumes(score), made_up_calibration(), boxes())[1]
    assert (outcome.findings, outcome.false_positive_ml, outcome.abnormal) == (1, 20.0, 0)
    assert outcome.lesions == outcome.hit == (0, 0, 0)


def case(lesioned: bool, *outcomes: PresetOutcome) -> ScoredCase:
    labels = np.array([lesioned, False])
    volume = float(lesioned)
    return ScoredCase(Case("s", "ms", "T2", Path("a.nii")), "T2", labels, volume, 0.0, {}, 0.1, 0.1, (), outcomes)


def outcome(**values: Any) -> PresetOutcome:
    base = {"preset": "balanced", "threshold": 0.03, "findings": 0, "false_positive_ml": 0.0, "overlap": 0, "found": 0}
    return PresetOutcome(**{**base, "abnormal": 0, "lesions": (0, 0, 0), "hit": (0, 0, 0), **values})


def test_rows_are_means_over_healthy_scans_and_pooled_over_lesions() -> None:
    cases = [
        case(False, outcome(findings=1, false_positive_ml=0.5)),
        case(False, outcome(findings=4, false_positive_ml=2.5)),
        case(True, outcome(false_positive_ml=3.0, overlap=30, found=50, abnormal=40, lesions=(2, 1, 0), hit=(0, 1, 0))),
        case(True, outcome(false_positive_ml=1.0, overlap=10, found=10, abnormal=60, lesions=(5, 0, 1), hit=(3, 0, 1))),
    ]
    (row,) = preset_rows("ms", "T2", cases, 0.6)
    assert row == {
        "dataset": "ms",
        "sequence": "T2",
        "preset": "balanced",
        "threshold": 0.03,
        "healthy_cases": 2,
        "healthy_mean_false_positive_ml": 1.5,
        "healthy_worst_false_positive_ml": 2.5,
        "healthy_mean_findings": 2.5,
        "healthy_worst_findings": 4,
        "cases": 2,
        "dice": pytest.approx(2 * 40 / 160),
        "best_dice": 0.6,
        "mean_false_positive_ml": 2.0,
        "lesions_below_1_ml": "3/7",
        "lesions_1_to_10_ml": "1/1",
        "lesions_above_10_ml": "1/1",
    }


def test_groups_of_one_kind_leave_the_other_kinds_figures_undefined() -> None:
    (sick,) = preset_rows("ms", "T2", [case(True, outcome(found=1, abnormal=1))], 0.6)
    assert all(
        math.isnan(cast("float", sick[name]))
        for name in sick
        if name.startswith("healthy_") and name != "healthy_cases"
    )
    (well,) = preset_rows("ms", "T2", [case(False, outcome())], math.nan)
    assert math.isnan(cast("float", well["dice"]))
    assert (well["cases"], well["lesions_below_1_ml"]) == (0, "0/0")


def test_a_lesion_that_the_brain_mask_leaves_out_is_not_hit() -> None:
    missed = replace(case(True, outcome(lesions=(0, 0, 1))), labels=np.array([False, False]))
    (row,) = preset_rows("ms", "T2", [missed], 0.0)
    assert (row["healthy_cases"], row["cases"], row["dice"], row["lesions_above_10_ml"]) == (0, 1, 0, "0/1")


def test_without_a_calibration_there_is_no_row() -> None:
    assert preset_rows("ms", "T2", [case(True), case(False)], 0.6) == []


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated_model(model_file: Path, tmp_path: Path) -> Path:
    """The tiny model with a calibration of T2 alone."""
    model, path = load_model(model_file), tmp_path / "calibrated.dalmodel"
    metadata = replace(model.metadata, calibration={"T2": made_up_calibration((0.05, 0.1, 0.2))})
    save_model(path, metadata, model.network, model.templates)
    return path


@pytest.fixture
def cases(tmp_path: Path, phantom: Volume, lesion: Volume) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(phantom, folder / "scan.nii.gz")
    write_volume(lesion, folder / "lesion.nii.gz")
    rows = ["s1,ms,T2,scan.nii.gz,lesion.nii.gz", "s2,well,T2,scan.nii.gz,", "s3,ms,T1,scan.nii.gz,lesion.nii.gz"]
    table = folder / "cases.csv"
    table.write_text("\n".join(["subject,dataset,sequence,image,lesion", *rows, ""]), encoding="utf-8")
    return table


def test_presets_csv_says_what_detect_would_show(
    run: Callable[..., Result], calibrated_model: Path, cases: Path, tmp_path: Path
) -> None:
    options = ("--model", calibrated_model, "--device", "cpu")
    done = run("evaluate", cases, "-o", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert "sensitive" in done.stdout
    assert "…" not in done.stdout, "no column may be cut"
    with (tmp_path / "out" / "presets.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["dataset"], row["sequence"]) for row in rows[::3]] == [("ms", "T2"), ("well", "T2"), ("all", "T2")]
    record = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert [row["lesions_above_10_ml"] for row in record["presets"]] == [row["lesions_above_10_ml"] for row in rows]

    balanced = rows[1]
    assert (balanced["preset"], balanced["threshold"]) == ("balanced", "0.1")
    scan = cases.parent / "scan.nii.gz"
    assert run("detect", scan, "-o", tmp_path / "detected", "--sequence", "T2", *options).exit_code == 0
    found = read_map(tmp_path / "detected" / "findings_mask.nii.gz").array > 0
    labels = read_mask(cases.parent / "lesion.nii.gz", read_map(scan).grid).array > 0
    voxel_ml = read_map(scan).grid.voxel_volume_ml
    assert found.any()
    assert float(balanced["mean_false_positive_ml"]) == pytest.approx(
        np.count_nonzero(found & ~labels) * voxel_ml, rel=1e-5
    )
    assert float(rows[4]["healthy_mean_false_positive_ml"]) == pytest.approx(
        np.count_nonzero(found) * voxel_ml, rel=1e-5
    )
    assert balanced["lesions_above_10_ml"] == ("1/1" if (found & labels).any() else "0/1")
    assert float(balanced["dice"]) <= float(balanced["best_dice"])
    # a preset says nothing of scores with another sign
    assert run("evaluate", cases, "-o", tmp_path / "signed", "--sign", "typical", *options).exit_code == 0
    assert not (tmp_path / "signed" / "presets.csv").exists()
