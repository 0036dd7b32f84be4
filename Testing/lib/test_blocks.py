import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from DALAnomalyLib.network.blocks import UNet, convolution, fold


def numbered(*shape: int) -> Tensor:
    """Every voxel has its own value, none is 0."""
    return torch.arange(1.0, 1 + torch.tensor(shape).prod()).reshape(shape)


def unfold(folded: Tensor, shape: tuple[int, ...], factor: int = 2) -> Tensor:
    """The inverse of `fold`, voxel by voxel."""
    batch, channels, *sizes = folded.shape
    channels //= factor**3
    image = torch.empty(batch, channels, *(size * factor for size in sizes))
    for cell, (dz, dy, dx) in enumerate(itertools.product(range(factor), repeat=3)):
        image[:, :, dz::factor, dy::factor, dx::factor] = folded[:, cell :: factor**3]
    return image[:, :, : shape[0], : shape[1], : shape[2]]


def test_fold_by_hand() -> None:
    folded = fold(numbered(1, 1, 2, 2, 4))
    assert folded.shape == (1, 8, 1, 1, 2)
    assert folded[0, :, 0, 0, 0].tolist() == [1, 2, 5, 6, 9, 10, 13, 14]
    assert folded[0, :, 0, 0, 1].tolist() == [3, 4, 7, 8, 11, 12, 15, 16]


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("shape", [(6, 6, 12), (7, 6, 9), (5, 7, 11)])
def test_folding_loses_nothing(shape: tuple[int, int, int], factor: int) -> None:
    image = numbered(2, 3, *shape)
    folded = fold(image, factor)
    assert folded.shape == (2, 3 * factor**3, *(-(-size // factor) for size in shape))
    assert torch.equal(unfold(folded, shape, factor), image)
    assert folded.count_nonzero() == image.numel()  # the padding of odd sizes is 0


def test_convolution_normalises_each_channel_of_each_subject() -> None:
    torch.manual_seed(0)
    block = convolution(2, 4, stride=2)
    image = torch.randn(3, 2, 7, 8, 9)
    weight = next(module for module in block if isinstance(module, nn.Conv3d)).weight
    raw = functional.conv3d(image, weight, stride=2, padding=1)
    assert raw.shape == (3, 4, 4, 4, 5)
    torch.testing.assert_close(block(image), functional.leaky_relu(functional.instance_norm(raw), 0.01))


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 10, 7)])
def test_unet_keeps_the_grid_and_trains_every_weight(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = UNet(2, (3, 5, 4))
    features = network(torch.randn(2, 2, *shape))
    assert features.shape == (2, 3, *shape)
    (features * torch.randn_like(features)).sum().backward()
    idle = [name for name, weight in network.named_parameters() if not weight.grad.abs().sum() > 0]
    assert idle == []


def test_a_level_of_the_unet_halves_the_resolution() -> None:
    sizes = []
    network = UNet(1, (2, 2, 2))
    for level in network.down:
        level.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[2:])))
    network(torch.randn(1, 1, 16, 12, 9))
    assert sizes == [(8, 6, 5), (4, 3, 3)]


def test_one_level_is_two_convolutions() -> None:
    network = UNet(1, (2,))
    image = torch.randn(1, 1, 5, 5, 5)
    assert torch.equal(network(image), network.first(image))
