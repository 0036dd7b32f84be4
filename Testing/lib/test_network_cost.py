import dataclasses
import math

import pytest
import torch
from torch import nn

from DALAnomalyLib.configuration import preset
from DALAnomalyLib.network.cost import network_cost
from DALAnomalyLib.network.dal_network import DALNetwork

# E_A, E_M, R_A, R_E, R_D; floating point operations of one scan
PRESET_COSTS = {
    "paper": ((1_460_323, 1_175_968, 117_760, 5_767_104, 1_229_473), 531_519_967_232),
    "default": ((365_555, 290_976, 62_368, 1_473_632, 48_225), 31_624_434_720),
    "tiny": ((4_939, 1_960, 5_224, 24_344, 13_761), 166_374_720),
}
NAMES = (
    "anatomy_extractor",
    "modality_extractor",
    "anatomy_encoder",
    "anatomy_restorer",
    "representation_combiner",
)


@pytest.mark.parametrize("name", PRESET_COSTS)
def test_presets_have_these_sizes(name: str) -> None:
    parameters, flops = PRESET_COSTS[name]
    cost = network_cost(preset(name))
    assert cost.parameters == dict(zip(NAMES, parameters, strict=True))
    assert cost.inference_flops == flops
    assert cost.all_parameters == sum(parameters)
    assert cost.inference_parameters == sum(parameters) - parameters[NAMES.index("anatomy_encoder")]


def test_weights_are_those_of_the_real_network() -> None:
    network = DALNetwork(preset("tiny"))
    assert network_cost(preset("tiny")).all_parameters == sum(weight.numel() for weight in network.parameters())


def test_operations_are_two_per_multiplication_of_every_layer_that_runs() -> None:
    network = DALNetwork(preset("tiny"))
    counted: list[int] = []

    def count(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        per_value = layer.weight[0].numel()  # input channels x kernel, or input features
        counted.append(2 * per_value * output.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            layer.register_forward_hook(count)
    image = torch.rand(1, 1, *network.config.grid.shape)
    network.restore(image, torch.ones_like(image), torch.tensor([0]))
    # E_A's first convolution: 27 weights x 4 channels at every voxel
    assert counted[0] == 2 * 27 * 4 * math.prod(network.config.grid.shape)
    assert network_cost(preset("tiny")).inference_flops == sum(counted)


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({"restoration_input": "anatomy"}, {"anatomy_restorer"}),
        ({"restoration_input": "image_edges"}, {"anatomy_encoder"}),
        ({"modality_reuse": False}, {"anatomy_encoder", "modality_extractor"}),
    ],
)
def test_only_what_detection_runs_counts_as_inference(changes: dict[str, object], unused: set[str]) -> None:
    tiny = preset("tiny")
    cost = network_cost(dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, **changes)))
    expected = sum(count for name, count in cost.parameters.items() if name not in unused)
    assert cost.inference_parameters == expected < cost.all_parameters
