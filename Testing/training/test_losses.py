import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from DALAnomalyTraining import losses

EAST, NORTH, WEST, NORTHEAST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]
HALF = math.sqrt(0.5)
"""Cosine of 45 degrees, between NORTHEAST and either axis."""

PAIRED = [losses.anatomy_similarity, losses.modality_consistency, losses.modality_similarity]
OF_VECTORS = [losses.anatomy_consistency, *PAIRED]


def features(*subjects: list[list[float]]) -> Tensor:
    """(B, S, n) from one list of sequences per subject."""
    return torch.tensor(subjects)


def random_features(subjects: int, sequences: int = 2, seed: int = 0) -> Tensor:
    return torch.rand((subjects, sequences, 6), generator=torch.Generator().manual_seed(seed))


def random_volumes(channels: int, subjects: int = 4, seed: int = 0) -> Tensor:
    return torch.randn((subjects, channels, 4, 5, 6), generator=torch.Generator().manual_seed(seed))


def random_brain(subjects: int = 4) -> Tensor:
    """Brains of very different sizes."""
    brain = torch.zeros(subjects, 1, 4, 5, 6)
    for index in range(subjects):
        brain[index, :, : 1 + index % 4, 1:5, 2:] = 1
    return brain


# Eq. 5-8: cosines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "expected"), [(EAST, 0.0), ([5.0, 0.0], 0.0), (NORTHEAST, (HALF - 1) ** 2), (NORTH, 1.0), (WEST, 4.0)]
)
def test_anatomy_consistency_by_hand(second: list[float], expected: float) -> None:
    assert float(losses.anatomy_consistency(features([EAST, second]))) == pytest.approx(expected, abs=1e-6)


def test_anatomy_consistency_of_three_sequences_is_the_mean_over_their_pairs() -> None:
    # 1-2 are alike, 1-3 and 2-3 orthogonal; subject two is consistent
    loss = losses.anatomy_consistency(features([EAST, EAST, NORTH], [NORTH, NORTH, NORTH]))
    assert float(loss) == pytest.approx((0 + 1 + 1) / 3 / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("first_subject", "second_subject", "expected"),
    [
        # (subject p: sequences i, j), (subject q: i, j)
        ([EAST, EAST], [NORTH, NORTH], [0.0, 0.0]),  # pairs alike, subjects unlike: the margin is reached
        ([EAST, EAST], [EAST, EAST], [0.2, 0.2]),  # all alike: the margin remains
        ([EAST, NORTH], [EAST, NORTH], [1.2, 1.2]),  # as wrong as can be without opposites
        ([EAST, EAST], [NORTHEAST, NORTHEAST], [0.0, 0.0]),  # cosine .71 to the other subject, still below 1 - .2
        ([EAST, NORTHEAST], [EAST, NORTHEAST], [1 - HALF + 0.2, 1 - HALF + 0.2]),
    ],
)
def test_anatomy_similarity_by_hand(
    first_subject: list[list[float]], second_subject: list[list[float]], expected: list[float]
) -> None:
    loss = losses.anatomy_similarity(features(first_subject, second_subject))
    assert float(loss) == pytest.approx(sum(expected) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("first_subject", "second_subject", "expected"),
    [
        ([EAST, NORTH], [EAST, NORTH], 0.0),
        ([EAST, NORTH], [[9.0, 0.0], [0.0, 0.1]], 0.0),  # length does not count
        ([EAST, NORTH], [NORTH, NORTH], (1 + 0) / 2),
        ([EAST, NORTH], [WEST, NORTHEAST], (4 + (HALF - 1) ** 2) / 2),
    ],
)
def test_modality_consistency_by_hand(
    first_subject: list[list[float]], second_subject: list[list[float]], expected: float
) -> None:
    loss = losses.modality_consistency(features(first_subject, second_subject))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("first_subject", "second_subject", "expected"),
    [
        ([EAST, NORTH], [EAST, NORTH], 0.0),  # sequences unlike, subjects alike: the margin is reached
        ([EAST, EAST], [EAST, EAST], 0.5),  # all alike: the margin remains
        ([EAST, EAST], [NORTH, NORTH], 1.5),
        ([EAST, NORTHEAST], [EAST, NORTHEAST], HALF - 1 + 0.5),
    ],
)
def test_modality_similarity_by_hand(
    first_subject: list[list[float]], second_subject: list[list[float]], expected: float
) -> None:
    loss = losses.modality_similarity(features(first_subject, second_subject))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_similarities_compare_the_same_sequence_across_subjects_and_both_within_one() -> None:
    """Eq. 7 and 8 with all four cosines different."""
    angles = torch.tensor([[0.0, 0.3], [0.7, 1.5]])  # subjects x sequences
    vectors = torch.stack((angles.cos(), angles.sin()), dim=-1)
    across = [math.cos(0.7), math.cos(1.2)]
    within = [math.cos(0.3), math.cos(0.8)]
    anatomy = [max(0, across[i] - within[p] + 0.2) for p in range(2) for i in range(2)]
    modality = [max(0, within[p] - across[i] + 0.5) for p in range(2) for i in range(2)]
    assert 0 in anatomy
    assert float(losses.anatomy_similarity(vectors)) == pytest.approx(sum(anatomy) / 4, abs=1e-6)
    assert float(losses.modality_similarity(vectors)) == pytest.approx(sum(modality) / 4, abs=1e-6)


