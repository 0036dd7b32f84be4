import dataclasses

import pytest
import torch
from torch import Tensor, nn

from DALAnomalyLib.configuration import GridConfig, ModelConfig, NetworkConfig, preset
from DALAnomalyLib.edges import canny3d, label_change_surface
from DALAnomalyLib.network.adaptation_layer import LearnableAdaptationLayer
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.network.modality_extractor import ModalityExtractor

SHAPE = (16, 20, 18)
T1, T2 = torch.tensor([0]), torch.tensor([1])


def configured(shape: tuple[int, int, int] = SHAPE, **changes: object) -> ModelConfig:
    tiny = preset("tiny")
    return dataclasses.replace(
        tiny, grid=GridConfig(shape, (8.0, 8.0, 8.0)), network=dataclasses.replace(tiny.network, **changes)
    )


def random_network(config: ModelConfig | None = None, seed: int = 0) -> DALNetwork:
    """A network whose adaptation layers act, as they do once trained."""
    torch.manual_seed(seed)
    network = DALNetwork(config or configured())
    for module in network.modules():
        if isinstance(module, LearnableAdaptationLayer):
            nn.init.normal_(module.scale_and_shift.weight, std=0.3)
    return network.eval()


def random_scan(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    """An image (1, 1, D, H, W) in [0, 1] and a box of brain, 0 outside of it."""
    brain = torch.zeros(1, 1, *shape)
    brain[..., 2:-3, 3:-2, 2:-2] = 1
    image = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(seed))
    return (0.1 + 0.9 * image) * brain, brain


