from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.configuration import preset
from DALAnomalyLib.errors import InputError
from DALAnomalyTraining import losses
from DALAnomalyTraining.generator.deformation import frame_coordinates
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairedBatch, PairGenerator, Pictures
from DALAnomalyTraining.label_classes import COUNT, OUTER_CSF, TISSUE_OF_CLASS
from DALAnomalyTraining.pack import Pack, PackWriter
from DALAnomalyTraining.randomness import generator_for
from DALAnomalyTraining.validation import Validation

CPU = torch.device("cpu")
GRID = preset("tiny").grid
SPACING = GRID.spacing[0]
STILL = {"rotation_degrees": 0, "translation_mm": 0, "scaling": 0, "shearing": 0, "deformation_mm": 0}
PLAIN = GeneratorConfig(
    **STILL, centre_spread=0, class_contrast=0, texture=0, blur_voxels=0, thick_slice_chance=0, bias_field=0, noise=0,
    gamma=0,
)  # fmt: skip
MOVING = replace(PLAIN, rotation_degrees=15, scaling=0.1, deformation_mm=3.0)

Bytes = Any


def pairs_of(
    pack: Pack,
    config: GeneratorConfig = PLAIN,
    source: str | None = None,
    seed: int = 0,
    sequences: tuple[str, ...] = ("T1", "T2"),
) -> PairGenerator:
    records = [record for record in pack.records if source in (None, record.source)]
    return PairGenerator(pack, records, GRID, sequences, config, CPU, seed)


def pictures_of(pairs: PairGenerator, key: object = 0) -> Pictures:
    return pairs.pictures(generator_for(CPU, key))


@pytest.fixture
def one_record(tmp_path: Path, priors: dict[str, Any]) -> Callable[..., Pack]:
    """`one_record(labels, images, source, spacing, origin)`: a pack of one subject."""

    def make(
        labels: Bytes, images: dict[str, Bytes], source: Any, spacing: float, origin: tuple[float, float, float]
    ) -> Pack:
        writer = PackWriter("one", priors)
        writer.add("one", source, labels, images, (spacing,) * 3, origin)
        writer.write(tmp_path / "one")
        return Pack(tmp_path / "one")

    return make


@pytest.fixture
def fine_record(one_record: Callable[..., Pack]) -> Callable[..., Pack]:
    """`fine_record(labels)`: labels on voxels half as wide as the grid's, two to each of its voxels and axis."""
    corner = frame_coordinates(GRID, CPU)[:, 0, 0, 0] - SPACING / 4
    return lambda labels: one_record(labels, {}, "labels", SPACING / 2, tuple(corner.tolist()))


def test_batches_hold_standardised_scans_of_brains(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, GeneratorConfig())
    batch = pairs.batch(pairs.learn_landmarks(2), "train", 3, subjects=range(6))
    assert batch.images.shape == (6, 2, *GRID.shape)
    assert batch.images.dtype == torch.float32
    assert batch.brain.shape == (6, 1, *GRID.shape)
    assert set(batch.brain.unique().tolist()) == {0.0, 1.0}
    assert 0 <= float(batch.images.min()) <= float(batch.images.max()) <= 1
    assert bool((batch.images * (1 - batch.brain) == 0).all())
    assert bool(((batch.tissues == 0) == (batch.brain[:, 0] == 0)).all())
    assert batch.tissues.dtype == torch.int64
    assert set(batch.tissues.unique().tolist()) <= {-1, 0, 1, 2, 3}
    millilitres = batch.brain.sum((1, 2, 3, 4)) * SPACING**3 / 1000
    assert bool(((millilitres > 500) & (millilitres < 2200)).all())  # ellipsoids of 900 to 1400 ml, scaled by 10 %


def test_a_slot_depends_on_seed_step_and_number_alone(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, GeneratorConfig())
    landmarks = pairs.learn_landmarks(2)

    def drawn(*key: object, slots: range = range(2, 3), generator: PairGenerator = pairs) -> Tensor:
        return generator.batch(landmarks, *key, subjects=slots).images[-1]

    slot = drawn("train", 7)
    assert torch.equal(drawn("train", 7, slots=range(3)), slot)
    assert torch.equal(drawn("train", 7, generator=pairs_of(toy_pack, GeneratorConfig())), slot)
    others = [
        drawn("train", 8),
        drawn("validation", 7),
        drawn("train", 7, slots=range(3, 4)),
        drawn("train", 7, generator=pairs_of(toy_pack, GeneratorConfig(), seed=1)),
    ]
    assert not any(torch.equal(other, slot) for other in others)


