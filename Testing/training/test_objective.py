import dataclasses

import pytest
import torch
from torch import Tensor, nn

from DALAnomalyLib.configuration import GridConfig, preset
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.network.adaptation_layer import LearnableAdaptationLayer
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyTraining import losses
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairedBatch
from DALAnomalyTraining.objective import SUBNETWORKS, LossWeights, Objective, ObjectiveConfig, term_names

SHAPE = (16, 16, 16)
E_A, E_M, R_A, R_E, R_D, LEARNED_M = SUBNETWORKS
ALL = frozenset(SUBNETWORKS)
QUIET = GeneratorConfig(anatomical_noise_regions=0)
NOISY = GeneratorConfig(anatomical_noise_regions=6, anatomical_noise_mm=(20.0, 60.0))


def make_objective(
    config: ObjectiveConfig | None = None, noise: GeneratorConfig = QUIET, **network_changes: object
) -> Objective:
    """An objective whose adaptation layers act: as they start, at 0, nothing reaches E_M."""
    tiny = preset("tiny")
    model = dataclasses.replace(
        tiny, grid=GridConfig(SHAPE, (8.0,) * 3), network=dataclasses.replace(tiny.network, **network_changes)
    )
    torch.manual_seed(0)
    network = DALNetwork(model)
    for module in network.modules():
        if isinstance(module, LearnableAdaptationLayer):
            nn.init.normal_(module.scale_and_shift.weight, std=0.3)
    return Objective(network, config or ObjectiveConfig(), noise)


def make_batch(subjects: int = 2, sequences: int = 2, seed: int = 0) -> PairedBatch:
    random = torch.Generator().manual_seed(seed)
    brain = torch.zeros(subjects, 1, *SHAPE)
    for subject in range(subjects):
        brain[subject, :, 2:14, 1 : 15 - subject, 3:14] = 1
    tissues = (torch.randint(1, 4, (subjects, *SHAPE), generator=random) * brain[:, 0]).long()
    images = torch.rand((subjects, sequences, *SHAPE), generator=random)
    return PairedBatch((0.1 + 0.9 * images) * brain, brain, tissues)


def weights_of(**given: float) -> LossWeights:
    """Only these terms."""
    return LossWeights(**(dict.fromkeys(term_names(), 0.0) | given))


EVERY_TERM = weights_of(**dict.fromkeys(term_names(), 1.0))


def keys(subjects: int, step: int = 0) -> list[tuple[object, ...]]:
    return [(0, "noise", step, slot) for slot in range(subjects)]


def evaluate(
    objective: Objective,
    batch: PairedBatch,
    weights: LossWeights = EVERY_TERM,
    trained: frozenset[str] = ALL,
    step: int = 0,
) -> dict[str, Tensor]:
    return objective(batch, weights, trained, keys(len(batch.images), step))


def numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in terms.items()}


def taught(objective: Objective) -> set[str]:
    """Sub-networks with a gradient other than 0."""
    return {
        name
        for name, module in objective.network.named_children()
        if any(weight.grad is not None and weight.grad.any() for weight in module.parameters())
    }


# who learns from what ------------------------------------------------------------------------------------------------

LITERAL = ObjectiveConfig(anatomy_compared="merged", normalise_codes=False, sampled_sources=False)

GRADIENTS = [
    # term, reading, who learns from it
    ("anatomy_consistency", ObjectiveConfig(), {E_A}),
    ("anatomy_consistency", LITERAL, {E_A}),
    ("anatomy_similarity", ObjectiveConfig(), {E_A}),
    ("anatomy_similarity", LITERAL, {E_A}),
    ("modality_consistency", ObjectiveConfig(), {E_M}),
    ("modality_similarity", ObjectiveConfig(), {E_M}),
    ("reconstruction", ObjectiveConfig(), {E_A, E_M, R_A, R_D}),
    ("restoration", ObjectiveConfig(), {E_M, R_E, R_D}),  # the edges pass nothing back to E_A
    ("code_consistency", ObjectiveConfig(), {R_E}),
    ("code_consistency", LITERAL, {E_A, R_A, R_E}),  # R_A(A) reaches E_A through the differentiable one-hot
    ("tissue_cross_entropy", ObjectiveConfig(), {E_A}),
    ("total_variation", ObjectiveConfig(), {E_A}),
]


