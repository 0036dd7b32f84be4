"""Sequence parameters from the elements of a DICOM image, classic or enhanced."""

from __future__ import annotations

import re

from DALAnomalyLib.volume_io.dicom_elements import DataSet
from DALAnomalyLib.volume_io.private_text import cleaned_description
from DALAnomalyLib.volume_io.sequence_parameters import SequenceParameters, contrast_agent_of, sequences_named

_ENHANCED_METHODS = {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}
_COMPLEX_PARTS = {"PHASE": "P", "REAL": "R", "IMAGINARY": "I"}


def parameters_of(data_set: DataSet) -> SequenceParameters:
    """Parameters of one frame, whose functional groups lie flat in `data_set`."""
    names = [cleaned_description(data_set, name) for name in ("SeriesDescription", "ProtocolName")]
    kinds = {*data_set.texts("ImageType"), *data_set.texts("FrameType")}
    kinds |= {_COMPLEX_PARTS[part] for part in data_set.texts("ComplexImageComponent") if part in _COMPLEX_PARTS}
    return SequenceParameters(
        modality=modality_of(data_set),
        methods=_methods(data_set),
        variants=frozenset(data_set.texts("SequenceVariant")),
        is_3d="3D" in data_set.texts("MRAcquisitionType") if data_set.texts("MRAcquisitionType") else None,
        repetition_time=_positive(data_set, "RepetitionTime"),
        echo_time=_positive(data_set, "EffectiveEchoTime") or _positive(data_set, "EchoTime"),
        inversion_time=_positive(data_set, "InversionTime") or _positive(data_set, "InversionTimes"),
        flip_angle=_positive(data_set, "FlipAngle"),
        b_value=_positive(data_set, "DiffusionBValue"),
        image_kinds=frozenset(kinds),
        stated_contrast=data_set.text("AcquisitionContrast"),
        angiography="Y" in data_set.texts("AngioFlag"),
        contrast_agent=_contrast_agent(data_set, names),
        names=sequences_named(names),
    )


def modality_of(data_set: DataSet) -> str | None:
    """The modality, if it is a code word as the standard has it."""
    modality = data_set.text("Modality")
    return modality if re.fullmatch(r"[A-Z][A-Z0-9]{1,15}", modality) else None


def _methods(data_set: DataSet) -> frozenset[str]:
    methods = set(data_set.texts("ScanningSequence"))
    methods |= _ENHANCED_METHODS.get(data_set.text("EchoPulseSequence"), set())
    if data_set.text("EchoPlanarPulseSequence") == "YES":
        methods.add("EP")
    if data_set.text("InversionRecovery") == "YES":
        methods.add("IR")
    return frozenset(methods)


def _contrast_agent(data_set: DataSet, names: list[str]) -> bool | None:
    administered = data_set.text("ContrastBolusAgentAdministered")
    if administered in ("YES", "NO"):
        return administered == "YES"
    if data_set.items("ContrastBolusAgentSequence"):
        return True
    return contrast_agent_of(data_set.text("ContrastBolusAgent"), names)


def _positive(data_set: DataSet, name: str) -> float | None:
    number = data_set.number(name)
    return number if number is not None and 0 < number < 1e6 else None
