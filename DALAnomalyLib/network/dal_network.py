"""The whole network: the five sub-networks, and the path from a scan to its pseudo-healthy image (Eq. 14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from DALAnomalyLib.configuration import ModelConfig
from DALAnomalyLib.edges import canny3d, label_change_surface
from DALAnomalyLib.network.anatomy_encoder import AnatomyEncoder
from DALAnomalyLib.network.anatomy_extractor import AnatomyExtractor
from DALAnomalyLib.network.anatomy_restorer import AnatomyRestorer
from DALAnomalyLib.network.modality_extractor import ModalityExtractor
from DALAnomalyLib.network.one_hot import differentiable_one_hot, merge_classes
from DALAnomalyLib.network.representation_combiner import RepresentationCombiner

EDGE_DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {"surface": label_change_surface, "canny3d": canny3d}


@dataclass(frozen=True)
class Anatomy:
    """What E_A finds in a scan."""

    scores: Tensor
    """A_c, (B, C, D, H, W), before the one-hot encoding."""
    one_hot: Tensor
    """A_doh confined to the brain, (B, C, D, H, W)."""
    image: Tensor
    """A, (B, 1, D, H, W) (Eq. 4)."""


@dataclass(frozen=True)
class Restoration:
    """Everything that one pass over a scan yields; all on the network's grid."""

    pseudo_healthy: Tensor
    """x_r, (B, 1, D, H, W) in [0, 1], 0 outside the brain (Eq. 14)."""
    anatomy: Anatomy
    edges: Tensor
    """E, (B, 1, D, H, W), 0 or 1."""
    modality: Tensor
    """M, (B, m)."""
    spread: Tensor | None = None
    """Standard deviation of x_r over several views of the scan, (B, 1, D, H, W); without them, None."""
    painted: Tensor | None = None
    """x_r as one pass painted it, where `pseudo_healthy` is more than that."""
    typical: Tensor | None = None
    """The same restored anatomy with other modality vectors, (B, k, D, H, W) in [0, 1], where asked for."""

    @property
    def one_pass(self) -> Tensor:
        """x_r as one pass painted it: what the network can do by itself, (B, 1, D, H, W)."""
        return self.pseudo_healthy if self.painted is None else self.painted


class DALNetwork(nn.Module):
    """E_A, E_M, R_A, R_E and R_D with the switches of Table 7."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the sub-networks for `config`; weights are random until a state is loaded."""
        super().__init__()
        self.config = config
        network = config.network
        self.anatomy_extractor = AnatomyExtractor(network)
        self.modality_extractor = ModalityExtractor(network, config.grid.shape)
        self.anatomy_encoder = AnatomyEncoder(network)
        self.anatomy_restorer = AnatomyRestorer(network)
        self.representation_combiner = RepresentationCombiner(network, self.modality_extractor.length)
        if not network.modality_reuse:
            self.sequence_modality = nn.Embedding(len(network.sequences), self.modality_extractor.length)

    def extract_anatomy(self, image: Tensor, brain: Tensor) -> Anatomy:
        """A = phi(E_A(x)) with its intermediate forms (Eq. 1-4); `image` and `brain` are (B, 1, D, H, W)."""
        scores = self.anatomy_extractor(image.contiguous(memory_format=torch.channels_last_3d))
        one_hot = differentiable_one_hot(scores) * brain
        return Anatomy(scores, one_hot, merge_classes(one_hot, brain))

    def extract_modality(self, image: Tensor, sequence: Tensor) -> Tensor:
        """M = f(E_M(x_bar)), (B, m); `sequence` (B,) indexes `config.sequences`, used only without modality reuse."""
        if self.config.network.modality_reuse:
            modality: Tensor = self.modality_extractor(image)
            return modality
        learned: Tensor = self.sequence_modality(sequence)
        return learned

    def extract_edges(self, image: Tensor, anatomy: Tensor) -> Tensor:
        """E = E_d(A), (B, 1, D, H, W), or the edges of the image itself without disentangling (Table 7)."""
        if self.config.network.restoration_input == "image_edges":
            return canny3d(image)
        return EDGE_DETECTORS[self.config.network.edge_kind](anatomy)

    def restore_code(self, anatomy: Tensor, edges: Tensor) -> Tensor:
        """R_E(E), or R_A(A) itself without edge-to-image restoration (Table 7)."""
        code: Tensor
        if self.config.network.restoration_input == "anatomy":
            code = self.anatomy_encoder(anatomy)
        else:
            code = self.anatomy_restorer(edges)
        return code

    def combine(self, code: Tensor, modality: Tensor, brain: Tensor) -> Tensor:
        """R_D(C_a, M) inside the brain, (B, 1, D, H, W)."""
        image: Tensor = self.representation_combiner(code, modality, brain.shape[2:])
        return image * brain

    @torch.inference_mode()
    def restore(self, image: Tensor, brain: Tensor, sequence: Tensor, typical: Tensor | None = None) -> Restoration:
        """The pseudo-healthy image of a scan and everything found on the way (Eq. 14).

        Args:
            image: x_a, (B, 1, D, H, W) in [0, 1], 0 outside the brain.
            brain: M_brain, (B, 1, D, H, W), 0 or 1.
            sequence: (B,) index into `config.network.sequences`.
            typical: (k, m), modality vectors with which the restored anatomy is painted as well.
        """
        anatomy = self.extract_anatomy(image, brain)
        edges = self.extract_edges(image, anatomy.image)
        modality = self.extract_modality(image, sequence)
        code = self.restore_code(anatomy.image, edges)
        pseudo_healthy = self.combine(code, modality, brain).clamp(0, 1)
        if typical is None:
            return Restoration(pseudo_healthy, anatomy, edges, modality)
        paintings = [self.combine(code, other.expand_as(modality), brain).clamp(0, 1) for other in typical]
        return Restoration(pseudo_healthy, anatomy, edges, modality, typical=torch.cat(paintings, dim=1))
