"""What is measured on held-out subjects while training: detection, leakage, and signs of collapse."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from DALAnomalyLib.configuration import RestorationConfig
from DALAnomalyLib.evaluation.metrics import pooled_metrics
from DALAnomalyLib.network.dal_network import DALNetwork, Restoration
from DALAnomalyLib.network.one_hot import class_index
from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks
from DALAnomalyLib.restoration import restore
from DALAnomalyLib.scoring.score_config import SCORE_KINDS, ScoreKind
from DALAnomalyLib.scoring.score_map import score_map
from DALAnomalyTraining.generator.pair_generator import PairGenerator, Pictures
from DALAnomalyTraining.randomness import generator_for
from DALAnomalyTraining.synthetic_lesions import KINDS, insert_lesions

_ABOVE_ZERO = float(np.finfo(np.float32).tiny)
RAREST_CLASS, DENSEST_EDGES, WORST_AGREEMENT = 0.02, 0.6, 0.5
"""A class below this share of the brain, edges above this share, or T1 and T2 agreeing on fewer voxels: collapse."""


@dataclass(frozen=True)
class Case:
    """One validation subject, standardised, with and without its lesions."""

    kind: str
    images: Tensor
    """(S, D, H, W)."""
    healthy: Tensor
    """(S, D, H, W): the same scans had there been no lesion."""
    brain: Tensor
    """(D, H, W)."""
    lesion: Tensor
    """Bool (D, H, W)."""


@dataclass(frozen=True)
class Picture:
    """One case of one sequence as the network sees it, for the montage; all (D, H, W)."""

    title: str
    image: Tensor
    pseudo_healthy: Tensor
    tissues: Tensor
    edges: Tensor
    score: Tensor
    lesion: Tensor


@dataclass(frozen=True)
class ValidationResult:
    """Figures by name, pictures, and warnings to shout."""

    figures: dict[str, float]
    pictures: list[Picture]
    uses_anatomy: bool = True

    @property
    def average_precision(self) -> float:
        """Mean over sequences: what the best checkpoint is chosen by."""
        return self.figures["average_precision"]

    def warnings(self) -> list[str]:
        """Signs that A has collapsed into something that is no anatomy; none where the network makes nothing of A."""
        found: list[str] = []
        if not self.uses_anatomy:
            return found
        for name, value in self.figures.items():
            if name.startswith("class_fraction") and value < RAREST_CLASS:
                found.append(f"COLLAPSE: {name} is {value:.3f} of the brain, below {RAREST_CLASS}")
            if name.startswith("edge_density") and value > DENSEST_EDGES:
                found.append(f"COLLAPSE: {name} is {value:.2f} of the brain, above {DENSEST_EDGES}: A is dithering")
        if self.figures["anatomy_agreement"] < WORST_AGREEMENT:
            found.append(f"COLLAPSE: sequences agree on {self.figures['anatomy_agreement']:.2f} of A's voxels")
        return found


class Validation:
    """A fixed set of held-out subjects with synthetic lesions of every kind in turn."""

    def __init__(self, pairs: PairGenerator, landmarks: dict[str, Landmarks], count: int) -> None:
        """Render `count` subjects of `pairs`, whose records training must not have."""
        self.sequences = pairs.sequences
        self._cases = [self._case(pairs, landmarks, index) for index in range(count)]

    def _case(self, pairs: PairGenerator, landmarks: dict[str, Landmarks], index: int) -> Case:
        kind = KINDS[index % len(KINDS)]
        spacing = tuple(reversed(pairs.grid.spacing))
        lesions: list[Tensor] = []

        def alter(pictures: Pictures) -> Pictures:
            lesioned = insert_lesions(pictures, kind, spacing, generator_for(pairs.device, pairs.seed, "lesion", index))
            lesions.append(lesioned.lesion)
            return lesioned.pictures

        # the same stream twice: the two differ by the lesion alone
        images, brain, _ = pairs.subject(landmarks, generator_for(pairs.device, pairs.seed, "validation", index), alter)
        healthy, _, _ = pairs.subject(landmarks, generator_for(pairs.device, pairs.seed, "validation", index))
        return Case(kind.name, images, healthy, brain, lesions[0])

    @torch.no_grad()
    def __call__(self, network: DALNetwork) -> ValidationResult:
        """Measure `network`, in evaluation mode, on every case and sequence."""
        network.eval()
        # further views cost as much each and help all networks alike; typical looks are known when it is exported
        one_view = dataclasses.replace(network.config.restoration, views=1, typical_looks=False)
        figures: dict[str, list[float]] = {}
        pooled: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.sequences}
        pictures: list[Picture] = []
        for case in self._cases:
            restored, scores = self._restore(network, case, one_view)
            for row, name in enumerate(self.sequences):
                inside = case.brain > 0
                pooled[name].append((scores[row][inside].cpu().numpy(), case.lesion[inside].cpu().numpy()))
                pictures.append(_picture(f"{name}, {case.kind}", case, restored, scores, row))
            for name, value in _watch(network, case, restored, self.sequences).items():
                figures.setdefault(name, []).append(value)
        result = {name: float(np.mean(values)) for name, values in figures.items()}
        for name in self.sequences:
            measured = pooled_metrics(pooled[name])
            result[f"average_precision_{name}"] = measured.average_precision
            result[f"best_dice_{name}"] = measured.best_dice
        result["average_precision"] = float(np.mean([result[f"average_precision_{name}"] for name in self.sequences]))
        uses_anatomy = network.config.network.restoration_input != "image_edges"
        return ValidationResult(result, pictures, uses_anatomy)

    @torch.no_grad()
    def thresholds(self, network: DALNetwork, typical: Tensor | None = None) -> dict[str, dict[str, float]]:
        """For every sequence and kind of score the threshold that Dice likes best on these lesions.

        Args:
            network: To measure.
            typical: (k, m), see `restore`.
        """
        network.eval()
        pooled: dict[tuple[str, ScoreKind], list[tuple[np.ndarray, np.ndarray]]] = {}
        for case in self._cases:
            restored, _ = self._restore(network, case, network.config.restoration, typical)
            inside = case.brain > 0
            for row, name in enumerate(self.sequences):
                pictured = case.images[row][None, None], restored.pseudo_healthy[row][None], case.brain[None, None]
                for kind in SCORE_KINDS:
                    scores = score_map(*pictured, network.config.score.of_kind(kind, name))[0, 0]
                    pair = scores[inside].cpu().numpy(), case.lesion[inside].cpu().numpy()
                    pooled.setdefault((name, kind), []).append(pair)
        return {
            # at 0, which a collapsed network's scores may like best, everything would be a finding
            name: {kind: max(pooled_metrics(pooled[name, kind]).best_threshold, _ABOVE_ZERO) for kind in SCORE_KINDS}
            for name in self.sequences
        }

    def _restore(
        self, network: DALNetwork, case: Case, config: RestorationConfig, typical: Tensor | None = None
    ) -> tuple[Restoration, Tensor]:
        images, brain = case.images[:, None], case.brain.expand(len(case.images), 1, -1, -1, -1)
        sequence = torch.arange(len(images), device=images.device)
        restored = restore(network, images, brain, sequence, config, typical)
        scores = [
            score_map(
                images[row : row + 1],
                restored.pseudo_healthy[row : row + 1],
                brain[row : row + 1],
                network.config.score.for_sequence(name),
            )
            for row, name in enumerate(self.sequences)
        ]
        return restored, torch.cat(scores)[:, 0]


def _watch(network: DALNetwork, case: Case, restored: Restoration, sequences: tuple[str, ...]) -> dict[str, float]:
    """Class fractions, agreement of A between sequences, edge density, restoration error and leakage."""
    inside, lesion = case.brain > 0, case.lesion
    classes = class_index(restored.anatomy.image, network.config.network.classes)[:, 0]
    figures = {
        f"class_fraction_{number}": float((classes[:, inside] == number).float().mean())
        for number in range(1, network.config.network.classes + 1)
    }
    same = (classes == classes[:1]).all(dim=0)
    figures["anatomy_agreement"] = float(same[inside].float().mean())
    figures["edge_density"] = float(restored.edges[:, 0, inside].mean())
    brain = case.brain.expand(len(case.healthy), 1, -1, -1, -1)
    identity = torch.arange(len(sequences), device=inside.device)
    without = network.restore(case.healthy[:, None], brain, identity).pseudo_healthy[:, 0]
    figures["healthy_error"] = float((without - case.healthy)[:, inside].abs().mean())
    if bool(lesion.any()):
        change = (restored.one_pass[:, 0] - without)[:, lesion].abs().mean()
        contrast = (case.images - case.healthy)[:, lesion].abs().mean().clamp_min(1e-6)
        # 0: the lesion leaves no trace in the pseudo-healthy image, 1: it is painted back
        figures["leakage"] = float(change / contrast)
    return figures


def _picture(title: str, case: Case, restored: Restoration, scores: Tensor, row: int) -> Picture:
    return Picture(
        title,
        case.images[row],
        restored.pseudo_healthy[row, 0],
        restored.anatomy.image[row, 0],
        restored.edges[row, 0],
        scores[row],
        case.lesion,
    )
