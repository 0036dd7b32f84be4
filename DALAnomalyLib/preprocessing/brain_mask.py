"""Where the brain is in a scan that is skull-stripped already (the paper's M = (x > 0), made robust)."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume import AnyArray, Volume

# Below this share of a bright brain voxel (99th percentile) a voxel is background that resampling has smeared.
# Cerebrospinal fluid on T1 goes down to 0.7 %.
FAINTEST_FOREGROUND = 1e-3


def foreground_mask(volume: Volume) -> Volume:
    """Mask the brain of a skull-stripped scan.

    Foreground is what is brighter than the background, its largest 26-connected piece, with holes filled: fluid that
    was clipped to zero, or made slightly negative by interpolation, lies inside the brain and stays part of it.

    Args:
        volume: skull-stripped scan (D, H, W) in any intensity unit.

    Returns:
        uint8 (D, H, W), 1 in the brain.

    Raises:
        InputError: nothing is brighter than the background.
    """
    above = volume.array - np.float32(background_value(volume.array))
    bright = above[above > 0]
    if bright.size == 0:
        msg = "the image holds no foreground: nothing is brighter than its background; give a skull-stripped scan"
        raise InputError(msg)
    foreground = above > FAINTEST_FOREGROUND * np.percentile(bright, 99)
    return volume.with_array(_without_holes(_largest_component(foreground)))


def background_value(array: AnyArray) -> float:
    """Intensity outside the brain: the most frequent one on the six faces of the box.

    Most often 0, but some programs pad with another constant. Where no value covers half of the faces (a brain cut off
    on several sides, or a scan with its skull) it is taken as 0.
    """
    faces = np.concatenate([np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    values, counts = np.unique(faces, return_counts=True)
    return float(values[counts.argmax()]) if 2 * counts.max() >= faces.size else 0.0


def _largest_component(foreground: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(foreground.astype(np.uint8)), True)
    labels = sitk.GetArrayViewFromImage(components)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: npt.NDArray[np.uint8] = (labels == sizes.argmax()).astype(np.uint8)
    return largest


def _without_holes(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    filled: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(mask)))
    return filled
