import pytest
import torch
from torch import Tensor, nn

from DALAnomalyLib.network.adaptation_layer import LearnableAdaptationLayer

CHANNELS, LENGTH = 3, 5


def random_layer() -> LearnableAdaptationLayer:
    torch.manual_seed(0)
    layer = LearnableAdaptationLayer(CHANNELS, LENGTH)
    nn.init.normal_(layer.scale_and_shift.weight)
    nn.init.normal_(layer.scale_and_shift.bias)
    return layer


def random_features(seed: int = 1) -> Tensor:
    return 4 + 3 * torch.randn((2, CHANNELS, 4, 5, 6), generator=torch.Generator().manual_seed(seed))


def random_modality(seed: int = 2) -> Tensor:
    return torch.randn((2, LENGTH), generator=torch.Generator().manual_seed(seed))


def normalised(features: Tensor, epsilon: float = 1e-5) -> Tensor:
    features = features.double()
    mean = features.mean(dim=(2, 3, 4), keepdim=True)
    variance = features.var(dim=(2, 3, 4), keepdim=True, correction=0)
    return (features - mean) / (variance + epsilon).sqrt()


def test_a_new_layer_is_plain_normalisation_whatever_the_modality() -> None:
    features = random_features()
    adapted = LearnableAdaptationLayer(CHANNELS, LENGTH)(features, random_modality())
    torch.testing.assert_close(adapted.double(), normalised(features), rtol=0, atol=1e-5)


def test_equation_12_by_hand() -> None:
    layer = LearnableAdaptationLayer(1, 2)
    with torch.no_grad():
        layer.scale_and_shift.weight.copy_(torch.tensor([[0.5, 1.0], [0.0, 2.0]]))  # gamma, then beta
        layer.scale_and_shift.bias.copy_(torch.tensor([0.25, -1.0]))
    modality = torch.tensor([[2.0, 3.0]])  # gamma = 1 + 3 + 0.25, beta = 6 - 1
    features = torch.tensor([1.0, 3.0, 3.0, 1.0]).reshape(1, 1, 1, 2, 2)  # mean 2, standard deviation 1
    expected = [5 - 5.25, 5 + 5.25, 5 + 5.25, 5 - 5.25]
    assert layer(features, modality).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_equation_12_on_random_features() -> None:
    layer, features, modality = random_layer(), random_features(), random_modality()
    weight, bias = (p.detach().double() for p in layer.scale_and_shift.parameters())
    gamma, beta = (modality.double() @ weight.T + bias)[..., None, None, None].chunk(2, dim=1)
    expected = (1 + gamma) * normalised(features) + beta
    torch.testing.assert_close(layer(features, modality).double(), expected, rtol=0, atol=1e-4)


def test_adapting_commutes_with_any_permutation_of_the_voxels() -> None:
    layer, features, modality = random_layer(), random_features(), random_modality()
    order = torch.randperm(4 * 5 * 6, generator=torch.Generator().manual_seed(3))

    def permuted(volume: Tensor) -> Tensor:
        return volume.flatten(2)[:, :, order].reshape(volume.shape)

    assert not torch.equal(permuted(features), features)
    torch.testing.assert_close(layer(permuted(features), modality), permuted(layer(features, modality)))


def test_another_modality_only_rescales_and_shifts_each_channel() -> None:
    layer, features = random_layer(), random_features()
    first, second = (layer(features, random_modality(seed)).detach().flatten(2) for seed in (4, 5))
    assert not torch.allclose(first, second)
    for one, other in zip(first.flatten(0, 1), second.flatten(0, 1), strict=True):
        correlation = float(torch.corrcoef(torch.stack((one, other)))[0, 1])
        assert abs(correlation) == pytest.approx(1, abs=1e-5)


def test_every_subject_gets_its_own_modality() -> None:
    layer, features, modality = random_layer(), random_features(), random_modality()
    together = layer(features, modality)
    alone = torch.cat([layer(features[i : i + 1], modality[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(layer(features, modality.flip(0)), together)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_normalised_in_float32(dtype: torch.dtype) -> None:
    # float16 squares of these features overflow
    layer, features, modality = random_layer(), (300 * random_features()).to(dtype), random_modality()
    expected = layer(features.float(), modality).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        adapted = layer(features, modality)
    assert adapted.dtype == dtype
    assert torch.equal(adapted, expected)


def test_a_constant_channel_becomes_its_shift() -> None:
    layer, modality = random_layer(), random_modality()
    _, beta = layer.scale_and_shift(modality).chunk(2, dim=1)
    value = 7.0
    adapted = layer(torch.full((2, CHANNELS, 4, 4, 4), value), modality)
    # float32 takes (1 + gamma) value / sqrt(epsilon) away from itself
    rounding = torch.finfo(torch.float32).eps * value / layer.epsilon**0.5
    torch.testing.assert_close(adapted, beta[..., None, None, None].expand_as(adapted), rtol=0, atol=rounding)
