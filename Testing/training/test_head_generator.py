from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.network.brain_extractor import normalise
from DALAnomalyTraining.brain_extraction.head_generator import HeadConfig, RandomHead, random_head
from DALAnomalyTraining.brain_extraction.head_labels import CSF
from DALAnomalyTraining.brain_extraction.head_pack import Head

SHAPE = (30, 36, 32)
OFF = HeadConfig(
    shape=SHAPE,
    rotation_degrees=0,
    scaling=0,
    translation_mm=0,
    deformation_mm=0,
    mirrored_chance=0,
    realistic_chance=1,
    recoloured_chance=0,
    lesion_chance=0,
    coarse_chance=0,
    bias_field=0,
    noise=0,
    gamma=0,
    cut_chance=0,
    stripped_chance=0,
)
"""Nothing is random but the intensities of label maps."""
LABELS = (0, 2, 3, CSF, 511, 515)


def radius(shape: tuple[int, int, int] = SHAPE, centre: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> np.ndarray:
    """0 in the middle, about 1 at the nearest faces."""
    offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1)) * (np.reshape(shape, (3, 1, 1, 1)) - 1)
    return np.linalg.norm(offsets, axis=0) / (min(shape) / 2)


def label_map(shape: tuple[int, int, int] = SHAPE) -> Head:
    """White matter, grey matter, fluid, bone and skin around one another."""
    voxels = np.zeros(shape, np.uint8)
    for share, number in ((0.95, 4), (0.85, 5), (0.75, 3), (0.7, 2), (0.5, 1)):
        voxels[radius(shape) < share] = number
    return Head("map", voxels, np.where(radius(shape) < 0.7, 255, 0).astype(np.uint8), LABELS)


def scan(shape: tuple[int, int, int] = SHAPE) -> Head:
    """A brain off the middle of a head, each of many intensities."""
    z, y, x = np.indices(shape)
    voxels = np.where(radius(shape) < 0.9, 40 + x + y, 0)
    brain = np.clip(255 * (0.6 - radius(shape, (0.55, 0.5, 0.45))) / 0.05, 0, 255)
    voxels = np.where(brain > 128, 110 + 2 * z + x, voxels)
    return Head("scan", voxels.astype(np.uint8), brain.astype(np.uint8), ())


HEADS = {"map": label_map(), "scan": scan()}


def draw(head: Head | str, seed: int = 0, config: HeadConfig = OFF, **changes: object) -> RandomHead:
    head = HEADS[head] if isinstance(head, str) else head
    return random_head(head, replace(config, **changes), torch.Generator().manual_seed(seed))


def same(first: RandomHead, second: RandomHead) -> bool:
    return torch.equal(first.image, second.image) and torch.equal(first.brain, second.brain)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_depends_on_its_generator_alone(name: str) -> None:
    config = HeadConfig(shape=SHAPE)
    torch.manual_seed(1)
    first = draw(name, 7, config)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert same(first, draw(name, 7, config))
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(first, draw(name, 8, config))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("seed", range(12))
def test_image_is_normalised_and_target_a_share(name: str, seed: int) -> None:
    example = draw(name, seed, HeadConfig(shape=SHAPE))
    assert example.image.shape == example.brain.shape == SHAPE
    assert example.image.dtype == example.brain.dtype == torch.float32
    assert example.image.isfinite().all()
    assert example.image.min() >= 0
    assert example.image.max() <= 1.5
    torch.testing.assert_close(normalise(example.image), example.image, rtol=0.01, atol=1e-6)
    assert example.brain.min() >= 0
    assert example.brain.max() <= 1
    assert example.brain.max() > 0.9


def test_with_every_effect_off_a_scan_is_itself() -> None:
    head = scan()
    for seed in range(3):
        example = draw(head, seed)
        torch.testing.assert_close(example.image, normalise(torch.from_numpy(head.voxels) / 255), rtol=0, atol=1e-4)
        torch.testing.assert_close(example.brain, torch.from_numpy(head.brain) / 255, rtol=0, atol=1e-4)


def test_with_every_effect_off_a_label_map_keeps_its_shapes() -> None:
    head = label_map()
    for seed in range(3):
        example = draw(head, seed)
        torch.testing.assert_close(example.brain, torch.from_numpy(head.brain) / 255, rtol=0, atol=1e-4)
        spread = [example.image[torch.from_numpy(head.voxels == number)].std() for number in range(len(LABELS))]
        assert example.image.std() > 2 * max(spread)


