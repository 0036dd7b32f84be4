"""Frames of one series as slices of one volume: which belong together, in which order, and on which grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from DALAnomalyLib.errors import DALAnomalyError, GeometryError, InputError
from DALAnomalyLib.volume import Grid, Points
from DALAnomalyLib.volume_io.dicom_frame import Frame
from DALAnomalyLib.volume_io.dicom_grid import axes_of, grid_of

_SAME_PLACE_MM = 0.01
_SAME_ORIENTATION = 1e-3
_SAME_TIME_MS = 0.1
"""Echo and inversion times of a volume differ by no more between slices: some scanners write what they measured."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one volume in the order of its axis k, with their grid, or the reason why they are none."""

    frames: tuple[Frame, ...]
    grid: Grid | None
    problem: DALAnomalyError | None
    copies: int = 0
    """How many frames were left out because they repeat another one."""


def stacks_of(frames: Sequence[Frame]) -> list[Stack]:
    """Split the frames of a series into volumes.

    One identifier may cover several echoes, repetitions, planes (localiser), or magnitude beside phase.
    """
    groups: list[list[Frame]] = []
    for same_kind in _groups_by(frames, _kind):
        for same_echo in _by_time(same_kind, _echo_time):
            for same_time in _by_time(same_echo, _inversion_time):
                groups.extend(_by_orientation(same_time))
    return [stack for group in groups for stack in _repetitions(group)]


def _kind(frame: Frame) -> Hashable:
    """What all slices of a volume share, apart from their times and orientation."""
    data = frame.data_set
    return (
        data.integer("TemporalPositionIdentifier") or data.integer("TemporalPositionIndex") or 0,
        data.texts("ImageType") if "FrameType" not in data.values else data.texts("FrameType"),
        data.texts("ComplexImageComponent"),
        data.number("DiffusionBValue") or 0,
        data.text("StackID"),
    )


def _echo_time(frame: Frame) -> float:
    return frame.data_set.number("EffectiveEchoTime") or frame.data_set.number("EchoTime") or 0.0


def _inversion_time(frame: Frame) -> float:
    return frame.data_set.number("InversionTime") or frame.data_set.number("InversionTimes") or 0.0


def _by_time(frames: Sequence[Frame], time: Callable[[Frame], float]) -> list[list[Frame]]:
    """Split where the times, in their order, differ by more than a scanner's rounding."""
    groups: list[list[Frame]] = []
    for frame in sorted(frames, key=time):
        before = time(groups[-1][-1]) if groups else -math.inf
        if time(frame) - before > _SAME_TIME_MS:
            groups.append([])
        groups[-1].append(frame)
    return groups


def _groups_by(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    groups: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return [groups[name] for name in sorted(groups, key=repr)]


def _by_orientation(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[tuple[Points, list[Frame]]] = []
    for frame in frames:
        for orientation, members in groups:
            if _alike(orientation, frame.orientation):
                members.append(frame)
                break
        else:
            groups.append((frame.orientation, [frame]))
    return [members for _, members in groups]


def _alike(one: Points, other: Points) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=_SAME_ORIENTATION)


def _repetitions(frames: Sequence[Frame]) -> list[Stack]:
    """One volume, or the acquisitions of which each covers every place once."""
    stack = _stack(frames)
    acquisitions = _groups_by(frames, lambda frame: frame.data_set.integer("AcquisitionNumber") or 0)
    if isinstance(stack.problem, _TwiceError) and len(acquisitions) > 1:
        repetitions = [_stack(group) for group in acquisitions]
        if not any(isinstance(repetition.problem, _TwiceError) for repetition in repetitions):
            return repetitions
    return [stack]


class _TwiceError(InputError):
    """Different slices at the same place."""


def _stack(frames: Sequence[Frame]) -> Stack:
    try:
        _check_images(frames)
        axes = axes_of(frames[0])
        frames, copies = _in_order(frames, axes[2])
        return Stack(tuple(frames), grid_of(frames, axes), None, copies)
    except (InputError, GeometryError) as problem:
        return Stack(tuple(frames), None, problem)


def _check_images(frames: Sequence[Frame]) -> None:
    for frame in frames:
        data = frame.data_set
        if (data.integer("SamplesPerPixel") or 1) > 1 or "PALETTE" in data.text("PhotometricInterpretation"):
            msg = "its voxels are colours; give a grey-value image"
            raise InputError(msg)
        if data.text("PhotometricInterpretation") == "MONOCHROME1":
            msg = "its grey values are inverted (MONOCHROME1); export the original MR images"
            raise InputError(msg)
        if "MOSAIC" in data.texts("ImageType"):
            msg = "its slices are tiled into mosaics; convert the series to NIfTI first"
            raise InputError(msg)
        if not frame.position.size or not frame.orientation.size or len(frame.pixel_spacing) != 2:
            msg = "DICOM files without a slice position or pixel spacing; export the series again as MR images"
            raise InputError(msg)
    sizes = {(frame.data_set.integer("Rows"), frame.data_set.integer("Columns")) for frame in frames}
    spacings = np.array([frame.pixel_spacing for frame in frames])
    if len(sizes) > 1 or np.ptp(spacings, axis=0).max() > 1e-3:
        msg = "slices of different matrix or pixel size in one series; export the series again"
        raise InputError(msg)


def _in_order(frames: Sequence[Frame], normal: Points) -> tuple[list[Frame], int]:
    """Along the normal; a slice stored twice is kept once, and the number of such copies returned."""
    ordered = sorted(frames, key=lambda frame: (float(frame.position @ normal), str(frame.path), frame.index))
    kept = ordered[:1]
    for frame in ordered[1:]:
        if np.abs(frame.position - kept[-1].position).max() > _SAME_PLACE_MM:
            kept.append(frame)
        elif frame.content_digest() != kept[-1].content_digest():
            msg = "DICOM slices are doubled: different images at the same place; give a folder with one volume"
            raise _TwiceError(msg)
    return kept, len(ordered) - len(kept)
