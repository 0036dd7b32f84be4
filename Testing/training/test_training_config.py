import dataclasses
from pathlib import Path

import pytest
import yaml

from DALAnomalyLib.configuration import from_dictionary, preset, to_dictionary
from DALAnomalyLib.errors import UsageError
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.objective import SUBNETWORKS, LossWeights, ObjectiveConfig, term_names
from DALAnomalyTraining.training_config import Stage, TrainingConfig, load_training_config

SHIPPED = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))
STAGES = (
    Stage("first", 3, {"anatomy_extractor": 1.0}, LossWeights(tissue_cross_entropy=1.0)),
    Stage("second", 2, {"anatomy_extractor": 0.1, "anatomy_restorer": 1.0}),
    Stage("third", 4, dict.fromkeys(SUBNETWORKS, 0.5)),
)


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert config.learning_rate == 1e-4
    assert config.subjects_per_step == 2
    assert config.steps == 150 * 288  # epochs x steps
    (stage,) = config.stages
    assert stage.learning_rates == dict.fromkeys(SUBNETWORKS, 1.0)
    assert stage.weights == LossWeights()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_can_be_read(path: Path) -> None:
    config = load_training_config(path)
    assert config.steps > 0
    assert from_dictionary(TrainingConfig, yaml.safe_load(yaml.safe_dump(to_dictionary(config)))) == config


def test_the_default_configuration_is_shipped_and_staged() -> None:
    config = load_training_config(next(path for path in SHIPPED if path.name == "default.yaml"))
    assert config.model == preset("default")
    warm_start, *others, joint = config.stages
    assert set(warm_start.learning_rates) == {"anatomy_extractor"}
    assert others
    assert not any("anatomy_extractor" in stage.learning_rates for stage in others)
    assert set(joint.learning_rates) == set(SUBNETWORKS) - {"sequence_modality"}
    assert joint.learning_rates["anatomy_extractor"] <= 0.1  # faster, it would drift


def test_everything_survives_the_way_through_yaml() -> None:
    config = TrainingConfig(
        model=preset("tiny"),
        generator=GeneratorConfig(anatomical_noise_mm=(3.0, 4.0)),
        objective=ObjectiveConfig("merged", normalise_codes=False, sampled_sources=False),
        stages=STAGES,
        seed=7,
        learning_rate=3e-4,
        deterministic=True,
    )
    assert from_dictionary(TrainingConfig, yaml.safe_load(yaml.safe_dump(to_dictionary(config)))) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("validate_every: 0", "validate_every is 0; it must be at least 1"),
        ("accumulation: 0", "accumulation is 0"),
        ("subjects_per_step: 0", "subjects_per_step is 0; it must be at least 2"),
        ("landmark_subjects: 0", "landmark_subjects is 0"),
        ("stages: []", "stages is empty"),
        ("learning_rate: -1.0", "learning_rate is -1.0; it must be above 0"),
        ("learning_rate: .nan", "learning_rate is nan"),
        ("ema_decay: 1.0", "ema_decay is 1.0"),
        ("generator: {rotation_degrees: -5.0}", "rotation_degrees is -5.0; it must be at least 0"),
        ("generator: {semi_real_share: 3.0}", "semi_real_share is 3.0; it must be from 0 to 1"),
        ("generator: {texture_cells_mm: 0.0}", "texture_cells_mm is 0.0; it must be above 0"),
        ("generator: {anatomical_noise_mm: [9.0, 3.0]}", "anatomical_noise_mm is 9.0, 3.0"),
    ],
)
def test_values_that_training_could_not_use_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_training_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("step", "name", "begin"),
    [(0, "first", 0), (2, "first", 0), (3, "second", 3), (4, "second", 3), (5, "third", 5), (8, "third", 5)],
)
def test_every_step_has_its_stage(step: int, name: str, begin: int) -> None:
    config = TrainingConfig(stages=STAGES)
    stage, first = config.stage_at(step)
    assert (stage.name, first, config.steps) == (name, begin, 9)


def test_after_the_end_the_last_stage_goes_on() -> None:
    assert TrainingConfig(stages=STAGES).stage_at(9) == (STAGES[2], 5)


