from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from DALAnomalyLib.configuration import STEPS, PreprocessingConfig, preset
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.job.preprocessing_options import BACKENDS, EXTRACTIONS, PREPROCESSED, WINDOWS, PreprocessingOptions
from DALAnomalyLib.preprocessing.extraction_choice import METHODS
from Testing.lib.job_inputs import write_inputs

OF_THE_MODEL = PreprocessingConfig(("crop",), "greedy", "atlas", second_pass=True)


def test_without_wishes_the_model_decides() -> None:
    assert PreprocessingOptions().over(OF_THE_MODEL) == OF_THE_MODEL
    assert PreprocessingOptions().extraction_method == "auto"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"skip": "n4, registration,"}, {"skip": ("n4", "registration")}),
        ({"skip": "none"}, {"skip": ()}),
        ({"skip": ""}, {"skip": ()}),
        ({"preprocessed": True}, {"skip": PREPROCESSED}),
        ({"registration": "simpleitk"}, {"registration_backend": "simpleitk"}),
        ({"window": "brain"}, {"window": "brain"}),
    ],
)
def test_a_wish_replaces_the_models_choice_and_nothing_else(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert PreprocessingOptions(**options).over(OF_THE_MODEL) == replace(OF_THE_MODEL, **expected)


def test_a_second_pass_can_only_be_added() -> None:
    assert PreprocessingOptions(second_pass=True).over(PreprocessingConfig()).second_pass
    assert PreprocessingOptions().over(OF_THE_MODEL).second_pass


@pytest.mark.parametrize("name", STEPS)
def test_every_step_can_be_named(name: str) -> None:
    assert PreprocessingOptions(skip=name).skipped == (name,)


def test_a_preprocessed_scan_needs_what_it_lacks() -> None:
    assert set(PREPROCESSED) < set(STEPS)
    assert PreprocessingOptions(preprocessed=True).skipped == ("brain_extraction", "n4", "registration")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": "n4,denoise"}, f"no preprocessing step is called denoise; the steps are {', '.join(STEPS)}"),
        ({"skip": "n4", "preprocessed": True}, "--preprocessed and --skip both name the steps"),
        ({"extraction": "bet"}, "--brain-extraction is bet; choose one of auto, stripped, network, hd-bet"),
        ({"registration": "ants"}, "--registration is ants; choose one of simpleitk, greedy"),
        ({"window": "head"}, "--window is head; choose one of brain, atlas"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PreprocessingOptions(**options)


def test_the_options_are_those_of_the_library() -> None:
    assert EXTRACTIONS == METHODS
    for backend in BACKENDS:
        PreprocessingOptions(registration=backend).over(PreprocessingConfig())
    for window in WINDOWS:
        PreprocessingOptions(window=window).over(PreprocessingConfig())


def test_the_detector_is_loaded_with_cache_and_atlas_as_wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model_file = write_inputs(tmp_path / "in")
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    without = PreprocessingOptions(cache=False).load_detector(model_file, "cpu")
    assert without.metadata.config == preset("tiny")
    assert not (tmp_path / "cache").exists()
    calls: list[int] = []

    def compute() -> dict[str, Any]:
        import numpy as np

        calls.append(1)
        return {"a": np.zeros(1)}

    key = "0" * 64
    with_cache = PreprocessingOptions(atlas=tmp_path / "no atlas").load_detector(model_file, "cpu")
    for detector in (without, without, with_cache, with_cache):
        detector.equipment.remembered(key, compute)
    assert len(calls) == 3
    assert any((tmp_path / "cache").iterdir())
    assert without.equipment.atlas().name
    with pytest.raises(Exception, match="no atlas"):
        with_cache.equipment.atlas()
