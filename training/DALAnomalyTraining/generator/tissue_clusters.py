"""Tissues of a real pair by clustering its sequences together: no label of anybody, a warm start for E_A."""

from __future__ import annotations

import torch
from torch import Tensor

from DALAnomalyTraining.label_classes import CSF, GREY, WHITE

_SHARES = {CSF: 0.05, GREY: 0.4, WHITE: 0.85}
"""Where each tissue's voxels lie, roughly, among the brain's intensities on T1, from dark to bright: the start."""
_NEIGHBOURS = 0.05
_ITERATIONS = 12
_SAMPLE = 50_000


def cluster_tissues(images: Tensor, brain: Tensor) -> Tensor:
    """Fluid, grey and white matter as the three clusters (k-means) of the intensities in all sequences.

    Args:
        images: Float32 (S, D, H, W), the first one T1, on which the tissues are told by their order.
        brain: (D, H, W), above 0 inside.

    Returns:
        Int64 (D, H, W): 1 CSF, 2 grey, 3 white matter, 0 outside.
    """
    inside = brain > 0
    values = images[:, inside].T.contiguous()  # (voxels, S)
    # outliers (vessels, fat at the rim) would stretch the scale
    values = torch.stack([_standardised(column) for column in values.unbind(1)], dim=1)
    sample = values[:: max(1, len(values) // _SAMPLE)]
    order = sample[:, 0].argsort()
    width = max(1, int(_NEIGHBOURS * len(sample)))
    centres = []
    for share in _SHARES.values():
        middle = int(share * len(sample))
        centres.append(sample[order[max(0, middle - width) : middle + width]].mean(dim=0))
    centre = torch.stack(centres)
    for _ in range(_ITERATIONS):
        nearest = torch.cdist(sample, centre).argmin(dim=1)
        members = (nearest[:, None] == torch.arange(len(centre), device=sample.device)).to(sample)
        moved = members.T @ sample / members.sum(dim=0).clamp_min(1)[:, None]
        centre = torch.where(members.any(dim=0)[:, None], moved, centre)
    tissues = torch.zeros(brain.shape, dtype=torch.int64, device=brain.device)
    names = torch.tensor(list(_SHARES), device=brain.device)
    tissues[inside] = names[torch.cdist(values, centre).argmin(dim=1)]
    return tissues


def _standardised(values: Tensor) -> Tensor:
    """In units of the spread between the 2nd and the 98th percentile, and cut there; (n,)."""
    ordered = values.sort().values
    low, high = ordered[int(0.02 * len(ordered))], ordered[int(0.98 * (len(ordered) - 1))]
    return ((values - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