def test_all_sequences_of_a_subject_share_its_geometry(toy_pack: Pack) -> None:
    for key in range(4):
        pictures = pictures_of(pairs_of(toy_pack, MOVING, "labels"), key)
        # white matter and CSF, the extremes of both sequences, which no mixture of others can imitate
        for t1, t2 in ((130.0, 80.0), (40.0, 200.0)):
            pure = (pictures.images[0] - t1).abs() < 0.01
            assert bool(pure.any())
            assert torch.equal(pure, (pictures.images[1] - t2).abs() < 0.01)


def test_tissues_of_an_unmoved_brain_lie_where_they_are(toy_pack: Pack, brain_labels: Callable[..., Bytes]) -> None:
    """Read off at every voxel's own place, a voxel or more from the next tissue."""
    pairs = pairs_of(toy_pack, PLAIN, "labels")
    labels = brain_labels(0.92 + 0.05 * 3)
    pairs._others = [next(subject for subject in pairs._others if subject.record.name == "labels/3")]
    pictures = pictures_of(pairs)
    x, y, z = (frame_coordinates(GRID, CPU) / 5.0).round().long()
    z = z + int(np.argwhere(labels)[:, 0].max())
    y, x = y + labels.shape[1] // 2, x + labels.shape[2] // 2
    tissue = np.pad(TISSUE_OF_CLASS[labels], 12)
    # one tissue within 10 mm in every direction
    around = np.stack([np.roll(tissue, s, axis) for axis in range(3) for s in (-2, -1, 0, 1, 2)])
    pure = (around == tissue).all(axis=0)
    index = tuple((c + 12).clamp(0, n - 1) for c, n in zip((z, y, x), tissue.shape, strict=True))
    expected, certain = torch.from_numpy(tissue)[index], torch.from_numpy(pure)[index]
    found = pictures.tissues[certain]
    assert torch.equal(found, expected[certain].long())
    # the outer CSF is a thin shell, with no voxel that far inside it
    assert all(int((found == number).sum()) > 50 for number in (0, 3))
    shares = [float((pictures.tissues == number).float().mean()) for number in range(4)]
    held = [float((TISSUE_OF_CLASS[labels] == number).sum()) * 125 / SPACING**3 / x.numel() for number in (1, 2, 3)]
    assert shares[1:] == pytest.approx(held, rel=0.12)


def test_fractions_are_the_shares_of_the_labels_in_a_voxel(fine_record: Callable[..., Pack]) -> None:
    labels = np.random.default_rng(0).integers(0, COUNT, [2 * n for n in GRID.shape]).astype(np.uint8)
    pairs = pairs_of(fine_record(labels))
    subject = pairs._others[0]
    fractions = pairs._class_fractions(subject, pairs._coordinates)
    blocks = functional.one_hot(torch.from_numpy(labels).long(), COUNT).float()
    depth, height, width = GRID.shape
    expected = blocks.reshape(depth, 2, height, 2, width, 2, COUNT).mean((1, 3, 5))
    assert torch.equal(fractions, expected)


def test_fractions_sum_to_one_however_a_brain_is_moved(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, MOVING, "labels")
    coordinates = pairs._coordinates * 1.3 + 11.0
    fractions = pairs._class_fractions(pairs._others[0], coordinates)
    torch.testing.assert_close(fractions.sum(-1), torch.ones(GRID.shape), rtol=0, atol=0)
    far = pairs._class_fractions(pairs._others[0], coordinates + 1000.0)
    assert bool((far[..., 0] == 1).all()), "outside a subject's box there is background"


@pytest.mark.parametrize(("covering", "share"), [(1, 0.5), (2, 1.0)])
def test_a_half_covered_voxel_has_half_of_each_tissue(
    fine_record: Callable[..., Pack], covering: int, share: float
) -> None:
    labels = np.full([2 * n for n in GRID.shape], 2, np.uint8)
    labels[: 2 * 12 + covering] = 1  # white matter below and in `covering` of the two layers of voxel 12
    pictures = pictures_of(pairs_of(fine_record(labels)))
    expected = torch.tensor([130 * share + 90 * (1 - share), 80 * share + 110 * (1 - share)])
    torch.testing.assert_close(pictures.images[:, 12], expected[:, None, None].expand(2, *GRID.shape[1:]))
    assert set(pictures.images[0, 11].unique().tolist()) == {130.0}
    assert set(pictures.images[0, 13].unique().tolist()) == {90.0}


def test_background_does_not_darken_the_border(fine_record: Callable[..., Pack]) -> None:
    """Three of the four layers of half voxels beside air: the brain's share keeps the brain's intensity."""
    labels = np.zeros([2 * n for n in GRID.shape], np.uint8)
    labels[10:40, 10:40, 10:41] = 1
    labels[39, ::2] = 0
    pictures = pictures_of(pairs_of(fine_record(labels)))
    inside = pictures.images[0][pictures.brain > 0]
    torch.testing.assert_close(inside, torch.full_like(inside, 130.0))


