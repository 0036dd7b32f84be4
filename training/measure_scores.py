"""What each step after the network contributes to detection: the tables of docs/experiments.md.

    python training/measure_scores.py cases.csv [--checkpoint runs/mine/last.pt] [--only NAME ...]

Every case of the table (training/development_cases.py writes one) goes through preprocessing once; the variants below
differ in what happens afterwards. Printed per variant: AP / best Dice of every group with lesions, pooled; for healthy
groups the mean volume in ml above the threshold that is best for the gliomas of the sequence (of all lesions, where
there is no glioma); and how well the spread of the views tells where healthy tissue is restored badly.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from DALAnomalyCLI.evaluation_cases import Case, read_cases
from DALAnomalyLib.configuration import RestorationConfig, preset
from DALAnomalyLib.detector import Detector
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.evaluation.metrics import count_detections
from DALAnomalyLib.model_store import Model, load_model
from DALAnomalyLib.network.dal_network import DALNetwork, Restoration
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.preprocessing.way_back import WayBack
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.restoration import restore
from DALAnomalyLib.scoring.score_config import ScoreConfig
from DALAnomalyLib.scoring.score_map import score_map
from DALAnomalyLib.volume_io import read_mask, read_volume
from DALAnomalyTraining.checkpoint import load_checkpoint, weights_of
from DALAnomalyTraining.trainer import landmarks_from

Flat = npt.NDArray[np.float32]
DEFAULT = preset("default")
PAPER_SCORE = ScoreConfig(sign="typical")


def variants() -> dict[str, tuple[RestorationConfig, ScoreConfig]]:
    """By name: the paper's score, the default, other choices of each of its steps, and of each of those before it."""
    restoration, default = DEFAULT.restoration, DEFAULT.score
    one_pass = RestorationConfig()
    guided_by_scan = replace(default, difference_guides=False, guided_epsilon=0.01)
    cubes = replace(guided_by_scan, ssim_window="uniform7", difference_power=1.5, mean_filter=7)
    # what was the default before the guided filter, typical looks, shading and the signal floor
    score = replace(cubes, difference_power=2.0, mean_passes=2, mask_erosion=3, guided_filter=0, signal_floor=0.0)
    before = replace(restoration, typical_looks=False, shading_mm=0.0)
    no_floor = replace(default, signal_floor=0.0)
    return {
        "default": (restoration, default),
        "default, two views": (replace(restoration, views=2), default),
        "default, none of the next three": (before, no_floor),
        "default, no typical looks": (replace(restoration, typical_looks=False), default),
        "default, no shading": (replace(restoration, shading_mm=0.0), default),
        "default, no signal floor": (restoration, no_floor),
        "default, 4 pieces": (replace(restoration, tone_pieces=4), default),
        "default, 8 pieces": (replace(restoration, tone_pieces=8), default),
        "default, no drift": (replace(restoration, drift_mm=0.0), default),
        "default, all differences": (restoration, replace(default, sign="absolute")),
        "default, guided by the scan alone": (restoration, guided_by_scan),
        "default, cube for SSIM, power 1.5, mean 7, guided by the scan alone": (restoration, cubes),
        "default, cube for SSIM": (restoration, replace(default, ssim_window="uniform7")),
        "default, power 1.5": (restoration, replace(default, difference_power=1.5)),
        "default, power .75": (restoration, replace(default, difference_power=0.75)),
        "default, minimum 3": (restoration, replace(default, opening=False)),
        "default, mean 7": (restoration, replace(default, mean_filter=7)),
        "default, mean 3": (restoration, replace(default, mean_filter=3)),
        "default, no mean": (restoration, replace(default, mean_filter=0)),
        "default, guided 5": (restoration, replace(default, guided_filter=5)),
        "default, guided 9": (restoration, replace(default, guided_filter=9)),
        "default, epsilon .01": (restoration, replace(default, guided_epsilon=0.01)),
        "default, epsilon .1": (restoration, replace(default, guided_epsilon=0.1)),
        "default, mask eroded by 3": (restoration, replace(default, mask_erosion=3)),
        "default, mask eroded by 7": (restoration, replace(default, mask_erosion=7)),
        "default, difference alone": (restoration, replace(default, kind="l1")),
        "not guided": (before, score),
        "not guided, power 1.5": (before, replace(score, difference_power=1.5)),
        "paper": (one_pass, PAPER_SCORE),
        "paper, all differences": (one_pass, replace(PAPER_SCORE, sign="absolute")),
        "before: minimum 3, mean 7": (one_pass, replace(PAPER_SCORE, mean_filter=7)),
        "one view": (replace(before, views=1), score),
        "two views": (replace(before, views=2), score),
        "no tone curve": (replace(before, tone_pieces=0), score),
        "no drift": (replace(before, drift_mm=0.0), score),
        "no tone curve, no drift": (replace(before, tone_pieces=0, drift_mm=0.0), score),
        "drift 15 mm": (replace(before, drift_mm=15.0), score),
        "drift 40 mm": (replace(before, drift_mm=40.0), score),
        "power 1": (before, replace(score, difference_power=1.0)),
        "power 3": (before, replace(score, difference_power=3.0)),
        "no opening": (before, replace(score, opening=False)),
        "no minimum filter": (before, replace(score, minimum_filter=0)),
        "opening 5": (before, replace(score, minimum_filter=5)),
        "one mean": (before, replace(score, mean_passes=1)),
        "one mean 9": (before, replace(score, mean_passes=1, mean_filter=9)),
        "two means 5": (before, replace(score, mean_filter=5)),
        "two means 9": (before, replace(score, mean_filter=9)),
        "all differences": (before, replace(score, sign="absolute")),
        "difference alone": (before, replace(score, kind="l1")),
        "SSIM alone": (before, replace(score, kind="ssim")),
        "SSIM Gaussian 11": (before, replace(score, ssim_window="gaussian11")),
        "mask eroded by 5": (before, replace(score, mask_erosion=5)),
    }


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case that is ready for the network."""

    case: Case
    scan: PreparedScan
    labels: npt.NDArray[np.bool_]
    """(N,), the voxels inside the brain on the scan's grid."""
    inside: npt.NDArray[np.bool_]
    voxel_ml: float