GEOMETRY = {
    "rotation_degrees": 15.0,
    "scaling": 0.12,
    "translation_mm": 20.0,
    "deformation_mm": 6.0,
    "mirrored_chance": 1.0,
}
APPEARANCE = {
    "recoloured_chance": 1.0,
    "lesion_chance": 1.0,
    "coarse_chance": 1.0,
    "bias_field": 0.35,
    "noise": 0.05,
    "gamma": 0.4,
    "stripped_chance": 1.0,
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_effect_of_geometry_moves_image_and_target(name: str) -> None:
    plain, moved = draw("scan", 3), draw("scan", 3, **{name: GEOMETRY[name]})
    assert (moved.image - plain.image).abs().mean() > 0.01
    assert (moved.brain - plain.brain).abs().mean() > 0.003
    # the brain of the phantom is brighter than all around it, wherever it went
    inside, outside = moved.image[moved.brain > 0.9], moved.image[moved.brain < 0.1]
    assert inside.mean() > outside[outside > 0].mean() + 0.2
    assert inside.min() > 0.55


@pytest.mark.parametrize("name", APPEARANCE)
def test_effect_of_appearance_leaves_the_target_where_it_is(name: str) -> None:
    plain, changed = draw("scan", 3), draw("scan", 3, **{name: APPEARANCE[name]})
    assert (changed.image - plain.image).abs().mean() > 0.001
    assert torch.equal(changed.brain, plain.brain)


@pytest.mark.parametrize("name", HEADS)
def test_mirroring_exchanges_left_and_right(name: str) -> None:
    plain, mirrored = draw(name, 5), draw(name, 5, mirrored_chance=1)
    torch.testing.assert_close(mirrored.brain, plain.brain.flip(2), rtol=0, atol=1e-4)
    halves = [draw(name, seed, mirrored_chance=0.5).brain for seed in range(20)]
    share = np.mean([torch.allclose(brain, plain.brain.flip(2), atol=1e-3) for brain in halves])
    assert name == "map" or 0.2 < share < 0.8


def test_window_lies_in_the_upper_part_of_a_tall_field_of_view() -> None:
    tall = scan((SHAPE[0] + 30, *SHAPE[1:]))
    height = np.linspace(0, 255, tall.voxels.shape[0])[:, None, None]
    tall = replace(tall, brain=np.broadcast_to(height, tall.voxels.shape).astype(np.uint8))
    middles = np.array([float(draw(tall, seed).brain.median()) for seed in range(30)])
    spare = 15 / tall.voxels.shape[0]
    assert (middles > 0.48).all()
    assert (middles < 0.52 + spare).all()
    assert np.ptp(middles) > 0.6 * spare


def brightness(seed: int, contrast: str) -> list[float]:
    """Mean of white matter, grey matter and fluid on one contrast."""
    image = draw("map", seed, contrasts=(contrast,)).image.numpy()
    return [float(image[HEADS["map"].voxels == number].mean()) for number in (1, 2, 3)]


def test_realistic_contrasts_order_the_tissues_as_scanners_do() -> None:
    for seed in range(8):
        white, grey, fluid = brightness(seed, "T1")
        assert white > grey > fluid
        white, grey, fluid = brightness(seed, "T2")
        assert fluid > grey > white
        white, grey, fluid = brightness(seed, "FLAIR")
        assert grey > fluid


def test_other_contrasts_are_random() -> None:
    orders = set()
    for seed in range(30):
        image = draw("map", seed, realistic_chance=0).image.numpy()
        orders.add(tuple(np.argsort([image[HEADS["map"].voxels == number].mean() for number in (1, 2, 3)])))
    assert len(orders) == 6


def ranks_agree(head: Head, image: Tensor) -> bool:
    """Whether a brighter voxel of the head is nowhere darker on the image."""
    order = np.argsort(head.voxels, axis=None, kind="stable")
    values = image.numpy().ravel()[order]
    means = [values[np.sort(head.voxels, axis=None) == value].mean() for value in np.unique(head.voxels)]
    return bool((np.diff(means) >= -1e-4).all())


def test_real_head_keeps_its_contrast_when_it_is_not_recoloured() -> None:
    head = scan()
    assert all(ranks_agree(head, draw(head, seed, gamma=0.4).image) for seed in range(8))
    recoloured = [ranks_agree(head, draw(head, seed, recoloured_chance=1).image) for seed in range(20)]
    assert not all(recoloured)
    assert any(recoloured), "some curves rise"


def test_recoloured_head_is_a_function_of_the_real_one_with_dark_air() -> None:
    head = scan()
    for seed in range(8):
        image = draw(head, seed, recoloured_chance=1).image.numpy()
        assert image[head.voxels == 0].max() < 0.35
        for value in np.unique(head.voxels)[::20]:
            assert np.ptp(image[head.voxels == value]) < 2e-3


@pytest.mark.parametrize("name", HEADS)
def test_lesions_change_the_image_only_inside_the_brain(name: str) -> None:
    changed = 0.0
    for seed in range(10):
        plain, lesioned = draw(name, seed), draw(name, seed, lesion_chance=1)
        brain = plain.brain
        # lesions may be the brightest of the head, so that the unit of the image changes with them
        outside = (brain == 0) & (plain.image > 0.05)
        ratio = lesioned.image[outside] / plain.image[outside]
        torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-3, atol=0)
        inside = brain > 0.9
        changed += float((lesioned.image[inside] / ratio.median() - plain.image[inside]).abs().mean())
    assert changed / 10 > 0.03


