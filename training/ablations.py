"""What single choices of network and training bring: a table of docs/experiments.md.

    python training/ablations.py PACK cases.csv FOLDER [--base CONFIG] [--seeds 0 1] [--only NAME ...]

Every variant differs from the base, training/configs/ablation.yaml unless another is named, in one thing and is trained
once per seed; a run that is in FOLDER already is not repeated. Printed per variant, as the mean and the range over the
seeds: pooled AP on real cases with lesions (training/development_cases.py writes the table), and from validation on
generated scans the AP, the error of the healthy image, and its leakage (how much of a lesion it keeps).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure_scores import prepared, restored, score

from DALAnomalyCLI.evaluation_cases import Case, read_cases
from DALAnomalyLib.configuration import GridConfig
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.evaluation.metrics import average_precision
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.pipeline import PreparedScan, Standard, prepare_scan
from DALAnomalyLib.preprocessing.step_cache import StepCache
from DALAnomalyTraining.checkpoint import load_checkpoint, weights_of
from DALAnomalyTraining.objective import MODALITY_TERMS, SUBNETWORKS, LossWeights
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.trainer import Hardware, Trainer, landmarks_from
from DALAnomalyTraining.training_config import Stage, TrainingConfig, load_training_config

BASE = Path(__file__).parent / "configs" / "ablation.yaml"
CPU = torch.device("cpu")
Figures = dict[str, float]
PAIRED_ANATOMY_TERMS = ("anatomy_consistency", "anatomy_similarity")
"""Eq. 5 and 7: what compares anatomies with each other, not with labels."""
VALIDATED = ("average_precision", "healthy_error", "leakage")


def variants(base: TrainingConfig) -> dict[str, TrainingConfig]:
    """By name, what is tried; each differs from `base` in one thing, but for M, which has to be split to be pooled.

    What `base` has already is left out.
    """

    def network(**changes: Any) -> TrainingConfig:
        return replace(base, model=replace(base.model, network=replace(base.model.network, **changes)))

    def generator(**changes: Any) -> TrainingConfig:
        return replace(base, generator=replace(base.generator, **changes))

    def anatomy(**changes: float) -> TrainingConfig:
        first, *others = base.stages
        return replace(base, stages=(replace(first, weights=replace(first.weights, **changes)), *others))

    def with_learned_modality() -> TrainingConfig:
        changed = network(modality_reuse=False)
        stages = [
            replace(stage, learning_rates=stage.learning_rates | {"sequence_modality": 1.0}) for stage in base.stages
        ]
        return replace(changed, stages=tuple(stages))

    def longer(factor: int) -> TrainingConfig:
        return replace(base, stages=tuple(replace(stage, steps=factor * stage.steps) for stage in base.stages))

    def without(*terms: str) -> TrainingConfig:
        none = dict.fromkeys(terms, 0.0)
        return replace(base, stages=tuple(replace(one, weights=replace(one.weights, **none)) for one in base.stages))

    def joint(*left_out: str, **changes: float) -> TrainingConfig:
        weights = replace(LossWeights(), **changes, **dict.fromkeys(left_out, 0.0))
        return replace(base, stages=(Stage("joint", base.steps, dict.fromkeys(SUBNETWORKS, 1.0), weights),))

    sizes = base.model.network
    grid = base.model.grid
    # U-Nets halve twice
    finer = GridConfig(tuple(4 * round(0.3125 * n) for n in grid.shape), tuple(0.8 * mm for mm in grid.spacing))
    tried = {
        "no noise on anatomy": generator(anatomical_noise_regions=0),
        "noise on edges, smaller regions, cores": generator(
            anatomical_noise_regions=4,
            anatomical_noise_mm=(3.0, 32.0),
            anatomical_noise_core=0.4,
            edge_noise_regions=3,
        ),
        "half of the regions shift tissues": generator(anatomical_noise_shift=0.5),
        "disturbed voxels weigh 8": replace(base, objective=replace(base.objective, disturbed_weight=8.0)),
        "Canny edges": network(edge_kind="canny3d"),
        "no edge restoration: the code of A": network(restoration_input="anatomy"),
        "no disentangling: image edges into R_E": network(restoration_input="image_edges"),
        "M of twice the positions": network(modality_widths=sizes.modality_widths[:-1]),
        "M of twice the positions, pooled": network(modality_widths=sizes.modality_widths[:-1], modality_pooled=True),
        "one learned M per sequence": with_learned_modality(),
        "code twice as long": network(code_channels=2 * sizes.code_channels),
        "R_E twice as wide": network(restorer_widths=tuple(2 * width for width in sizes.restorer_widths)),
        "joint from the start, with tissue labels": joint(tissue_cross_entropy=1.0),
        "joint from the start, without labels": joint(),
        "no code consistency": without("code_consistency"),
        "no losses on M": without(*MODALITY_TERMS),
        "joint with labels, no code consistency": joint("code_consistency", tissue_cross_entropy=1.0),
        "joint with labels, no losses on M": joint(*MODALITY_TERMS, tissue_cross_entropy=1.0),
        "joint with labels, no losses between anatomies": joint(*PAIRED_ANATOMY_TERMS, tissue_cross_entropy=1.0),
        "joint with labels, none of these three": joint(
            "code_consistency", *MODALITY_TERMS, *PAIRED_ANATOMY_TERMS, tissue_cross_entropy=1.0
        ),
        "total variation .1 on A": anatomy(total_variation=0.1),
        "no semi-real subjects": generator(semi_real_share=0.0),
        "70 % semi-real subjects": generator(semi_real_share=0.7),
        "narrow contrasts": generator(centre_spread=0.5, class_contrast=0.0),
        "no texture": generator(texture=0.0),
        "no blur": generator(blur_voxels=0.0),
        "brain masks of two kinds only": generator(rim_mm=0.0),
        "ventricles and sulci widened by up to 2.5 mm": generator(atrophy_mm=2.5),
        "no bias field, no thick slices": generator(bias_field=0.0, thick_slice_chance=0.0),
        "deformation 6 mm": generator(deformation_mm=6.0),
        "no average of the weights": replace(base, ema_decay=0.0),
        "half the learning rate": replace(base, learning_rate=base.learning_rate / 2),
        "twice the learning rate": replace(base, learning_rate=base.learning_rate * 2),
        "twice as many steps": longer(2),
        "bfloat16 beside float32": replace(base, cpu_precision="bf16-mixed"),
        "voxels four fifths as wide": replace(base, model=replace(base.model, grid=finer)),
    }
    return {"base": base} | {name: config for name, config in tried.items() if config != base}


def train(config: TrainingConfig, pack: Pack, run: Path) -> None:
    """Train a run to its end, or go on with one that was stopped."""
    resume = (run / "last.pt").exists()
    if not resume or load_checkpoint(run / "last.pt", CPU)["step"] < config.steps:
        Trainer(config, pack, run, Hardware("cpu")).fit(resume=resume)


def validated(run: Path) -> Figures:
    """The figures of a run's last validation."""
    with (run / "validation.csv").open(encoding="utf-8", newline="") as file:
        *_, last = csv.DictReader(file)
    return {name: float(last[name]) for name in VALIDATED}