def prepared(prepare: Callable[[ScanRequest], PreparedScan], case: Case) -> Prepared:
    """The scan of a case on the grid to which `prepare` brings it, and its labels."""
    volume = read_volume(case.image)
    mask = None if case.brain_mask is None else read_mask(case.brain_mask, volume.grid)
    scan = prepare(ScanRequest(volume, case.sequence, mask))
    inside = scan.brain_mask.array > 0
    lesion = np.zeros(inside.shape, bool) if case.lesion is None else read_mask(case.lesion, volume.grid).array > 0
    return Prepared(case, scan, lesion[inside], inside, volume.grid.voxel_volume_ml)


@dataclass(frozen=True, eq=False)
class Scored:
    """One case's voxels in one variant, and what the spread of the views says about them."""

    scores: Flat
    spread_correlation: float
    """Spearman's, of the spread with |x - x_r| in healthy brain; NaN with one view."""


def restored(
    network: DALNetwork, scan: PreparedScan, config: RestorationConfig, typical: torch.Tensor | None = None
) -> Restoration:
    """The pseudo-healthy image of one case, as `config` says."""
    sequence = torch.tensor([network.config.network.sequences.index(scan.sequence)])
    return restore(network, scan.image, scan.brain, sequence, config, typical)


def score(one: Prepared, restoration: Restoration, config: ScoreConfig) -> Scored:
    """Score one case."""
    scan = one.scan
    on_model = score_map(scan.image, restoration.pseudo_healthy, scan.brain, config.for_sequence(scan.sequence))
    back = WayBack(scan, CancelToken())
    correlation = float("nan")
    if restoration.spread is not None:
        error = back.continuous((scan.image - restoration.pseudo_healthy).abs()).array[one.inside]
        spread = back.continuous(restoration.spread).array[one.inside]
        healthy = ~one.labels
        correlation = float(stats.spearmanr(spread[healthy][::50], error[healthy][::50]).statistic)
    return Scored(back.continuous(on_model).array[one.inside], correlation)


