from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume_io import ScanDescription, describe_scan
from Testing.lib.dicom_phantom import FLAIR, T1_SPIN_ECHO, T2_SPIN_ECHO, classic, enhanced, head, save

SCAN = head(shape=(3, 8, 8))
GRADIENT = {"ScanningSequence": "GR", "MRAcquisitionType": "3D"}
MPRAGE = {"ScanningSequence": ["GR", "IR"], "MRAcquisitionType": "3D", "RepetitionTime": 2300, "EchoTime": 2.98}


def described(folder: Path, **elements: Any) -> ScanDescription:
    return describe_scan(save(classic(SCAN, 0, **elements), folder / "IM1"))


# --- physics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequence", "elements"),
    [
        ("T1", T1_SPIN_ECHO),
        ("T2", T2_SPIN_ECHO),
        ("FLAIR", FLAIR),
        ("PD", {"ScanningSequence": "SE", "RepetitionTime": 2500, "EchoTime": 20}),
        ("T1", {**MPRAGE, "InversionTime": 900, "FlipAngle": 9}),
        ("T1", {**GRADIENT, "RepetitionTime": 8.2, "EchoTime": 3.8, "FlipAngle": 8}),
        ("T1", {"ScanningSequence": "GR", "RepetitionTime": 250, "EchoTime": 2.5, "FlipAngle": 70}),
        ("T1", {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 2000, "EchoTime": 9, "InversionTime": 860}),
        ("STIR", {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 4000, "EchoTime": 60, "InversionTime": 160}),
        ("T2", {"ScanningSequence": "SE", "RepetitionTime": 3200, "EchoTime": 408, "MRAcquisitionType": "3D"}),
        ("FLAIR", {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 5000, "EchoTime": 388, "InversionTime": 1800}),
        ("T2*", {"ScanningSequence": "GR", "RepetitionTime": 700, "EchoTime": 25, "FlipAngle": 20}),
        ("T2*", {"ScanningSequence": ["EP", "GR"], "RepetitionTime": 2000, "EchoTime": 30}),
        ("DWI", {"ScanningSequence": ["EP", "SE"], "RepetitionTime": 6000, "EchoTime": 90, "DiffusionBValue": 1000.0}),
        (
            "DWI",
            {"ScanningSequence": "EP", "SeriesDescription": "ep2d_diff_b0", "RepetitionTime": 6000, "EchoTime": 90},
        ),
        ("ADC", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "ScanningSequence": "EP"}),
        ("SWI", {**GRADIENT, "RepetitionTime": 28, "EchoTime": 20, "SeriesDescription": "SWI_Images"}),
        ("MRA", {**GRADIENT, "RepetitionTime": 22, "EchoTime": 3.5, "FlipAngle": 20, "SeriesDescription": "tof_3d"}),
        ("MRA", {**GRADIENT, "RepetitionTime": 22, "EchoTime": 3.5, "FlipAngle": 20, "AngioFlag": "Y"}),
        (None, {"ScanningSequence": "SE", "RepetitionTime": 1500, "EchoTime": 50}),
        (None, {**GRADIENT, "RepetitionTime": 6, "EchoTime": 2.7, "FlipAngle": 60}),
        (None, {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 110}),
        (None, {}),
    ],
)
def test_parameters_decide(tmp_path: Path, sequence: str | None, elements: dict[str, Any]) -> None:
    assert described(tmp_path, **elements).sequence == sequence


@pytest.mark.parametrize(
    ("sequence", "name", "elements"),
    [
        ("T1", "T1w_MPR", {}),
        ("T1", "sag mprage iso", {}),
        ("T2", "AX T2 TSE", {}),
        ("FLAIR", "t2_flair_tra", {}),
        ("FLAIR", "t2_tirm_tra_dark-fluid", {}),
        ("FLAIR", "t2_tirm_tra", {}),
        ("T2*", "t2* ep2d", {}),
        (None, "T1 T2", {}),
        (None, "routine brain", {}),
        ("T1", "T2 tse", T1_SPIN_ECHO),
        ("FLAIR", "flair", {"ScanningSequence": "SE", "RepetitionTime": 9000, "EchoTime": 110}),
    ],
)
def test_names_are_a_weak_hint(tmp_path: Path, sequence: str | None, name: str, elements: dict[str, Any]) -> None:
    assert described(tmp_path, SeriesDescription=name, **elements).sequence == sequence
    assert described(tmp_path, ProtocolName=name, **elements).sequence == sequence


