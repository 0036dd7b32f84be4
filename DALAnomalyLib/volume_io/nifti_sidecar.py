"""The JSON file that dcm2niix and BIDS put beside an image, with what the DICOM headers said."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DALAnomalyLib.volume_io.described_parameters import ScanDescription, describe_parameters
from DALAnomalyLib.volume_io.sequence_parameters import SequenceParameters, contrast_agent_of, sequences_named

MAXIMUM_BYTES = 1 << 22
_MS = 1000.0
# BIDS has seconds; a time above these cannot be one, so that it is taken for milliseconds
_MAXIMUM_SECONDS = {"RepetitionTime": 30.0, "EchoTime": 2.0, "InversionTime": 20.0}


def describe_sidecar(image: Path) -> ScanDescription:
    """What the sidecar of an image says; one that is absent or no sidecar says nothing, and the evidence which."""
    name = re.sub(r"(\.nii\.gz|\.nii|\.nrrd|\.nhdr|\.mha|\.mhd)$", "", image.name, flags=re.IGNORECASE)
    path = image.with_name(f"{name}.json")
    try:
        if not path.is_file():
            return ScanDescription(None, None, None, "the file says nothing about its sequence")
        with path.open("rb") as stream:
            data = stream.read(MAXIMUM_BYTES + 1)
        content = json.loads(data) if len(data) <= MAXIMUM_BYTES else None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return ScanDescription(None, None, None, "sidecar: unreadable, ignored")
    return describe_parameters(_parameters(content), "sidecar")


def _parameters(content: Mapping[str, Any]) -> SequenceParameters:
    names = [_text(content, "SeriesDescription"), _text(content, "ProtocolName")]
    modality = _text(content, "Modality").upper()
    acquisition = _text(content, "MRAcquisitionType").upper()
    return SequenceParameters(
        modality=modality if re.fullmatch(r"[A-Z]{2,8}", modality) else None,
        methods=_codes(content, "ScanningSequence"),
        variants=_codes(content, "SequenceVariant"),
        is_3d=acquisition == "3D" if acquisition else None,
        repetition_time=_milliseconds(content, "RepetitionTime"),
        echo_time=_milliseconds(content, "EchoTime"),
        inversion_time=_milliseconds(content, "InversionTime"),
        flip_angle=_positive(content.get("FlipAngle")),
        b_value=_positive(content.get("DiffusionBValue")),
        image_kinds=_codes(content, "ImageType", separators=r"\\"),
        contrast_agent=contrast_agent_of(_agent(content), names),
        names=sequences_named(names),
    )


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) else ""


def _agent(content: Mapping[str, Any]) -> str:
    return _text(content, "ContrastBolusIngredient") or _text(content, "ContrastBolusAgent")


def _codes(content: Mapping[str, Any], key: str, separators: str = r"[\\_,\s]+") -> frozenset[str]:
    value = content.get(key)
    texts = value if isinstance(value, list) else [value]
    parts = [part for text in texts if isinstance(text, str) for part in re.split(separators, text)]
    return frozenset(part.strip().upper() for part in parts if part.strip())


def _positive(value: object) -> float | None:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and 0 < number < 1e6 else None


def _milliseconds(content: Mapping[str, Any], key: str) -> float | None:
    number = _positive(content.get(key))
    if number is None:
        return None
    return number if number > _MAXIMUM_SECONDS[key] else number * _MS
