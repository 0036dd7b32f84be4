"""Where the brain is in a scan of a whole head, by our own network.

The network looks at an upright copy of the scan with voxels of 2 mm, whatever the scan's own are; its probability of
brain is interpolated back and cut at one half on the scan's grid.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.network.brain_extractor import normalise
from DALAnomalyLib.network.brain_extractor_file import LoadedExtractor
from DALAnomalyLib.network.cancellation import cancellable
from DALAnomalyLib.preprocessing.resampling import anti_aliasing_sigmas, resample, smooth
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import IDENTITY_DIRECTION, Grid, Points, Volume

SMALLEST_BRAIN_ML = 150.0
"""Less than this of connected brain is not taken for one."""
LARGEST_EXTENT_MM = 320.0
"""A head fits into this; of larger fields of view the upper part is looked at."""
TRAINED_EXTENT_MM = (192.0, 224.0, 192.0)
"""Size along (x, y, z) of the heads that the network is trained on."""
_FAINT = 0.03
"""Share of the 99th percentile above which something is in the scanner."""


def extract_brain(volume: Volume, extractor: LoadedExtractor, cancel: CancelToken | None = None) -> Volume:
    """Mask the brain of a head scan of any contrast and resolution.

    Args:
        volume: scan (D, H, W), with or without its skull, upright according to its header.
        extractor: see `load_extractor`.
        cancel: looked at before every layer.

    Returns:
        uint8 (D, H, W), 1 in the brain: one 6-connected piece without holes.

    Raises:
        InputError: there is no brain.
        CancelledError: `cancel` was turned on.
    """
    cancel = cancel or CancelToken()
    grid = upright_grid(_what_is_scanned(volume), extractor.spacing_mm)
    smoothed = smooth(volume.array.astype(np.float32), anti_aliasing_sigmas(volume.grid, grid))
    cancel.raise_if_cancelled()
    image = normalise(torch.from_numpy(resample(smoothed, volume.grid, grid, "linear")))
    with torch.inference_mode(), cancellable(extractor.network, cancel):
        upright = image.to(extractor.device)[None, None]
        # heads are about symmetric, errors are not: the mirrored head gives a second opinion
        logits = extractor.network(upright) + extractor.network(upright.flip(-1)).flip(-1)
    probability = (logits[0, 0] / 2).sigmoid().float().cpu().numpy()
    cleaned = _one_piece(probability, grid.voxel_volume_ml)
    cancel.raise_if_cancelled()
    mask = resample(cleaned, grid, volume.grid, "linear") >= 0.5
    if not mask.any():
        msg = "the brain is too small for the scan's voxels; check the voxel size in the header"
        raise InputError(msg)
    cancel.raise_if_cancelled()
    # bridges and channels that are thinner than the scan's voxels have gone
    return volume.with_array(_without_holes(_largest(mask)[0]).astype(np.uint8))


def upright_grid(points: Points, spacing: float) -> Grid:
    """Cubic voxels in world axes around LPS points (N, 3) in mm.

    At least `TRAINED_EXTENT_MM` large, because the network's normalisation layers know empty space around a head, and
    at most `LARGEST_EXTENT_MM` from the top.
    """
    lowest, highest = points.min(axis=0), points.max(axis=0)
    centre = (lowest[:2] + highest[:2]) / 2
    lowest[:2] = np.maximum(lowest[:2], centre - LARGEST_EXTENT_MM / 2)
    highest[:2] = np.minimum(highest[:2], centre + LARGEST_EXTENT_MM / 2)
    lowest[2] = max(lowest[2], highest[2] - LARGEST_EXTENT_MM)
    missing = np.maximum(np.array(TRAINED_EXTENT_MM) - (highest - lowest), 0)
    lowest, highest = lowest - missing / 2, highest + missing / 2
    width, height, depth = (int(count) for count in np.ceil((highest - lowest) / spacing) + 1)
    x, y, z = (float(value) for value in lowest)
    return Grid((depth, height, width), (spacing, spacing, spacing), (x, y, z), IDENTITY_DIRECTION)


def _what_is_scanned(volume: Volume) -> Points:
    """LPS mm of the corners of the box that holds everything brighter than air."""
    rough = volume.array[::2, ::2, ::2]
    above = rough > _FAINT * np.percentile(rough, 99)
    boxes = ndimage.find_objects(above.astype(np.uint8))
    if not boxes:
        msg = "the scan is empty: nothing in it is brighter than air"
        raise InputError(msg)
    ends = [
        (2 * side.start, min(2 * side.stop, size - 1)) for side, size in zip(boxes[0], volume.array.shape, strict=True)
    ]
    return volume.grid.index_to_physical(np.array(list(product(*ends))))


def _one_piece(probability: npt.NDArray[np.float32], voxel_ml: float) -> npt.NDArray[np.float32]:
    """Keep the probability in and around the largest piece of brain, and fill its holes."""
    above = probability >= 0.5
    brain, count = _largest(above)
    if count * voxel_ml < SMALLEST_BRAIN_ML:
        msg = (
            f"no brain was found (the largest brain-like piece measures {count * voxel_ml:.0f} ml); is this an upright "
            "scan of a head? If it is, give a brain mask"
        )
        raise InputError(msg)
    filled = _without_holes(brain)
    near = ndimage.binary_dilation(filled, iterations=2)
    kept: npt.NDArray[np.float32] = np.where(near & (brain | ~above), probability, 0).astype(np.float32)
    kept[filled] = np.maximum(kept[filled], 0.5)
    return kept


def _largest(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], int]:
    """The largest 6-connected piece and its number of voxels."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=2)[1:]
    largest: npt.NDArray[np.bool_] = pieces == sizes.argmax() + 1
    return largest, int(sizes.max())


def _without_holes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What has no way to the edge of the array belongs to the mask; much faster than `binary_fill_holes`."""
    around, _ = ndimage.label(~np.pad(mask, 1))
    filled: npt.NDArray[np.bool_] = around[1:-1, 1:-1, 1:-1] != around[0, 0, 0]
    return filled
