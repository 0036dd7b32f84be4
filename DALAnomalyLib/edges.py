"""Anatomical edges E = E_d(A) (section 3.3.1): the only thing that the anatomy restorer sees of a scan.

Edges carry no gradient: neither Canny's decisions nor label changes are differentiable, so E_A learns from
Eq. 5, 7 and 9 alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def label_change_surface(anatomy: Tensor) -> Tensor:
    """Voxels of A that differ from one of their 6 neighbours and carry the larger label, so surfaces stay thin.

    Args:
        anatomy: A, (B, 1, D, H, W); any labels, 0 is background.

    Returns:
        E, float32 (B, 1, D, H, W), 0 or 1. The brain's outline is part of it.
    """
    padded = functional.pad(anatomy, (1,) * 6)
    # half a step between two merged classes: A is exact only up to float rounding
    lower_neighbour = torch.zeros_like(anatomy, dtype=torch.bool)
    for axis in (2, 3, 4):
        inner = [slice(1, -1) if other != axis else slice(None) for other in (2, 3, 4)]
        line = padded[:, :, inner[0], inner[1], inner[2]]
        size = anatomy.shape[axis]
        for start in (0, 2):
            lower_neighbour |= line.narrow(axis, start, size) < anatomy - 1e-3
    return lower_neighbour.float()


@torch.no_grad()
def canny3d(image: Tensor, sigma: float = 1.0, low: float = 0.05, high: float = 0.1) -> Tensor:
    """Canny's detector in three dimensions: smoothed gradient, thinning along it, hysteresis.

    Args:
        image: (B, 1, D, H, W), in [0, 1].
        sigma: Standard deviation of the smoothing, voxels.
        low: Gradient magnitude that continues an edge, per voxel.
        high: Gradient magnitude that starts one. A step of 1/3, between two classes of A, reaches 0.13.

    Returns:
        Float32 (B, 1, D, H, W), 0 or 1.
    """
    with torch.autocast(image.device.type, enabled=False):  # half precision would make steps of smooth intensities
        gradient = torch.cat(torch.gradient(_gaussian(image.float(), sigma), dim=(2, 3, 4)), dim=1)
        magnitude = gradient.norm(dim=1, keepdim=True)
        thin = magnitude * _is_ridge(magnitude, gradient / (magnitude + 1e-8))
        return _hysteresis(thin >= high, thin >= low).float()


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        image = functional.conv3d(functional.pad(image, padding, mode="replicate"), kernel.reshape(shape))
    return image


def _is_ridge(magnitude: Tensor, normal: Tensor) -> Tensor:
    """Where the magnitude is largest among its two neighbours one voxel along the (B, 3, D, H, W) normal."""
    sizes = magnitude.shape[2:]
    identity = torch.eye(3, 4, device=magnitude.device).expand(len(magnitude), 3, 4)
    here = functional.affine_grid(identity, list(magnitude.shape), align_corners=True)
    # grid_sample counts (x, y, z) in units of half the extent
    scale = torch.tensor([2 / max(size - 1, 1) for size in reversed(sizes)], device=magnitude.device)
    step = normal.flip(1).movedim(1, -1) * scale
    ahead, behind = (
        functional.grid_sample(magnitude, here + sign * step, align_corners=True, padding_mode="border")
        for sign in (1, -1)
    )
    # a step between two voxels is equally steep on both: the brighter one keeps the edge, as for label changes
    tie = 1e-5
    return (magnitude > ahead + tie) & (magnitude > behind - tie)


def _hysteresis(strong: Tensor, weak: Tensor) -> Tensor:
    """The weak voxels that 26-connected paths of weak voxels join to a strong one."""
    while True:
        grown = (functional.max_pool3d(strong.float(), 3, stride=1, padding=1) > 0) & weak | strong
        if torch.equal(grown, strong):
            return grown
        strong = grown
