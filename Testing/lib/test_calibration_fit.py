"""Fits to made-up healthy scans: of known curves, of noise, and of what the findings' own code counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from DALAnomalyLib.calibration import PRESETS, TARGETS_ML, SequenceCalibration
from DALAnomalyLib.calibration_fit import CalibrationSettings, FalsePositives, false_positives, fit
from DALAnomalyLib.errors import GeometryError, InputError, UsageError
from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.scoring.score_config import ScoreConfig
from DALAnomalyLib.volume import Grid, Volume

GRID = Grid((30, 34, 28), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
"""Voxels of 0.008 ml."""
SETTINGS = CalibrationSettings("made-up scans", ScoreConfig(), 0.1)
HALF_PER_CENT = 1.005


def noise(seed: int, grid: Grid = GRID, smooth: float = 1.2) -> Volume:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), smooth)
    return Volume((values / values.std() * 0.1).astype(np.float32), grid)


def whole(grid: Grid = GRID) -> Volume:
    return Volume(np.ones(grid.shape, np.uint8), grid)


def exponential(scale_ml: float, decay: float = 0.02) -> FalsePositives:
    """A scan that shows `scale_ml * exp(-t / decay)` ml of findings at threshold t, and a fifth as many findings."""
    thresholds = np.linspace(0.4, 0.001, 4000)
    volume = scale_ml * np.exp(-thresholds / decay)
    return FalsePositives(thresholds, volume, np.round(volume / 5).astype(np.int64))


def thresholds(calibration: SequenceCalibration) -> list[float]:
    return [calibration.presets[name].threshold for name in PRESETS]


# --- what a scan shows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum_ml", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_scan_shows_what_find_findings_finds(seed: int, minimum_ml: float) -> None:
    score = noise(seed)
    brain = score.with_array((noise(seed + 10, smooth=3).array > -0.05).astype(np.uint8))
    shown = false_positives(score, brain, minimum_ml)
    asked = np.array([0.31, 0.22, 0.15, 0.1, 0.06])
    volume, count = shown.at(asked)
    for place, threshold in enumerate(asked):
        # the stored threshold next above stands for those between it and the next below
        stored = shown.thresholds[shown.thresholds >= threshold].min()
        assert stored < threshold * 1.006
        _, findings = find_findings(score, brain, float(stored), minimum_ml)
        assert count[place] == len(findings)
        assert volume[place] == pytest.approx(sum(finding.volume_ml for finding in findings))
    assert count[3] > 3


def test_volume_only_grows_as_the_threshold_falls_although_findings_merge_and_small_ones_do_not_count() -> None:
    shown = false_positives(noise(0), whole(), 0.1)
    assert (np.diff(shown.volume_ml) >= 0).all()
    assert (np.diff(shown.count) < 0).any(), "findings that merge are fewer"
    assert shown.volume_ml[0] == 0, "the first threshold lies above every score"


def test_a_scan_is_looked_at_down_to_200_ml_of_its_brain() -> None:
    grid = Grid((40, 40, 40), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))  # 1728 ml
    shown = false_positives(noise(0, grid), whole(grid), 0.1)
    assert shown.known_from == shown.thresholds[-1] > 0
    assert np.count_nonzero(noise(0, grid).array >= shown.known_from) * 0.027 == pytest.approx(200, rel=0.02)
    few = Volume(np.where(noise(0, grid).array > 0.25, noise(0, grid).array, 0), grid)
    assert false_positives(few, whole(grid), 0.1).known_from == 0


def test_scores_that_are_next_to_nothing_are_not_looked_at() -> None:
    faint = noise(0).array.clip(0)
    faint[faint < 0.2] *= 1e-20
    shown = false_positives(Volume(faint, GRID), whole(), 0.1)
    assert shown.known_from == shown.thresholds[-1] == pytest.approx(faint.max() / 1000, rel=0.01)
    faintest = false_positives(Volume((faint * 1e-15).astype(np.float32), GRID), whole(), 0.1)
    assert fit([shown, faintest], SETTINGS).scans == 2


def test_the_lowest_scores_of_a_scan_count_where_nothing_lies_below_them() -> None:
    low = np.zeros(GRID.shape, np.float32)
    low[5:20, 5:20, 5:20] = 0.0201
    shown = false_positives(Volume(low, GRID), whole(), 0.1)
    assert shown.known_from == 0
    volume, count = shown.at(np.array([0.0202, 0.0195, 0.001]))
    assert volume == pytest.approx([0, 27, 27])
    assert count.tolist() == [0, 1, 1]


def test_a_scan_without_any_score_shows_nothing() -> None:
    nothing = false_positives(Volume(np.zeros(GRID.shape, np.float32), GRID), whole(), 0.1)
    volume, count = nothing.at(np.array([0.1, 1.0]))
    assert volume.tolist() == count.tolist() == [0, 0]
    with pytest.raises(InputError, match="2 healthy scans without any score above 0; give"):
        fit([nothing, nothing], SETTINGS)


def test_a_score_that_is_no_number_or_on_another_grid_is_refused() -> None:
    broken = noise(0)
    broken.array[5, 5, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        false_positives(broken, whole(), 0.1)
    with pytest.raises(GeometryError, match="different grids"):
        false_positives(noise(0), whole(Grid((30, 34, 28), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))), 0.1)


# --- the fit ----------------------------------------------------------------------------------------------------------


def test_thresholds_of_exponential_curves_are_those_of_the_formula() -> None:
    scales = np.linspace(20, 60, 12)
    calibration = fit([exponential(scale) for scale in scales], SETTINGS)
    for name, target in zip(PRESETS, (3.0, 0.5, 0.05), strict=True):
        preset, exact = calibration.presets[name], 0.02 * np.log(scales.mean() / target)
        assert preset.target_ml == target
        assert exact * 0.999 <= preset.threshold <= exact * HALF_PER_CENT * 1.002
        assert preset.false_positive_ml <= target
        assert preset.false_positive_ml == pytest.approx(target, rel=0.06)
        low, high = preset.threshold_interval
        assert low < preset.threshold < high
        # the mean of twelve scans between 20 and 60 ml: its standard error is 3.6 ml of 40, 1.645 times which is 15 %
        low, high = preset.false_positive_ml_interval
        assert low == pytest.approx(0.85 * preset.false_positive_ml, rel=0.04)
        assert high == pytest.approx(1.15 * preset.false_positive_ml, rel=0.04)
    expected = np.mean(
        [np.round(scale * np.exp(-calibration.presets["sensitive"].threshold / 0.02) / 5) for scale in scales]
    )
    assert calibration.presets["sensitive"].false_positives_per_scan == pytest.approx(expected, abs=0.1)
    assert (calibration.scans, calibration.source, calibration.warnings) == (12, "made-up scans", ())
    assert thresholds(calibration) == sorted(thresholds(calibration))


def test_a_fit_keeps_its_word_where_findings_are_counted_anew() -> None:
    scores = [noise(seed) for seed in range(12)]
    calibration = fit([false_positives(score, whole(), 0.1) for score in scores], SETTINGS)
    for name in PRESETS:
        preset = calibration.presets[name]
        found = [find_findings(score, whole(), preset.threshold, 0.1)[1] for score in scores]
        volume = np.mean([sum(finding.volume_ml for finding in findings) for findings in found])
        assert volume <= preset.target_ml
        assert preset.false_positive_ml == pytest.approx(volume, rel=1e-4)
        assert preset.false_positives_per_scan == pytest.approx(
            np.mean([len(findings) for findings in found]), rel=1e-4
        )
        lower = preset.threshold / 1.006
        below = [find_findings(score, whole(), lower, 0.1)[1] for score in scores]
        assert np.mean([sum(finding.volume_ml for finding in findings) for findings in below]) > preset.target_ml


def test_a_curve_that_falls_again_further_down_is_not_followed_there() -> None:
    dip = FalsePositives(np.array([0.9, 0.5, 0.3, 0.1]), np.array([0.5, 8.0, 2.0, 9.0]), np.array([1, 3, 2, 1]))
    calibration = fit([dip] * 10, SETTINGS)
    assert 0.5 < calibration.presets["sensitive"].threshold < 0.5 * HALF_PER_CENT
    assert calibration.presets["sensitive"].false_positive_ml == 0.5


def test_more_volume_allowed_means_a_lower_threshold() -> None:
    scans = [exponential(scale) for scale in (20, 30, 40)]
    usual = fit(scans, SETTINGS)
    generous = fit(scans, CalibrationSettings("", ScoreConfig(), 0.1, targets_ml=(10.0, *TARGETS_ML[:2])))
    assert thresholds(generous)[1:] == thresholds(usual)[:2]
    assert thresholds(generous)[0] < thresholds(usual)[0]


def test_the_same_scans_give_the_same_numbers() -> None:
    scans = [exponential(scale) for scale in (5, 20, 30, 90)]
    assert fit(scans, SETTINGS) == fit(scans, SETTINGS)


def test_equal_scans_leave_no_doubt_and_different_ones_do() -> None:
    equal = fit([exponential(30)] * 12, SETTINGS).presets["balanced"]
    assert equal.threshold_interval == pytest.approx((equal.threshold,) * 2, rel=1e-4)
    assert equal.false_positive_ml_interval == pytest.approx((equal.false_positive_ml,) * 2, rel=1e-4)
    spread = fit([exponential(scale) for scale in (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 349)], SETTINGS).presets["balanced"]
    assert spread.threshold == equal.threshold  # the means are the same
    assert spread.threshold_interval[0] < 0.5 * spread.threshold


def test_a_scan_left_out_costs_what_the_others_threshold_shows_in_it() -> None:
    scales = np.array([20.0, 30, 40, 90])
    of_others = (scales.sum() - scales) / 3
    for name, target in zip(PRESETS, TARGETS_ML, strict=True):
        left_out = fit([exponential(scale) for scale in scales], SETTINGS).presets[name].left_out_ml
        assert left_out == pytest.approx(target * (scales / of_others).mean(), rel=0.06)
    assert fit([exponential(30)], SETTINGS).presets["balanced"].left_out_ml is None


def test_scans_of_one_subject_do_not_count_as_other_people() -> None:
    people = [exponential(scale) for scale in (5, 20, 30, 40, 50, 60, 70, 80, 90, 155)]
    names = [f"subject {number}" for number in range(10)]
    once, again = fit(people, SETTINGS, None, names), fit(people * 3, SETTINGS, None, names * 3)
    assert once == fit(people, SETTINGS)
    for name in PRESETS:
        first, second = once.presets[name], again.presets[name]
        assert second.threshold == first.threshold
        assert second.left_out_ml == pytest.approx(first.left_out_ml, rel=1e-3)
        assert second.threshold_interval == pytest.approx(first.threshold_interval, rel=1e-3)
        assert second.false_positive_ml_interval == pytest.approx(first.false_positive_ml_interval, rel=1e-3)
    (warning,) = fit(people[:3] * 4, SETTINGS, None, names[:3] * 4).warnings
    assert warning.startswith("measured on only 12 healthy scans of 3 subjects, and 10 subjects are needed")
    alone = fit(people, SETTINGS, None, names[:1] * 10).presets["balanced"]
    assert alone.left_out_ml is None
    assert alone.threshold_interval == pytest.approx((alone.threshold,) * 2, rel=1e-4)


def test_every_data_set_keeps_the_volumes_by_itself() -> None:
    quiet, loud = [exponential(scale) for scale in (8, 10, 12)] * 4, [exponential(scale) for scale in (50, 70)]
    names = ["quiet"] * 6 + ["loud"] * 2 + ["quiet"] * 6
    scans = quiet[:6] + loud + quiet[6:]
    together, each, alone = fit(scans, SETTINGS), fit(scans, SETTINGS, names), fit(loud, SETTINGS)
    assert thresholds(each) == thresholds(alone)
    assert min(np.array(thresholds(each)) / np.array(thresholds(together))) > 1.05
    for name in PRESETS:
        assert each.presets[name].false_positive_ml == alone.presets[name].false_positive_ml
        assert each.presets[name].false_positives_per_scan == alone.presets[name].false_positives_per_scan
        low, high = each.presets[name].threshold_interval
        assert low < each.presets[name].threshold < high, "drawn among the loud ones alone"
    assert fit(scans, SETTINGS, ["one"] * 14) == together


def test_a_data_set_of_one_scan_sets_the_threshold_and_left_out_tells_what_a_new_one_costs() -> None:
    scans = [*[exponential(10)] * 12, exponential(60)]
    calibration = fit(scans, SETTINGS, [*["usual"] * 12, "new"])
    preset = calibration.presets["balanced"]
    assert preset.threshold == fit(scans[12:], SETTINGS).presets["balanced"].threshold
    assert preset.left_out_ml == pytest.approx(6 * preset.target_ml, rel=0.06)
    assert "balanced: set by a data set of only 1 healthy scan" in calibration.warnings
    assert "specific: 0.05 ml per scan is less than one smallest finding in 1 scan" in calibration.warnings
    usual = [*scans[:12], exponential(2)]
    assert fit(usual, SETTINGS, [*["usual"] * 12, "new"]).warnings == ()


def test_few_scans_are_warned_of() -> None:
    (warning,) = fit([exponential(30)] * 9, SETTINGS).warnings
    assert "only 9 healthy scans" in warning
    assert fit([exponential(30)] * 10, SETTINGS).warnings == ()
    assert "only 1 healthy scan, and" in fit([exponential(30)], SETTINGS).warnings[0]


def test_a_volume_below_one_smallest_finding_in_all_scans_is_warned_of() -> None:
    coarse = CalibrationSettings("", ScoreConfig(), 2.0, remarks=("2 scans failed",))
    warnings = fit([exponential(30)] * 10, coarse).warnings
    assert warnings[0] == "2 scans failed"
    assert warnings[1:] == ("specific: 0.05 ml per scan is less than one smallest finding in 10 scans",)


def test_below_what_is_known_of_one_scan_no_threshold_is_given() -> None:
    quiet = FalsePositives(np.array([0.5, 0.2, 0.001]), np.array([0.0, 0.01, 0.02]), np.array([0, 1, 1]))
    loud = FalsePositives(np.array([0.5, 0.2]), np.array([0.0, 30.0]), np.array([0, 1]), known_from=0.2)
    calibration = fit([loud, *[quiet] * 19], SETTINGS)
    assert 0.2 <= calibration.presets["sensitive"].threshold < 0.2 * HALF_PER_CENT
    assert any(warning.startswith("sensitive: even the lowest threshold") for warning in calibration.warnings)


def test_no_scan_is_refused() -> None:
    with pytest.raises(InputError, match="0 healthy scans"):
        fit([], SETTINGS)


@pytest.mark.parametrize("volumes", [(1.0, 5.0, 0.1), (5.0, 1.0, 0.0), (5.0, 5.0, 0.1), (float("inf"), 1.0, 0.1)])
def test_volumes_that_do_not_fall_or_cannot_be_kept_are_refused(volumes: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="three falling numbers"):
        CalibrationSettings("", ScoreConfig(), 0.1, targets_ml=volumes)