def test_evidence_names_the_parameters(tmp_path: Path) -> None:
    private = {
        "SeriesDescription": "t1 Doe Jane for Dr Smith",
        "ProtocolName": "Smith special",
        "ContrastBolusAgent": "NONE",
    }
    assert described(tmp_path, **T1_SPIN_ECHO, **private) == ScanDescription(
        "MR", "T1", False, "DICOM: spin echo, TR 450 ms, TE 12 ms, named T1, no contrast agent"
    )
    assert described(tmp_path).evidence == "DICOM: nothing about the sequence"


@pytest.mark.parametrize(
    ("given", "elements"),
    [
        (True, {"ContrastBolusAgent": "Gadovist 7.5 ml"}),
        (False, {"ContrastBolusAgent": "none"}),
        (None, {"ContrastBolusAgent": ""}),
        (None, {}),
        (True, {"SeriesDescription": "t1_se_post"}),
        (True, {"SeriesDescription": "AX T1 +C"}),
        (True, {"SeriesDescription": "t1 mprage GD"}),
        (False, {"SeriesDescription": "t1_pre contrast"}),
        (False, {"SeriesDescription": "AX T1 W/O CONTRAST"}),
        (False, {"SeriesDescription": "AX T1 NO CONTRAST"}),
        (False, {"SeriesDescription": "T1 non-contrast"}),
        (False, {"SeriesDescription": "T1 w/o IV contrast"}),
        (False, {"SeriesDescription": "T1_wo_gad"}),
        (False, {"SeriesDescription": "T1 ohne KM"}),
        (True, {"SeriesDescription": "T1 w/contrast"}),
        (True, {"SeriesDescription": "T1 mit KM"}),
        (None, {"SeriesDescription": "T1 post-op"}),
        (True, {"SeriesDescription": "T1 postop +C"}),
        (None, {"SeriesDescription": "SAG T1 BRAVO", "ProtocolName": "BRAIN W/WO CONTRAST"}),
        (None, {"SeriesDescription": "SAG T1 BRAVO", "ProtocolName": "brain with and without contrast"}),
        (False, {"SeriesDescription": "T1 without contrast", "ProtocolName": "BRAIN CONTRAST"}),
    ],
)
def test_contrast_agent(tmp_path: Path, given: bool | None, elements: dict[str, Any]) -> None:
    assert described(tmp_path, **elements).contrast_agent is given


@pytest.mark.parametrize("examination", ["BRAIN AND MRA", "STROKE PERFUSION"])
def test_the_examination_counts_only_where_the_series_has_no_name(tmp_path: Path, examination: str) -> None:
    assert described(tmp_path, SeriesDescription="SAG T1", ProtocolName=examination).sequence == "T1"
    unnamed = described(tmp_path, SeriesDescription="SAG", ProtocolName=examination).sequence
    assert unnamed in ("MRA", "perfusion")


def test_other_modality_has_no_sequence(tmp_path: Path) -> None:
    said = described(tmp_path, Modality="CT", SeriesDescription="T1 fusion")
    assert said == ScanDescription("CT", None, None, "DICOM: CT images")


