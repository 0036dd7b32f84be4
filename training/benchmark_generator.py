"""How many pairs of scans the generator makes per second, and how long a training step takes in either precision.

python training/benchmark_generator.py PACK [--device cuda] [--preset default]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from DALAnomalyLib.configuration import preset
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.objective import SUBNETWORKS, LossWeights, Objective, ObjectiveConfig
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.training_config import PRECISIONS


def main() -> None:
    """Time 8 batches of 2 subjects, and 4 full training steps per precision after a warm-up, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="default")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    config, pack = preset(arguments.preset), Pack(arguments.pack)
    pairs = PairGenerator(pack, pack.records, config.grid, ("T1", "T2"), GeneratorConfig(), device, seed=0)
    landmarks = pairs.learn_landmarks(4)
    network = DALNetwork(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    objective = Objective(network, ObjectiveConfig(), GeneratorConfig()).to(device).train()
    batch = pairs.batch(landmarks, "warm-up", subjects=range(2))

    def generate(index: int) -> None:
        pairs.batch(landmarks, "benchmark", index, subjects=range(2))

    def step(precision: str, index: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            terms = objective(batch, LossWeights(), frozenset(SUBNETWORKS), [(index, 0), (index, 1)])
        terms["total"].backward()

    generating = _median_seconds(generate, 8, device)
    print(f"{device}, {arguments.preset}: {2 / generating:.1f} pairs/s")
    for precision in PRECISIONS:
        training = _median_seconds(partial(step, precision), 4, device)
        share = generating / (generating + training)
        print(f"{precision}: a joint step takes {training:.2f} s; with its data, {share:.0%} of it is the generator's")


def _median_seconds(work: Callable[[int], None], count: int, device: torch.device) -> float:
    seconds = []
    for index in range(count + 1):
        started = time.perf_counter()
        work(index)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[count // 2]


if __name__ == "__main__":
    main()