@pytest.mark.parametrize("noise", [QUIET, NOISY], ids=["quiet", "noisy"])
@pytest.mark.parametrize(("term", "reading", "expected"), GRADIENTS)
def test_each_term_teaches_exactly_these_sub_networks(
    term: str, reading: ObjectiveConfig, expected: set[str], noise: GeneratorConfig
) -> None:
    objective = make_objective(reading, noise)
    terms = evaluate(objective, make_batch(), weights_of(**{term: 1.0}))
    assert terms.keys() == {term, "total"}
    terms["total"].backward()
    assert taught(objective) == expected


TABLE_7 = [
    ({"restoration_input": "anatomy"}, "restoration", {E_A, E_M, R_A, R_D}),
    ({"restoration_input": "image_edges"}, "restoration", {E_M, R_E, R_D}),
    ({"modality_reuse": False}, "restoration", {LEARNED_M, R_E, R_D}),
    ({"modality_reuse": False}, "reconstruction", {E_A, LEARNED_M, R_A, R_D}),
]


@pytest.mark.parametrize(("switch", "term", "expected"), TABLE_7)
def test_the_switches_of_table_7_change_who_learns(switch: dict[str, object], term: str, expected: set[str]) -> None:
    objective = make_objective(**switch)
    evaluate(objective, make_batch(), weights_of(**{term: 1.0}))["total"].backward()
    assert taught(objective) == expected


@pytest.mark.parametrize("frozen", [E_A, E_M, R_A, R_E, R_D])
def test_a_frozen_sub_network_learns_nothing_and_the_others_all_they_can(frozen: str) -> None:
    objective = make_objective()
    terms = evaluate(objective, make_batch(), trained=ALL - {frozen})
    terms["total"].backward()
    assert taught(objective) == {E_A, E_M, R_A, R_E, R_D} - {frozen}
    assert all(weight.grad is None for weight in getattr(objective.network, frozen).parameters())


@pytest.mark.parametrize("frozen", [LEARNED_M, E_M])
def test_a_learned_modality_is_frozen_by_its_own_name(frozen: str) -> None:
    objective = make_objective(modality_reuse=False)
    evaluate(objective, make_batch(), trained=ALL - {frozen})["total"].backward()
    assert taught(objective) == {E_A, LEARNED_M, R_A, R_E, R_D} - {frozen}


def test_freezing_ends_with_its_stage() -> None:
    objective = make_objective()
    evaluate(objective, make_batch(), trained=frozenset({R_D}))["total"].backward()
    assert taught(objective) == {R_D}
    evaluate(objective, make_batch())["total"].backward()
    assert taught(objective) == {E_A, E_M, R_A, R_E, R_D}


def test_freezing_does_not_change_the_losses() -> None:
    objective, batch = make_objective(), make_batch()
    free, frozen = (numbers(evaluate(objective, batch, trained=trained)) for trained in (ALL, frozenset({R_D})))
    assert free == frozen


# the terms -----------------------------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum() -> None:
    given = {name: 0.1 * (index + 1) for index, name in enumerate(term_names())}
    terms = numbers(evaluate(make_objective(), make_batch(), weights_of(**given)))
    total = terms.pop("total")
    assert terms.keys() == set(term_names())
    assert total == pytest.approx(sum(given[name] * value for name, value in terms.items()), rel=1e-5)


@pytest.mark.parametrize("term", term_names())
def test_a_term_is_the_same_alone_and_among_others_and_a_weight_of_0_leaves_it_out(term: str) -> None:
    objective, batch = make_objective(), make_batch()
    together = numbers(evaluate(objective, batch))
    alone = numbers(evaluate(objective, batch, weights_of(**{term: 1.0})))
    assert alone[term] == alone["total"] == pytest.approx(together[term], rel=1e-5)
    assert term not in evaluate(objective, batch, dataclasses.replace(EVERY_TERM, **{term: 0.0}))