@pytest.mark.parametrize(
    ("stated", "sequence"), [("T1", "T1"), ("FLUID_ATTENUATED", "FLAIR"), ("DIFFUSION", "DWI"), ("UNKNOWN", "T1")]
)
def test_enhanced_file_states_its_contrast(tmp_path: Path, stated: str, sequence: str) -> None:
    def frame(_: int, groups: Dataset) -> None:
        kind, agent = Dataset(), Dataset()
        kind.FrameType, kind.AcquisitionContrast = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], stated
        kind.ComplexImageComponent = "MAGNITUDE"
        agent.ContrastBolusAgentAdministered = "YES"
        groups.MRImageFrameTypeSequence, groups.ContrastBolusUsageSequence = [kind], [agent]

    said = describe_scan(save(enhanced(SCAN, frame), tmp_path / "IM1"))
    assert (said.sequence, said.contrast_agent) == (sequence, True)
    assert "spin echo, TR 450 ms, TE 12 ms" in said.evidence


# --- sidecars ---------------------------------------------------------------------------------------------------------

SIDECAR_T1 = {
    "Modality": "MR",
    "MRAcquisitionType": "3D",
    "ScanningSequence": "GR\\IR",
    "SequenceVariant": "SK\\SP\\MP",
    "RepetitionTime": 2.3,
    "EchoTime": 0.00298,
    "InversionTime": 0.9,
    "FlipAngle": 9,
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "SeriesDescription": "Doe Jane mprage",
    "PatientName": "Doe^Jane",
}
SIDECAR_T2 = {
    "ScanningSequence": "SE",
    "RepetitionTime": 4.2,
    "EchoTime": 0.096,
    "ContrastBolusIngredient": "GADOLINIUM",
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_sidecar_is_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"sub-1_T1w{suffix}").write_bytes(b"")
    (tmp_path / "sub-1_T1w.json").write_text(json.dumps(SIDECAR_T1))
    assert describe_scan(tmp_path / f"sub-1_T1w{suffix}") == ScanDescription(
        "MR",
        "T1",
        None,
        "sidecar: inversion recovery 3D gradient echo, TR 2300 ms, TE 2.98 ms, TI 900 ms, flip angle 9 degrees, "
        "named T1",
    )


@pytest.mark.parametrize(
    ("content", "sequence", "agent"),
    [
        (SIDECAR_T2, "T2", True),
        ({**SIDECAR_T2, "RepetitionTime": 4200, "EchoTime": 96}, "T2", True),
        ({"SeriesDescription": "AX FLAIR"}, "FLAIR", None),
        ({"EchoTime": "0.1", "RepetitionTime": None, "ScanningSequence": 7, "ImageType": {"a": 1}}, None, None),
        ({"EchoTime": float("nan"), "RepetitionTime": float("inf"), "FlipAngle": -(10**400)}, None, None),
        ({"EchoTime": [], "RepetitionTime": True, "SeriesDescription": ["T1"]}, None, None),
        ({"Modality": "Doe^Jane"}, None, None),
    ],
)
def test_sidecar_content(tmp_path: Path, content: dict[str, Any], sequence: str | None, agent: bool | None) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    (tmp_path / "scan.json").write_text(json.dumps(content))
    said = describe_scan(tmp_path / "scan.nii.gz")
    assert (said.sequence, said.contrast_agent) == (sequence, agent)
    assert "Jane" not in str(said)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"T1"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"EchoTime": ' + b"9" * 5000 + b"}",
        b" " * (5 << 20),
    ],
    ids=["empty", "cut off", "list", "text", "no text", "deep", "long number", "huge"],
)
def test_malformed_sidecar_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scan.nii").write_bytes(b"")
    (tmp_path / "scan.json").write_bytes(content)
    said = describe_scan(tmp_path / "scan.nii")
    assert said.sequence is None
    assert said.evidence == "sidecar: unreadable, ignored"


def test_file_without_sidecar_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"")
    (tmp_path / "other.json").write_text(json.dumps(SIDECAR_T1))
    assert describe_scan(tmp_path / "scan.nii") == ScanDescription(
        None, None, None, "the file says nothing about its sequence"
    )
    (tmp_path / "scan.json").mkdir()
    assert describe_scan(tmp_path / "scan.nii").sequence is None


def test_missing_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        describe_scan(tmp_path / "absent.nii")
