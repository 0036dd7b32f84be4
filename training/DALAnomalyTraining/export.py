"""From a checkpoint to a model file that the detector can load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from DALAnomalyLib import __version__
from DALAnomalyLib.configuration import ModelConfig, from_dictionary
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.model_store import Model, ModelMetadata, save_model
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyTraining.checkpoint import load_checkpoint, weights_of
from DALAnomalyTraining.generator.pair_generator import PairedBatch, PairGenerator
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.reference import MARGIN, SUBJECTS, measure_reference
from DALAnomalyTraining.trainer import landmarks_from, split_records
from DALAnomalyTraining.training_config import TrainingConfig, load_training_config
from DALAnomalyTraining.validation import Validation

TEMPLATE_SUBJECTS = 32
REFERENCE_SUBJECTS = SUBJECTS
CALIBRATION_SUBJECTS = 16
"""Held-out subjects with synthetic lesions from which thresholds are taken."""


def export(checkpoint: Path, pack: Pack, path: Path, config_file: Path | None = None) -> ModelMetadata:
    """Write the model of a checkpoint, with landmarks, mean images and thresholds; returns its metadata.

    Args:
        checkpoint: `best.pt` or `last.pt` of a run.
        pack: The pack it was trained on: mean images and thresholds come from its subjects.
        path: The model file.
        config_file: Training configuration whose `name`, `restoration`, `score`, `preprocessing` and
            `minimum_finding_ml` the model takes instead of those that it was trained with. They do not touch weights.

    Raises:
        UsageError: `pack` is another one, or `config_file` is of another network or grid.
    """
    device = torch.device("cpu")
    content = load_checkpoint(checkpoint, device)
    if content["pack"] != pack.sha256:
        msg = f"{checkpoint} was trained on another pack than {pack.folder}; name the one that it was trained on"
        raise UsageError(msg)
    config = from_dictionary(TrainingConfig, content["config"])
    if config_file is not None:
        config = replace(config, model=_with_other_scores(config.model, config_file))
    landmarks = landmarks_from(content["landmarks"])
    network = DALNetwork(config.model)
    network.load_state_dict(weights_of(content))
    training, held_out = (
        PairGenerator(
            pack, records, config.model.grid, config.model.network.sequences, config.generator, device, config.seed
        )
        for records in split_records(pack.records)
    )
    validation = Validation(held_out, landmarks, CALIBRATION_SUBJECTS)
    measured = validation(network)
    metadata = ModelMetadata(
        version=__version__,
        config=config.model,
        landmarks=landmarks,
        thresholds={},
        training={
            "data": content["data"],
            "pack_sha256": content["pack"],
            "steps": content["step"],
            "seed": config.seed,
            **({} if content.get("start") is None else {"start": content["start"]}),
            "validation_on_synthetic_lesions": {name: round(value, 4) for name, value in measured.figures.items()},
            "reference": {"subjects": REFERENCE_SUBJECTS, "margin": MARGIN},
        },
    )
    means = [training.batch(landmarks, "template", subjects=range(slot, slot + 1)) for slot in range(TEMPLATE_SUBJECTS)]
    images = torch.stack([batch.images[0] for batch in means]).mean(dim=0)
    brain = torch.stack([batch.brain[0, 0] for batch in means]).mean(dim=0) > 0.5
    templates = {name: images[row] * brain for row, name in enumerate(config.model.network.sequences)}
    metadata = replace(metadata, tissue_of_class=_tissues_by_intensity(network, means))
    model = Model(metadata, network.eval(), templates, digest="")
    model = replace(model, reference=measure_reference(model, training, REFERENCE_SUBJECTS))
    metadata = replace(metadata, thresholds=validation.thresholds(network, model.typical))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, metadata, network, templates, model.reference)
    return metadata


def _with_other_scores(trained: ModelConfig, config_file: Path) -> ModelConfig:
    wanted = load_training_config(config_file).model
    if (wanted.network, wanted.grid) != (trained.network, trained.grid):
        msg = f"{config_file} is of another network or grid than the checkpoint; name a configuration of the same"
        raise UsageError(msg)
    return wanted


@torch.no_grad()
def _tissues_by_intensity(network: DALNetwork, batches: list[PairedBatch]) -> tuple[int, ...]:
    """Tissue of every class: on the first sequence, T1, CSF is darkest and white matter brightest (Eq. 4's order)."""
    classes = network.config.network.classes
    sums, counts = torch.zeros(classes), torch.zeros(classes)
    for batch in batches:
        image = batch.images[:, :1]
        one_hot = network.extract_anatomy(image, batch.brain).one_hot
        sums += (one_hot * image).sum(dim=(0, 2, 3, 4))
        counts += one_hot.sum(dim=(0, 2, 3, 4))
    ranks = (sums / counts.clamp_min(1)).argsort().argsort()
    return tuple((ranks + 1).tolist())
