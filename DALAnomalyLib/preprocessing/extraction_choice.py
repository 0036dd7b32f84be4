"""Which way of finding the brain is taken: a given mask, a scan that is stripped already, a network, or the atlas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DALAnomalyLib.errors import InputError, ModelFileError, UsageError
from DALAnomalyLib.preprocessing.already_stripped import stripped_evidence
from DALAnomalyLib.preprocessing.atlas import Atlas
from DALAnomalyLib.preprocessing.brain_extraction import extract_brain
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.external_extraction import extract_with, find_tool
from DALAnomalyLib.preprocessing.resampling import resample
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Points, Volume

ExtractionMethod: TypeAlias = Literal["auto", "stripped", "network", "hd-bet", "synthstrip", "atlas"]
METHODS: tuple[ExtractionMethod, ...] = ("auto", "stripped", "network", "hd-bet", "synthstrip", "atlas")
SCALP_MM = 12.0
"""From the top of a head to the top of its brain: scalp and skull."""
_HEAD_SHARE = 0.15
"""Share of the 99th percentile that noise in the air stays below."""


@dataclass(frozen=True, eq=False)
class FoundBrain:
    """A brain mask and how it was found."""

    mask: Volume
    """uint8, on the scan's grid."""
    method: str
    evidence: str
    rough: bool = False
    """Placed by the atlas rather than outlined."""


def find_brain(
    volume: Volume,
    given: Volume | None,
    method: ExtractionMethod,
    equipment: Equipment,
    cancel: CancelToken,
) -> FoundBrain:
    """Find the brain in a scan.

    Args:
        volume: the scan.
        given: a mask on the same grid, which is taken as it is.
        method: `auto` recognises stripped scans, uses the network for all others, and without its file the atlas.
        equipment: network and atlas.
        cancel: looked at often.

    Raises:
        InputError: there is no brain, the given mask is empty, or an external tool failed.
        UsageError: the external tool is not installed.
    """
    if given is not None:
        return FoundBrain(binary(given), "given", "mask given by the user")
    if method == "auto":
        check = stripped_evidence(volume)
        if check.is_stripped:
            return FoundBrain(foreground_mask(volume), "stripped", f"skull-stripped already: {check.evidence}")
    ways: dict[str, Callable[[], FoundBrain]] = {
        "stripped": lambda: FoundBrain(foreground_mask(volume), "stripped", "taken as skull-stripped, as told"),
        "network": lambda: _by_network(volume, equipment, cancel),
        "auto": lambda: _by_network_or_atlas(volume, equipment, cancel),
        "atlas": lambda: _by_atlas(volume, equipment.atlas()),
        "hd-bet": lambda: _by_tool(volume, "hd-bet", cancel),
        "synthstrip": lambda: _by_tool(volume, "synthstrip", cancel),
    }
    return ways[method]()


def binary(mask: Volume) -> Volume:
    """A mask as uint8, 1 where it is above 0.5; raises `InputError` when it is empty."""
    inside: npt.NDArray[np.uint8] = (mask.array > 0.5).astype(np.uint8)
    if not inside.any():
        msg = "the brain mask is empty; give a mask that is above 0.5 inside the brain"
        raise InputError(msg)
    return mask.with_array(inside)


def _by_network(volume: Volume, equipment: Equipment, cancel: CancelToken) -> FoundBrain:
    mask = extract_brain(volume, equipment.extractor(), cancel)
    size = float(mask.array.sum(dtype=np.int64)) * volume.grid.voxel_volume_ml
    return FoundBrain(mask, "network", f"outlined by the network: {size:.0f} ml")


def _by_network_or_atlas(volume: Volume, equipment: Equipment, cancel: CancelToken) -> FoundBrain:
    try:
        return _by_network(volume, equipment, cancel)
    except ModelFileError as error:
        found = _by_atlas(volume, equipment.atlas())
        return replace(found, evidence=f"{found.evidence}, because the network cannot be used ({error})")


def _by_atlas(volume: Volume, atlas: Atlas) -> FoundBrain:
    """The atlas' mask below the top of the head, centred on its upper part: a guess within a centimetre or two."""
    head = _head(volume)
    brain = atlas.brain_mask.grid.index_to_physical(np.argwhere(atlas.brain_mask.array)[::7])
    top, brain_top = np.percentile(head[:, 2], 99.9), brain[:, 2].max()
    upper = head[head[:, 2] > top - SCALP_MM - np.ptp(brain[:, 2])]
    middle = (upper.min(axis=0) + upper.max(axis=0)) / 2
    shift = middle - (brain.min(axis=0) + brain.max(axis=0)) / 2
    shift[2] = top - SCALP_MM - brain_top
    placed = RigidTransform.from_matrix(np.eye(3), shift).move(atlas.brain_mask)
    mask = resample(placed.array, placed.grid, volume.grid, "nearest")
    if not mask.any():
        msg = "the atlas' brain does not fall into the scan; give a brain mask"
        raise InputError(msg)
    return FoundBrain(volume.with_array(mask), "atlas", "the atlas' brain below the top of the head: rough", rough=True)


def _head(volume: Volume) -> Points:
    """LPS mm of every seventh voxel of the head: one piece, well above the noise."""
    pieces, count = ndimage.label(volume.array > _HEAD_SHARE * np.percentile(volume.array, 99))
    if count == 0:
        msg = "the scan is empty: nothing in it is brighter than air"
        raise InputError(msg)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return volume.grid.index_to_physical(np.argwhere(pieces == largest)[::7])


def _by_tool(volume: Volume, name: Literal["hd-bet", "synthstrip"], cancel: CancelToken) -> FoundBrain:
    tool = find_tool(name)
    if tool is None:
        msg = f"{name} is not installed (not on PATH); install it with its weights, or choose another brain extraction"
        raise UsageError(msg)
    return FoundBrain(binary(extract_with(tool, volume, cancel=cancel)), name, f"outlined by {name}")
