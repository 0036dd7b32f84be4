"""The series of a DICOM folder, the one of them to use, and its voxels."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyLib.errors import DALAnomalyError, GeometryError, InputError
from DALAnomalyLib.file_names import refuse_missing, text_of
from DALAnomalyLib.memory import is_out_of_memory
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io.described_parameters import ScanDescription, describe_parameters
from DALAnomalyLib.volume_io.dicom_files import FoundSeries, find_series
from DALAnomalyLib.volume_io.dicom_frame import Frame
from DALAnomalyLib.volume_io.dicom_parameters import modality_of, parameters_of
from DALAnomalyLib.volume_io.dicom_stack import Stack, stacks_of
from DALAnomalyLib.volume_io.private_text import cleaned_description
from DALAnomalyLib.volume_io.quiet_itk import quiet_itk
from DALAnomalyLib.volume_io.sequence_rules import derived_kind


@dataclass(frozen=True, eq=False)
class ScanSeries:
    """One volume of a DICOM folder: a series, or a part of one that holds several volumes.

    Attributes:
        number: what the user chooses it by, from 1.
        series_number: the scanner's own number.
        name: the series description without what may identify the patient.
        part: which volume of how many in the series, such as (2, 3).
        scan: what the header says of the sequence.
        count: images in it.
        grid: where its voxels lie; None if it is not usable.
        problem: why it cannot be read; None if it can.
        remarks: why it is not chosen without being named, such as "localiser".
        copies: images left out because they repeat another one.
        frames: its slices along axis k, if it is usable.
    """

    number: int
    series_number: int | None
    name: str
    part: tuple[int, int]
    scan: ScanDescription
    count: int
    grid: Grid | None
    problem: DALAnomalyError | None
    remarks: tuple[str, ...]
    copies: int = 0
    frames: tuple[Frame, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it is a complete MR volume."""
        return self.problem is None


def list_series(path: str | Path, cancel: CancelToken | None = None) -> list[ScanSeries]:
    """List the volumes of a folder and its sub-folders, or of one DICOM file, in a stable order.

    Only headers are read. The order is that of the series numbers, then of the series identifiers.

    Raises:
        InputError: no DICOM files, or more than one study has.
        CancelledError: the token was cancelled.
    """
    path = Path(path)
    refuse_missing(path)
    try:
        found = find_series(path, cancel)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        raise InputError(msg) from None
    if not found:
        msg = f"{path}: no DICOM series here; give the folder that holds the files of one series or study"
        raise InputError(msg)
    listed: list[ScanSeries] = []
    for uid in sorted(found, key=lambda uid: (*_number_order(found[uid]), uid)):
        listed.extend(_volumes(found[uid], len(listed) + 1))
    return listed


def read_series(series: ScanSeries, path: Path, cancel: CancelToken | None = None) -> Volume:
    """Read the voxels of a series: float32 (D, H, W) in the scan's own units.

    Args:
        series: of `list_series`.
        path: what the user gave, for messages.
        cancel: looked at before each file.

    Raises:
        InputError: it is not usable, or its pixels cannot be decoded.
        GeometryError: its slices make no grid of a head.
        CancelledError: the token was cancelled.
    """
    if series.problem is not None or series.grid is None:
        msg = f"{path}: {series.problem}"
        raise (GeometryError if isinstance(series.problem, GeometryError) else InputError)(msg)
    array = np.empty(series.grid.shape, np.float32)
    try:
        with quiet_itk(), np.errstate(over="ignore"):  # what overflows becomes infinite and is refused
            for slice_, pixels in _decoded(series.frames, cancel):
                array[slice_] = pixels
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        msg = (
            f"{path}: the pixels cannot be decoded: damaged, or compressed in an unusual way; export them uncompressed"
        )
        raise InputError(msg) from None
    return Volume(array, series.grid)


def _decoded(frames: tuple[Frame, ...], cancel: CancelToken | None) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """Number along axis k and values of each slice, file by file."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    path, values = None, np.empty(0)
    for slice_, frame in sorted(enumerate(frames), key=lambda numbered: str(numbered[1].path)):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if frame.path != path:
            reader.SetFileName(text_of(frame.path))
            path, values = frame.path, sitk.GetArrayFromImage(reader.Execute())
        pixels = values[frame.index] if values.ndim == 3 else values
        yield slice_, _rescaled(pixels, frame.gdcm_rescale, frame.rescale)


def _rescaled(
    values: npt.NDArray[np.generic], used: tuple[float, float], wanted: tuple[float, float]
) -> npt.NDArray[np.generic]:
    """Exchange the slope and intercept that GDCM uses for a whole file for those of the frame."""
    if used == wanted:
        return values
    rescaled: npt.NDArray[np.float64] = (values.astype(np.float64) - used[1]) / used[0] * wanted[0] + wanted[1]
    return rescaled


def _number_order(series: FoundSeries) -> tuple[bool, int]:
    number = series.header.data_set.integer("SeriesNumber")
    return number is None, number or 0


def _volumes(found: FoundSeries, number: int) -> list[ScanSeries]:
    """The volumes of a series, numbered from `number`; one without a grid where there is none."""
    data_set = found.header.data_set
    modality = modality_of(data_set)
    problem: DALAnomalyError | None = None
    if modality not in ("MR", None):
        problem = InputError(f"holds {modality} images, not MR; give a T1 or T2 scan")
    elif found.damaged:
        counts = f"{found.damaged} beside {len(found.frames)} images"
        problem = InputError(
            f"damaged or truncated DICOM files ({counts}); copy the series again, and take empty or foreign .dcm files "
            "out of its folder"
        )
    elif not found.frames:
        problem = InputError("holds no images; give a T1 or T2 scan")
    stacks = [Stack(tuple(found.frames), None, problem)] if problem else stacks_of(found.frames)
    return [
        ScanSeries(
            number=number + index,
            series_number=data_set.integer("SeriesNumber"),
            name=cleaned_description(data_set),
            part=(index + 1, len(stacks)),
            scan=describe_parameters(parameters_of(stack.frames[0].data_set if stack.frames else data_set), "DICOM"),
            count=len(stack.frames) or found.files,
            grid=stack.grid,
            problem=stack.problem,
            remarks=_remarks(stack, stacks),
            copies=stack.copies,
            frames=stack.frames if stack.grid else (),
        )
        for index, stack in enumerate(stacks)
    ]


def _remarks(stack: Stack, stacks: list[Stack]) -> tuple[str, ...]:
    if stack.grid is None:
        return ()
    data_set = stack.frames[0].data_set
    remarks = []
    kind = derived_kind(parameters_of(data_set))
    if kind:
        remarks.append(kind)
    thickness = data_set.number("SliceThickness") or 0
    gap = stack.grid.spacing[2] - thickness
    if thickness and gap > thickness:
        remarks.append(f"gaps of {gap:.3g} mm between slices of {thickness:.3g} mm")
    if len({len(other.frames) for other in stacks}) > 1:
        remarks.append("its series is a mixture of unequal parts")
    return tuple(remarks)
