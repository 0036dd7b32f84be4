from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from DALAnomalyLib.configuration import RestorationConfig
from DALAnomalyLib.detector import Detection, Detector
from DALAnomalyLib.model_store import Model
from DALAnomalyLib.out_of_distribution import DISTANCE, FIGURES, SequenceReference, judge
from DALAnomalyLib.scan_figures import ScanFigures
from DALAnomalyLib.volume import Volume
from Testing.lib.phantom import scan, untrained_model

CONTRAST, RESEMBLANCE = "white matter less grey matter", "correlation with the mean image"
EVERYTHING = (-math.inf, math.inf)


def reference(**limits: tuple[float, float]) -> SequenceReference:
    """M of four numbers that varies along two oblique directions, and limits of two figures."""
    ranges = {DISTANCE: (-math.inf, 3.0), CONTRAST: (0.05, 0.4), RESEMBLANCE: (0.5, math.inf)} | limits
    wider = {name: (low - 0.02, high + 0.02) for name, (low, high) in ranges.items()}
    directions = torch.tensor([[0.6, 0.8, 0.0, 0.0], [-0.8, 0.6, 0.0, 0.0]])
    return SequenceReference(
        torch.tensor([1.0, 2.0, 3.0, 4.0]), directions, torch.tensor([4.0, 0.25]), 0.01, wider, ranges
    )


def figures(modality: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0), **plain: float) -> ScanFigures:
    usual = dict.fromkeys(FIGURES.keys() - {DISTANCE}, 0.5) | {CONTRAST: 0.2}
    return ScanFigures(torch.tensor(modality), usual | {name.replace("_", " "): v for name, v in plain.items()})


# --- the distance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        ((0.0, 0.0, 0.0, 0.0), 0.0),
        ((1.2, 1.6, 0.0, 0.0), 4 / 4 / 4),  # two along the first direction, whose variance is 4
        ((-0.8, 0.6, 0.0, 0.0), 1 / 0.25 / 4),
        ((0.0, 0.0, 0.3, 0.4), 0.25 / 0.01 / 4),  # across both
    ],
)
def test_distance_is_mahalanobis_divided_by_the_length_of_m(away: tuple[float, ...], expected: float) -> None:
    assert reference().distance(torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.tensor(away)) == pytest.approx(
        expected, abs=1e-4
    )


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_a_usual_scan_gives_no_warning_and_its_figures() -> None:
    verdict = judge(figures(), reference(), "T1")
    assert verdict.warning is None
    assert verdict.record[CONTRAST] == {"value": 0.2, "lowest": 0.03, "highest": 0.42}
    assert verdict.record[DISTANCE] == {"value": 0.0, "lowest": None, "highest": 3.02}


def test_between_the_usual_range_and_the_limit_there_is_no_warning() -> None:
    assert judge(figures(**{CONTRAST: 0.04}), reference(), "T1").warning is None
    assert judge(figures(**{CONTRAST: 0.02}), reference(), "T1").warning is not None


def test_one_line_names_every_reason_with_its_evidence_worst_first() -> None:
    strange = figures((1.0, 2.0, 3.0, 5.0), **{CONTRAST: -0.3, RESEMBLANCE: 0.45})
    warning = judge(strange, reference(), "T2").warning
    assert warning is not None
    assert len(warning.splitlines()) == 1
    assert warning.startswith("this scan does not look like the T2 scans that the model was trained on (")
    assert "distance 25, of 99 % of training scans below 3" in warning
    assert "white matter is darker than grey matter: " in warning
    assert "white matter less grey matter -0.3, of 99 % of training scans above 0.05" in warning
    assert warning.index("distance") < warning.index("white matter") < warning.index("mean image")
    assert warning.endswith("Findings may be meaningless")


def test_a_share_a_little_below_its_limit_is_no_worse_a_reason_than_others() -> None:
    limits = {CONTRAST: (0.05, 0.4), "share of CSF": (0.08, math.inf)}
    known = replace(reference(), limits=limits, usual=limits | {CONTRAST: (0.06, 0.39)})
    warning = judge(figures(**{CONTRAST: -0.3, "share of CSF": 0.0799}), known, "T1").warning
    assert warning is not None
    assert warning.index("white matter is darker") < warning.index("little of the brain is taken for fluid")
    assert "share of CSF 0.08, less than half of the usual 0.16" in warning


def test_contrast_of_the_right_sign_is_only_too_small() -> None:
    warning = judge(figures(**{CONTRAST: 0.01}), reference(), "T1").warning
    assert warning is not None
    assert "white matter is too dark beside grey matter: " in warning


