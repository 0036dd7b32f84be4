"""How large and how expensive a network is, without building its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode  # the meta device knows no autocast
from torch.utils.flop_counter import FlopCounterMode

from DALAnomalyLib.configuration import ModelConfig, NetworkConfig
from DALAnomalyLib.network.dal_network import DALNetwork


@dataclass(frozen=True)
class NetworkCost:
    """Weights and floating point operations of a configuration."""

    parameters: dict[str, int]
    """Per sub-network."""
    inference_parameters: int
    """Weights that detection uses: E_A, E_M, R_E and R_D, unless a switch of Table 7 replaces one."""
    inference_flops: int
    """Operations (2 per multiply-add) of one scan's pseudo-healthy image."""

    @property
    def all_parameters(self) -> int:
        """Weights of all sub-networks."""
        return sum(self.parameters.values())


def network_cost(config: ModelConfig) -> NetworkCost:
    """Count with fake tensors: nothing is allocated or computed, whatever the size."""
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(), counter, torch.no_grad():
        network = DALNetwork(config)
        image = torch.zeros((1, 1, *config.grid.shape))
        anatomy = network.anatomy_extractor(image)
        modality = network.extract_modality(image, torch.zeros(1, dtype=torch.long))
        network.combine(network.restore_code(anatomy[:, :1], image), modality, image)
    parameters = {name: _weights(module) for name, module in network.named_children()}
    used = sum(parameters[name] for name in _used_at_inference(config.network))
    return NetworkCost(parameters, used, int(counter.get_total_flops()))


def _used_at_inference(config: NetworkConfig) -> tuple[str, ...]:
    return (
        "anatomy_extractor",
        "modality_extractor" if config.modality_reuse else "sequence_modality",
        "anatomy_encoder" if config.restoration_input == "anatomy" else "anatomy_restorer",
        "representation_combiner",
    )


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
