from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from DALAnomalyLib.configuration import PreprocessingConfig
from DALAnomalyLib.errors import InputError, OutputError, UsageError
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.request import DetectionRequest

DESCRIBED = {"modality": "MR", "sequence": "T2", "contrast_agent": None, "evidence": "DICOM: spin echo"}
EVERYTHING = DetectionRequest(
    scan=Path("/data/Müller ü/scan.nii"),
    output=Path("/data/out"),
    sequence="T2",
    brain_mask=Path("/data/mask.nii"),
    device="cuda:1",
    mode="quick",
    model=Path("/data/other.dalmodel"),
    described=DESCRIBED,
    threshold=0.5,
    sign="absolute",
    preprocessing=PreprocessingOptions(
        skip="n4",
        extraction="atlas",
        registration="greedy",
        window="atlas",
        second_pass=True,
        atlas=Path("/a"),
        series=3,
    ),
)


@pytest.mark.parametrize("request_", [EVERYTHING, DetectionRequest(Path("scan.nii"), Path("out"))])
def test_a_request_survives_its_way_through_a_file(tmp_path: Path, request_: DetectionRequest) -> None:
    request_.write(tmp_path / "request.json")
    assert DetectionRequest.read(tmp_path / "request.json") == request_


def test_few_entries_are_enough(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"scan": "a.nii", "output": "out"}', encoding="utf-8")
    assert DetectionRequest.read(tmp_path / "request.json") == DetectionRequest(Path("a.nii"), Path("out"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "fast"}, "mode is fast; choose one of full, quick"),
        ({"threshold": -1.0}, "--threshold is -1.0"),
        ({"threshold": float("nan")}, "--threshold is nan"),
        ({"sign": "positive"}, "--sign is positive; choose one of absolute, typical"),
        ({"described": {**DESCRIBED, "name": "Jane Doe"}}, "described: unknown name"),
        ({"described": {"modality": "MR"}}, "described: sequence, contrast_agent, evidence must be given"),
        ({"described": {**DESCRIBED, "contrast_agent": "yes"}}, "described.contrast_agent is 'yes'"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(EVERYTHING, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "request: unknown colour"),
        ({"scan": None}, "request.scan is None; it must be a path"),
        ({"scan": 7}, "request.scan is 7; it must be a path"),
        ({"mode": "fast"}, "request.mode is 'fast'"),
        ({"threshold": "high"}, "request.threshold is 'high'; it must be a number"),
        ({"preprocessing": {"skip": "denoise"}}, "no preprocessing step is called denoise"),
        ({"preprocessing": {"series": True}}, "request.preprocessing.series is True"),
    ],
)
def test_a_file_with_wrong_entries_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"scan": "a.nii", "output": "out", **change}), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        DetectionRequest.read(path)


@pytest.mark.parametrize("content", [b"5", b"null", b'"text"', b"[1]"])
def test_json_that_is_no_object_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "request.json").write_bytes(content)
    with pytest.raises(InputError, match=r"request\.json: the request is no JSON object"):
        DetectionRequest.read(tmp_path / "request.json")


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_a_file_that_is_no_request_is_an_input_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "request.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"request\.json: the request cannot be read"):
        DetectionRequest.read(path)


def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"request\.json: cannot be written"):
        EVERYTHING.write(tmp_path / "missing" / "request.json")


def test_what_is_described_becomes_a_description() -> None:
    description = EVERYTHING.description()
    assert description is not None
    assert (description.sequence, description.contrast_agent) == ("T2", None)
    assert replace(EVERYTHING, described=None).description() is None


def test_the_quick_mode_leaves_steps_out_on_top_of_the_users_wishes() -> None:
    model, wish = PreprocessingConfig(skip=("crop",)), PreprocessingOptions(skip="reorient")
    full, quick = (replace(EVERYTHING, mode=mode, preprocessing=wish) for mode in ("full", "quick"))
    assert full.preprocessing_over(model) == PreprocessingConfig(skip=("reorient",))
    assert quick.preprocessing_over(model) == PreprocessingConfig(skip=("reorient", "n4"), second_outline=False)