def test_default_weights_are_equation_13s() -> None:
    weights = LossWeights()
    assert (weights.reconstruction, weights.restoration) == (1, 1)
    assert (weights.anatomy_consistency, weights.anatomy_similarity) == (0.1, 0.1)
    assert (weights.modality_consistency, weights.modality_similarity) == (1, 1)
    assert weights.code_consistency == 1
    assert (weights.tissue_cross_entropy, weights.total_variation) == (0, 0)  # not in the paper


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("sequences", [2, 3])
def test_every_anatomy_with_the_modality_of_x_j_is_compared_with_x_j(
    monkeypatch: pytest.MonkeyPatch, sequences: int, sampled: bool
) -> None:
    """x_ij = R(A_i, M_j): the target follows the modality, not the anatomy (Eq. 9 and 11)."""
    names = ("T1", "T2", "FLAIR")[:sequences]
    objective = make_objective(ObjectiveConfig(sampled_sources=sampled), sequences=names)
    network, batch = objective.network, make_batch(sequences=sequences)
    modalities, targets = [], []
    combine, distance = network.combine, losses.image_distance

    def record_modalities(code: Tensor, modality: Tensor, brain: Tensor) -> Tensor:
        modalities.append(modality.detach())
        return combine(code, modality, brain)

    def record_targets(made: Tensor, target: Tensor, brain: Tensor) -> Tensor:
        targets.append(target)
        return distance(made, target, brain)

    monkeypatch.setattr(network, "combine", record_modalities)
    monkeypatch.setattr(losses, "image_distance", record_targets)
    evaluate(objective, batch, weights_of(reconstruction=1.0, restoration=1.0))

    (used,) = modalities  # both terms are decoded in one pass
    reconstruction, restoration = targets
    assert torch.equal(reconstruction, restoration)
    expected = network.extract_modality(torch.cat((reconstruction, restoration)), torch.zeros(1)).detach()
    torch.testing.assert_close(used, expected, rtol=0, atol=1e-6)
    # every image of every subject is a target of each source anatomy once
    images = batch.images.flatten(0, 1)[:, None]
    counts = [sum(torch.equal(target, image) for target in reconstruction) for image in images]
    assert counts == [1 if sampled else sequences] * len(images)


def test_a_learned_modality_is_that_of_the_targets_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = make_objective(modality_reuse=False, sequences=("T1", "T2", "FLAIR"))
    network, combine, used = objective.network, objective.network.combine, []

    def record(code: Tensor, modality: Tensor, brain: Tensor) -> Tensor:
        used.append(modality.detach())
        return combine(code, modality, brain)

    monkeypatch.setattr(network, "combine", record)
    evaluate(objective, make_batch(sequences=3), weights_of(restoration=1.0))
    # the targets of each of the two subjects are its three scans in order
    assert torch.equal(used[0], network.sequence_modality.weight.detach().repeat(2, 1))


def test_the_codes_come_from_the_source_and_the_target_from_the_same_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = make_objective(ObjectiveConfig(sampled_sources=False))
    network, batch = objective.network, make_batch()
    with torch.no_grad():
        images = batch.images.flatten(0, 1)[:, None]
        brain = batch.brain.repeat_interleave(2, dim=0)
        codes = network.anatomy_encoder(network.extract_anatomy(images, brain).image)
        modality = network.extract_modality(images, torch.zeros(4))
        pairs = [(p, i, j) for p in range(2) for i in range(2) for j in range(2)]
        expected = [
            losses.image_distance(
                network.combine(codes[[2 * p + i]], modality[[2 * p + j]], batch.brain[[p]]),
                images[[2 * p + j]],
                batch.brain[[p]],
            )
            for p, i, j in pairs
        ]
    terms = numbers(evaluate(objective, batch, weights_of(reconstruction=1.0)))
    assert terms["reconstruction"] == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_sampled_sources_have_the_expectation_of_all() -> None:
    batch, weights = make_batch(), weights_of(reconstruction=1.0, restoration=1.0)
    every = numbers(evaluate(make_objective(ObjectiveConfig(sampled_sources=False)), batch, weights))
    objective = make_objective()
    drawn = [numbers(evaluate(objective, batch, weights, step=step)) for step in range(12)]
    for name in ("reconstruction", "restoration"):
        values = sorted({round(terms[name], 5) for terms in drawn})
        assert len(values) == 4  # two subjects with two sequences each
        assert every[name] == pytest.approx(sum(values) / 4, abs=1e-4)


@pytest.mark.parametrize("config", [ObjectiveConfig(), LITERAL], ids=["default", "literal"])
def test_a_batch_split_over_processes_has_the_mean_losses_of_its_parts(config: ObjectiveConfig) -> None:
    objective, batch = make_objective(config, NOISY), make_batch(4)
    whole = numbers(evaluate(objective, batch))
    parts = []
    for rows in (slice(0, 2), slice(2, 4)):
        half = PairedBatch(batch.images[rows], batch.brain[rows], batch.tissues[rows])
        parts.append(numbers(objective(half, EVERY_TERM, ALL, keys(4)[rows])))
    assert {name: (parts[0][name] + parts[1][name]) / 2 for name in whole} == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("reuse", [True, False])
def test_three_sequences_train_like_two(reuse: bool) -> None:
    objective = make_objective(sequences=("T1", "T2", "FLAIR"), modality_reuse=reuse)
    terms = evaluate(objective, make_batch(sequences=3))
    assert all(value.isfinite() for value in terms.values())
    terms["total"].backward()
    assert taught(objective) == {E_A, E_M if reuse else LEARNED_M, R_A, R_E, R_D}


