"""Where each voxel of a generated scan looks in its subject: a random affine map and a smooth displacement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from DALAnomalyLib.configuration import TOP_MARGIN_MM, GridConfig
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import chance, smooth_noise, uniform


def frame_coordinates(grid: GridConfig, device: torch.device) -> Tensor:
    """Frame position of every voxel centre of the model grid, LPS mm, float32 (3, D, H, W) in (x, y, z) order.

    The frame is the pack's: the brain's box centred on x = y = 0, its top at z = 0, as at inference.
    """
    depth, height, width = grid.shape
    x = (torch.arange(width, device=device) - (width - 1) / 2) * grid.spacing[0]
    y = (torch.arange(height, device=device) - (height - 1) / 2) * grid.spacing[1]
    z = (torch.arange(depth, device=device) - (depth - 1)) * grid.spacing[2] + TOP_MARGIN_MM
    z, y, x = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack((x, y, z)).float()


def random_coordinates(
    coordinates: Tensor, grid: GridConfig, config: GeneratorConfig, generator: torch.Generator
) -> Tensor:
    """The frame positions (3, D, H, W) that a random new brain takes its voxels from; half of all are mirrored."""
    matrix = _random_matrix(config, generator).to(coordinates.device)
    shift = torch.tensor([uniform(generator, -1, 1) for _ in range(3)], device=coordinates.device)
    # about the middle of a brain, 65 mm below its top
    centre = torch.tensor([0.0, 0.0, -65.0], device=coordinates.device).reshape(3, 1, 1, 1)
    moved = torch.einsum("ab,bdhw->adhw", matrix, coordinates - centre) + centre
    moved = moved + (shift * config.translation_mm).reshape(3, 1, 1, 1)
    if config.deformation_mm > 0:
        extents = [n * s for n, s in zip(grid.shape, reversed(grid.spacing), strict=True)]
        cells = [max(3, round(extent / config.deformation_spacing_mm)) for extent in extents]
        strength = config.deformation_mm * uniform(generator, 0.3, 1.0)
        for factor in (1, 2):  # a coarse and a fine octave
            size = (cells[0] * factor, cells[1] * factor, cells[2] * factor)
            moved = moved + smooth_noise(generator, grid.shape, size, channels=3) * (strength / factor**1.5)
    return moved


def random_rotation(degrees: float, generator: torch.Generator) -> Tensor:
    """Up to `degrees` about each axis in turn: float32 (3, 3)."""
    matrix = torch.eye(3)
    for axis in range(3):
        angle = math.radians(degrees) * uniform(generator, -1, 1)
        first, second = [other for other in range(3) if other != axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _random_matrix(config: GeneratorConfig, generator: torch.Generator) -> Tensor:
    matrix = random_rotation(config.rotation_degrees, generator)
    scales = torch.tensor([1 + config.scaling * uniform(generator, -1, 1) for _ in range(3)])
    shears = torch.eye(3)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        shears[row, column] = config.shearing * uniform(generator, -1, 1)
    if chance(generator, 0.5):
        scales[0] = -scales[0]
    return matrix @ shears @ torch.diag(scales)
