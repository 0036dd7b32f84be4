"""Sequence parameters in words: the name of the sequence, and a line of evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from DALAnomalyLib.volume_io.sequence_parameters import SequenceParameters
from DALAnomalyLib.volume_io.sequence_rules import derived_kind, sequence_of

_METHODS: Mapping[str, str] = {"SE": "spin echo", "GR": "gradient echo", "EP": "echo planar"}


@dataclass(frozen=True)
class ScanDescription:
    """What a header says of a scan.

    Attributes:
        modality: "MR", "CT", ...; None if not said.
        sequence: "T1", "T2", "FLAIR", "PD", "DWI", "ADC", "T2*", "SWI", "STIR", "MRA", "perfusion"; None if open.
        contrast_agent: whether one was given; None if not said.
        evidence: one line for the user, of numbers and recognised words only, never of free text from the header.
        orientation_doubt: one line for the user if the header leaves open how the scan lies in the patient.
    """

    modality: str | None
    sequence: str | None
    contrast_agent: bool | None
    evidence: str
    orientation_doubt: str | None = None


def describe_parameters(parameters: SequenceParameters, source: str) -> ScanDescription:
    """Judge the parameters that `source` ("DICOM", "sidecar") gives."""
    is_mr = parameters.modality in (None, "MR")
    sequence = sequence_of(parameters) if is_mr else None
    agent = parameters.contrast_agent
    return ScanDescription(parameters.modality, sequence, agent, f"{source}: {', '.join(_facts(parameters, is_mr))}")


def _facts(parameters: SequenceParameters, is_mr: bool) -> list[str]:
    if not is_mr:
        return [f"{parameters.modality} images"]
    facts = ["inversion recovery"] if "IR" in parameters.methods or parameters.inversion_time else []
    facts += ["3D"] if parameters.is_3d else []
    facts += [name for code, name in _METHODS.items() if code in parameters.methods]
    numbers = (
        ("TR", parameters.repetition_time, "ms"),
        ("TE", parameters.echo_time, "ms"),
        ("TI", parameters.inversion_time, "ms"),
        ("flip angle", parameters.flip_angle, "degrees"),
        ("b", parameters.b_value, "s/mm2"),
    )
    facts = [" ".join(facts)] if facts else []
    facts += [f"{name} {value:.4g} {unit}" for name, value, unit in numbers if value]
    kind = derived_kind(parameters)
    facts += [kind] if kind else []
    if parameters.names:
        facts.append(f"named {' and '.join(sorted(parameters.names))}")
    if not facts:
        return ["nothing about the sequence"]
    if parameters.contrast_agent is not None:
        facts.append("contrast agent" if parameters.contrast_agent else "no contrast agent")
    return facts
