import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.edges import canny3d, label_change_surface

DETECTORS = pytest.mark.parametrize("detect", [label_change_surface, canny3d])
AXES = pytest.mark.parametrize("axis", [2, 3, 4])


def zeros(*shape: int) -> Tensor:
    return torch.zeros(1, 1, *shape)


def nested_brain() -> Tensor:
    """A box of class 1 around a box of class 2 around a box of class 3, as merged classes, off centre."""
    anatomy = zeros(16, 17, 18)
    anatomy[..., 2:14, 3:14, 2:15] = 1 / 3
    anatomy[..., 4:12, 5:12, 4:13] = 2 / 3
    anatomy[..., 6:10, 7:11, 6:10] = 1
    return anatomy


def random_labels(seed: int = 0) -> Tensor:
    labels = torch.randint(4, (1, 1, 9, 10, 11), generator=torch.Generator().manual_seed(seed)).float()
    return labels / 3


def step(axis: int, height: float = 0.7) -> Tensor:
    image = zeros(12, 13, 14)
    image.narrow(axis, 6, image.shape[axis] - 6).fill_(height)
    return image


# label-change surface ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [1 / 3, 1.0, 5.0])
def test_surface_of_a_cube_counted_by_hand(label: float) -> None:
    anatomy = zeros(8, 8, 8)
    anatomy[..., 2:6, 2:6, 2:6] = label
    expected = torch.zeros_like(anatomy)
    expected[..., 2:6, 2:6, 2:6] = 1
    expected[..., 3:5, 3:5, 3:5] = 0
    edges = label_change_surface(anatomy)
    assert edges.sum() == 4**3 - 2**3
    assert torch.equal(edges, expected)


def test_nested_classes_give_the_outline_and_every_inner_surface_once() -> None:
    edges = label_change_surface(nested_brain())
    shells = [(12, 11, 13), (8, 7, 9), (4, 4, 4)]
    assert edges.sum() == sum(a * b * c - (a - 2) * (b - 2) * (c - 2) for a, b, c in shells)


@AXES
def test_a_boundary_is_one_voxel_thick_and_lies_on_the_larger_label(axis: int) -> None:
    anatomy = torch.full((1, 1, 8, 8, 8), 1 / 3)
    anatomy.narrow(axis, 4, 4).fill_(2 / 3)
    edges = label_change_surface(anatomy)[..., 1:-1, 1:-1, 1:-1]  # without the outline
    planes = edges.transpose(2, axis).flatten(3).mean(dim=3).flatten()
    assert planes.tolist() == [0, 0, 0, 1, 0, 0]


def test_a_brain_cut_by_the_grid_has_its_outline_there() -> None:
    edges = label_change_surface(torch.ones(1, 1, 5, 6, 7))
    assert edges.sum() == 5 * 6 * 7 - 3 * 4 * 5


@pytest.mark.parametrize("moved", [(1, 0, 0), (0, -2, 0), (2, 1, -2)])
@pytest.mark.parametrize("detect", [label_change_surface, canny3d])
def test_edges_move_with_the_anatomy(detect: Callable[[Tensor], Tensor], moved: tuple[int, int, int]) -> None:
    anatomy = zeros(22, 22, 22)
    anatomy[..., 3:19, 3:20, 2:20] = nested_brain()[..., :16, :17, :18]
    shifted = detect(anatomy.roll(moved, dims=(2, 3, 4)))
    assert shifted.any()
    assert torch.equal(shifted, detect(anatomy).roll(moved, dims=(2, 3, 4)))


@pytest.mark.parametrize("order", list(itertools.permutations((2, 3, 4))))
def test_surface_turns_and_flips_with_the_anatomy(order: tuple[int, int, int]) -> None:
    anatomy = random_labels()
    turned = label_change_surface(anatomy.permute(0, 1, *order).flip(2, 4))
    assert torch.equal(turned, label_change_surface(anatomy).permute(0, 1, *order).flip(2, 4))


def test_only_the_order_of_the_labels_matters() -> None:
    anatomy = random_labels()
    relabelled = torch.tensor([0.0, 0.05, 0.9, 7.0])[(3 * anatomy).round().long()]
    assert torch.equal(label_change_surface(relabelled), label_change_surface(anatomy))


def test_rounding_errors_of_a_are_no_edges() -> None:
    anatomy = nested_brain()
    noise = 1e-6 * torch.randn(anatomy.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(label_change_surface(anatomy + noise * (anatomy > 0)), label_change_surface(anatomy))


# both detectors ------------------------------------------------------------------------------------------------------


@DETECTORS
def test_edges_are_binary_float32_and_carry_no_gradient(detect: Callable[[Tensor], Tensor]) -> None:
    edges = detect(nested_brain().requires_grad_())
    assert edges.dtype == torch.float32
    assert edges.unique().tolist() == [0, 1]
    assert not edges.requires_grad


@DETECTORS
def test_subjects_of_a_batch_do_not_mix(detect: Callable[[Tensor], Tensor]) -> None:
    first, second = random_labels(1), random_labels(2)
    assert torch.equal(detect(torch.cat((first, second))), torch.cat((detect(first), detect(second))))


@DETECTORS
def test_edges_are_the_same_under_autocast(detect: Callable[[Tensor], Tensor]) -> None:
    image = 6 * torch.rand((1, 1, 20, 20, 20), generator=torch.Generator().manual_seed(0))
    plain = detect(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(detect(image), plain)
    assert 0 < plain.mean() < 1


# Canny ---------------------------------------------------------------------------------------------------------------


@AXES
@pytest.mark.parametrize("flipped", [False, True])
def test_canny_finds_one_plane_of_a_step_on_its_bright_side(axis: int, flipped: bool) -> None:
    image = step(axis)
    expected = torch.zeros_like(image)
    expected.select(axis, 6).fill_(1)
    if flipped:
        image, expected = image.flip(axis), expected.flip(axis)
    assert torch.equal(canny3d(image), expected)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_canny_finds_nothing_in_a_constant(value: float) -> None:
    assert not canny3d(torch.full((1, 1, 9, 10, 11), value)).any()


@pytest.mark.parametrize(("height", "found"), [(0.15, False), (0.25, False), (0.35, True)])
def test_canny_starts_only_at_steep_steps(height: float, found: bool) -> None:
    # smoothed with sigma 1, a step of height h rises by 0.31 h per voxel
    assert bool(canny3d(step(2, height)).any()) == found


def test_canny_follows_an_edge_into_its_weak_part_only_where_they_touch() -> None:
    image = zeros(12, 10, 24)
    image[..., 6:, :, :12] = 0.4
    image[..., 6:, :, 12:] = 0.25  # too weak to start, strong enough to continue
    joined = canny3d(image)[..., 6, :, 14:].mean()
    weak_alone = canny3d(image[..., 14:]).mean()
    assert (joined, weak_alone) == (1, 0)


def test_canny_of_a_ball_is_a_thin_closed_shell() -> None:
    axis = torch.arange(24.0) - 11.5
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    edges = canny3d((radius < 8).float()[None, None])[0, 0] > 0
    assert 7 < radius[edges].min() <= radius[edges].max() < 9
    # from the centre, every direction meets the shell
    directions = torch.randn((500, 3), generator=torch.Generator().manual_seed(0))
    directions /= directions.norm(dim=1, keepdim=True)
    near = torch.stack(torch.where(edges), dim=1) - 11.5
    assert torch.cdist(8 * directions, near).min(dim=1).values.max() < 1.2
    # a surface of 4 pi r^2 = 804 faces, not two layers of it
    assert edges.sum() < 1000
