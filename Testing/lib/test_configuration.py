import dataclasses
import json

import pytest
import yaml

from DALAnomalyLib.configuration import (
    PRESETS,
    STEPS,
    GridConfig,
    ModelConfig,
    NetworkConfig,
    PreprocessingConfig,
    RestorationConfig,
    from_dictionary,
    preset,
    to_dictionary,
)
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.score_config import ScoreConfig

FORMATS = pytest.mark.parametrize(
    "through",
    [
        pytest.param(lambda values: values, id="dictionary"),
        pytest.param(lambda values: json.loads(json.dumps(values)), id="json"),
        pytest.param(lambda values: yaml.safe_load(yaml.safe_dump(values)), id="yaml"),
    ],
)


@FORMATS
@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_through_plain_values(name: str, through) -> None:
    config = preset(name)
    assert from_dictionary(ModelConfig, through(to_dictionary(config))) == config


@FORMATS
def test_every_field_survives_the_way_through_plain_values(through) -> None:
    config = ModelConfig(
        name="other",
        grid=GridConfig((16, 17, 18), (1.1, 2.2, 3.3)),
        network=NetworkConfig(
            classes=4,
            sequences=("T1", "T2", "FLAIR"),
            anatomy_extractor_widths=(3, 5),
            code_stride=2,
            code_channels=7,
            encoder_width=9,
            restorer_widths=(2,),
            combiner_widths=(6, 4),
            modality_widths=(1, 2, 3),
            modality_pooled=True,
            edge_kind="canny3d",
            restoration_input="image_edges",
            modality_reuse=False,
        ),
        restoration=RestorationConfig(2, 5, True, 30.0, 20.0),
        score=ScoreConfig("ssim", "gaussian11", 1.5, 5, True, 7, 2, 9, 5, 0.1, True, 0.2, "positive"),
        preprocessing=PreprocessingConfig(("n4", "crop"), "greedy", "atlas", second_pass=True, second_outline=False),
        minimum_finding_ml=1.5,
    )
    for section, default in (
        (config.network, NetworkConfig()),
        (config.restoration, RestorationConfig()),
        (config.score, ScoreConfig()),
        (config.preprocessing, PreprocessingConfig()),
    ):
        assert [
            f.name for f in dataclasses.fields(section) if getattr(section, f.name) == getattr(default, f.name)
        ] == []
    assert from_dictionary(ModelConfig, through(to_dictionary(config))) == config


def test_plain_values_have_no_tuples() -> None:
    values = to_dictionary(preset("tiny"))
    assert values["network"]["modality_widths"] == [8, 8]
    assert values["grid"] == {"shape": [24, 28, 24], "spacing": [6.5, 6.5, 6.5]}


def test_what_is_not_given_keeps_its_default() -> None:
    config = from_dictionary(ModelConfig, {"network": {"classes": 4}})
    assert config == ModelConfig(network=NetworkConfig(classes=4))