def test_three_reasons_are_named_and_the_others_counted() -> None:
    narrow = {name: (0.0, 0.1) for name in FIGURES if name != DISTANCE}
    warning = judge(figures(), reference(**narrow), "T1").warning
    assert warning is not None
    assert warning.count("of 99 % of training scans") == 3
    assert f"; and {len(narrow) - 3} more): " in warning


def test_a_figure_that_is_not_a_number_is_a_reason() -> None:
    assert judge(figures(**{CONTRAST: math.nan}), reference(), "T1").warning is not None


# --- in a model file --------------------------------------------------------------------------------------------------


def test_content_reads_back_the_same() -> None:
    before = reference()
    after = SequenceReference.read(before.content(), 4)
    assert (after.rest, after.limits, after.usual) == (before.rest, before.limits, before.usual)
    for name in ("centre", "directions", "variances"):
        assert torch.equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content.update(centre=torch.zeros(5)), "shapes"),
        (lambda content: content.update(directions=torch.zeros(3, 4)), "shapes"),
        (lambda content: content.update(centre=torch.full((4,), math.nan)), "not finite"),
        (lambda content: content.update(variances=torch.zeros(2)), "not above 0"),
        (lambda content: content.update(rest=0.0), "not above 0"),
        (lambda content: content["limits"].pop(DISTANCE), "other figures"),
        (lambda content: content["limits"].update({CONTRAST: (1.0, 0.0)}), "range of training scans"),
        (lambda content: content["usual"].update({"colour": (0.0, 1.0)}), "colour"),
        (lambda content: content.pop("rest"), "rest"),
        (lambda content: content.update(limits=[1, 2]), "items"),
    ],
)
def test_damaged_content_is_refused(change: Callable[[dict[str, Any]], object], reason: str) -> None:
    content = reference().content()
    change(content)
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError), match=reason):
        SequenceReference.read(content, 4)


# --- in a detector ----------------------------------------------------------------------------------------------------


def model_that_knows(detector: Detector, model: Model) -> Model:
    """`model` with limits around what the phantom itself shows."""
    seen = detector.detect(scan(), "T2").provenance["out_of_distribution"]
    ranges = {
        name: (
            figure["value"] - 0.1 if FIGURES[name][0] else -math.inf,
            figure["value"] + 0.1 if FIGURES[name][1] else math.inf,
        )
        for name, figure in seen.items()
    }
    return replace(model, reference={"T2": replace(model.reference["T2"], limits=ranges, usual=ranges)})


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = untrained_model()
    length = model.network.modality_extractor.length
    unlimited = dict.fromkeys(FIGURES, EVERYTHING)
    blank = SequenceReference(
        torch.zeros(length), torch.eye(1, length), torch.full((1,), 1e6), 1e6, unlimited, unlimited
    )
    model = replace(model, reference={"T1": blank, "T2": blank})
    device = torch.device("cpu")
    return Detector(model_that_knows(Detector(model, device), model), device)


def test_typical_scans_have_a_say_in_what_is_healthy(detector: Detector) -> None:
    model = detector._model
    found = []
    for typical_looks in (False, True):
        restoration = RestorationConfig(tone_pieces=6, typical_looks=typical_looks)
        metadata = replace(model.metadata, config=replace(model.metadata.config, restoration=restoration))
        found.append(Detector(replace(model, metadata=metadata), detector.device).detect(scan(), "T2"))
    assert not np.array_equal(found[0].pseudo_healthy.array, found[1].pseudo_healthy.array)


def inverted() -> Volume:
    volume = scan()
    return volume.with_array(np.where(volume.array > 0, volume.array.max() + 50 - volume.array, 0).astype(np.float32))


def strange(detection: Detection) -> list[str]:
    return [warning for warning in detection.warnings if "does not look like" in warning]


def test_the_phantom_is_no_stranger_and_its_negative_is(detector: Detector) -> None:
    assert strange(detector.detect(scan(), "T2")) == []
    (warning,) = strange(detector.detect(inverted(), "T2"))
    assert "it differs from their mean image" in warning
    assert len(warning.splitlines()) == 1


def test_figures_and_limits_are_in_the_provenance(detector: Detector) -> None:
    record = detector.detect(inverted(), "T2").provenance["out_of_distribution"]
    assert set(record) == set(FIGURES)
    figure = record["correlation with the mean image"]
    assert figure["value"] < figure["lowest"]
    assert figure["highest"] is None


def test_all_scores_of_one_scan_say_it_once_each(detector: Detector) -> None:
    assert [len(strange(each)) for each in detector.detect_all_scores(inverted(), "T2").values()] == [1] * 4


def test_a_model_that_does_not_know_its_training_scans_says_nothing() -> None:
    detection = Detector(untrained_model(), torch.device("cpu")).detect(inverted(), "T2")
    assert strange(detection) == []
    assert detection.provenance["out_of_distribution"] is None
