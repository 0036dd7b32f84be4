from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from DALAnomalyTraining.altered_scans import ALTERATIONS, CSF, CT_UNITS, GREY, WHITE, KnownScan

LEVELS = {"T1": {0: 7.0, CSF: 120.0, GREY: 330.0, WHITE: 500.0}, "T2": {0: 7.0, CSF: 600.0, GREY: 330.0, WHITE: 190.0}}
"""Of the background and the tissues; the background is a skull of a kind."""
LESION = {"T1": 200.0, "T2": 700.0}


def known(sequence: str) -> KnownScan:
    """A ball of white matter in grey matter in fluid, with a lesion in the white matter; 3 mm voxels."""
    points = np.moveaxis(np.indices((48, 52, 46)) - np.array([24, 26, 23]).reshape(3, 1, 1, 1), 0, -1)
    radius = np.linalg.norm(points, axis=-1)
    tissues = np.select([radius < 4, radius < 14, radius < 18, radius < 21], [CSF, WHITE, GREY, CSF], 0)
    lesion = np.linalg.norm(points - np.array([0, 9, 0]), axis=-1) < 4
    image = np.vectorize(LEVELS[sequence].get)(tissues).astype(np.float32)
    image[lesion] = LESION[sequence]
    image[tissues > 0] += np.random.default_rng(1).normal(0, 4, image.shape)[tissues > 0]
    return KnownScan(image, tissues > 0, tissues, lesion, (3.0, 3.0, 3.0))


def altered(name: str, sequence: str) -> tuple[KnownScan, KnownScan]:
    scan = known(sequence)
    return scan, replace(scan, image=ALTERATIONS[name][1](scan, np.random.default_rng(0)))


CASES = [(name, sequence) for name, (sequences, _) in ALTERATIONS.items() for sequence in sequences]


@pytest.mark.parametrize(("name", "sequence"), CASES)
def test_the_brain_alone_is_altered(name: str, sequence: str) -> None:
    before, after = altered(name, sequence)
    assert after.image.dtype == np.float32
    assert np.array_equal(after.image[~before.brain], before.image[~before.brain])
    assert np.isfinite(after.image).all()
    assert np.abs(after.image - before.image)[before.brain].max() > 0.1 * before.extent


@pytest.mark.parametrize(("name", "sequence"), CASES)
def test_the_same_random_numbers_give_the_same_scan(name: str, sequence: str) -> None:
    assert np.array_equal(altered(name, sequence)[1].image, altered(name, sequence)[1].image)


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_inversion_reverses_the_order_of_the_tissues(sequence: str) -> None:
    before, after = altered("inverted", sequence)
    order = [sorted((CSF, GREY, WHITE), key=scan.typical) for scan in (before, after)]
    assert order[0] == order[1][::-1]


def test_ct_has_tissues_a_few_units_apart_with_dark_fluid() -> None:
    _, after = altered("like CT", "T1")
    for tissue in (GREY, WHITE):
        assert after.typical(tissue) == pytest.approx(CT_UNITS[tissue], abs=3)
    assert after.typical(CSF) < after.typical(WHITE) < after.typical(GREY)


def test_flair_has_dark_fluid_and_keeps_the_lesion() -> None:
    before, after = altered("like FLAIR", "T2")
    assert after.typical(CSF) < 0.6 * after.typical(WHITE) < 0.6 * after.typical(GREY)
    assert np.array_equal(after.image[before.lesion], before.image[before.lesion])
    white = (before.tissues == WHITE) & ~before.lesion
    assert np.array_equal(after.image[white], before.image[white])


def test_contrast_brightens_little_of_the_brain_and_the_rim_of_the_lesion() -> None:
    before, after = altered("after contrast", "T1")
    brighter = after.image > before.image + 0.2 * before.extent
    assert 0.005 < brighter[before.brain].mean() < 0.1
    assert (after.image >= before.image).all()
    assert brighter[before.lesion].any()
    assert after.image[before.lesion].max() > before.typical(WHITE)


def test_what_an_agent_brightens_follows_the_coil() -> None:
    before, after = altered("after contrast", "T1")
    coil = np.linspace(0.5, 1.5, before.image.shape[1])[:, None]
    uneven = replace(before, image=(before.image * coil).astype(np.float32))
    ratio = ALTERATIONS["after contrast"][1](uneven, np.random.default_rng(0)) / coil / after.image
    brightened = (after.image > before.image + 0.5 * before.extent) & (before.tissues == CSF)
    for half in (np.s_[:, :26], np.s_[:, 26:]):
        assert np.median(ratio[half][brightened[half]]) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("sequence", ["T1", "T2"])
def test_noise_is_a_fifth_of_the_range(sequence: str) -> None:
    before, after = altered("noisy", sequence)
    bright = before.brain & (before.image > np.median(before.image[before.brain]))
    assert (after.image - before.image)[bright].std() == pytest.approx(0.2 * before.extent, rel=0.15)


def test_ghosts_repeat_the_brain_along_the_second_axis() -> None:
    before, after = altered("ghosted", "T1")
    ghost = (after.image - before.image)[24, :, 23]
    brain = before.brain[24, :, 23]
    expected = np.roll(np.where(brain, before.image[24, :, 23], 0), 13) + np.roll(
        np.where(brain, before.image[24, :, 23], 0), -13
    )
    assert np.allclose(ghost[brain], 0.35 * expected[brain], atol=1e-3)
