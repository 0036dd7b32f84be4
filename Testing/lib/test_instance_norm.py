import pytest
import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.network.instance_norm import InstanceNorm, instance_norm

SHAPE = (3, 4, 5, 6, 7)


def features(dtype: torch.dtype = torch.float32) -> Tensor:
    values = 2 + 3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return values.to(dtype).contiguous(memory_format=torch.channels_last_3d)


def rows(seed: int, *sizes: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(seed))


def test_it_is_pytorchs_instance_normalisation() -> None:
    scale, shift = rows(1, 4), rows(2, 4)
    expected = functional.instance_norm(features(), weight=scale, bias=shift)
    torch.testing.assert_close(instance_norm(features(), scale, shift), expected)


def test_its_gradients_are_pytorchs() -> None:
    gradients = []
    for norm in (instance_norm, lambda x, s, t: functional.instance_norm(x, weight=s, bias=t)):
        inputs = [value.requires_grad_() for value in (features(), rows(1, 4), rows(2, 4))]
        (norm(*inputs) * rows(3, *SHAPE)).sum().backward()
        gradients.append([value.grad for value in inputs])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_every_sample_can_have_its_own_scale_and_shift() -> None:
    scales, shifts = rows(1, 3, 4), rows(2, 3, 4)
    alone = [instance_norm(features()[i : i + 1], scales[i], shifts[i]) for i in range(3)]
    torch.testing.assert_close(instance_norm(features(), scales, shifts), torch.cat(alone))


def test_the_layout_stays_channels_last() -> None:
    normalised = instance_norm(features(), torch.ones(4), torch.zeros(4))
    assert normalised.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    large = 300 * features(dtype)  # float16 squares of it overflow
    scale, shift = rows(1, 4), rows(2, 4)
    assert torch.equal(instance_norm(large, scale, shift), instance_norm(large.float(), scale, shift).to(dtype))


def test_a_single_voxel_becomes_the_shift() -> None:
    shift = rows(2, 4)
    normalised = instance_norm(rows(1, 2, 4, 1, 1, 1), torch.ones(4), shift).flatten(1)
    # float32 takes up to 1.6 / sqrt(1e-5) away from itself
    torch.testing.assert_close(normalised, shift.expand(2, 4), rtol=0, atol=1e-4)


def test_running_and_training_do_the_same() -> None:
    layer = InstanceNorm(4)
    assert torch.equal(layer.eval()(features()), layer.train()(features()))