def figures(cases: Sequence[Prepared], scored: Sequence[Scored]) -> dict[str, str]:
    """Group and sequence to what is printed."""
    rows = list(zip(cases, scored, strict=True))
    found, thresholds = {}, {}
    for (dataset, sequence), group in _groups(rows, lesions=True).items():
        counts = count_detections(
            np.concatenate([each.scores for _, each in group]), np.concatenate([one.labels for one, _ in group])
        )
        dice, threshold = counts.best_dice()
        found[f"{dataset} {sequence}"] = f"{counts.average_precision():.3f} / {dice:.3f}"
        if dataset == "glioma" or sequence not in thresholds:
            thresholds[sequence] = threshold
    for (dataset, sequence), group in _groups(rows, lesions=False).items():
        if sequence in thresholds:
            volumes = [np.count_nonzero(each.scores >= thresholds[sequence]) * one.voxel_ml for one, each in group]
            found[f"{dataset} {sequence}"] = f"{np.mean(volumes):.2f} ml"
    correlations = [each.spread_correlation for _, each in rows]
    found["spread"] = f"{np.mean(correlations):.2f}"
    return found


Rows = Sequence[tuple[Prepared, Scored]]


def _groups(rows: Rows, lesions: bool) -> Mapping[tuple[str, str], Rows]:
    chosen = [(one, each) for one, each in rows if bool(one.labels.any()) == lesions]
    keys = sorted({(one.case.dataset, one.scan.sequence) for one, _ in chosen})
    return {key: [row for row in chosen if (row[0].case.dataset, row[0].scan.sequence) == key] for key in keys}


def load(model: Path | None, checkpoint: Path | None) -> tuple[Detector, Model]:
    """The detector of a model file, and the model; given a checkpoint that began with it, with that one's weights.

    Typical looks stay those of the model file.

    Raises:
        UsageError: the checkpoint is of another network, or knows intensities on another scale.
    """
    loaded = load_model(model, torch.device("cpu"))
    if checkpoint is not None:
        content = load_checkpoint(checkpoint, torch.device("cpu"))
        instead = "`dal-anomaly export` makes a model file of it, to be named with --model"
        if landmarks_from(content["landmarks"]) != loaded.metadata.landmarks:
            msg = f"{checkpoint} did not begin with this model: it knows intensities on another scale; {instead}"
            raise UsageError(msg)
        try:
            loaded.network.load_state_dict(weights_of(content))
        except RuntimeError as error:
            msg = f"{checkpoint} is of another network than the model; {instead}"
            raise UsageError(msg) from error
    return Detector(loaded, torch.device("cpu")), loaded


def print_table(rows: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """A Markdown table, row by row as they come."""
    for number, (name, values) in enumerate(rows):
        if not number:
            print("| variant |", " | ".join(values), "|\n|---|" + "---|" * len(values))
        print(f"| {name} |", " | ".join(values.values()), "|", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--model", type=Path, help="model file instead of the one that ships")
    parser.add_argument("--checkpoint", type=Path, help="its weights replace those of the model")
    parser.add_argument("--only", nargs="+", choices=list(variants()), help="these variants")
    arguments = parser.parse_args()
    detector, model = load(arguments.model, arguments.checkpoint)
    cases = []
    for case in read_cases(arguments.cases):
        print(f"preparing {case.subject} {case.sequence}", file=sys.stderr)
        cases.append(prepared(detector.prepare, case))
    restore_case = functools.cache(
        lambda number, config: restored(model.network, cases[number].scan, config, model.typical)
    )
    chosen = {name: made for name, made in variants().items() if arguments.only is None or name in arguments.only}
    print_table(
        (name, figures(cases, [score(one, restore_case(number, how), config) for number, one in enumerate(cases)]))
        for name, (how, config) in chosen.items()
    )


if __name__ == "__main__":
    main()
