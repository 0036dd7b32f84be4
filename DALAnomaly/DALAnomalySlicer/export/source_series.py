"""The DICOM images that a scan was read from, matched slice by slice with its grid.

DICOM objects that describe a scan take patient, study and geometry from these images. Whatever does not fit the scan
voxel by voxel is refused: a segmentation that lies one slice too high is worse than none.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume import AnyArray, Grid
from DALAnomalySlicer.export.image_geometry import (
    DicomData,
    corners,
    is_multi_frame,
    orientation,
    pixel_measures,
    places_along_normal,
    share_geometry,
)

if TYPE_CHECKING:
    from DALAnomalySlicer.export.export_context import ExportContext

INSTEAD = "export NIfTI instead"

_TOLERANCE_VOXELS = 0.1
_DEMANDED = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID")
_SHARED = _DEMANDED[:3]
_SEXES = ("M", "F", "O", "")
# Elements that the standard demands, if only empty, and that anonymisation often removes.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The images of a scan.

    Attributes:
        images: headers without pixels: one per slice in the order of their normal, or a single multi-frame image.
        slices: for every frame the scan's slice k that it shows.
    """

    images: tuple[DicomData, ...]
    slices: tuple[int, ...]

    def in_frame_order(self, array: AnyArray) -> AnyArray:
        """An array (D, H, W) on the scan's grid, its slices in the order of the frames."""
        return array[list(self.slices)]


def read_source_series(context: ExportContext) -> SourceSeries:
    """Read the headers of the scan's DICOM files and match them with its grid.

    Raises:
        InputError: the scan did not come from DICOM; a file is gone or unreadable; slices are missing, doubled, foreign
            or elsewhere than in the scan; elements are missing that a DICOM object cannot do without.
    """
    if not context.dicom_files:
        msg = f"the scan did not come from DICOM, so there is no patient or study to attach this to; {INSTEAD}"
        raise InputError(msg)
    with private_headers():
        images = [_read(path) for path in context.dicom_files]
        _check_one_series(images)
        for image in filter(is_multi_frame, images):
            share_geometry(image)
        images.sort(key=lambda image: float(places_along_normal(image)[0]))
        slices = _matching_slices(images, context.scan.grid)
        for image in images:
            _complete(image, images[0], context.scan.grid.spacing[2])
        return SourceSeries(tuple(images), slices)


@contextmanager
def private_headers() -> Iterator[None]:
    """Keep what headers say out of logs and messages while they are handled.

    pydicom and highdicom quote names and identifiers in their warnings and logs. What they raise over an incomplete or
    unusual header becomes an InputError whose text and traceback hold no value of it.
    """
    try:
        with warnings.catch_warnings(), _silenced("pydicom"), _silenced("highdicom"):
            warnings.simplefilter("ignore")
            yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        what = getattr(error, "name", None) or type(error).__name__
        msg = f"the DICOM headers of the scan are incomplete or unlike the standard ({what}); {INSTEAD}"
        raise InputError(msg) from None


@contextmanager
def _silenced(package: str) -> Iterator[None]:
    logger = logging.getLogger(package)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read(path: Path) -> DicomData:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    # The path stays out of the messages: folders and files of DICOM are often named after the patient.
    try:
        data = dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        msg = f"a source file of the scan is no DICOM file any more; import the series again or {INSTEAD}"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"a source file of the scan cannot be read ({error.strerror}); import the series again or {INSTEAD}"
        raise InputError(msg) from None
    # what scanners write there is not always what the standard knows, and highdicom insists on the standard
    data.decode()
    data.SpecificCharacterSet = "ISO_IR 192"
    if data.get("PatientSex", "") not in _SEXES:
        data.PatientSex = ""
    _blank_what_is_no_date(data)
    return data


def _blank_what_is_no_date(data: DicomData) -> None:
    """As anonymisation leaves behind: "ANONYMIZED", "19700000", "10:10:10". These elements may be empty."""
    from pydicom.valuerep import DA, TM

    for name, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(data.get(name) or "")
        except ValueError:
            setattr(data, name, "")


def _check_one_series(images: Sequence[DicomData]) -> None:
    for name in _DEMANDED:
        if not all(image.get(name) for image in images):
            msg = f"a source image of the scan has no {name}, which a DICOM object has to refer to; {INSTEAD}"
            raise InputError(msg)
    for name in _SHARED:
        if len({image.get(name) for image in images}) > 1:
            msg = f"the source images of the scan differ in {name}; load one series by itself or {INSTEAD}"
            raise InputError(msg)
    if len(images) > 1 and any(is_multi_frame(image) for image in images):
        msg = f"the scan was put together from several multi-frame images; load one by itself or {INSTEAD}"
        raise InputError(msg)


def _matching_slices(images: Sequence[DicomData], grid: Grid) -> tuple[int, ...]:
    """The slice k of the grid that each frame covers pixel by pixel."""
    depth, height, width = grid.shape
    if any((image.Rows, image.Columns) != (height, width) for image in images):
        msg = f"the source images are not {width} x {height} pixels like the scan: it was resampled; {INSTEAD}"
        raise InputError(msg)
    indices = grid.physical_to_index(np.concatenate([corners(image) for image in images]))
    slices = np.rint(indices[:, :, 0].mean(axis=1))
    expected = np.array([[0, 0, 0], [0, 0, width - 1], [0, height - 1, 0]]) + slices[:, None, None] * (1, 0, 0)
    if np.abs(indices - expected).max() > _TOLERANCE_VOXELS:
        msg = f"the scan does not lie where its source images do: it was moved or resampled; undo that or {INSTEAD}"
        raise InputError(msg)
    _check_complete(slices, depth)
    return tuple(int(slice_) for slice_ in slices)


def _check_complete(slices: AnyArray, depth: int) -> None:
    outside = int(((slices < 0) | (slices >= depth)).sum())
    doubled = len(slices) - len(np.unique(slices))
    missing = depth - len(np.unique(slices)) + outside
    for count, problem in ((outside, "lie outside of the scan"), (doubled, "lie at the same place as another one")):
        if count:
            msg = f"{count} of the {len(slices)} source images {problem}; import the series again or {INSTEAD}"
            raise InputError(msg)
    if missing:
        msg = f"{missing} of the {depth} slices of the scan have no source image; import the series again or {INSTEAD}"
        raise InputError(msg)


def _complete(image: DicomData, first: DicomData, between_slices: float) -> None:
    """Add in memory what the results need and an otherwise sound header may lack."""
    for name in _MAY_BE_EMPTY:
        if name not in image:
            setattr(image, name, "")
    # Scanners round it differently from slice to slice, and highdicom wants it the same.
    orientation(image).ImageOrientationPatient = orientation(first).ImageOrientationPatient
    measures = pixel_measures(image)
    measures.SpacingBetweenSlices = between_slices
    if not measures.get("SliceThickness"):
        measures.SliceThickness = between_slices