# Eq. 14 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, (17, 19, 21)])
@pytest.mark.parametrize("stride", [{}, {"code_stride": 4, "combiner_widths": (8, 6, 4)}])
def test_restoring_is_equation_14_step_by_step(shape: tuple[int, int, int], stride: dict[str, object]) -> None:
    network = random_network(configured(shape, **stride))
    image, brain = random_scan(shape=shape)
    restored = network.restore(image, brain, T1)
    with torch.no_grad():
        anatomy = network.extract_anatomy(image, brain)
        edges = label_change_surface(anatomy.image)
        modality = network.modality_extractor(image)
        code = network.anatomy_restorer(edges)
        combined = network.representation_combiner(code, modality, image.shape[2:]) * brain
    assert torch.equal(restored.anatomy.image, anatomy.image)
    assert torch.equal(restored.edges, edges)
    assert torch.equal(restored.modality, modality)
    assert torch.equal(restored.pseudo_healthy, combined.clamp(0, 1))
    assert restored.pseudo_healthy.shape == image.shape
    assert combined[brain > 0].unique().numel() > 1
    stride_of_code = network.config.network.code_stride
    assert code.shape == (1, 8, *(-(-size // stride_of_code) for size in shape))
    assert network.anatomy_encoder(anatomy.image).shape == code.shape


def test_outside_the_brain_everything_is_0() -> None:
    image, brain = random_scan()
    network = random_network()
    nn.init.constant_(network.representation_combiner.paint.bias, 0.5)
    restored = network.restore(image, brain, T1)
    outside = brain == 0
    assert not restored.pseudo_healthy[outside].any()
    assert not restored.anatomy.image[outside].any()
    assert not (restored.anatomy.one_hot * outside).any()
    assert not restored.edges[outside].any()
    assert restored.anatomy.image[brain > 0].min() > 0.3


@pytest.mark.parametrize(("bias", "value"), [(-50.0, 0.0), (50.0, 1.0)])
def test_the_pseudo_healthy_image_stays_within_0_and_1(bias: float, value: float) -> None:
    image, brain = random_scan()
    network = random_network()
    nn.init.constant_(network.representation_combiner.paint.bias, bias)
    assert network.restore(image, brain, T1).pseudo_healthy[brain > 0].unique().tolist() == [value]


def test_scans_of_a_batch_do_not_mix() -> None:
    network = random_network()
    scans = [random_scan(seed) for seed in (1, 2)]
    together = network.restore(*(torch.cat(parts) for parts in zip(*scans, strict=True)), torch.tensor([0, 1]))
    alone = torch.cat([network.restore(*scan, T1).pseudo_healthy for scan in scans])
    torch.testing.assert_close(together.pseudo_healthy, alone, rtol=0, atol=1e-5)


# what each part may see ----------------------------------------------------------------------------------------------


def pseudo_healthy(network: DALNetwork, image: Tensor, brain: Tensor, anatomy: Tensor, modality: Tensor) -> Tensor:
    """PHI of `image` with its anatomy and modality given."""
    with torch.no_grad():
        edges = network.extract_edges(image, anatomy)
        return network.combine(network.restore_code(anatomy, edges), modality, brain)


@pytest.mark.parametrize("edge_kind", ["surface", "canny3d"])
@pytest.mark.parametrize("restoration_input", ["anatomy_edges", "anatomy"])
def test_intensities_reach_the_image_through_a_and_m_alone(restoration_input: str, edge_kind: str) -> None:
    network = random_network(configured(restoration_input=restoration_input, edge_kind=edge_kind))
    (first, brain), (second, _) = random_scan(1), random_scan(2)
    anatomy = network.extract_anatomy(first, brain).image.detach()
    modality = network.extract_modality(first, T1).detach()
    images = [pseudo_healthy(network, image, brain, anatomy, modality) for image in (first, second)]
    assert torch.equal(*images)


def test_without_disentangling_intensities_do_reach_it() -> None:
    network = random_network(configured(restoration_input="image_edges"))
    (first, brain), (second, _) = random_scan(1), random_scan(2)
    anatomy = network.extract_anatomy(first, brain).image.detach()
    modality = network.extract_modality(first, T1).detach()
    images = [pseudo_healthy(network, image, brain, anatomy, modality) for image in (first, second)]
    assert not torch.allclose(*images)


def test_two_anatomies_with_the_same_edges_give_the_same_code() -> None:
    network = random_network()
    image, brain = random_scan()
    light, dark = ((1 / 3) * brain, brain)
    codes = [network.restore_code(anatomy, network.extract_edges(image, anatomy)) for anatomy in (light, dark)]
    assert torch.equal(*codes)
    assert not torch.allclose(network.anatomy_encoder(light), network.anatomy_encoder(dark))


@pytest.mark.parametrize(("edge_kind", "detector"), [("surface", label_change_surface), ("canny3d", canny3d)])
def test_edge_kind_chooses_the_detector(edge_kind: str, detector) -> None:
    network = random_network(configured(edge_kind=edge_kind))
    image, brain = random_scan()
    anatomy = torch.zeros_like(brain)
    anatomy[..., 5:11, 6:12, 5:11] = 1
    edges = network.extract_edges(image, anatomy)
    assert torch.equal(edges, detector(anatomy))
    assert edges.any()


def test_no_gradient_passes_through_the_edges() -> None:
    network = random_network()
    image, brain = random_scan()
    anatomy = network.extract_anatomy(image, brain)
    assert anatomy.image.requires_grad
    network.restore_code(anatomy.image, network.extract_edges(image, anatomy.image)).square().sum().backward()
    assert all(weight.grad is None for weight in network.anatomy_extractor.parameters())
    assert all(weight.grad is not None for weight in network.anatomy_restorer.parameters())


# the switches of Table 7 ---------------------------------------------------------------------------------------------


def raise_when_called(*_: object) -> None:
    msg = "this sub-network must not run"
    raise AssertionError(msg)


def test_without_edge_to_image_the_code_is_that_of_r_a() -> None:
    network = random_network(configured(restoration_input="anatomy"))
    network.anatomy_restorer.register_forward_pre_hook(raise_when_called)
    image, brain = random_scan()
    restored = network.restore(image, brain, T1)
    with torch.no_grad():
        code = network.anatomy_encoder(restored.anatomy.image)
        expected = network.combine(code, restored.modality, brain).clamp(0, 1)
    assert torch.equal(restored.pseudo_healthy, expected)


def test_without_disentangling_the_edges_are_those_of_the_image() -> None:
    network = random_network(configured(restoration_input="image_edges"))
    network.anatomy_encoder.register_forward_pre_hook(raise_when_called)
    image, brain = random_scan()
    before = network.restore(image, brain, T1)
    assert torch.equal(before.edges, canny3d(image))
    nn.init.normal_(network.anatomy_extractor.classify.weight)
    after = network.restore(image, brain, T1)
    assert not torch.equal(after.anatomy.image, before.anatomy.image)
    assert torch.equal(after.pseudo_healthy, before.pseudo_healthy)


def test_without_modality_reuse_the_sequence_replaces_the_scans_own_modality() -> None:
    network = random_network(configured(modality_reuse=False))
    network.modality_extractor.register_forward_pre_hook(raise_when_called)
    (first, brain), (second, _) = random_scan(1), random_scan(2)
    vectors = [network.extract_modality(image, T1) for image in (first, second)]
    assert torch.equal(*vectors)
    as_t1, as_t2 = (network.restore(first, brain, sequence) for sequence in (T1, T2))
    assert torch.equal(as_t1.edges, as_t2.edges)
    assert not torch.allclose(as_t1.pseudo_healthy, as_t2.pseudo_healthy)


def test_with_modality_reuse_only_the_scan_counts() -> None:
    network = random_network()
    (first, brain), (second, _) = random_scan(1), random_scan(2)
    as_t1, as_t2 = (network.restore(first, brain, sequence).pseudo_healthy for sequence in (T1, T2))
    assert torch.equal(as_t1, as_t2)
    anatomy = network.extract_anatomy(first, brain).image.detach()
    images = [
        pseudo_healthy(network, first, brain, anatomy, network.extract_modality(image, T1)) for image in (first, second)
    ]
    assert not torch.allclose(*images)


def test_any_number_of_sequences_shares_the_same_sub_networks() -> None:
    two, three = (configured(sequences=names) for names in (("T1", "T2"), ("T1", "T2", "FLAIR")))
    assert random_network(two).state_dict().keys() == random_network(three).state_dict().keys()
    without_reuse = random_network(configured(sequences=("T1", "T2", "FLAIR"), modality_reuse=False))
    image, brain = random_scan()
    images = [without_reuse.restore(image, brain, torch.tensor([i])).pseudo_healthy for i in range(3)]
    assert not any(torch.allclose(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


# the modality --------------------------------------------------------------------------------------------------------


def test_modality_is_the_flattened_half_size_encoding_of_the_paper() -> None:
    paper = preset("paper")
    extractor = ModalityExtractor(paper.network, paper.grid.shape)
    assert extractor.length == 256 * 2 * 3 * 2
    assert extractor(torch.zeros(1, 1, 112, 160, 112)).shape == (1, 3072)


def test_a_pooled_modality_is_the_mean_of_the_flattened_one() -> None:
    widths = (4, 6)
    flat, pooled = (
        ModalityExtractor(NetworkConfig(modality_widths=widths, modality_pooled=flag), SHAPE) for flag in (False, True)
    )
    pooled.load_state_dict(flat.state_dict())
    image, _ = random_scan()
    vector = flat(image)
    assert (vector.shape, pooled.length) == ((1, flat.length), 6)
    torch.testing.assert_close(pooled(image), vector.unflatten(1, (6, -1)).mean(dim=2))


def test_modality_keeps_the_contrast_of_the_scan() -> None:
    """Normalisation layers would erase a scan's contrast; without them and biases, M grows with it."""
    extractor = ModalityExtractor(configured().network, SHAPE)
    for name, weight in extractor.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
    image, _ = random_scan()
    torch.testing.assert_close(extractor(2 * image), 2 * extractor(image))


def test_modality_changes_every_level_but_no_spatial_pattern() -> None:
    network = random_network(configured(code_stride=4, combiner_widths=(8, 6, 4)))
    adapting = [m for m in network.representation_combiner.modules() if isinstance(m, LearnableAdaptationLayer)]
    assert len(adapting) == 1 + 3  # the code and every level
    code = torch.randn(1, 8, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    modality = torch.randn(2, network.modality_extractor.length, generator=torch.Generator().manual_seed(1))
    changes = []
    for layer in adapting:
        weight = layer.scale_and_shift.weight.detach().clone()
        nn.init.zeros_(layer.scale_and_shift.weight)
        with_one_less = network.representation_combiner(code, modality[:1], torch.Size(SHAPE))
        layer.scale_and_shift.weight.data.copy_(weight)
        changes.append((network.representation_combiner(code, modality[:1], torch.Size(SHAPE)) - with_one_less).abs())
    assert all(change.max() > 1e-3 for change in changes)
    # where the code has no pattern, neither has the image away from its border, whatever the modality
    for vector in modality.split(1):
        image = network.representation_combiner(torch.ones(1, 8, 10, 10, 10), vector, torch.Size((40, 40, 40)))
        assert image[..., 16:24, 16:24, 16:24].std() < 1e-5
