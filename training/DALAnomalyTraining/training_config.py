"""The typed configuration of a training run, read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from DALAnomalyLib.configuration import ModelConfig, from_dictionary, preset, to_dictionary
from DALAnomalyLib.errors import UsageError
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.objective import SUBNETWORKS, LossWeights, ObjectiveConfig, term_names

PRECISIONS = ("bf16-mixed", "32-true")


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own losses and learning rates.

    The paper trains everything at once from the start. Where that collapses, a warm start of E_A, a stretch with E_A
    frozen and a joint stretch with E_A at a fraction of the rate do not.
    """

    name: str
    steps: int
    learning_rates: dict[str, float]
    """Sub-network to factor of the learning rate; those not named are frozen."""
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        unknown = set(self.learning_rates) - set(SUBNETWORKS)
        if unknown or self.steps < 1:
            msg = f"stage '{self.name}': needs steps > 0 and sub-networks among {', '.join(SUBNETWORKS)}; got {unknown}"
            raise UsageError(msg)
        if not any(getattr(self.weights, name) for name in term_names()):
            msg = f"stage '{self.name}': every loss has weight 0; give at least one of {', '.join(term_names())}"
            raise UsageError(msg)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that a run's result depends on, besides the pack."""

    model: ModelConfig = field(default_factory=ModelConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    stages: tuple[Stage, ...] = (Stage("joint", 43_200, dict.fromkeys(SUBNETWORKS, 1.0)),)
    seed: int = 0
    learning_rate: float = 1e-4
    warm_up_steps: int = 0
    """Steps over which the rate of every stage rises from 0."""
    final_rate_factor: float = 1.0
    """The rate falls along a half cosine to this factor at the end of the last stage; 1 keeps it constant."""
    subjects_per_step: int = 2
    """Over all processes and micro-batches, all sequences each; a multiple of 2."""
    accumulation: int = 1
    """Micro-batches per step and process."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    ema_decay: float = 0.0
    """Decay per step of the exponential moving average of the weights that is validated and exported; 0: none."""
    precision: str = "bf16-mixed"
    """On accelerators, `bf16-mixed` or `32-true`."""
    cpu_precision: str = "32-true"
    """On CPUs; `bf16-mixed` is faster where they have AVX512_BF16 or AMX, and slower elsewhere."""
    deterministic: bool = False
    validate_every: int = 500
    validation_subjects: int = 8
    checkpoint_minutes: float = 5.0
    landmark_subjects: int = 64
    """Generated subjects from which landmarks are learned."""

    def __post_init__(self) -> None:
        at_least = {"subjects_per_step": 2}
        at_least |= dict.fromkeys(("accumulation", "validate_every", "validation_subjects", "landmark_subjects"), 1)
        at_least |= dict.fromkeys(("warm_up_steps", "final_rate_factor", "gradient_clip", "checkpoint_minutes"), 0)
        for name, least in at_least.items():
            if not (value := getattr(self, name)) >= least:  # not a number compares as False
                msg = f"{name} is {value!r}; it must be at least {least}"
                raise UsageError(msg)
        if not self.learning_rate > 0:
            msg = f"learning_rate is {self.learning_rate!r}; it must be above 0"
            raise UsageError(msg)
        if not 0 <= self.ema_decay < 1:
            msg = f"ema_decay is {self.ema_decay!r}; it must be from 0 (none) to below 1"
            raise UsageError(msg)
        if not self.stages:
            msg = "stages is empty; give at least one, or leave it out for the paper's single stage"
            raise UsageError(msg)
        for name in ("precision", "cpu_precision"):
            if (value := getattr(self, name)) not in PRECISIONS:
                msg = f"{name} is {value!r}; it must be one of {', '.join(PRECISIONS)}"
                raise UsageError(msg)
        if self.model.network.restoration_input != "anatomy":
            return
        others = [name for name in term_names() if name != "code_consistency"]
        for stage in self.stages:
            if not any(getattr(stage.weights, name) for name in others):
                msg = (
                    f"stage '{stage.name}': code_consistency alone says nothing where restoration_input is 'anatomy', "
                    f"because R_A restores its own code; give at least one of {', '.join(others)} a weight"
                )
                raise UsageError(msg)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage of a step and the step at which that stage begins."""
        begin = 0
        for stage in self.stages:
            if step < begin + stage.steps:
                return stage, begin
            begin += stage.steps
        return self.stages[-1], begin - self.stages[-1].steps


def load_training_config(path: Path) -> TrainingConfig:
    """Read a YAML file; `model: {preset: NAME}` takes a preset's model, other fields of `model` override it.

    Raises:
        UsageError: The file cannot be read, or a name or value is unknown.
    """
    try:
        values = _section(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path} cannot be read as a training configuration: {' '.join(str(error).split())}"
        raise UsageError(msg) from error
    model = _section(values.get("model"), f"{path}.model")
    base = to_dictionary(preset(str(model.pop("preset", "default"))))
    return from_dictionary(TrainingConfig, values | {"model": _merged(base, model)}, str(path))


def _section(values: Any, where: str) -> dict[str, Any]:
    """A mapping of a YAML file, which may be left empty."""
    if values is not None and not isinstance(values, dict):
        msg = f"{where} is {values!r}; it must be a mapping of names to values"
        raise UsageError(msg)
    return dict(values or {})


def _merged(base: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
