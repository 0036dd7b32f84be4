import pytest
import torch
from torch import Tensor

from DALAnomalyLib.network.one_hot import class_index, differentiable_one_hot, merge_classes

SHAPE = (2, 3, 4, 5, 6)


def random_scores(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))).to(dtype)


def one_hot_of(classes: Tensor, count: int = 3) -> Tensor:
    return torch.stack([classes == k for k in range(count)], dim=1).float()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_forward_is_the_argmax_exactly(scale: float, dtype: torch.dtype, autocast: bool) -> None:
    scores = random_scores(scale, dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        one_hot = differentiable_one_hot(scores)
    assert one_hot.dtype == torch.float32
    assert torch.equal(one_hot, one_hot_of(scores.detach().float().argmax(dim=1)))


def test_classes_that_a_bfloat16_softmax_would_tie_are_told_apart() -> None:
    scores = torch.tensor([0.0, 2.0**-10, -5.0], dtype=torch.bfloat16).reshape(1, 3, 1, 1, 1)
    assert scores.softmax(dim=1)[0, 0] == scores.softmax(dim=1)[0, 1]  # what would go wrong
    with torch.autocast("cpu", torch.bfloat16):
        assert differentiable_one_hot(scores).flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_that_of_softmax(dtype: torch.dtype, autocast: bool) -> None:
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    ours, reference = (random_scores(dtype=dtype).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (differentiable_one_hot(ours) * upstream).sum().backward()
    (reference.float().softmax(dim=1) * upstream).sum().backward()
    assert reference.grad is not None
    assert reference.grad.abs().min() > 0
    assert torch.equal(ours.grad, reference.grad)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("classes", "values"), [(3, [1 / 3, 2 / 3, 1.0]), (4, [0.25, 0.5, 0.75, 1.0])])
def test_merging_gives_each_class_its_share_and_the_background_nothing(
    classes: int, values: list[float], autocast: bool
) -> None:
    labels = torch.arange(2 * classes).reshape(1, 1, 2, classes) % classes
    brain = torch.ones(1, 1, 1, 2, classes)
    brain[..., 1, :] = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        merged = merge_classes(one_hot_of(labels, classes), brain)
    expected = torch.tensor([values, [0.0] * classes]).reshape(1, 1, 1, 2, classes)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_class_index_inverts_the_merging(classes: int, dtype: torch.dtype) -> None:
    labels = torch.randint(classes, (2, 4, 5, 6), generator=torch.Generator().manual_seed(2))
    brain = torch.ones(2, 1, 4, 5, 6)
    brain[:, :, 0] = 0
    merged = merge_classes(one_hot_of(labels, classes), brain).to(dtype)
    index = class_index(merged, classes)
    assert index.dtype == torch.int64
    assert torch.equal(index, ((labels + 1) * brain[:, 0]).long()[:, None])


def test_class_index_takes_the_nearest_class() -> None:
    anatomy = torch.tensor([0.0, 0.01, 0.33, 0.34, 0.66, 0.67, 0.99])
    assert class_index(anatomy, 3).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_gradient_reaches_the_scores_through_the_merged_image_inside_the_brain_alone() -> None:
    scores = random_scores().requires_grad_()
    brain = torch.ones(2, 1, 4, 5, 6)
    brain[..., 0] = 0
    merge_classes(differentiable_one_hot(scores), brain).sum().backward()
    soft = random_scores().softmax(dim=1)
    weights = torch.tensor([1 / 3, 2 / 3, 1]).reshape(1, 3, 1, 1, 1)
    # derivative of the expectation of the weights under softmax
    expected = soft * (weights - (weights * soft).sum(dim=1, keepdim=True)) * brain
    torch.testing.assert_close(scores.grad, expected)