def test_the_paper_preset_is_the_papers() -> None:
    paper = preset("paper")
    assert paper.grid.shape == (112, 160, 112)  # section 4.2.1
    extent = [n * s for n, s in zip(reversed(paper.grid.shape), paper.grid.spacing, strict=True)]
    assert extent == pytest.approx([160, 224, 160])
    assert paper.network.classes == 3  # section 3.2.1
    assert paper.network.modality_widths[-1] == 256  # section 3.2.2
    assert paper.network.restoration_input == "anatomy_edges"
    assert paper.network.modality_reuse
    score = paper.score  # section 3.5.2
    assert (score.kind, score.minimum_filter, score.mean_filter, score.mask_erosion) == ("hybrid", 3, 9, 3)
    steps = paper.preprocessing  # section 4.1.2
    assert (steps.skip, steps.registration_backend, steps.window) == ((), "greedy", "atlas")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"colour": 1},
            "model.yaml: unknown colour; known are grid, minimum_finding_ml, name, network, preprocessing, ",
        ),
        ({7: 1, "colour": 1}, "model.yaml: unknown 7, colour; known"),
        ({"network": {"width": 8}}, "model.yaml.network: unknown width; known are"),
        ({"network": 8}, "model.yaml.network is 8; it must be a mapping"),
        ({"network": None}, "model.yaml.network is None; it must be a mapping"),
        ({"network": {"classes": 3.0}}, "model.yaml.network.classes is 3.0; it must be a whole number"),
        ({"network": {"classes": True}}, "model.yaml.network.classes is True; it must be a whole number"),
        ({"network": {"sequences": "T1"}}, "model.yaml.network.sequences is 'T1'; it must be a list"),
        ({"network": {"sequences": ["T1", 2]}}, "model.yaml.network.sequences is 2; it must be a str"),
        ({"network": {"modality_pooled": 1}}, "model.yaml.network.modality_pooled is 1; it must be a bool"),
        (
            {"network": {"edge_kind": "sobel"}},
            "model.yaml.network.edge_kind is 'sobel'; it must be one of 'surface', 'canny3d'",
        ),
        ({"grid": {"shape": [24, 24]}}, r"model.yaml.grid.shape is \[24, 24\]; it must be 3 values"),
        ({"grid": {"spacing": [1, 1, "1"]}}, "model.yaml.grid.spacing is '1'; it must be a number"),
        ({"minimum_finding_ml": True}, "model.yaml.minimum_finding_ml is True; it must be a number"),
        ({"score": {"kind": "l2"}}, "model.yaml.score.kind is 'l2'; it must be one of 'hybrid', 'l1'"),
    ],
)
def test_bad_values_are_refused_naming_their_place(values: dict[object, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        from_dictionary(ModelConfig, values, "model.yaml")
    assert "\n" not in str(caught.value)


def test_missing_values_are_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Named:
        name: str
        steps: int
        seed: int = 0

    with pytest.raises(UsageError, match=r"^file.stages: name, steps must be given$"):
        from_dictionary(Named, {"seed": 1}, "file.stages")


def test_whole_numbers_serve_as_numbers() -> None:
    config = from_dictionary(ModelConfig, {"minimum_finding_ml": 2})
    assert isinstance(config.minimum_finding_ml, float)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GridConfig(shape=(16, 15, 16)), r"grid of shape \(16, 15, 16\) .* needs 16 voxels"),
        (lambda: GridConfig(spacing=(1, 0, 1)), r"\(1, 0, 1\) mm; every axis needs .* positive spacing"),
        (lambda: NetworkConfig(code_stride=2), "code_stride 2 needs .* but 3 are given"),
        (lambda: NetworkConfig(code_stride=3), "code_stride 3 needs"),
        (lambda: NetworkConfig(code_stride=1, combiner_widths=(8,)), "code_stride 1 needs"),
        (
            lambda: NetworkConfig(code_stride=8, combiner_widths=(8, 8, 8, 8), restorer_widths=(8, 8)),
            "R_E with 2 levels never reaches the code's stride 8",
        ),
        (
            lambda: PreprocessingConfig(skip=("n4", "denoise", "N4")),
            f"no preprocessing step is called denoise, N4; the steps are {', '.join(STEPS)}",
        ),
        (lambda: preset("huge"), "unknown preset 'huge'; choose one of paper, default, tiny"),
    ],
)
def test_configurations_that_cannot_work_are_refused(build, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


def test_a_model_of_before_the_preprocessing_chain_takes_all_steps() -> None:
    values = to_dictionary(preset("default"))
    del values["preprocessing"]
    assert from_dictionary(ModelConfig, values).preprocessing == PreprocessingConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"skip": ["n5"]}, "no preprocessing step is called n5; the steps are reorient, brain_extraction, n4"),
        ({"skip": "n4"}, "model.preprocessing.skip is 'n4'; it must be a list"),
        ({"window": "head"}, "model.preprocessing.window is 'head'; it must be one of 'brain', 'atlas'"),
        ({"registration_backend": "ants"}, "registration_backend is 'ants'; it must be one of 'simpleitk', 'greedy'"),
    ],
)
def test_bad_preprocessing_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_dictionary(PreprocessingConfig, values, "model.preprocessing")
