import math
from dataclasses import replace

import pytest
import torch

from DALAnomalyLib.configuration import GridConfig, preset
from DALAnomalyLib.preprocessing.model_grid import TOP_MARGIN_MM
from DALAnomalyTraining.generator.deformation import frame_coordinates, random_coordinates
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import generator_for

CPU = torch.device("cpu")
GRID = preset("tiny").grid
STILL = GeneratorConfig(rotation_degrees=0, translation_mm=0, scaling=0, shearing=0, deformation_mm=0)
CENTRE = torch.tensor([0.0, 0.0, -65.0])
COORDINATES = frame_coordinates(GRID, CPU)
MIRRORED = COORDINATES * torch.tensor([-1.0, 1.0, 1.0]).reshape(3, 1, 1, 1)


def drawn(config: GeneratorConfig, key: object, grid: GridConfig = GRID) -> torch.Tensor:
    return random_coordinates(frame_coordinates(grid, CPU), grid, config, generator_for(CPU, key))


def affine_of(coordinates: torch.Tensor) -> torch.Tensor:
    """The (3, 4) matrix that takes frame positions to `coordinates`, by least squares."""
    points = torch.cat((COORDINATES.flatten(1), torch.ones(1, COORDINATES[0].numel()))).double()
    return torch.linalg.lstsq(points.T, coordinates.flatten(1).double().T).solution.T


def test_the_frame_is_centred_and_hangs_from_the_top() -> None:
    grid = GridConfig((16, 18, 21), (2.0, 3.0, 5.0))
    x, y, z = frame_coordinates(grid, CPU)
    assert x.shape == grid.shape
    # (D, H, W) are (z, y, x), and each coordinate changes along its own axis alone
    assert x[3, 4].tolist() == [2.0 * (i - 10) for i in range(21)]
    assert y[3, :, 4].tolist() == [3.0 * (j - 8.5) for j in range(18)]
    assert z[:, 3, 4].tolist() == [TOP_MARGIN_MM - 5.0 * (15 - k) for k in range(16)]
    assert bool((x == x[:1, :1]).all() and (y == y[:1, :, :1]).all() and (z == z[:, :1, :1]).all())


def test_without_any_range_a_brain_is_itself_or_its_mirror_image() -> None:
    mirrored = 0
    for key in range(200):
        coordinates = drawn(STILL, key)
        is_mirrored = torch.allclose(coordinates, MIRRORED, atol=1e-4)
        assert is_mirrored or torch.allclose(coordinates, COORDINATES, atol=1e-4)
        mirrored += is_mirrored
    assert 75 <= mirrored <= 125  # half of 200, to three and a half standard deviations


@pytest.mark.parametrize("key", range(4))
def test_rotation_keeps_distances_and_the_middle_of_the_brain(key: int) -> None:
    config = replace(STILL, rotation_degrees=10.0)
    matrix = affine_of(drawn(config, key))
    linear = matrix[:, :3]
    torch.testing.assert_close(linear @ linear.T, torch.eye(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(linear @ CENTRE.double() + matrix[:, 3], CENTRE.double(), rtol=0, atol=1e-3)
    unmirrored = linear * torch.tensor([torch.linalg.det(linear).sign(), 1.0, 1.0])
    angle = math.degrees(math.acos(min(1.0, float((unmirrored.trace() - 1) / 2))))
    assert 0.5 < angle <= 10 * math.sqrt(3)


def test_translation_and_scaling_stay_within_their_ranges_and_use_them() -> None:
    moved = torch.stack([affine_of(drawn(replace(STILL, translation_mm=4.0), key)) for key in range(40)])
    assert 3.5 < float(moved[:, :, 3].abs().max()) <= 4.0 + 1e-3
    scaled = torch.stack([affine_of(drawn(replace(STILL, scaling=0.1), key))[:, :3] for key in range(40)])
    factors = scaled.diagonal(dim1=1, dim2=2).abs()
    assert 0.9 - 1e-4 <= float(factors.min()) < 0.92
    assert 1.08 < float(factors.max()) <= 1.1 + 1e-4
    assert float((scaled - torch.diag_embed(scaled.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-4


def test_shearing_slants_without_changing_volume() -> None:
    sheared = torch.stack([affine_of(drawn(replace(STILL, shearing=0.04), key))[:, :3] for key in range(20)])
    torch.testing.assert_close(torch.linalg.det(sheared).abs(), torch.ones(20).double(), rtol=0, atol=1e-4)
    slant = (sheared - torch.diag_embed(sheared.diagonal(dim1=1, dim2=2))).abs()
    assert 0.03 < float(slant.max()) <= 0.04 + 1e-4


@pytest.mark.parametrize("key", range(3))
def test_default_deformation_is_smooth_and_does_not_fold(key: int) -> None:
    """Positive Jacobian nearly everywhere: tissue is stretched and squeezed, not turned inside out."""
    grid = preset("default").grid
    coordinates = drawn(replace(STILL, deformation_mm=GeneratorConfig().deformation_mm), key, grid)
    x, y, z = (coordinates.diff(dim=axis)[:, :59, :75, :59] for axis in (3, 2, 1))
    # the triple product of the three slopes
    determinant = (torch.linalg.cross(x, y, dim=0) * z).sum(0) / float(torch.tensor(grid.spacing).prod())
    orientation = determinant.mean().sign()
    assert float((determinant * orientation > 0).float().mean()) > 0.999
    assert float(determinant.abs().std()) > 0.05  # it does deform


def test_deformation_moves_by_about_what_it_says() -> None:
    config = replace(STILL, deformation_mm=3.0)
    displacements = []
    for key in range(30):
        coordinates = drawn(config, key)
        plain = min((COORDINATES, MIRRORED), key=lambda still: float((coordinates - still).square().mean()))
        displacements.append((coordinates - plain).std())
    # strengths between 0.3 and 1 of 3 mm, less on average between control points, plus the fine octave
    assert 0.5 < float(torch.stack(displacements).mean()) < 3.0


def test_the_same_key_draws_the_same_brain() -> None:
    config = GeneratorConfig()
    assert torch.equal(drawn(config, "a"), drawn(config, "a"))
    assert not torch.equal(drawn(config, "a"), drawn(config, "b"))