def blocky_t1(labels: Bytes) -> Bytes:
    return (60 * TISSUE_OF_CLASS[labels]).astype(np.uint8)


def test_a_real_t1_is_warped_with_its_labels(
    one_record: Callable[..., Pack], brain_labels: Callable[..., Bytes]
) -> None:
    """Correlation of the T1 with its own tissues is largest where neither is shifted."""
    labels = brain_labels(1.0)
    # lopsided, so that a wrong mirror or axis shows
    labels[10:16, 18:24, 3:8] = 3
    centre = tuple(-5.0 * (n // 2) for n in labels.shape[:0:-1])
    pack = one_record(labels, {"T1": blocky_t1(labels)}, "semi_real", 5.0, (*centre, -120.0))
    for key in range(4):
        pictures = pictures_of(pairs_of(pack, MOVING), key)
        tissues = pictures.tissues * (pictures.brain > 0)

        def correlation(shift: int, axis: int, moved: Pictures = pictures, fixed: Tensor = tissues) -> float:
            image = torch.roll(moved.images[0], shift, axis)
            inside = moved.brain > 0
            return float(torch.corrcoef(torch.stack((image[inside], fixed[inside].float())))[0, 1])

        assert correlation(0, 0) > 0.9
        for axis in range(3):
            assert max(correlation(-1, axis), correlation(1, axis)) < correlation(0, 0) - 0.1


def test_the_made_t2_of_a_real_t1_has_the_opposite_contrast(toy_pack: Pack) -> None:
    textured = replace(MOVING, texture=1.0)
    for key in range(4):
        pictures = pictures_of(pairs_of(toy_pack, textured, "semi_real"), key)
        t1, t2 = pictures.images
        inside = pictures.brain > 0
        assert float(torch.corrcoef(torch.stack((t1[inside], t2[inside])))[0, 1]) < -0.5
        # within white matter it is the T1's own texture, inverted: opposite even there
        white = (t1 > 100) & (pictures.tissues == 3)
        assert float(torch.corrcoef(torch.stack((t1[white], t2[white])))[0, 1]) < -0.5


def test_real_pairs_pass_through(one_record: Callable[..., Pack]) -> None:
    """On the grid's own voxels an unmoved real pair keeps its intensities, and claims to know no tissue."""
    random = np.random.default_rng(0)
    scans = {name: random.integers(1, 255, GRID.shape).astype(np.uint8) for name in ("T1", "T2")}
    brain = np.zeros(GRID.shape, np.uint8)
    brain[4:20, 4:24, 4:20] = OUTER_CSF
    scans = {name: np.where(brain > 0, image, 0).astype(np.uint8) for name, image in scans.items()}
    corner = tuple(frame_coordinates(GRID, CPU)[:, 0, 0, 0].tolist())
    pairs = pairs_of(one_record(brain, scans, "paired", SPACING, corner))
    expected = torch.stack([torch.from_numpy(scans[name]).float() for name in ("T1", "T2")])
    seen = set()
    for key in range(8):
        pictures = pictures_of(pairs, key)
        mirrored = not torch.allclose(pictures.images, expected, atol=0.01)
        seen.add(mirrored)
        torch.testing.assert_close(pictures.images, expected.flip(-1) if mirrored else expected, rtol=0, atol=0.01)
        assert torch.equal(pictures.brain, torch.from_numpy(brain > 0).float())
        assert bool((pictures.tissues == torch.where(pictures.brain > 0, -1, 0)).all())
    assert seen == {True, False}


def test_background_does_not_darken_the_border_of_a_real_image(
    one_record: Callable[..., Pack], brain_labels: Callable[..., Bytes]
) -> None:
    """Even of the widest masks."""
    labels = brain_labels(1.0)
    centre = tuple(-5.0 * (n // 2) for n in labels.shape[:0:-1])
    even = np.where(labels > 0, 200, 0).astype(np.uint8)
    pack = one_record(labels, {"T1": even}, "semi_real", 5.0, (*centre, -120.0))
    for key in range(4):
        pictures = pictures_of(pairs_of(pack, MOVING), key)
        inside = pictures.images[0][pictures.brain > 0]
        torch.testing.assert_close(inside, torch.full_like(inside, 200.0))


def test_the_border_of_a_made_t2_is_like_what_lies_inside(
    one_record: Callable[..., Pack], brain_labels: Callable[..., Bytes]
) -> None:
    labels = (brain_labels(1.0) > 0).astype(np.uint8)
    centre = tuple(-5.0 * (n // 2) for n in labels.shape[:0:-1])
    grainy = np.where(labels > 0, np.random.default_rng(0).normal(200, 4, labels.shape).round(), 0).astype(np.uint8)
    pack = one_record(labels, {"T1": grainy}, "semi_real", 5.0, (*centre, -120.0))
    for key in range(4):
        pictures = pictures_of(pairs_of(pack, replace(MOVING, texture=1.0)), key)
        deep = 1 - functional.max_pool3d(1 - pictures.brain[None, None], 3, stride=1, padding=1)[0, 0]
        border, inner = (pictures.images[1][where > 0] for where in (pictures.brain - deep, deep))
        assert float(inner.std()) > 1
        assert abs(float(border.mean() - inner.mean())) < 0.3 * float(inner.std())


def test_real_pairs_teach_no_tissue(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, GeneratorConfig(), "paired")
    batch = pairs.batch(pairs.learn_landmarks(2), "train", 0, subjects=range(2))
    scores = torch.randn((2, 3, *GRID.shape), requires_grad=True)
    loss = losses.tissue_cross_entropy(scores, batch.tissues)
    loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None
    assert not bool(scores.grad.any())


def test_landmarks_rise_from_dark_to_bright(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, GeneratorConfig())
    landmarks = pairs.learn_landmarks(3)
    assert set(landmarks) == {"T1", "T2"}
    for scale in landmarks.values():
        assert list(scale.values) == sorted(scale.values)
        assert (scale.values[0], scale.values[-1]) == pytest.approx((0.05, 0.8))
    assert pairs.learn_landmarks(3) == landmarks


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.35, 45, 95), (1.0, 200, 200)])
def test_semi_real_subjects_have_their_share(toy_pack: Pack, share: float, low: int, high: int) -> None:
    pairs = pairs_of(toy_pack, replace(PLAIN, semi_real_share=share))
    sources = [pairs._draw(generator_for(CPU, key)).record.source for key in range(200)]
    assert low <= sources.count("semi_real") <= high
    assert share == 1 or {"labels", "paired"} <= set(sources)


@pytest.mark.parametrize("source", ["labels", "semi_real", "paired"])
def test_one_kind_of_subject_is_enough(toy_pack: Pack, source: str) -> None:
    pairs = pairs_of(toy_pack, GeneratorConfig(), source)
    batch = pairs.batch(pairs.learn_landmarks(2), subjects=range(2))
    assert float(batch.images.std()) > 0


def test_sequences_that_no_subject_can_give_are_refused(toy_pack: Pack) -> None:
    with pytest.raises(InputError, match=r"none of the pack's 6 subjects has T1, FLAIR"):
        pairs_of(toy_pack, sequences=("T1", "FLAIR"))


def test_one_sequence_of_a_pair_can_be_used_alone(toy_pack: Pack) -> None:
    pairs = pairs_of(toy_pack, sequences=("T2",))
    assert pairs.batch(pairs.learn_landmarks(1), subjects=range(2)).images.shape == (2, 1, *GRID.shape)


def test_a_batch_has_no_place_for_a_lesion() -> None:
    assert [item.name for item in dataclasses.fields(PairedBatch)] == ["images", "brain", "tissues"]


def test_batches_are_the_same_whether_validation_ran_or_not(toy_pack: Pack) -> None:
    """Even from the very generator, records and random keys that validation has put its lesions into."""
    untouched = pairs_of(toy_pack, GeneratorConfig())
    landmarks = untouched.learn_landmarks(2)
    expected = untouched.batch(landmarks, "train", 0, subjects=range(4))
    pairs = pairs_of(toy_pack, GeneratorConfig())
    cases = Validation(pairs, landmarks, 4)._cases
    assert all(bool(case.lesion.any()) for case in cases)
    batch = pairs.batch(landmarks, "train", 0, subjects=range(4))
    for item in dataclasses.fields(PairedBatch):
        assert torch.equal(getattr(batch, item.name), getattr(expected, item.name))
    # the stream that a validation subject came from gives its healthy version, not the lesioned one
    images, _, _ = pairs.subject(landmarks, generator_for(CPU, 0, "validation", 1))
    assert torch.equal(images, cases[1].healthy)
    assert not torch.equal(images, cases[1].images)


@pytest.mark.parametrize(("source", "grows"), [("labels", True), ("semi_real", False)])
def test_brains_shrink_only_where_no_image_is_real(toy_pack: Pack, source: str, grows: bool) -> None:
    shrinking = replace(PLAIN, atrophy_mm=6.0)
    before, after = (pictures_of(pairs_of(toy_pack, config, source), 4).tissues for config in (PLAIN, shrinking))
    fluid = [int((tissues == 1).sum()) for tissues in (before, after)]
    assert (fluid[1] > 1.1 * fluid[0]) == grows
