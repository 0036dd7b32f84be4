"""One training step's losses: which networks run on what, and who receives gradients (section 3.4, Eq. 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.network.dal_network import Anatomy, DALNetwork
from DALAnomalyTraining import losses
from DALAnomalyTraining.anatomical_noise import disturb, disturb_edges
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairedBatch
from DALAnomalyTraining.randomness import generator_for

SUBNETWORKS = (
    "anatomy_extractor",
    "modality_extractor",
    "anatomy_encoder",
    "anatomy_restorer",
    "representation_combiner",
    "sequence_modality",
)

ANATOMY_TERMS = ("anatomy_consistency", "anatomy_similarity", "tissue_cross_entropy", "total_variation")
"""Terms that need the anatomy of every sequence."""
MODALITY_TERMS = ("modality_consistency", "modality_similarity")
IMAGE_TERMS = ("reconstruction", "restoration")


@dataclass(frozen=True)
class LossWeights:
    """The lambdas of Eq. 13, one per term so that each can be switched off (Table 6); 0 skips the computation."""

    reconstruction: float = 1.0
    restoration: float = 1.0
    anatomy_consistency: float = 0.1
    anatomy_similarity: float = 0.1
    modality_consistency: float = 1.0
    modality_similarity: float = 1.0
    code_consistency: float = 1.0
    tissue_cross_entropy: float = 0.0
    total_variation: float = 0.0


@dataclass(frozen=True)
class ObjectiveConfig:
    """How the losses are read where the paper leaves a choice."""

    anatomy_compared: str = "one_hot"
    """Eq. 5 and 7 on the `one_hot` classes, or on the `merged` image A as the paper writes them."""
    normalise_codes: bool = True
    """Eq. 10 on standardised codes with R_A detached; False is the literal reading."""
    sampled_sources: bool = True
    """Take the anatomy of one random sequence per subject and step, not of all: the same expectation of Eq. 9 and 11
    at 1/S of the work."""
    disturbed_weight: float = 1.0
    """Weight in Eq. 10 and 11 of voxels that the noise on anatomy and edges disturbed, where the brain's others weigh
    1: they are few, and R_E learns little about them from a plain mean. Any value but 1 also confines Eq. 10, which the
    paper takes over the whole code, to the brain."""

    def __post_init__(self) -> None:
        if self.anatomy_compared not in ("one_hot", "merged"):
            msg = f"anatomy_compared is {self.anatomy_compared!r}; it must be 'one_hot' or 'merged'"
            raise UsageError(msg)
        if self.disturbed_weight <= 0:
            msg = f"disturbed_weight is {self.disturbed_weight:g}; it must be positive"
            raise UsageError(msg)


class Objective(nn.Module):
    """The network together with its losses: one forward call is one training step's, so DDP can wrap it."""

    def __init__(self, network: DALNetwork, config: ObjectiveConfig, noise: GeneratorConfig) -> None:
        """Join `network` with the choices of `config`; `noise` gives the strength of the anatomical noise."""
        super().__init__()
        self.network = network
        self.config = config
        self.noise = noise

    def forward(
        self,
        batch: PairedBatch,
        weights: LossWeights,
        trained: frozenset[str],
        noise_keys: list[tuple[object, ...]],
    ) -> dict[str, Tensor]:
        """Every loss term with a weight, and their weighted `total`.

        Args:
            batch: 2 n subjects.
            weights: Of the terms.
            trained: Names of the sub-networks that receive gradients.
            noise_keys: One random key per subject for the choice of sources and the anatomical noise.
        """
        for name, subnetwork in self.network.named_children():
            subnetwork.requires_grad_(name in trained)
        images = batch.images.flatten(0, 1)[:, None]  # (B S, 1, D, H, W)
        subjects, sequences = batch.images.shape[:2]
        sources, disturbances = self._choose(noise_keys, subjects, sequences, images.device)
        brain = batch.brain.repeat_interleave(sequences, dim=0)
        needs_all, needs_images = _any(weights, ANATOMY_TERMS), _any(weights, IMAGE_TERMS)
        needs_codes = needs_images or _any(weights, ("code_consistency",))
        terms: dict[str, Tensor] = {}
        if needs_all or needs_codes:
            rows = torch.arange(len(images), device=images.device) if needs_all else sources
            anatomy = self.network.extract_anatomy(images[rows], brain[rows])
        if needs_all:
            terms |= self._anatomy_terms(anatomy, batch, brain, weights)
        if needs_images or _any(weights, MODALITY_TERMS):
            identity = torch.arange(sequences, device=images.device).repeat(subjects)
            modality = self.network.extract_modality(images, identity)
            terms |= self._modality_terms(modality.unflatten(0, (subjects, sequences)), weights)
        if needs_codes:
            chosen = anatomy.image[sources] if needs_all else anatomy.image
            codes, emphasis = self._codes(images[sources], chosen, brain[sources], weights, disturbances)
            terms |= self._code_terms(codes, emphasis, weights)
        if needs_images:
            counts = {"reconstruction": brain[sources], "restoration": emphasis}
            terms |= self._image_terms(codes, modality, images, brain, counts, sources, sequences, weights)
        weighted = [getattr(weights, name) * value for name, value in terms.items()]
        terms["total"] = torch.stack(weighted).sum()
        return terms

    def _choose(
        self, keys: list[tuple[object, ...]], subjects: int, sequences: int, device: torch.device
    ) -> tuple[Tensor, list[torch.Generator]]:
        """Rows of the flat batch whose anatomy is decoded, and one generator per row for its noise."""
        generators = [generator_for(device, *key) for key in keys]
        if not self.config.sampled_sources:
            rows = torch.arange(subjects * sequences, device=device)
            return rows, [generators[row // sequences] for row in range(len(rows))]
        chosen = [int(torch.randint(sequences, (), generator=g, device=device)) for g in generators]
        return torch.tensor([p * sequences + i for p, i in enumerate(chosen)], device=device), generators

    def _anatomy_terms(
        self, anatomy: Anatomy, batch: PairedBatch, brain: Tensor, weights: LossWeights
    ) -> dict[str, Tensor]:
        subjects, sequences = batch.images.shape[:2]
        compared = anatomy.one_hot if self.config.anatomy_compared == "one_hot" else anatomy.image
        vectors = compared.flatten(1).unflatten(0, (subjects, sequences))
        terms = {}
        if weights.anatomy_consistency:
            terms["anatomy_consistency"] = losses.anatomy_consistency(vectors)
        if weights.anatomy_similarity:
            terms["anatomy_similarity"] = losses.anatomy_similarity(vectors)
        if weights.tissue_cross_entropy:
            tissues = batch.tissues.repeat_interleave(sequences, dim=0)
            terms["tissue_cross_entropy"] = losses.tissue_cross_entropy(anatomy.scores, tissues)
        if weights.total_variation:
            terms["total_variation"] = losses.total_variation(anatomy.scores, brain)
        return terms

    def _modality_terms(self, vectors: Tensor, weights: LossWeights) -> dict[str, Tensor]:
        """Eq. 6 and 8; `vectors` (B, S, m)."""
        terms = {}
        if weights.modality_consistency:
            terms["modality_consistency"] = losses.modality_consistency(vectors)
        if weights.modality_similarity:
            terms["modality_similarity"] = losses.modality_similarity(vectors)
        return terms

    def _codes(
        self,
        images: Tensor,
        anatomy: Tensor,
        brain: Tensor,
        weights: LossWeights,
        disturbances: list[torch.Generator],
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The code of every source anatomy that each of Eq. 9 (`reconstruction`) and 11 (`restoration`) decodes.

        Also how much every voxel counts in Eq. 10 and 11, (N, 1, D, H, W), 0 outside the brain.
        """
        codes, emphasis = {}, brain
        if weights.reconstruction or weights.code_consistency:
            codes["reconstruction"] = self.network.anatomy_encoder(anatomy)
        if weights.restoration or weights.code_consistency:
            codes["restoration"], emphasis = self._restored(images, anatomy, brain, disturbances)
        return codes, emphasis

    def _code_terms(self, codes: dict[str, Tensor], emphasis: Tensor, weights: LossWeights) -> dict[str, Tensor]:
        """Eq. 10, which says nothing where R_A restores its own code (Table 7)."""
        if not weights.code_consistency or self.network.config.network.restoration_input == "anatomy":
            return {}
        consistency = losses.code_consistency(
            codes["restoration"],
            codes["reconstruction"],
            self.config.normalise_codes,
            None if self.config.disturbed_weight == 1 else emphasis,
        )
        return {"code_consistency": consistency}

    def _image_terms(
        self,
        codes: dict[str, Tensor],
        modality: Tensor,
        images: Tensor,
        brain: Tensor,
        counts: dict[str, Tensor],
        sources: Tensor,
        sequences: int,
        weights: LossWeights,
    ) -> dict[str, Tensor]:
        """Eq. 9 and 11: every source anatomy recoupled with the modality of every sequence of its subject.

        `counts` says how much each voxel counts in each of the two.
        """
        # row r of `targets` is the image that source r // S should become with the modality of sequence r % S
        subject_of_source = sources // sequences
        targets = (subject_of_source[:, None] * sequences + torch.arange(sequences, device=images.device)).flatten()
        names = [name for name in IMAGE_TERMS if getattr(weights, name)]
        repeated = torch.cat([codes[name].repeat_interleave(sequences, dim=0) for name in names])
        made = self.network.combine(
            repeated, modality[targets].repeat(len(names), 1), brain[targets].repeat(len(names), 1, 1, 1, 1)
        ).split(len(targets))
        return {
            name: losses.image_distance(image, images[targets], counts[name].repeat_interleave(sequences, dim=0))
            for name, image in zip(names, made, strict=True)
        }

    def _restored(
        self, images: Tensor, anatomy: Tensor, brain: Tensor, disturbances: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """The code that R_E restores from disturbed edges, and how much each voxel of the brain counts."""
        noise, spacing = self.noise, tuple(reversed(self.network.config.grid.spacing))

        def each(change: Callable[..., Tensor], pictures: Tensor) -> Tensor:
            rows = zip(pictures, brain, disturbances, strict=True)
            return torch.stack([change(picture, inside, spacing, noise, g) for picture, inside, g in rows])

        disturbed = each(disturb, anatomy) if self.training and noise.anatomical_noise_regions else anatomy
        found = self.network.extract_edges(images, disturbed)
        edges = each(disturb_edges, found) if self.training and noise.edge_noise_regions else found
        wrong = (disturbed != anatomy) | (edges != found)
        emphasis = brain * torch.where(wrong, self.config.disturbed_weight, 1.0)
        return self.network.restore_code(disturbed, edges), emphasis


def _any(weights: LossWeights, names: tuple[str, ...]) -> bool:
    return any(getattr(weights, name) for name in names)


def term_names() -> list[str]:
    """Names of all loss terms, in the order of `LossWeights`."""
    return [item.name for item in fields(LossWeights)]
