"""What generated training scans look like to a finished network: the reference that a detector compares scans with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.model_store import Model, load_model, save_model
from DALAnomalyLib.out_of_distribution import DISTANCE, FIGURES, LEAST_SHARE, SHARES, SequenceReference
from DALAnomalyLib.scan_figures import ScanFigures, scan_figures
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.trainer import split_records

SUBJECTS = 200
"""Generated subjects per sequence."""
LEAST_SUBJECTS = 10
FALSE_ALARMS = 0.01
"""Share of training scans that may lie outside the usual ranges, of all figures together."""
MARGIN = 1.75
"""Limits are by so much farther from the median than the usual ranges: real scans stray farther than generated ones.
The least, in steps of 0.25, at which every healthy real scan stays within two thirds of the way to its limits
(docs/out_of_distribution.md)."""
EXPLAINED, MOST_DIRECTIONS = 0.99, 32
"""Share of M's variance that the kept directions explain, and the most that are kept."""
FOLDS = 5
"""Distances are measured to a reference that was fitted without the scan itself."""
TAIL = 0.05
"""Scale of a figure: from its median to this quantile of the nearer or farther side. Farther out lie too few scans."""


def add_reference(path: Path, pack: Pack, output: Path, generator: GeneratorConfig, subjects: int = SUBJECTS) -> str:
    """Measure a model's training scans and write the model with them; returns the new file's SHA256.

    Args:
        path: A model file.
        pack: The pack it was trained on.
        output: The model file to write; may be `path`.
        generator: How its training scans were generated.
        subjects: How many to generate.

    Raises:
        UsageError: `pack` is another one than the model names.
    """
    device = torch.device("cpu")
    model = load_model(path, device)
    if model.metadata.training.get("pack_sha256", pack.sha256) != pack.sha256:
        msg = f"{path} was trained on another pack than {pack.folder}; name the one that it was trained on"
        raise UsageError(msg)
    config = model.metadata.config
    records, _ = split_records(pack.records)
    pairs = PairGenerator(pack, records, config.grid, config.network.sequences, generator, device, seed=0)
    reference = measure_reference(model, pairs, subjects)
    training = model.metadata.training | {"reference": {"subjects": subjects, "margin": MARGIN}}
    return save_model(output, replace(model.metadata, training=training), model.network, model.templates, reference)


def measure_reference(model: Model, pairs: PairGenerator, subjects: int) -> dict[str, SequenceReference]:
    """Generate `subjects` subjects and describe every sequence of theirs."""
    measured: dict[str, list[ScanFigures]] = {name: [] for name in pairs.sequences}
    indices = torch.arange(len(pairs.sequences), device=pairs.device)
    for slot in range(subjects):
        batch = pairs.batch(model.metadata.landmarks, "reference", subjects=range(slot, slot + 1))
        for row, name in enumerate(pairs.sequences):
            image = batch.images[:, row : row + 1]
            restored = model.network.restore(image, batch.brain, indices[row : row + 1])
            template = model.templates[name]
            measured[name].append(scan_figures(image, batch.brain, restored, template, model.metadata.tissue_of_class))
    return {name: fit_reference(figures) for name, figures in measured.items()}


def fit_reference(figures: Sequence[ScanFigures], margin: float = MARGIN) -> SequenceReference:
    """The reference of one sequence from its training scans.

    Raises:
        InputError: There are too few.
    """
    if len(figures) < LEAST_SUBJECTS:
        msg = f"{len(figures)} training scans are too few to say what is usual; generate at least {LEAST_SUBJECTS}"
        raise InputError(msg)
    modality = torch.stack([each.modality for each in figures]).float()
    table = {name: torch.tensor([each.plain[name] for each in figures]) for name in FIGURES if name != DISTANCE}
    # distances have a long tail; their logarithms are as even as the other figures
    table[DISTANCE] = torch.tensor(_distances(modality)).clamp_min(1e-6).log()
    medians = {name: float(values.median()) for name, values in table.items()}
    below = {name: medians[name] - float(values.quantile(TAIL)) for name, values in table.items()}
    above = {name: float(values.quantile(1 - TAIL)) - medians[name] for name, values in table.items()}
    # one factor for all figures, so that of all together the wanted share of scans lies outside
    strays = []
    for name, values in table.items():
        if name in SHARES:
            continue
        too_low, too_high = FIGURES[name]
        away = values - medians[name]
        if too_low:
            strays.append(-away / max(below[name], 1e-6))
        if too_high:
            strays.append(away / max(above[name], 1e-6))
    reach = float(torch.stack(strays).amax(dim=0).quantile(1 - FALSE_ALARMS))

    def ranges(factor: float) -> dict[str, tuple[float, float]]:
        """Of every figure, `factor` scales to both sides of the median."""
        limits = {
            name: (
                medians[name] - factor * below[name] if FIGURES[name][0] else -math.inf,
                medians[name] + factor * above[name] if FIGURES[name][1] else math.inf,
            )
            for name in FIGURES
        }
        shares = {name: (LEAST_SHARE * medians[name], math.inf) for name in SHARES}
        return limits | shares | {DISTANCE: (-math.inf, math.exp(limits[DISTANCE][1]))}

    return replace(_fit_modality(modality), limits=ranges(margin * reach), usual=ranges(reach))


def _distances(modality: Tensor) -> list[float]:
    """Of every scan to the others'."""
    distances = []
    fold = torch.arange(len(modality)) % min(FOLDS, len(modality))
    fits = [_fit_modality(modality[fold != number]) for number in range(int(fold.max()) + 1)]
    for row, number in zip(modality, fold.tolist(), strict=True):
        distances.append(fits[number].distance(row))
    return distances


def _fit_modality(modality: Tensor) -> SequenceReference:
    """Principal directions of M, (n, m), and what is left of its variance, spread evenly over the others.

    A covariance of 128 x 128 from some hundred scans would be singular or nearly so, and a distance by its inverse
    large for every new scan.
    """
    centre = modality.mean(dim=0)
    _, singular, directions = torch.linalg.svd(modality - centre, full_matrices=False)
    variances = singular**2 / max(len(modality) - 1, 1)
    total = float(variances.sum())
    explained = variances.cumsum(0) / max(total, 1e-12)
    kept = min(int((explained < EXPLAINED).sum()) + 1, MOST_DIRECTIONS, len(modality) // FOLDS + 1)
    floor = max(1e-6, 1e-4 * total / modality.shape[1])
    rest = float(variances[kept:].sum()) / max(modality.shape[1] - kept, 1)
    return SequenceReference(
        centre, directions[:kept].contiguous(), variances[:kept].clamp_min(floor), max(rest, floor), {}, {}
    )