def on_real_cases(config: TrainingConfig, run: Path, cases: Sequence[Case], equipment: Equipment) -> Figures:
    """AP by data set and sequence, voxels pooled inside the brain."""
    checkpoint = load_checkpoint(run / "last.pt", CPU)
    model = config.model
    network = DALNetwork(model).eval()
    network.load_state_dict(weights_of(checkpoint))
    standard = Standard(model.grid, landmarks_from(checkpoint["landmarks"]), {})
    # the table names every sequence, so that no mean images are needed to tell them apart
    preprocessing = replace(model.preprocessing, skip=("sequence",))

    def prepare(request: ScanRequest) -> PreparedScan:
        return prepare_scan(request, standard, preprocessing, equipment, CPU)

    pooled: dict[str, list[tuple[Any, Any]]] = {}
    for case in cases:
        one = prepared(prepare, case)
        scored = score(one, restored(network, one.scan, model.restoration), model.score)
        pooled.setdefault(f"{case.dataset} {case.sequence}", []).append((scored.scores, one.labels))
    return {
        name: average_precision(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))
        for name, pairs in pooled.items()
    }


def measured(config: TrainingConfig, pack: Pack, run: Path, cases: Sequence[Case], equipment: Equipment) -> Figures:
    """All figures of a run, which is trained first where it is not there yet.

    Raises:
        UsageError: the run is of another configuration or pack, or was measured on other cases.
    """
    kept = run / "ablation.json"
    inputs = {"pack": pack.sha256, "cases": [f"{case.dataset} {case.sequence} {case.subject}" for case in cases]}
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if load_training_config(run / "config.yaml") != config or found.get("inputs") != inputs:
            msg = f"{run} is of another configuration, pack or table of cases; name another folder or delete that run"
            raise UsageError(msg)
        return dict(found["figures"])
    train(config, pack, run)
    figures = on_real_cases(config, run, cases, equipment) | validated(run)
    kept.write_text(json.dumps({"inputs": inputs, "figures": figures}, indent=1), encoding="utf-8")
    return figures


def rows(names: Sequence[str], runs: Mapping[str, Sequence[Figures]]) -> Iterator[str]:
    """A Markdown table: mean and range over the seeds."""
    columns = list(next(iter(runs.values()))[0])
    yield "| variant | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name in names:
        cells = []
        for column in columns:
            values = [figures[column] for figures in runs[name]]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})")
        yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is missing, seed by seed, and print the table after each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, default=BASE, help="training configuration that the variants differ from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    arguments = parser.parse_args()
    known = variants(load_training_config(arguments.base))
    wanted = arguments.only or list(known)
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"{arguments.base} has no variant {'; '.join(unknown)}; choose from: {'; '.join(known)}")
    pack = Pack(arguments.pack)
    cases = [case for case in read_cases(arguments.cases) if case.lesion is not None]
    equipment = Equipment(step_cache=StepCache(arguments.folder / "cache"))
    chosen = {name: known[name] for name in wanted}
    runs: dict[str, list[Figures]] = {name: [] for name in chosen}
    for seed in arguments.seeds:
        for name, config in chosen.items():
            run = arguments.folder / f"{name.replace(' ', '_').replace(':', '')}-{seed}"
            runs[name].append(measured(replace(config, seed=seed), pack, run, cases, equipment))
            print(f"{name}, seed {seed}: {runs[name][-1]}", file=sys.stderr, flush=True)
        print("\n".join(rows(list(chosen), runs)), flush=True)


if __name__ == "__main__":
    main()
