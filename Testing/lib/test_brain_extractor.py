from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from DALAnomalyLib.errors import CancelledError
from DALAnomalyLib.network.blocks import fold, unfold
from DALAnomalyLib.network.brain_extractor import BrainExtractor, normalise
from DALAnomalyLib.network.cancellation import cancellable
from DALAnomalyLib.progress import CancelToken


def numbered(*shape: int) -> Tensor:
    """Every voxel has its own value, none is 0."""
    return torch.arange(1.0, 1 + torch.tensor(shape).prod()).reshape(shape)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 6, 12), (7, 6, 9), (5, 7, 11), (1, 1, 1)])
def test_unfold_undoes_fold(shape: tuple[int, int, int], factor: int) -> None:
    image = numbered(2, 3, *shape)
    depth, height, width = shape
    restored = unfold(fold(image, factor), factor)
    assert restored.shape == (2, 3, *(-(-size // factor) * factor for size in shape))
    assert torch.equal(restored[:, :, :depth, :height, :width], image)


def test_unfold_voxel_by_voxel() -> None:
    cells = numbered(2, 3 * 8, 2, 4, 3)
    image = unfold(cells)
    assert image.shape == (2, 3, 4, 8, 6)
    for cell, (dz, dy, dx) in enumerate(itertools.product(range(2), repeat=3)):
        assert torch.equal(image[:, :, dz::2, dy::2, dx::2], cells[:, cell::8])


@pytest.mark.parametrize("shape", [(8, 10, 12), (9, 7, 11), (17, 16, 13)])
def test_logits_have_the_size_of_the_image(shape: tuple[int, int, int]) -> None:
    network = BrainExtractor((2, 3, 4)).eval()
    assert network(torch.rand(2, 1, *shape)).shape == (2, 1, *shape)


def test_the_shipped_size_has_one_logit_per_voxel() -> None:
    with torch.inference_mode():
        assert BrainExtractor()(torch.rand(1, 1, 17, 19, 21)).shape == (1, 1, 17, 19, 21)


def test_voxels_of_one_cell_have_logits_of_their_own() -> None:
    network = BrainExtractor((2,)).requires_grad_(False)
    network.classify.weight.zero_()
    network.classify.bias.copy_(torch.arange(8.0))
    logits = network(torch.rand(1, 1, 5, 4, 3))[0, 0]
    expected = torch.arange(8.0).reshape(2, 2, 2).repeat(3, 2, 2)[:5, :4, :3]
    assert torch.equal(logits, expected)


def test_every_weight_is_trained() -> None:
    torch.manual_seed(0)
    network = BrainExtractor((2, 3, 4))
    # a sum of the logits alone would not: what a normalisation layer gives sums to a constant
    network(torch.rand(1, 1, 16, 16, 16)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def head() -> Tensor:
    torch.manual_seed(0)
    image = torch.zeros(20, 22, 24)
    image[4:16, 5:17, 6:18] = 100 + 50 * torch.rand(12, 12, 12)
    return image


@pytest.mark.parametrize("scale", [1e-4, 0.5, 3.0, 1e6])
def test_normalised_image_does_not_depend_on_the_unit(scale: float) -> None:
    torch.testing.assert_close(normalise(scale * head()), normalise(head()))


def test_normalised_image_does_not_depend_on_the_field_of_view() -> None:
    padded = nn.functional.pad(head(), (30, 5, 0, 40, 10, 10))
    torch.testing.assert_close(normalise(padded)[10:-10, :-40, 30:-5], normalise(head()))


def test_normalised_image_is_one_at_the_99th_percentile_of_the_head() -> None:
    image = normalise(head())
    bright = image[image > 0]
    assert (bright > 1).float().mean() == pytest.approx(0.01, abs=1e-3)
    assert image.max() > 1


def test_normalised_image_is_clipped() -> None:
    image = head()
    image[10, 10, 10] = 40 * 150
    assert normalise(image).max() == 1.5
    assert normalise(image)[10, 10, 11] == pytest.approx(float(normalise(head())[10, 10, 11]), rel=0.005)


def test_negative_intensities_count_as_air() -> None:
    image = head()
    image[:4] = -500
    assert normalise(image).min() == 0
    torch.testing.assert_close(normalise(image), normalise(image.clamp_min(0)))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_empty_image_is_zero(value: float) -> None:
    assert torch.equal(normalise(torch.full((3, 4, 5), value)), torch.zeros(3, 4, 5))


def test_image_of_one_bright_voxel_is_one_there() -> None:
    image = torch.zeros(3, 4, 5)
    image[1, 2, 3] = 7
    assert torch.equal(normalise(image), image / 7)


class Cancelling(nn.Module):
    """A layer during which somebody cancels."""

    def __init__(self, token: CancelToken) -> None:
        super().__init__()
        self.token = token

    def forward(self, image: Tensor) -> Tensor:
        self.token.cancel()
        return image


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return image


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in network.modules())


def test_cancelling_stops_before_the_next_layer() -> None:
    token = CancelToken()
    first, last = Counting(), Counting()
    # nested, for the layers of a real network are
    network = nn.Sequential(nn.Sequential(first, Cancelling(token), last), last)
    with pytest.raises(CancelledError), cancellable(network, token):
        network(torch.zeros(1))
    assert (first.calls, last.calls) == (1, 0)
    assert hooks(network) == 0


def test_network_that_is_not_cancelled_runs_as_ever() -> None:
    network = BrainExtractor((2, 3)).eval()
    image = torch.rand(1, 1, 6, 7, 8)
    with cancellable(network, CancelToken()):
        assert hooks(network) == sum(1 for _ in network.modules())
        logits = network(image)
    assert torch.equal(logits, network(image))
    assert hooks(network) == 0
