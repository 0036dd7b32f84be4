from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyTraining.label_classes import (
    CLASSES,
    COUNT,
    CSF,
    GREY,
    OUTER_CSF,
    SAME_APPEARANCE,
    SCHEMES,
    TISSUE_OF_CLASS,
    WHITE,
    to_classes,
)

NAMES = [item.name for item in CLASSES]


def class_name(label: int, scheme: str) -> str:
    number = int(to_classes(np.array([label]), scheme)[0])
    return NAMES[number - 1] if number else "background"


@pytest.mark.parametrize(
    ("left", "right", "name", "tissue"),
    [
        (2, 41, "white matter", WHITE),
        (3, 42, "cortex", GREY),
        (4, 43, "ventricles", CSF),
        (7, 46, "white matter", WHITE),  # of the cerebellum
        (8, 47, "cortex", GREY),
        (10, 49, "thalamus", GREY),
        (11, 50, "caudate", GREY),
        (12, 51, "putamen", GREY),
        (13, 52, "pallidum", WHITE),
        (17, 53, "hippocampus", GREY),
        (18, 54, "amygdala", GREY),
        (26, 58, "accumbens", GREY),
        (28, 60, "ventral diencephalon", WHITE),
        (31, 63, "choroid plexus", CSF),
        (14, 15, "ventricles", CSF),  # third and fourth
        (16, 16, "brainstem", WHITE),
        (24, 24, "outer cerebrospinal fluid", CSF),
    ],
)
def test_freesurfer_structures(left: int, right: int, name: str, tissue: int) -> None:
    assert class_name(left, "freesurfer") == class_name(right, "freesurfer") == name
    assert TISSUE_OF_CLASS[NAMES.index(name) + 1] == tissue


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (35, "brainstem"),
        (36, "caudate"),
        (47, "hippocampus"),
        (51, "ventricles"),
        (59, "thalamus"),
        (81, "white matter"),
        (100, "cortex"),
        (207, "cortex"),
        (208, "background"),
    ],
)
def test_muse_structures(label: int, name: str) -> None:
    assert class_name(label, "muse") == name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_label_belongs_to_two_classes(scheme: str) -> None:
    counts = Counter(label for item in CLASSES for label in getattr(item, scheme))
    assert [label for label, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("label", [0, -1, -1000, 999, 5003, 70_000])
def test_what_no_class_names_is_background(label: int, scheme: str) -> None:
    assert class_name(label, scheme) == "background"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_a_label_map_keeps_its_shape(dtype: type[np.integer]) -> None:
    labels = np.array([[[2, 3], [24, 0]]], dtype=dtype)
    classes = to_classes(labels, "freesurfer")
    assert classes.dtype == np.uint8
    assert classes.tolist() == [[[1, 2], [OUTER_CSF, 0]]]


def test_classes_fit_the_packs_four_bits_and_have_a_tissue_each() -> None:
    assert COUNT == len(CLASSES) + 1 <= 16
    assert NAMES[OUTER_CSF - 1] == "outer cerebrospinal fluid"
    assert TISSUE_OF_CLASS[0] == 0
    assert set(TISSUE_OF_CLASS[1:].tolist()) == {CSF, GREY, WHITE} == {1, 2, 3}
    assert len(TISSUE_OF_CLASS) == COUNT


def test_a_class_shares_the_appearance_of_one_of_its_own_tissue() -> None:
    for number, model in SAME_APPEARANCE.items():
        assert TISSUE_OF_CLASS[number] == TISSUE_OF_CLASS[model]
        assert model not in SAME_APPEARANCE


def test_every_class_has_a_measured_prior_or_shares_one(data_folder: Path) -> None:
    measured = np.load(data_folder / "labelmaps" / "priors" / "synthsr_generation_labels.npy").tolist()
    lacking = {number for number, item in enumerate(CLASSES, start=1) if item.freesurfer[0] not in measured}
    assert lacking == set(SAME_APPEARANCE)
