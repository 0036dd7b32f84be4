from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from DALAnomalyLib.calibration import PRESETS, CalibratedPreset, SequenceCalibration, applying, for_manifest
from DALAnomalyLib.configuration import PreprocessingConfig, from_dictionary, preset, to_dictionary
from DALAnomalyLib.errors import UsageError
from Testing.lib.calibrations import made_up_calibration


def test_survives_json() -> None:
    calibration = made_up_calibration(warnings=("few scans",))
    text = json.dumps(to_dictionary(calibration), allow_nan=False)
    assert from_dictionary(SequenceCalibration, json.loads(text)) == calibration


def test_holds_for_the_scores_it_was_made_with_and_no_others() -> None:
    calibration = {"T2": made_up_calibration()}
    score = preset("tiny").score
    assert applying(calibration, "T2", score) is calibration["T2"]
    assert applying(calibration, "T1", score) is None
    for other in ({"sign": "positive"}, {"kind": "l1"}, {"mean_filter": 5}):
        assert applying(calibration, "T2", replace(score, **other)) is None


def test_record_of_a_run_names_every_preset_and_what_it_was_measured_on() -> None:
    calibration = made_up_calibration(warnings=("few scans",))
    record = for_manifest(calibration, calibration.preprocessing)
    assert [name for name in record if name != "about"] == list(PRESETS)
    assert record["balanced"]["threshold"] == 0.03
    assert record["balanced"]["false_positive_ml"] == 1.0
    assert record["balanced"]["false_positives_per_scan"] == 0.75
    assert record["about"] == {
        "source": "twelve made-up scans",
        "scans": 12,
        "score": "hybrid",
        "sign": "absolute",
        "minimum_finding_ml": 0.1,
        "warnings": ["few scans"],
        "same_preprocessing": True,
    }
    assert not for_manifest(calibration, PreprocessingConfig())["about"]["same_preprocessing"]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.0},
        {"threshold": math.nan},
        {"threshold_interval": (-0.1, 0.2)},
        {"false_positive_ml": -1.0},
        {"false_positives_per_scan": math.inf},
        {"left_out_ml": -0.1},
        {"left_out_ml": math.nan},
    ],
)
def test_a_preset_that_cannot_have_been_measured_is_refused(change: dict[str, object]) -> None:
    good = made_up_calibration().presets["balanced"]
    with pytest.raises(UsageError, match="calibrate again"):
        replace(good, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scans": 0}, "0 scans"),
        ({"presets": {}}, "a calibration needs sensitive, balanced, specific"),
        ({"thresholds": (0.03, 0.02, 0.06)}, "must not fall"),
    ],
)
def test_a_calibration_that_is_not_whole_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made_up_calibration(**change)  # type: ignore[arg-type]


def test_a_preset_without_its_figures_is_refused() -> None:
    with pytest.raises(UsageError, match="must be given"):
        from_dictionary(CalibratedPreset, {"threshold": 0.1})
