"""The DICOM data elements that are looked at, and what a data set holds of them.

All others are skipped while reading: what is not kept cannot end up in a message, a log or a file. The elements that
name the patient are kept for one purpose only: to take the same words out of the series description.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

# tag: name and value representation in PS3.6; an implicit data set does not carry the latter
ELEMENTS: Mapping[int, tuple[str, str]] = {
    0x00041130: ("FileSetID", "CS"),
    0x00080008: ("ImageType", "CS"),
    0x00080016: ("SOPClassUID", "UI"),
    0x00080050: ("AccessionNumber", "SH"),
    0x00080060: ("Modality", "CS"),
    0x0008103E: ("SeriesDescription", "LO"),
    0x00089209: ("AcquisitionContrast", "CS"),
    0x00089007: ("FrameType", "CS"),
    0x00089208: ("ComplexImageComponent", "CS"),
    0x00100010: ("PatientName", "PN"),
    0x00100020: ("PatientID", "LO"),
    0x00100030: ("PatientBirthDate", "DA"),
    0x00101000: ("OtherPatientIDs", "LO"),
    0x00101001: ("OtherPatientNames", "PN"),
    0x00101005: ("PatientBirthName", "PN"),
    0x00180010: ("ContrastBolusAgent", "LO"),
    0x00180012: ("ContrastBolusAgentSequence", "SQ"),
    0x00180020: ("ScanningSequence", "CS"),
    0x00180021: ("SequenceVariant", "CS"),
    0x00180023: ("MRAcquisitionType", "CS"),
    0x00180025: ("AngioFlag", "CS"),
    0x00180050: ("SliceThickness", "DS"),
    0x00180080: ("RepetitionTime", "DS"),
    0x00180081: ("EchoTime", "DS"),
    0x00180082: ("InversionTime", "DS"),
    0x00181030: ("ProtocolName", "LO"),
    0x00181314: ("FlipAngle", "DS"),
    0x00189008: ("EchoPulseSequence", "CS"),
    0x00189009: ("InversionRecovery", "CS"),
    0x00189018: ("EchoPlanarPulseSequence", "CS"),
    0x00189079: ("InversionTimes", "FD"),
    0x00189082: ("EffectiveEchoTime", "FD"),
    0x00189087: ("DiffusionBValue", "FD"),
    0x00189112: ("MRTimingAndRelatedParametersSequence", "SQ"),
    0x00189114: ("MREchoSequence", "SQ"),
    0x00189115: ("MRModifierSequence", "SQ"),
    0x00189117: ("MRDiffusionSequence", "SQ"),
    0x00189226: ("MRImageFrameTypeSequence", "SQ"),
    0x00189341: ("ContrastBolusUsageSequence", "SQ"),
    0x00189342: ("ContrastBolusAgentAdministered", "CS"),
    0x0020000E: ("SeriesInstanceUID", "UI"),
    0x00200011: ("SeriesNumber", "IS"),
    0x00200012: ("AcquisitionNumber", "IS"),
    0x00200032: ("ImagePositionPatient", "DS"),
    0x00200037: ("ImageOrientationPatient", "DS"),
    0x00200100: ("TemporalPositionIdentifier", "IS"),
    0x00209056: ("StackID", "SH"),
    0x00209111: ("FrameContentSequence", "SQ"),
    0x00209113: ("PlanePositionSequence", "SQ"),
    0x00209116: ("PlaneOrientationSequence", "SQ"),
    0x00209128: ("TemporalPositionIndex", "UL"),
    0x00280002: ("SamplesPerPixel", "US"),
    0x00280004: ("PhotometricInterpretation", "CS"),
    0x00280008: ("NumberOfFrames", "IS"),
    0x00280010: ("Rows", "US"),
    0x00280011: ("Columns", "US"),
    0x00280030: ("PixelSpacing", "DS"),
    0x00280100: ("BitsAllocated", "US"),
    0x00281052: ("RescaleIntercept", "DS"),
    0x00281053: ("RescaleSlope", "DS"),
    0x00289110: ("PixelMeasuresSequence", "SQ"),
    0x00289145: ("PixelValueTransformationSequence", "SQ"),
    0x52009229: ("SharedFunctionalGroupsSequence", "SQ"),
    0x52009230: ("PerFrameFunctionalGroupsSequence", "SQ"),
}

_REPRESENTATIONS = dict(ELEMENTS.values())
_BINARY = {"US": "H", "UL": "I", "FD": "d"}
_MAXIMUM_VALUES = 64


@dataclass(frozen=True)
class DataSet:
    """Names of elements (see `ELEMENTS`) with their bytes, or with the items of a sequence."""

    values: Mapping[str, bytes] = field(default_factory=dict)
    sequences: Mapping[str, tuple[DataSet, ...]] = field(default_factory=dict)
    byte_order: str = "<"

    def text(self, name: str) -> str:
        """Text of an element without padding and control characters; empty if absent."""
        data = self.values.get(name, b"")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        return "".join(letter for letter in text if letter.isprintable()).strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """The upper-case values of an element of several code words; empty if absent."""
        return tuple(part.strip().upper() for part in self.text(name).split("\\")) if self.text(name) else ()

    def numbers(self, name: str) -> tuple[float, ...]:
        """The finite numbers of an element; empty if it is absent or holds anything else."""
        kind = _BINARY.get(_REPRESENTATIONS[name])
        data = self.values.get(name, b"")
        try:
            if kind is None:
                found = [float(part) for part in self.text(name).split("\\")[:_MAXIMUM_VALUES]]
            else:
                count = min(len(data) // struct.calcsize(kind), _MAXIMUM_VALUES)
                found = list(struct.unpack_from(f"{self.byte_order}{count}{kind}", data))
        except ValueError:
            return ()
        return tuple(found) if all(map(math.isfinite, found)) else ()

    def number(self, name: str) -> float | None:
        """The first number of an element, or None."""
        found = self.numbers(name)
        return found[0] if found else None

    def integer(self, name: str) -> int | None:
        """The first number of an element as an integer, or None."""
        found = self.number(name)
        return None if found is None else int(found)

    def items(self, name: str) -> tuple[DataSet, ...]:
        """The items of a sequence; empty if absent."""
        return self.sequences.get(name, ())