def test_margins_are_the_papers_and_can_be_changed() -> None:
    alike = features([EAST, EAST], [EAST, EAST])
    assert (losses.ANATOMY_MARGIN, losses.MODALITY_MARGIN) == (0.2, 0.5)
    assert float(losses.anatomy_similarity(alike, margin=0.7)) == pytest.approx(0.7)
    assert float(losses.modality_similarity(alike, margin=0.1)) == pytest.approx(0.1)


@pytest.mark.parametrize("loss", OF_VECTORS)
@pytest.mark.parametrize("sequences", [2, 3])
def test_a_batch_of_two_pairs_has_the_mean_loss_of_its_halves(loss: Callable[[Tensor], Tensor], sequences: int) -> None:
    vectors = random_features(4, sequences)
    halves = [float(loss(half)) for half in vectors.split(2)]
    assert halves[0] != pytest.approx(halves[1])
    assert float(loss(vectors)) == pytest.approx(sum(halves) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", OF_VECTORS)
@pytest.mark.parametrize("axis", [0, 1])
def test_neither_subjects_nor_sequences_have_an_order(loss: Callable[[Tensor], Tensor], axis: int) -> None:
    vectors = random_features(2, 3)
    assert float(loss(vectors.flip(axis))) == pytest.approx(float(loss(vectors)), abs=1e-6)


@pytest.mark.parametrize("loss", OF_VECTORS)
def test_an_empty_representation_gives_a_finite_loss_and_gradient(loss: Callable[[Tensor], Tensor]) -> None:
    vectors = torch.zeros(2, 2, 6, requires_grad=True)
    value = loss(vectors)
    value.backward()
    assert value.isfinite()
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("loss", OF_VECTORS)
def test_half_precision_representations_are_compared_in_float32(loss: Callable[[Tensor], Tensor]) -> None:
    # the squares overflow in float16
    vectors = (2000 * random_features(2)).half()
    assert loss(vectors).dtype == torch.float32
    assert float(loss(vectors)) == pytest.approx(float(loss(vectors.float())), abs=1e-6)


# Eq. 9 and 11: images ------------------------------------------------------------------------------------------------


def test_image_distance_by_hand() -> None:
    made, target, brain = torch.zeros(2, 1, 1, 1, 4), torch.zeros(2, 1, 1, 1, 4), torch.zeros(2, 1, 1, 1, 4)
    made[0, ..., :] = torch.tensor([1.0, 0.5, 9.0, 9.0])
    brain[0, ..., :2] = 1  # mean of 1 and .5; the 9s lie outside
    target[1, ..., :] = torch.tensor([0.0, 2.0, 0.0, 0.0])
    brain[1] = 1  # mean of 0, 2, 0, 0
    # the mean over subjects, whatever their brains' sizes
    assert float(losses.image_distance(made, target, brain)) == pytest.approx((0.75 + 0.5) / 2)


def test_equal_images_have_no_distance() -> None:
    image = random_volumes(1)
    assert losses.image_distance(image, image.clone(), random_brain()) == 0
    outside = image + 5 * (1 - random_brain())
    assert losses.image_distance(outside, image, random_brain()) == 0


def test_an_empty_brain_adds_nothing_to_the_distance() -> None:
    made, target, brain = random_volumes(1, 2, seed=1), random_volumes(1, 2, seed=2), torch.ones(2, 1, 4, 5, 6)
    brain[1] = 0
    alone = float(losses.image_distance(made[:1], target[:1], brain[:1]))
    assert float(losses.image_distance(made, target, brain)) == pytest.approx(alone / 2)
    assert losses.image_distance(made, target, 0 * brain) == 0


# Eq. 10: codes -------------------------------------------------------------------------------------------------------


def test_literal_code_consistency_by_hand() -> None:
    restored, encoded = torch.zeros(1, 2, 1, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    restored[0, 0, 0, 0] = torch.tensor([1.0, 3.0])
    encoded[0, 1, 0, 0] = torch.tensor([0.0, 2.0])
    assert float(losses.code_consistency(restored, encoded, normalise=False)) == pytest.approx((1 + 9 + 0 + 4) / 4)


def test_normalised_code_consistency_by_hand() -> None:
    # both become -1, 1: standardising takes away offset and scale; an opposite pattern is 2 off everywhere
    code = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 1, 2)
    assert float(losses.code_consistency(code, 10 * code - 7)) == pytest.approx(0, abs=1e-6)
    assert float(losses.code_consistency(code, -code)) == pytest.approx(4, abs=1e-4)


@pytest.mark.parametrize("normalise", [True, False])
def test_equal_codes_are_consistent(normalise: bool) -> None:
    code = random_volumes(3)
    assert losses.code_consistency(code, code.clone(), normalise) == 0


def test_shrinking_both_codes_helps_only_the_literal_reading() -> None:
    restored, encoded = random_volumes(3, seed=1), random_volumes(3, seed=2)

    def ratio(normalise: bool) -> float:
        shrunk = losses.code_consistency(0.1 * restored, 0.1 * encoded, normalise)
        return float(shrunk / losses.code_consistency(restored, encoded, normalise))

    assert ratio(normalise=False) == pytest.approx(0.01, rel=1e-3)
    assert ratio(normalise=True) == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(("normalise", "reached"), [(True, False), (False, True)])
def test_the_encoded_side_learns_only_in_the_literal_reading(normalise: bool, reached: bool) -> None:
    restored, encoded = (random_volumes(3, seed=seed).requires_grad_() for seed in (1, 2))
    losses.code_consistency(restored, encoded, normalise).backward()
    assert restored.grad.abs().sum() > 0
    assert (encoded.grad is not None) == reached


def test_codes_differ_only_where_they_are_emphasised() -> None:
    restored, encoded = torch.zeros(1, 1, 1, 1, 4), torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 1, 4)
    # on a grid twice as fine: the first code voxel does not count, the second half as much as the others
    emphasis = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2.0]).reshape(1, 1, 1, 1, 8).expand(1, 1, 2, 2, 8)
    found = losses.code_consistency(restored, encoded, normalise=False, emphasis=emphasis)
    assert float(found) == pytest.approx((1 * 4 + 2 * 9 + 2 * 16) / 5)


