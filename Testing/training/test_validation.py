"""Validation is itself measured, with networks whose figures are known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.configuration import ModelConfig, RestorationConfig, preset
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.network.dal_network import Anatomy, DALNetwork, Restoration
from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks
from DALAnomalyLib.scoring.score_config import SCORE_KINDS, ScoreConfig
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.synthetic_lesions import KINDS
from DALAnomalyTraining.validation import Case, Validation, ValidationResult

CPU = torch.device("cpu")
COUNT = 4
CONFIG = replace(
    preset("tiny"),
    restoration=RestorationConfig(),
    score=ScoreConfig(kind="l1", minimum_filter=0, mean_filter=0, mask_erosion=0),
)
FULL = preset("tiny").grid.shape


class KnownNetwork:
    """Stands in for a network: `heal` and `classes` say what it makes of a case, lesioned or not."""

    def __init__(
        self,
        cases: list[Case],
        heal: Callable[[Case, Tensor], Tensor] = lambda case, images: case.healthy,
        classes: Callable[[Tensor], Tensor] | None = None,
        edges: float = 0.2,
        config: ModelConfig = CONFIG,
    ) -> None:
        self.config, self._cases, self._heal, self._edges = config, cases, heal, edges
        self._classes = classes or (lambda images: thirds(len(images)))
        self.evaluated = False

    def eval(self) -> KnownNetwork:
        self.evaluated = True
        return self

    def restore(self, images: Tensor, brain: Tensor, sequence: Tensor, typical: Tensor | None = None) -> Restoration:
        assert self.evaluated
        self.typical = typical
        assert not torch.is_grad_enabled()
        assert sequence.tolist() == list(range(len(images)))
        given = images[:, 0]
        case = next(c for c in self._cases if torch.equal(c.images, given) or torch.equal(c.healthy, given))
        anatomy = self._classes(images)[:, None] / 3 * brain
        edges = (torch.rand(brain.shape, generator=torch.Generator().manual_seed(0)) < self._edges) * brain
        healthy = self._heal(case, given)[:, None] * brain
        return Restoration(healthy, Anatomy(anatomy, anatomy, anatomy), edges, torch.zeros(len(images), 4))


def thirds(count: int) -> Tensor:
    """Three slabs of one class each, the same for all sequences."""
    rows = 1 + torch.arange(FULL[1]) * 3 // FULL[1]
    return rows[None, None, :, None].expand(count, *FULL).float()


@pytest.fixture(scope="module")
def pairs(toy_pack: Pack) -> PairGenerator:
    records = [record for record in toy_pack.records if record.source != "paired"]
    return PairGenerator(toy_pack, records, CONFIG.grid, ("T1", "T2"), GeneratorConfig(noise=0.01), CPU, 0)


@pytest.fixture(scope="module")
def landmarks(pairs: PairGenerator) -> dict[str, Landmarks]:
    return pairs.learn_landmarks(2)


@pytest.fixture(scope="module")
def validation(pairs: PairGenerator, landmarks: dict[str, Landmarks]) -> Validation:
    return Validation(pairs, landmarks, COUNT)


def measured(validation: Validation, **behaviour: Any) -> ValidationResult:
    return validation(KnownNetwork(validation._cases, **behaviour))  # type: ignore[arg-type]


def test_cases_hold_lesions_of_every_kind_on_otherwise_equal_scans(validation: Validation) -> None:
    assert [case.kind for case in validation._cases] == [kind.name for kind in KINDS]
    for case in validation._cases:
        assert bool(case.lesion.any())
        differs = (case.images - case.healthy).abs()
        inside = case.lesion & (case.brain > 0)
        outside = ~case.lesion & (case.brain > 0)
        # elsewhere a lesion acts through blur and through the landmarks alone
        assert float(differs[:, inside].mean()) > 5 * float(differs[:, outside].mean())


def test_a_network_that_knows_the_healthy_image_detects_all(validation: Validation) -> None:
    result = measured(validation)
    for name in ("T1", "T2"):
        # short of 1 by partial volumes around the lesions
        assert result.figures[f"average_precision_{name}"] > 0.8
        assert result.figures[f"best_dice_{name}"] > 0.75
    mean = (result.figures["average_precision_T1"] + result.figures["average_precision_T2"]) / 2
    assert result.average_precision == pytest.approx(mean)
    assert result.figures["healthy_error"] == 0
    assert result.warnings() == []


def test_leakage_is_that_of_the_network_however_intensities_are_matched_afterwards(validation: Validation) -> None:
    matching = replace(CONFIG, restoration=RestorationConfig(tone_pieces=4, drift_mm=25.0))
    painted = {"heal": lambda case, images: 0.6 * case.healthy + 0.1}
    figures = [measured(validation, config=config, **painted).figures for config in (CONFIG, matching)]
    assert figures[1]["average_precision_T2"] > 1.1 * figures[0]["average_precision_T2"], "or this test proves nothing"
    assert figures[0]["leakage"] == figures[1]["leakage"] == 0


def test_a_network_that_paints_everything_back_detects_nothing(validation: Validation) -> None:
    result = measured(validation, heal=lambda case, images: images)
    voxels = sum(float(case.brain.sum()) for case in validation._cases)
    base_rate = sum(float(case.lesion.sum()) for case in validation._cases) / voxels
    # with a score of 0 everywhere, precision is the share of lesions
    assert result.average_precision == pytest.approx(base_rate, rel=0.01)


def test_leakage_is_1_for_a_lesion_painted_back_and_0_for_one_left_out(validation: Validation) -> None:
    assert measured(validation, heal=lambda case, images: images).figures["leakage"] == pytest.approx(1, abs=1e-5)
    assert measured(validation).figures["leakage"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_leakage_is_the_share_of_the_contrast_painted_back(validation: Validation, share: float) -> None:
    result = measured(validation, heal=lambda case, images: case.healthy + share * (images - case.healthy))
    assert result.figures["leakage"] == pytest.approx(share, abs=1e-4)


def test_healthy_error_is_the_mean_error_on_healthy_scans(validation: Validation) -> None:
    result = measured(validation, heal=lambda case, images: case.healthy + 0.125)
    assert result.figures["healthy_error"] == pytest.approx(0.125, abs=1e-5)


def test_class_fractions_edges_and_agreement_are_measured_in_the_brain(validation: Validation) -> None:
    figures = measured(validation).figures
    fractions = [figures[f"class_fraction_{number}"] for number in (1, 2, 3)]
    assert sum(fractions) == pytest.approx(1)
    slabs = torch.stack([(thirds(1)[0][case.brain > 0] == 2).float().mean() for case in validation._cases])
    assert fractions[1] == pytest.approx(float(slabs.mean()), abs=1e-5)
    assert figures["edge_density"] == pytest.approx(0.2, abs=0.02)
    assert figures["anatomy_agreement"] == 1


def one_class(images: Tensor) -> Tensor:
    return torch.full((len(images), *FULL), 3.0)


def disagreeing(images: Tensor) -> Tensor:
    classes = thirds(len(images)).clone()
    classes[1] = 4 - classes[1]
    classes[1][classes[0] == 2] = 1
    return classes


def agreeing_in_half(images: Tensor) -> Tensor:
    """T2 differs from T1 on one slab of three."""
    classes = thirds(len(images)).clone()
    classes[1][classes[0] == 1] = 2
    return classes


@pytest.mark.parametrize(
    ("behaviour", "warnings"),
    [
        ({}, []),
        ({"classes": one_class}, ["class_fraction_1 is 0.000", "class_fraction_2 is 0.000"]),
        ({"edges": 0.9}, ["A is dithering"]),
        ({"edges": 0.55}, []),
        ({"classes": disagreeing}, ["sequences agree on 0.0"]),
        ({"classes": agreeing_in_half}, []),
    ],
    ids=["sound", "one class", "dithering", "many edges", "disagreement", "some disagreement"],
)
def test_collapse_is_called_out_and_nothing_else(
    validation: Validation, behaviour: dict[str, Any], warnings: list[str]
) -> None:
    found = measured(validation, **behaviour).warnings()
    assert len(found) == len(warnings)
    for message, expected in zip(found, warnings, strict=True):
        assert message.startswith("COLLAPSE: ")
        assert expected in message


def test_a_network_that_makes_nothing_of_its_anatomy_cannot_collapse(validation: Validation) -> None:
    without = replace(CONFIG, network=replace(CONFIG.network, restoration_input="image_edges"))
    assert measured(validation, config=without, edges=0.9).warnings() == []


def test_thresholds_find_the_lesions_for_every_score(validation: Validation) -> None:
    thresholds = validation.thresholds(KnownNetwork(validation._cases))  # type: ignore[arg-type]
    assert {name: set(by_kind) for name, by_kind in thresholds.items()} == {
        name: set(SCORE_KINDS) for name in ("T1", "T2")
    }
    for row, name in enumerate(("T1", "T2")):
        scores = torch.cat([(c.images - c.healthy)[row][c.brain > 0].abs() for c in validation._cases])
        lesion = torch.cat([c.lesion[c.brain > 0] for c in validation._cases])
        found = scores >= thresholds[name]["l1"]
        dice = 2 * float((found & lesion).sum()) / float(found.sum() + lesion.sum())
        assert dice == pytest.approx(measured(validation).figures[f"best_dice_{name}"], abs=1e-3)


def test_thresholds_of_scores_that_are_0_everywhere_are_above_0(validation: Validation) -> None:
    nothing = KnownNetwork(validation._cases, heal=lambda case, images: images)
    thresholds = validation.thresholds(nothing)  # type: ignore[arg-type]
    assert min(value for by_kind in thresholds.values() for value in by_kind.values()) > 0


def test_typical_looks_count_for_thresholds_but_are_not_known_while_training(validation: Validation) -> None:
    looking = replace(CONFIG, restoration=RestorationConfig(tone_pieces=4, typical_looks=True))
    network = KnownNetwork(validation._cases, config=looking)
    validation(network)  # type: ignore[arg-type]
    assert network.typical is None
    typical = torch.zeros(2, 8)
    validation.thresholds(network, typical)  # type: ignore[arg-type]
    assert network.typical is typical
    with pytest.raises(UsageError, match="typical_looks needs"):
        validation.thresholds(network)  # type: ignore[arg-type]


def test_pictures_show_every_sequence_of_every_case(validation: Validation) -> None:
    pictures = measured(validation).pictures
    assert [picture.title for picture in pictures] == [
        f"{name}, {kind.name}" for kind in KINDS for name in ("T1", "T2")
    ]
    for index, picture in enumerate(pictures):
        case, row = validation._cases[index // 2], index % 2
        assert torch.equal(picture.image, case.images[row])
        assert torch.equal(picture.pseudo_healthy, case.healthy[row] * case.brain)
        torch.testing.assert_close(picture.score, (case.images[row] - case.healthy[row]).abs() * case.brain)
        assert torch.equal(picture.lesion, case.lesion)


def test_validation_is_the_same_set_every_time(
    validation: Validation, pairs: PairGenerator, landmarks: dict[str, Landmarks]
) -> None:
    again = Validation(pairs, landmarks, COUNT)
    for first, second in zip(validation._cases, again._cases, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.lesion, second.lesion)


def test_a_pack_of_real_pairs_can_be_validated(toy_pack: Pack) -> None:
    """Their tissues are not known, and lesions still find a place and a contrast."""
    records = [record for record in toy_pack.records if record.source == "paired"]
    pairs = PairGenerator(toy_pack, records, CONFIG.grid, ("T1", "T2"), GeneratorConfig(), CPU, 0)
    validation = Validation(pairs, pairs.learn_landmarks(1), COUNT)
    for case in validation._cases:
        t1, t2 = (case.images - case.healthy)[:, case.lesion].mean(1)
        assert float(t1) < 0 < float(t2)


def test_a_real_network_is_left_without_gradients(validation: Validation) -> None:
    torch.manual_seed(0)
    network = DALNetwork(preset("tiny"))
    network.train()
    figures = validation(network).figures
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert figures == validation(network).figures