# readings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compared", ["one_hot", "merged"])
def test_anatomies_are_compared_as_configured(compared: str) -> None:
    objective, batch = make_objective(ObjectiveConfig(anatomy_compared=compared)), make_batch()
    with torch.no_grad():
        anatomy = objective.network.extract_anatomy(
            batch.images.flatten(0, 1)[:, None], batch.brain.repeat_interleave(2, dim=0)
        )
    chosen = anatomy.one_hot if compared == "one_hot" else anatomy.image
    vectors = chosen.flatten(1).unflatten(0, (2, 2))
    terms = numbers(evaluate(objective, batch))
    assert terms["anatomy_consistency"] == pytest.approx(losses.anatomy_consistency(vectors).item(), rel=1e-5)
    assert terms["anatomy_similarity"] == pytest.approx(losses.anatomy_similarity(vectors).item(), rel=1e-5)


def test_anatomies_are_compared_in_no_other_way() -> None:
    with pytest.raises(UsageError, match="anatomy_compared is 'soft'; it must be 'one_hot' or 'merged'"):
        ObjectiveConfig(anatomy_compared="soft")


def test_without_edge_to_image_there_is_no_code_to_be_consistent_with() -> None:
    terms = evaluate(make_objective(restoration_input="anatomy"), make_batch())
    assert "code_consistency" not in terms
    assert terms["restoration"] == terms["reconstruction"]


# anatomical noise ----------------------------------------------------------------------------------------------------


def edges_seen(objective: Objective, step: int = 0) -> Tensor:
    seen = []
    handle = objective.network.anatomy_restorer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    evaluate(objective, make_batch(), step=step)
    handle.remove()
    return torch.cat(seen)


def test_noise_reaches_the_edges_while_training_and_nothing_else() -> None:
    noisy, quiet = make_objective(noise=NOISY), make_objective()
    before, after = evaluate(quiet, make_batch(), step=1), evaluate(noisy, make_batch(), step=1)
    assert not torch.equal(edges_seen(noisy, step=1), edges_seen(quiet, step=1))
    unchanged = set(term_names()) - {"restoration", "code_consistency"}
    assert {name for name in term_names() if before[name] == after[name]} == unchanged


def test_noise_on_edges_reaches_r_e_and_counts_as_disturbed() -> None:
    noise = GeneratorConfig(anatomical_noise_regions=0, edge_noise_regions=12, anatomical_noise_mm=(20.0, 60.0))
    quiet = edges_seen(make_objective(), step=1)
    assert not torch.equal(edges_seen(make_objective(noise=noise), step=1), quiet)
    assert torch.equal(edges_seen(make_objective(noise=noise).eval(), step=1), quiet)
    assert weighted(50.0, noise, "restoration") != pytest.approx(weighted(1.0, noise, "restoration"), rel=1e-3)


def test_noise_is_off_when_not_training() -> None:
    noisy = make_objective(noise=NOISY).eval()
    assert torch.equal(edges_seen(noisy, step=1), edges_seen(make_objective(), step=1))


def test_noise_and_sources_depend_on_the_key_alone() -> None:
    objective = make_objective(noise=NOISY)
    first = edges_seen(objective, step=1)
    torch.manual_seed(99)
    assert torch.equal(edges_seen(objective, step=1), first)
    assert not torch.equal(edges_seen(objective, step=2), first)


def weighted(weight: float, noise: GeneratorConfig, term: str) -> float:
    objective = make_objective(ObjectiveConfig(disturbed_weight=weight), noise).train()
    return numbers(evaluate(objective, make_batch(), weights_of(**{term: 1.0})))[term]


@pytest.mark.parametrize("term", ["restoration", "code_consistency"])
def test_disturbed_voxels_weigh_what_is_configured(term: str) -> None:
    # a mean over n voxels of which k, with mean m, weigh w is (a + w k m) / (n - k + w k): monotonic in w, m at its end
    light, double, heavy = (weighted(w, NOISY, term) for w in (1.0001, 2.0, 1e6))
    assert abs(double - heavy) < abs(light - heavy)


def test_without_noise_the_weight_of_disturbed_voxels_says_nothing() -> None:
    assert weighted(1.0, QUIET, "restoration") == pytest.approx(weighted(50.0, QUIET, "restoration"), rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_disturbed_voxels_must_weigh_something(weight: float) -> None:
    with pytest.raises(UsageError, match="disturbed_weight"):
        ObjectiveConfig(disturbed_weight=weight)
