"""The losses of the paper (Eq. 5-11) and two of our own, each a pure function of tensors, in float32.

Sequences of one subject are indexed i, j, subjects p, q. A batch holds subjects in pairs (0, 1), (2, 3), ...: the p and
q of Eq. 6-8 are the two of a pair, so that a batch of 2 n subjects is n batches of the paper's size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ANATOMY_MARGIN, MODALITY_MARGIN = 0.2, 0.5
"""alpha_A and alpha_M, section 3.2.3 and Appendix C."""


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity of two batches of features, (..., n) and (..., n) -> (...)."""
    return functional.cosine_similarity(first.float(), second.float(), dim=-1, eps=1e-8)


def _partners(features: Tensor) -> Tensor:
    """The features of every subject's partner: (B, ...) with each pair of subjects swapped."""
    return features.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _sequence_pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(count) if i != j]


def anatomy_consistency(anatomy: Tensor) -> Tensor:
    """L_con^A (Eq. 5; section 5.2 for more than two sequences): paired scans have one anatomy.

    Args:
        anatomy: (B, S, n), what E_A found in each sequence of each subject, flattened.
    """
    pairs = _sequence_pairs(anatomy.shape[1])
    return torch.stack([(cosine(anatomy[:, i], anatomy[:, j]) - 1).square() for i, j in pairs]).mean()


def anatomy_similarity(anatomy: Tensor, margin: float = ANATOMY_MARGIN) -> Tensor:
    """L_sim^A (Eq. 7): paired scans share more anatomy than scans of two subjects; `anatomy` (B, S, n), B even."""
    others = _partners(anatomy)
    terms = [
        (cosine(anatomy[:, i], others[:, i]) - cosine(anatomy[:, i], anatomy[:, j]) + margin).clamp_min(0)
        for i, j in _sequence_pairs(anatomy.shape[1])
    ]
    return torch.stack(terms).mean()


def modality_consistency(modality: Tensor) -> Tensor:
    """L_con^M (Eq. 6): scans of one sequence have one modality; `modality` (B, S, m), B even."""
    return (cosine(modality, _partners(modality)) - 1).square().mean()


def modality_similarity(modality: Tensor, margin: float = MODALITY_MARGIN) -> Tensor:
    """L_sim^M (Eq. 8): one sequence of two subjects is more alike than two of one; `modality` (B, S, m), B even."""
    others = _partners(modality)
    terms = [
        (cosine(modality[:, i], modality[:, j]) - cosine(modality[:, i], others[:, i]) + margin).clamp_min(0)
        for i, j in _sequence_pairs(modality.shape[1])
    ]
    return torch.stack(terms).mean()


def image_distance(made: Tensor, target: Tensor, brain: Tensor) -> Tensor:
    """The L1 distance of Eq. 9 and 11 as a mean over each brain, whose voxels may be weighted; all (B, 1, D, H, W).

    The target of x_ij = R(A_i, M_j) is x_j: the x_i printed in the paper would ask for one sequence's contrast from
    the other's modality.
    """
    return _brain_mean((made.float() - target.float()).abs(), brain)


def _brain_mean(values: Tensor, brain: Tensor) -> Tensor:
    """Mean over the brain of each subject, then over subjects: a batch split over processes has the same mean."""
    return ((values * brain).flatten(1).sum(1) / brain.flatten(1).sum(1).clamp_min(1)).mean()


def code_consistency(
    restored: Tensor, encoded: Tensor, normalise: bool = True, emphasis: Tensor | None = None
) -> Tensor:
    """L_con^AE (Eq. 10): what R_E restores from edges is what R_A encodes from the anatomy; (B, c, d, h, w) each.

    Args:
        restored: R_E(E).
        encoded: R_A(A).
        normalise: Compare per-channel standardised codes and let no gradient reach R_A. R_D standardises codes
            before it uses them, so their scale is free, and without this the loss shrinks by shrinking the codes.
        emphasis: (B, 1, D, H, W) on the image's grid, how much each voxel of the brain counts, 0 outside; without it
            the mean is over the whole grid.
    """
    restored, encoded = restored.float(), encoded.float()
    if normalise:
        restored = functional.instance_norm(restored)
        encoded = functional.instance_norm(encoded.detach())
    squared = (restored - encoded).square()
    if emphasis is None:
        return squared.mean()
    depth, height, width = squared.shape[2:]
    return _brain_mean(squared, functional.adaptive_avg_pool3d(emphasis, (depth, height, width)).expand_as(squared))


def tissue_cross_entropy(scores: Tensor, tissues: Tensor) -> Tensor:
    """Cross-entropy of E_A's class scores against known healthy tissues; not in the paper, off without labels.

    Args:
        scores: A_c, (B, C, D, H, W).
        tissues: Int64 (B, D, H, W), 1..C; 0 (outside) and -1 (unknown) do not count.
    """
    entropy = functional.cross_entropy(scores.float(), (tissues - 1).clamp_min(0), reduction="none")
    return _brain_mean(entropy, (tissues > 0).float())


def total_variation(scores: Tensor, brain: Tensor) -> Tensor:
    """Mean change of class probabilities between neighbours in the brain: keeps E_A from dithering; not in the paper.

    Args:
        scores: A_c, (B, C, D, H, W).
        brain: (B, 1, D, H, W), 0 or 1.
    """
    probabilities = scores.float().softmax(dim=1)
    changes = []
    for axis in (2, 3, 4):
        size = scores.shape[axis] - 1
        both = brain.narrow(axis, 0, size) * brain.narrow(axis, 1, size)
        changes.append(_brain_mean(probabilities.diff(dim=axis).abs().sum(dim=1, keepdim=True), both))
    return torch.stack(changes).mean()
