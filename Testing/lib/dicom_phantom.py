"""DICOM series written from a volume with pydicom, which has nothing in common with what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from DALAnomalyLib.volume import Grid, Volume

SAMPLE = Path(__file__).parents[2] / "Resources" / "SampleData" / "sample_T1.nii.gz"
SHAPE = (24, 48, 40)
SPACING = (4.0, 4.5, 7.0)
NAME, IDENTIFIER = "Doe^Jane", "PID-4711"

T1_SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SP", "RepetitionTime": 450, "EchoTime": 12}
T2_SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SK", "RepetitionTime": 4200, "EchoTime": 96}
FLAIR = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 110, "InversionTime": 2500}


def head(
    direction: Iterable[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1), shape: Any = SHAPE, spacing: Any = SPACING
) -> Volume:
    """The sample scan as integers on a small grid with these axes, centred on the head."""
    sample = sitk.ReadImage(str(SAMPLE))
    rotation = np.reshape(list(direction), (3, 3)).astype(float)
    centre = np.array(sample.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in sample.GetSize()]))
    origin = centre - rotation @ ((np.array(shape[::-1]) - 1) / 2 * spacing)
    grid = Grid(shape, spacing, tuple(origin.tolist()), tuple(rotation.ravel().tolist()))
    image = sitk.Resample(
        sample, shape[::-1], sitk.Transform(), sitk.sitkLinear, grid.origin, spacing, grid.direction, 0, sitk.sitkInt16
    )
    return Volume(sitk.GetArrayFromImage(image), grid)


def classic(volume: Volume, index: int, uid: str = "1.2.3", **elements: Any) -> Dataset:
    """Slice `index` of a volume as a classic MR image; `elements` are added or replaced, None removes one."""
    grid = volume.grid
    data_set = _common(MRImageStorage, uid, f"{uid}.{index + 1}", volume.array[index])
    data_set.InstanceNumber = index + 1
    data_set.PixelSpacing = [grid.spacing[1], grid.spacing[0]]
    data_set.SliceThickness = grid.spacing[2]
    data_set.ImagePositionPatient = _decimal(grid.index_to_physical([index, 0, 0]))
    data_set.ImageOrientationPatient = _decimal(_axes(grid).ravel())
    _put(data_set, elements)
    return data_set


def write_series(
    folder: Path,
    volume: Volume,
    uid: str = "1.2.3",
    change: Callable[[int, Dataset], None] | None = None,
    name: str = "IM{:04}",
    implicit: bool = False,
    **elements: Any,
) -> Path:
    """One classic file per slice; `change` may alter a slice's data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(volume.array)):
        data_set = classic(volume, index, uid, **elements)
        if change is not None:
            change(index, data_set)
        save(data_set, folder / name.format(index), implicit)
    return folder


def enhanced(volume: Volume, frame: Callable[[int, Dataset], None] | None = None, **elements: Any) -> Dataset:
    """The whole volume as one enhanced MR image; `frame` may alter the functional groups of a frame."""
    grid = volume.grid
    data_set = _common(EnhancedMRImageStorage, "1.2.9", "1.2.9.1", volume.array)
    data_set.NumberOfFrames = len(volume.array)
    shared = Dataset()
    shared.PixelMeasuresSequence = [
        _item(PixelSpacing=[grid.spacing[1], grid.spacing[0]], SliceThickness=grid.spacing[2])
    ]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_decimal(_axes(grid).ravel()))]
    shared.PixelValueTransformationSequence = [_item(RescaleSlope=1, RescaleIntercept=0)]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=450, FlipAngle=90)]
    data_set.SharedFunctionalGroupsSequence = [shared]
    data_set.PerFrameFunctionalGroupsSequence = []
    for index in range(len(volume.array)):
        groups = Dataset()
        groups.FrameContentSequence = [_item(StackID="1", InStackPositionNumber=index + 1)]
        position = _decimal(grid.index_to_physical([index, 0, 0]))
        groups.PlanePositionSequence = [_item(ImagePositionPatient=position)]
        groups.MREchoSequence = [_item(EffectiveEchoTime=12.0)]
        if frame is not None:
            frame(index, groups)
        data_set.PerFrameFunctionalGroupsSequence.append(groups)
    data_set.EchoPulseSequence = "SPIN"
    _put(data_set, elements)
    return data_set


def save(data_set: Dataset, path: Path, implicit: bool = False) -> Path:
    if implicit:
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data_set.save_as(path, enforce_file_format=True)
    return path


def _common(kind: str, series: str, instance: str, array: np.ndarray) -> Dataset:
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID = kind
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID = instance
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2", series
    data_set.Modality, data_set.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    data_set.PatientName, data_set.PatientID, data_set.PatientBirthDate = NAME, IDENTIFIER, "19700102"
    data_set.SeriesNumber = 1
    data_set.Rows, data_set.Columns = array.shape[-2:]
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 1
    data_set.PixelData = array.astype("<i2").tobytes()
    data_set["PixelData"].VR = "OW"
    return data_set


def _axes(grid: Grid) -> np.ndarray:
    return np.reshape(grid.direction, (3, 3)).T[:2]


def _decimal(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.7g}") for value in values]


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    _put(item, elements)
    return item


def _put(data_set: Dataset, elements: dict[str, Any]) -> None:
    for name, value in elements.items():
        if value is None:
            delattr(data_set, name)
        else:
            setattr(data_set, name, value)
