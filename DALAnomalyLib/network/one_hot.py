"""The differentiable one-hot encoding and the weighted channel merging of section 3.2.1."""

from __future__ import annotations

import torch
from torch import Tensor


def differentiable_one_hot(continuous: Tensor) -> Tensor:
    """A_doh = A_hard - GC(A_soft) + A_soft (Eq. 1-3): the forward value is one-hot, the gradient softmax's.

    Args:
        continuous: A_c, float (B, C, D, H, W), the class scores of the anatomy extractor.

    Returns:
        A_doh, float32 (B, C, D, H, W), exactly 0 or 1, one 1 along C.
    """
    # softmax in bfloat16 would tie close classes and argmax would then prefer the first of them
    soft = continuous.float().softmax(dim=1)
    # not argmax, which takes ten times as long on CPUs
    hard = torch.zeros_like(soft).scatter_(1, soft.max(dim=1, keepdim=True).indices, 1.0)
    # grouped so that rounding cannot move the forward value off 0 and 1
    return hard + (soft - soft.detach())


def merge_classes(one_hot: Tensor, brain: Tensor) -> Tensor:
    """A = 1/C sum_i i * A_doh_i inside the brain, 0 outside (Eq. 4).

    Args:
        one_hot: A_doh, (B, C, D, H, W).
        brain: M_brain, (B, 1, D, H, W), 0 or 1.

    Returns:
        A, (B, 1, D, H, W): 1/3, 2/3 and 1 for the classes of C = 3.
    """
    classes = one_hot.shape[1]
    weights = torch.arange(1, classes + 1, device=one_hot.device, dtype=one_hot.dtype) / classes
    with torch.autocast(one_hot.device.type, enabled=False):  # 1/3 is not 1/3 in half precision
        return torch.einsum("bcdhw,c->bdhw", one_hot, weights).unsqueeze(1) * brain


def class_index(anatomy: Tensor, classes: int) -> Tensor:
    """The class 0 (background) .. C of every voxel of a merged anatomical image A; the inverse of Eq. 4."""
    return (anatomy.detach() * classes).round().long()
