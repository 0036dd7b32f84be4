"""What the labels of whole heads stand for when heads of random contrast are drawn from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BRAIN_END = 500
"""FreeSurfer-style labels from here on lie outside the brain: bone, skin, eyes, vessels, ..."""
CSF = 24
SULCUS_MM = 8.0
"""Closing the parenchyma by this radius gives masks like those of real scans: Dice .991 to .994 with the outlines of
three real heads, against .987 to .992 with 4 mm and .986 to .990 with 20 mm."""

# Labels of the right side share the appearance of the left.
_RIGHT_TO_LEFT = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 57: 25}
_RIGHT_TO_LEFT |= {58: 26, 60: 28, 62: 30, 63: 31, 137: 136, 164: 163}

TISSUES = {
    "fluid": (4, 5, 14, 15, CSF, 31, 72, 506),
    "grey": (3, 8, 10, 11, 12, 17, 18, 26, 136, 163),
    "white": (2, 7, 13, 16, 28, 77, 85, 512),
    "bone": (515,),
    "marrow": (516,),
    "soft tissue": (507, 509, 511),
    "vessel": (30, 502, 514),
}
"""Groups that realistic contrasts give one intensity each, up to a little."""

# Intensities of the groups above on scans as they are made, relative to the brightest brain tissue.
CONTRASTS = {
    "T1": (0.2, 0.62, 0.95, 0.1, 0.7, 0.6, 0.5),
    "T2": (1.0, 0.6, 0.42, 0.08, 0.4, 0.35, 0.15),
    "FLAIR": (0.15, 0.85, 0.7, 0.08, 0.4, 0.45, 0.2),
    "PD": (0.95, 0.9, 0.75, 0.1, 0.5, 0.6, 0.4),
}


def compact(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Label maps with the right side named like the left."""
    table = np.arange(1024)
    for right, left in _RIGHT_TO_LEFT.items():
        table[right] = left
    merged: npt.NDArray[np.int64] = table[np.clip(labels, 0, 1023)]
    return merged


def group_of(label: int) -> int:
    """Position of a label's group in `TISSUES`; labels that none names count as soft tissue."""
    for number, members in enumerate(TISSUES.values()):
        if label in members:
            return number
    return list(TISSUES).index("soft tissue")