def test_head_without_a_brain_gets_no_lesion() -> None:
    head = replace(scan(), brain=np.zeros(SHAPE, np.uint8))
    assert same(draw(head, 0), draw(head, 0, lesion_chance=1))


def rim(brain: Tensor, voxels: int) -> Tensor:
    """The brain and what is at most so many voxels away from it along each axis."""
    mask = (brain > 0.5).float()[None, None]
    return functional.max_pool3d(mask, 2 * voxels + 1, 1, voxels)[0, 0] > 0


@pytest.mark.parametrize("name", HEADS)
def test_stripped_head_is_zero_outside_a_rim(name: str) -> None:
    widths = set()
    for seed in range(12):
        plain, stripped = draw(name, seed), draw(name, seed, stripped_chance=1)
        assert torch.equal(stripped.brain, plain.brain)
        assert stripped.image[~rim(stripped.brain, 2)].abs().max() == 0
        assert (stripped.image[stripped.brain > 0.5] > 0).float().mean() > 0.95
        # as far as there was something to be seen
        around = {width: stripped.image[rim(plain.brain, width) & (plain.image > 0.02)] for width in range(3)}
        widths.add(max(width for width, values in around.items() if (values > 0).float().mean() > 0.98))
    assert len(widths) > 1, "some heads keep a rim"


def test_noise_leaves_exact_zeros_in_the_air_of_half_of_the_heads() -> None:
    air = torch.from_numpy(HEADS["scan"].voxels == 0)
    zeros = np.array([float((draw("scan", seed, noise=0.05).image[air] == 0).float().mean()) for seed in range(30)])
    assert ((zeros < 0.05) | (zeros > 0.9)).all()
    assert 0.2 < np.mean(zeros > 0.9) < 0.8


def test_cut_head_has_neither_image_nor_target_there() -> None:
    head = Head("full", np.full(SHAPE, 200, np.uint8), scan().brain, ())
    faces = set()
    for seed in range(20):
        plain, cut = draw(head, seed), draw(head, seed, cut_chance=1)
        seen = cut.image > 0
        assert (plain.image > 0).all()
        assert not seen.all()
        assert cut.brain[~seen].max() == 0
        assert torch.equal(cut.brain[seen], plain.brain[seen])
        # what is seen is a box, from which at most two slabs of 5 to 35 % are missing
        sides = [seen.any(dim=2).any(dim=1), seen.any(dim=2).any(dim=0), seen.any(dim=1).any(dim=0)]
        assert int(seen.sum()) == np.prod([int(side.sum()) for side in sides])
        for axis, side in enumerate(sides):
            missing = 1 - float(side.float().mean())
            assert missing <= 0.71
            faces |= {(axis, end) for end in (0, -1) if not side[end]}
    assert len(faces) == 6, "every side may be cut"


def test_coarse_slices_blur_along_one_axis() -> None:
    stripes = (np.indices(SHAPE).sum(axis=0) % 2 * 200 + 20).astype(np.uint8)
    head = Head("stripes", stripes, scan().brain, ())
    contrast = [float(draw(head, seed, coarse_chance=1).image.std()) for seed in range(6)]
    assert max(contrast) < 0.8 * float(draw(head).image.std())


def test_defaults_have_the_size_the_library_expects() -> None:
    from DALAnomalyLib.preprocessing.brain_extraction import TRAINED_EXTENT_MM
    from DALAnomalyTraining.brain_extraction.head_pack import SPACING_MM

    assert tuple(size * SPACING_MM for size in HeadConfig().shape[::-1]) == TRAINED_EXTENT_MM