def test_a_file_overrides_single_fields_of_a_preset(tmp_path: Path) -> None:
    text = """
    model: {preset: tiny, name: mine, network: {sequences: [T1, T2, FLAIR], modality_reuse: false}}
    learning_rate: 0.002
    generator: {noise: 0}
    stages:
      - {name: only, steps: 5, learning_rates: {anatomy_extractor: 1}}
    """
    config = load_training_config(written(tmp_path, text))
    tiny = preset("tiny")
    network = dataclasses.replace(tiny.network, sequences=("T1", "T2", "FLAIR"), modality_reuse=False)
    assert config == TrainingConfig(
        model=dataclasses.replace(tiny, name="mine", network=network),
        generator=GeneratorConfig(noise=0.0),
        stages=(Stage("only", 5, {"anatomy_extractor": 1.0}),),
        learning_rate=0.002,
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "model:\n"])
def test_an_empty_file_is_the_default_model_and_the_papers_training(tmp_path: Path, text: str) -> None:
    assert load_training_config(written(tmp_path, text)) == TrainingConfig(model=preset("default"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: 1", r"run\.yaml: unknown colour; known are accumulation"),
        ("seed: 1.5", r"run\.yaml\.seed is 1\.5; it must be a whole number"),
        ("learning_rate: 1e-4", r"run\.yaml\.learning_rate is '1e-4'; it must be a number"),  # YAML wants 1.0e-4
        ("- 1", r"run\.yaml is \[1\]; it must be a mapping"),
        ("model: tiny", r"run\.yaml\.model is 'tiny'; it must be a mapping"),
        ("model: {preset: huge}", "unknown preset 'huge'; choose one of paper"),
        ("model: {preset: [tiny]}", r"unknown preset '\['tiny'\]'"),
        ("model: {network: {width: 8}}", r"run\.yaml\.model\.network: unknown width"),
        ("model: {network: 8}", r"run\.yaml\.model\.network is 8; it must be a mapping"),
        ("objective: {anatomy_compared: soft}", "anatomy_compared is 'soft'"),
        ("precision: 16-mixed", "precision is '16-mixed'; it must be one of bf16-mixed, 32-true"),
        ("cpu_precision: half", "cpu_precision is 'half'; it must be one of bf16-mixed, 32-true"),
        ("stages: [{name: only, steps: 5}]", r"run\.yaml\.stages: learning_rates must be given"),
        (
            "stages: [{name: only, steps: 5, learning_rates: {r_e: 1}}]",
            "stage 'only': .* sub-networks among anatomy_extractor, .*; got {'r_e'}",
        ),
        ("stages: [{name: only, steps: 0, learning_rates: {}}]", "stage 'only': needs steps > 0"),
        (
            "stages: [{name: only, steps: 5, learning_rates: {anatomy_extractor: fast}}]",
            r"run\.yaml\.stages\.learning_rates\.anatomy_extractor is 'fast'; it must be a number",
        ),
        ("seed: [1", "cannot be read as a training configuration: while parsing"),
    ],
)
def test_mistakes_in_a_file_are_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_training_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path / "absent.yaml", binary):
        with pytest.raises(UsageError, match=f"{path.name} cannot be read as a training configuration"):
            load_training_config(path)


def test_a_stage_without_losses_is_refused() -> None:
    nothing = LossWeights(**dict.fromkeys(term_names(), 0.0))
    with pytest.raises(UsageError, match="stage 'idle': every loss has weight 0"):
        Stage("idle", 5, {"anatomy_extractor": 1.0}, nothing)


def test_a_stage_that_could_teach_nothing_without_edges_is_refused() -> None:
    silent = LossWeights(**dict.fromkeys(term_names(), 0.0) | {"code_consistency": 1.0})
    stages = (Stage("silent", 1, {"anatomy_restorer": 1.0}, silent),)
    TrainingConfig(stages=stages)
    model = preset("tiny")
    without_edges = dataclasses.replace(model, network=dataclasses.replace(model.network, restoration_input="anatomy"))
    with pytest.raises(UsageError, match="stage 'silent': code_consistency alone says nothing"):
        TrainingConfig(model=without_edges, stages=stages)