# our own -------------------------------------------------------------------------------------------------------------


def test_tissue_cross_entropy_by_hand() -> None:
    scores = torch.zeros(1, 3, 1, 1, 4)  # three equal classes: log 3 each
    scores[0, 1, 0, 0, 1] = math.log(2)  # shares 1/4, 1/2, 1/4
    tissues = torch.tensor([1, 2, 0, -1]).reshape(1, 1, 1, 4)
    expected = (math.log(3) + math.log(2)) / 2
    assert float(losses.tissue_cross_entropy(scores, tissues)) == pytest.approx(expected, abs=1e-6)


def test_tissue_cross_entropy_vanishes_when_sure_and_right_and_grows_when_wrong() -> None:
    tissues = torch.randint(1, 4, (2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    sure = 50 * torch.nn.functional.one_hot(tissues - 1, 3).movedim(-1, 1).float()
    assert float(losses.tissue_cross_entropy(sure, tissues)) == pytest.approx(0, abs=1e-6)
    assert float(losses.tissue_cross_entropy(sure.roll(1, dims=1), tissues)) == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize("unknown", [0, -1])
def test_unknown_tissues_teach_nothing(unknown: int) -> None:
    scores = random_volumes(3).requires_grad_()
    loss = losses.tissue_cross_entropy(scores, torch.full((4, 4, 5, 6), unknown))
    loss.backward()
    assert loss == 0
    assert not scores.grad.any()


def test_total_variation_by_hand() -> None:
    # along one axis, one of three pairs changes from class 1 to class 2 for certain: |change| is 1 in both channels
    scores = torch.full((1, 2, 4, 4, 4), -100.0)
    scores[:, 0, :2] = 100
    scores[:, 1, 2:] = 100
    brain = torch.ones(1, 1, 4, 4, 4)
    assert float(losses.total_variation(scores, brain)) == pytest.approx((2 / 3 + 0 + 0) / 3)
    brain[:, :, 2:] = 0  # the change is at the border of the brain now
    assert losses.total_variation(scores, brain) == 0


def test_total_variation_of_a_dithered_map_is_largest() -> None:
    board = torch.stack(torch.meshgrid(*(torch.arange(4),) * 3, indexing="ij")).sum(0) % 2
    scores = 200.0 * torch.stack((board, 1 - board))[None] - 100
    brain = torch.ones(1, 1, 4, 4, 4)
    assert float(losses.total_variation(scores, brain)) == pytest.approx(2)
    assert losses.total_variation(scores * 0, brain) == 0
    assert losses.total_variation(scores, 0 * brain) == 0


# all losses over volumes ---------------------------------------------------------------------------------------------


def distance(rows: slice) -> Tensor:
    return losses.image_distance(random_volumes(1, seed=1)[rows], random_volumes(1, seed=2)[rows], random_brain()[rows])


def consistency(rows: slice) -> Tensor:
    return losses.code_consistency(random_volumes(3, seed=1)[rows], random_volumes(3, seed=2)[rows])


def cross_entropy(rows: slice) -> Tensor:
    tissues = torch.randint(1, 4, (4, 4, 5, 6), generator=torch.Generator().manual_seed(3))
    return losses.tissue_cross_entropy(random_volumes(3)[rows], (tissues * random_brain()[:, 0]).long()[rows])


def variation(rows: slice) -> Tensor:
    return losses.total_variation(random_volumes(3)[rows], random_brain()[rows])


@pytest.mark.parametrize("loss", [distance, consistency, cross_entropy, variation])
def test_a_batch_split_over_processes_has_the_mean_loss_of_its_parts(loss: Callable[[slice], Tensor]) -> None:
    halves = [float(loss(slice(0, 2))), float(loss(slice(2, 4)))]
    assert halves[0] != pytest.approx(halves[1])
    assert float(loss(slice(0, 4))) == pytest.approx(sum(halves) / 2, abs=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_volumes_are_compared_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    brain = random_brain()
    tissues = torch.ones(4, 4, 5, 6, dtype=torch.int64)

    def evaluate(first: Tensor, second: Tensor) -> list[Tensor]:
        return [
            losses.image_distance(first, second, brain),
            losses.code_consistency(first, second),
            losses.code_consistency(first, second, normalise=False),
            losses.tissue_cross_entropy(first, tissues),
            losses.total_variation(first, brain),
        ]

    first, second = (random_volumes(3, seed=seed).to(dtype) for seed in (1, 2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        values = evaluate(first, second)
    assert [value.dtype for value in values] == [torch.float32] * len(values)
    assert values == evaluate(first.float(), second.float())
