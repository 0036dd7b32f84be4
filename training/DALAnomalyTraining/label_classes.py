"""The label classes of a pack: FreeSurfer's and MUSE's many structures reduced to 15 that share an appearance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CSF, GREY, WHITE = 1, 2, 3
"""Tissues, in the order of the merged anatomical image A."""


@dataclass(frozen=True)
class LabelClass:
    """One class of a pack's label maps."""

    name: str
    tissue: int
    freesurfer: tuple[int, ...]
    """Labels of both hemispheres; the first one names the row of a measured prior."""
    muse: tuple[int, ...]


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


CLASSES = (
    LabelClass("white matter", WHITE, (2, 7, 41, 46, 77, 80, 85, *_span(251, 255)), (*_span(40, 41), *_span(81, 95))),
    LabelClass("cortex", GREY, (3, 8, 42, 47), (*_span(38, 39), *_span(71, 76), *_span(100, 207))),
    LabelClass("ventricles", CSF, (4, 5, 14, 15, 43, 44, 72), (4, 11, 46, *_span(49, 52))),
    LabelClass("brainstem", WHITE, (16,), (35,)),
    LabelClass("thalamus", GREY, (10, 49), (59, 60)),
    LabelClass("caudate", GREY, (11, 50), (36, 37)),
    LabelClass("putamen", GREY, (12, 51), (57, 58)),
    LabelClass("pallidum", WHITE, (13, 52), (55, 56)),
    LabelClass("hippocampus", GREY, (17, 53), (47, 48)),
    LabelClass("amygdala", GREY, (18, 54), (31, 32)),
    LabelClass("accumbens", GREY, (26, 58), (23, 30)),
    LabelClass("ventral diencephalon", WHITE, (28, 60), (61, 62)),
    LabelClass("choroid plexus", CSF, (31, 63, 30, 62), ()),
    LabelClass("outer cerebrospinal fluid", CSF, (24,), (1,)),
)
"""Class k of a pack is `CLASSES[k - 1]`; 0 is everything that is not brain."""

COUNT = len(CLASSES) + 1
OUTER_CSF = COUNT - 1
TISSUE_OF_CLASS = np.array([0, *(item.tissue for item in CLASSES)], dtype=np.uint8)
SAME_APPEARANCE = {OUTER_CSF: 3}
"""Classes without a prior of their own, and the class whose prior they use."""

FREESURFER_PARCELS = {3: (range(1000, 3000), range(11000, 13000)), 2: (range(3000, 5003), range(13000, 15000))}
"""Parts of the cortex (3) and of the white matter (2), as in aparc+aseg, aparc.a2009s+aseg and wmparc."""

_TABLE_SIZE = 15000


def _lookup(labels_of: str) -> npt.NDArray[np.uint8]:
    table = np.zeros(_TABLE_SIZE, dtype=np.uint8)
    for number, item in enumerate(CLASSES, start=1):
        table[list(getattr(item, labels_of))] = number
    return table


def _freesurfer() -> npt.NDArray[np.uint8]:
    table = _lookup("freesurfer")
    for whole, parcels in FREESURFER_PARCELS.items():
        for labels in parcels:
            table[labels] = table[whole]
    return table


SCHEMES = {"freesurfer": _freesurfer(), "muse": _lookup("muse")}


def to_classes(labels: npt.NDArray[np.integer], scheme: str) -> npt.NDArray[np.uint8]:
    """Class of every voxel of a label map; labels that no class names (extra-cerebral ones) become 0."""
    return SCHEMES[scheme][np.where((labels < 0) | (labels >= _TABLE_SIZE), 0, labels)]
