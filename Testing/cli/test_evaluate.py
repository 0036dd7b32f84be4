from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from DALAnomalyCLI import evaluation_report
from DALAnomalyCLI.evaluate import PRESETS_FILE, RESULT_FILES
from DALAnomalyCLI.evaluation_cases import Case, read_cases
from DALAnomalyCLI.evaluation_measures import Group, case_metrics, groups_of, measure
from DALAnomalyCLI.evaluation_report import draw_curves
from DALAnomalyCLI.evaluation_scores import ScoredCase, ScoredVoxels
from DALAnomalyLib.detector import Detector
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.job import fitting_detector
from DALAnomalyLib.job.memory_ladder import attempts_on
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_volume, write_volume

KINDS = ("hybrid", "l1", "ssim", "intensity")
HEADER = "subject,dataset,sequence,image,lesion,brain_mask"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- the table of cases -----------------------------------------------------------------------------------------------


def write_cases(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def test_paths_start_at_the_folder_of_the_table(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "mask.nii.gz"
    table = write_cases(tmp_path / "set" / "cases.csv", f"s1,ms,T2,scans/a.nii.gz,,{elsewhere}")
    assert read_cases(table) == [Case("s1", "ms", "T2", tmp_path / "set/scans/a.nii.gz", None, elsewhere)]


def test_brain_mask_column_is_optional_and_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("subject,dataset,sequence,image,lesion\ns1,ms,T2,a.nii,b.nii\n", encoding="utf-8-sig")
    (case,) = read_cases(table)
    assert case == Case("s1", "ms", "T2", tmp_path / "a.nii", tmp_path / "b.nii", None)


def test_blanks_around_names_and_values_do_no_harm(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("subject, dataset , sequence, image, lesion\n s1, ms, T2, a.nii,\n\n,,,,\n", encoding="utf-8")
    assert read_cases(table) == [Case("s1", "ms", "T2", tmp_path / "a.nii")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("subject,dataset,image,lesion\ns,d,a.nii,\n", "sequence is missing"),
        (f"{HEADER}\n", "holds no row"),
        ("", "subject, dataset, sequence, image, lesion is missing"),
        (f"{HEADER}\ns1,ms,T2,a.nii,,\ns2,ms,,b.nii,,\n", "line 3 has no sequence"),
        (f"{HEADER}\ns1,ms\n", "line 2 has no sequence, image"),
        ("\xff\xfe".encode("latin-1"), "UTF-8"),
        (HEADER.replace(",", ";"), "Its first line is 'subject;dataset;.*separated by commas, not by semicolons"),
        (HEADER.replace(",", "\t"), "separated by commas, not by tabs"),
        (HEADER.replace("image", "picture"), "separated by commas$"),
    ],
)
def test_table_that_cannot_be_used_is_refused(tmp_path: Path, content: str | bytes, words: str) -> None:
    table = tmp_path / "cases.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=words):
        read_cases(table)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cases\.csv: cannot be read"):
        read_cases(tmp_path / "cases.csv")


# --- the figures ------------------------------------------------------------------------------------------------------


def scored(
    labels: np.ndarray,
    scores: np.ndarray,
    dataset: str = "ms",
    sequence: str = "T2",
    threshold: float = 0.5,
    **more: Any,
) -> ScoredCase:
    values: dict[str, Any] = {
        "lesion_ml": float(labels.any()),
        "lesion_outside_brain_ml": 0.0,
        "error_normal": 0.1,
        "error_abnormal": 0.3 if labels.any() else math.nan,
        "warnings": (),
    }
    voxels = {kind: ScoredVoxels(scores.astype(np.float32), threshold, 2, 3.0) for kind in KINDS}
    case = Case("s", dataset, sequence, Path("a.nii"))
    return ScoredCase(case=case, sequence=sequence, labels=labels, by_kind=voxels, **{**values, **more})


def random_case(seed: int, share: float, size: int = 400, **more: Any) -> ScoredCase:
    generator = np.random.default_rng(seed)
    labels = generator.random(size) < share
    # rounded, so that there are ties
    return scored(labels, np.round(generator.random(size) + 0.4 * labels, 1), **more)


def row_of(group: Group, kind: str = "hybrid") -> dict[str, Any]:
    return next(row for row in group.rows if row["score"] == kind)


def test_average_precision_equals_scikit_learns_on_the_pooled_voxels() -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="the reference for average precision")
    cases = [random_case(seed, share) for seed, share in ((1, 0.05), (2, 0.2), (3, 0.01))]
    row = row_of(measure("ms", "T2", cases))
    labels = np.concatenate([case.labels for case in cases])
    scores = np.concatenate([case.by_kind["hybrid"].scores for case in cases])
    assert row["average_precision"] == pytest.approx(reference.average_precision_score(labels, scores), abs=1e-12)
    single = case_metrics(cases[0])[0]
    assert single["average_precision"] == pytest.approx(
        reference.average_precision_score(cases[0].labels, cases[0].by_kind["hybrid"].scores), abs=1e-12
    )


def dice(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 2 * np.count_nonzero(predicted & labels) / (np.count_nonzero(predicted) + np.count_nonzero(labels))


def test_dice_figures_equal_those_of_every_threshold_tried() -> None:
    cases = [random_case(seed, 0.2, threshold=limit) for seed, limit in ((1, 0.4), (2, 0.7))]
    row = row_of(measure("ms", "T2", cases))
    labels = np.concatenate([case.labels for case in cases])
    scores = np.concatenate([case.by_kind["hybrid"].scores for case in cases])
    tried = {limit: dice(scores >= limit, labels) for limit in np.unique(scores)}
    assert row["best_dice"] == pytest.approx(max(tried.values()))
    assert tried[np.float32(row["best_threshold"])] == pytest.approx(row["best_dice"])
    best = [max(dice(c.by_kind["hybrid"].scores >= t, c.labels) for t in np.unique(scores)) for c in cases]
    assert row["mean_case_best_dice"] == pytest.approx(np.mean(best))
    # each case at its own threshold, which differs between sequences
    fixed = [case.by_kind["hybrid"].scores >= case.by_kind["hybrid"].threshold for case in cases]
    assert row["dice_at_threshold"] == pytest.approx(dice(np.concatenate(fixed), labels))
    assert row["mean_case_dice_at_threshold"] == pytest.approx(
        np.mean([dice(mask, case.labels) for mask, case in zip(fixed, cases, strict=True)])
    )


def test_errors_are_means_over_all_voxels_of_a_group() -> None:
    few, many = np.arange(10) < 1, np.arange(100) < 50
    cases = [
        scored(few, few * 1.0, error_normal=0.1, error_abnormal=0.2),
        scored(many, many * 1.0, error_normal=0.4, error_abnormal=0.6),
    ]
    row = row_of(measure("ms", "T2", cases))
    assert row["l1_re_n"] == pytest.approx((9 * 0.1 + 50 * 0.4) / 59)
    assert row["l1_re_a"] == pytest.approx((1 * 0.2 + 50 * 0.6) / 51)
    assert row["l1_ratio"] == pytest.approx(row["l1_re_a"] / row["l1_re_n"])


def test_baseline_has_no_reconstruction_errors() -> None:
    row = row_of(measure("ms", "T2", [random_case(1, 0.2)]), "intensity")
    assert math.isnan(row["l1_re_n"])
    assert math.isnan(row["l1_ratio"])
    assert row["average_precision"] > 0


def test_healthy_scans_give_false_positives_and_change_nothing_else() -> None:
    lesioned, healthy = random_case(1, 0.2), random_case(2, 0.0)
    alone, both = (row_of(measure("ms", "T2", cases)) for cases in ([lesioned], [lesioned, healthy]))
    unchanged = [name for name in alone if not name.startswith("healthy")]
    assert [both[name] for name in unchanged] == [alone[name] for name in unchanged]
    assert (both["healthy_cases"], both["healthy_mean_findings"], both["healthy_mean_false_positive_ml"]) == (1, 2, 3.0)
    assert both["healthy_l1_re"] == pytest.approx(0.1)
    assert alone["healthy_cases"] == 0
    only = measure("healthy", "T2", [healthy])
    assert only.curves == {}
    assert math.isnan(row_of(only)["average_precision"])
    assert row_of(only)["cases"] == 0


def test_a_lesion_that_the_brain_mask_leaves_out_is_missed_and_no_healthy_scan() -> None:
    found, missed = random_case(1, 0.2), random_case(2, 0.0, lesion_ml=37.0, lesion_outside_brain_ml=37.0)
    alone, both = (row_of(measure("ms", "T2", cases)) for cases in ([found], [found, missed]))
    assert (both["cases"], both["healthy_cases"]) == (2, 0)
    assert both["mean_case_best_dice"] == pytest.approx(alone["mean_case_best_dice"] / 2)
    assert both["mean_case_dice_at_threshold"] == pytest.approx(alone["mean_case_dice_at_threshold"] / 2)
    assert both["dice_at_threshold"] < alone["dice_at_threshold"], "what is found there is wrong"
    assert both["l1_re_a"] == alone["l1_re_a"]
    row = case_metrics(missed)[0]
    assert (row["average_precision"], row["best_dice"], row["dice_at_threshold"]) == (0, 0, 0)

    blank = scored(np.zeros(9, bool), np.zeros(9), lesion_ml=37.0, lesion_outside_brain_ml=37.0)
    only = measure("ms", "T2", [blank])
    assert only.curves == {}
    row = row_of(only)
    assert (row["cases"], row["average_precision"], row["mean_case_dice_at_threshold"]) == (1, 0, 0)
    assert case_metrics(blank)[0]["dice_at_threshold"] == 0


def test_of_many_curves_the_pooled_ones_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = evaluation_report._draw_panel
    monkeypatch.setattr(
        evaluation_report, "_draw_panel", lambda axes, group: (drawn.append(group.dataset), draw(axes, group))
    )
    cases = [random_case(i, 0.2, dataset=f"set {i:02}") for i in range(14)]
    draw_curves(tmp_path / "curves.png", [measure(*group) for group in groups_of(cases)])
    assert drawn == [*(f"set {i:02}" for i in range(4, 14)), "all", "all"]


def test_groups_are_each_pair_each_sequence_and_everything() -> None:
    cases = [
        random_case(i, 0.2, dataset=d, sequence=s) for i, (d, s) in enumerate([("a", "T1"), ("a", "T2"), ("b", "T2")])
    ]
    found = {(dataset, sequence): members for dataset, sequence, members in groups_of(cases)}
    assert {key: len(members) for key, members in found.items()} == {
        ("a", "T1"): 1,
        ("a", "T2"): 1,
        ("b", "T2"): 1,
        ("all", "T1"): 1,
        ("all", "T2"): 2,
        ("all", "all"): 3,
    }


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cases(tmp_path: Path, phantom: Volume, lesion: Volume) -> Path:
    """Two scans with a lesion (labels 0, 1, 4), a healthy one and one that is missing."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(phantom, folder / "scan.nii.gz")
    write_volume(lesion.with_array(lesion.array * 4), folder / "lesion.nii.gz")
    write_volume(
        phantom.with_array(np.where(lesion.array, 100, phantom.array).astype(np.float32)), folder / "well.nii.gz"
    )
    return write_cases(
        folder / "cases.csv",
        "s1,ms,T2,scan.nii.gz,lesion.nii.gz,",
        "s2,glioma,T1,scan.nii.gz,lesion.nii.gz,",
        "s3,healthy,T2,well.nii.gz,,",
    )


def evaluate(run: Callable[..., Result], model: Path, cases: Path, out: Path, *more: str) -> Result:
    return run("evaluate", cases, "-o", out, "--model", model, "--device", "cpu", *more)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_evaluation_writes_its_four_files_and_prints_the_table(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == sorted({*RESULT_FILES} - {PRESETS_FILE})
    assert "glioma" in done.stdout
    assert "hybrid" in done.stdout
    assert "..." not in done.stdout
    assert "…" not in done.stdout, "no column may be cut"
    assert "3 of 3 cases done" in done.stdout
    metrics = read(tmp_path / "out" / "metrics.csv")
    assert {row["score"] for row in metrics} == set(KINDS)
    assert len(metrics) == 4 * 6
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["dataset"] for row in record["metrics"]] == [row["dataset"] for row in metrics]
    assert len(record["model"]["sha256"]) == 64
    assert (tmp_path / "out" / "pr_curve.png").read_bytes().startswith(b"\x89PNG")
    rows = read(tmp_path / "out" / "cases.csv")
    assert len(rows) == 4 * 3
    sick, well = rows[0], rows[8]
    assert 0 < float(sick["average_precision"]) <= 1
    assert float(sick["lesion_ml"]) > 5
    assert (well["subject"], well["average_precision"], well["best_dice"]) == ("s3", "", "")
    assert float(well["false_positive_ml"]) >= 0


def test_figures_are_those_of_the_maps_that_detect_writes(
    run: Callable[..., Result], model_file: Path, cases: Path, lesion: Volume, tmp_path: Path
) -> None:
    from DALAnomalyLib.evaluation.metrics import average_precision
    from DALAnomalyLib.volume_io import read_volume

    assert evaluate(run, model_file, cases, tmp_path / "out").exit_code == 0
    options = ("--sequence", "T2", "--model", model_file, "--device", "cpu")
    assert run("detect", cases.parent / "scan.nii.gz", "-o", tmp_path / "detected", *options).exit_code == 0
    score = read_volume(tmp_path / "detected" / "anomaly.nii.gz").array
    brain = read_volume(tmp_path / "detected" / "brain_mask.nii.gz").array > 0
    row = read(tmp_path / "out" / "cases.csv")[0]
    assert (row["subject"], row["score"]) == ("s1", "hybrid")
    expected = average_precision(score[brain], lesion.array[brain])
    assert float(row["average_precision"]) == pytest.approx(expected, rel=1e-3)


def test_case_that_fails_is_reported_and_the_others_are_measured(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    with cases.open("a") as stream:
        stream.write("s4,ms,T2,gone.nii.gz,,\n")
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 3
    assert len(done.stderr.splitlines()) == 1
    assert "gone.nii.gz" in done.stderr
    assert {row["subject"] for row in read(tmp_path / "out" / "cases.csv")} == {"s1", "s2", "s3"}
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["cases_failed"] == 1
    (failure,) = record["failures"]
    assert (failure["subject"], failure["dataset"], failure["kind"]) == ("s4", "ms", "InputError")
    assert "gone.nii.gz: no such file" in failure["message"]


def test_scans_too_large_for_the_gpu_are_measured_on_the_cpu(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullGpu(Detector):
        def detect_all_scores(self, *_args: Any, **_keywords: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    load = PreprocessingOptions.load_detector

    def placed(options: PreprocessingOptions, model: Path, device: str, outline_device: str | None) -> Detector:
        detector = load(options, model, "cpu")
        if device != "cpu":
            detector.__class__ = FullGpu
        return detector

    monkeypatch.setattr(PreprocessingOptions, "load_detector", placed)
    monkeypatch.setattr(fitting_detector, "attempts_on", lambda _device: attempts_on("cuda"))
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("trying again on the CPU") == 1, "the scans after it begin there"
    assert "3 of 3 cases done" in done.stdout


def test_a_sequence_that_the_model_does_not_know_is_refused_before_any_work(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    with cases.open("a") as stream:
        stream.write("s4,ms,t1W,gone.nii.gz,,\ns5,ms,FLAIR,scan.nii.gz,,\n")
    assert [case.sequence for case in read_cases(cases)] == ["T2", "T1", "T2", "T1", "FLAIR"]
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert "cases.csv: s5: unknown sequence 'FLAIR'; this model knows T1, T2" in line
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.4, "has no voxel above 0.5; if the scan is healthy"),
        (70.0, "marks 100% of the brain; name a mask of the lesion"),
    ],
    ids=["an empty mask makes no healthy scan", "a scan or brain mask makes no lesion"],
)
def test_what_is_no_lesion_mask_is_refused(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path, value: float, words: str
) -> None:
    scan = read_volume(cases.parent / "scan.nii.gz")
    write_volume(scan.with_array(np.full(scan.grid.shape, value, np.float32)), cases.parent / "mask.nii.gz")
    with cases.open("a") as stream:
        stream.write("s4,ms,T2,scan.nii.gz,mask.nii.gz,\n")
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 3
    assert f"mask.nii.gz: {words}" in done.stderr
    assert {row["subject"] for row in read(tmp_path / "out" / "cases.csv")} == {"s1", "s2", "s3"}


def test_the_name_of_all_cases_names_no_dataset(run: Callable[..., Result], model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("subject,dataset,sequence,image,lesion\ns1,All,T2,scan.nii.gz,\n")
    done = evaluate(run, model_file, tmp_path / "cases.csv", tmp_path / "out")
    assert done.exit_code == 3
    assert 'line 2 has the dataset "All", which stands for all cases; rename it' in done.stderr


def test_when_no_case_can_be_scored_nothing_is_written(
    run: Callable[..., Result], model_file: Path, tmp_path: Path
) -> None:
    table = write_cases(tmp_path / "in" / "cases.csv", "s1,ms,T2,gone.nii.gz,,")
    done = evaluate(run, model_file, table, tmp_path / "out")
    assert done.exit_code == 3
    assert len(done.stderr.splitlines()) == 1
    assert names(tmp_path) == ["in"]


def test_older_evaluation_is_replaced_only_with_force(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    assert evaluate(run, model_file, cases, tmp_path / "out").exit_code == 0
    assert evaluate(run, model_file, cases, tmp_path / "out").exit_code == 7
    assert evaluate(run, model_file, cases, tmp_path / "out", "--force").exit_code == 0


def test_the_sign_changes_the_scores_and_an_unknown_one_is_refused(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    precisions = []
    for sign in ("absolute", "typical"):
        assert evaluate(run, model_file, cases, tmp_path / sign, "--sign", sign).exit_code == 0
        record = json.loads((tmp_path / sign / "metrics.json").read_text(encoding="utf-8"))
        assert record["requested_sign"] == sign
        precisions.append([row["average_precision"] for row in read(tmp_path / sign / "metrics.csv")])
    assert precisions[0] != precisions[1]
    refused = evaluate(run, model_file, cases, tmp_path / "other", "--sign", "sideways")
    assert refused.exit_code == 2
    assert "--sign is sideways" in refused.stderr


def test_json_carries_the_metrics(run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path) -> None:
    done = evaluate(run, model_file, cases, tmp_path / "out", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "result"
    assert len(events[-1]["metrics"]) == 24
    assert {event["event"] for event in events} == {"progress", "result"}


def test_what_a_header_says_counts_as_it_does_for_detect(
    run: Callable[..., Result], model_file: Path, cases: Path, tmp_path: Path
) -> None:
    (cases.parent / "scan.json").write_text(json.dumps({"ContrastBolusAgent": "Gadovist 7.5 ml"}), encoding="utf-8")
    assert evaluate(run, model_file, cases, tmp_path / "out").exit_code == 0
    warnings = {row["subject"]: row["warnings"] for row in read(tmp_path / "out" / "cases.csv")}
    assert "contrast agent" in warnings["s1"]
    assert "contrast agent" not in warnings["s3"], "its own header is silent"


def test_lesion_on_another_grid_is_a_geometry_error(
    run: Callable[..., Result], model_file: Path, cases: Path, phantom: Volume, tmp_path: Path
) -> None:
    from DALAnomalyLib.volume import Grid

    moved = Grid(phantom.grid.shape, phantom.grid.spacing, (0.0, 0.0, 0.0))
    write_volume(Volume((phantom.array > 0).astype(np.uint8), moved), cases.parent / "lesion.nii.gz")
    done = evaluate(run, model_file, cases, tmp_path / "out")
    assert done.exit_code == 4
    assert [line.count("lesion.nii.gz") for line in done.stderr.splitlines()] == [1, 1]
