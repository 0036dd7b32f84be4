"""Training of the brain extraction network: one random head per step, Dice and cross-entropy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.network.brain_extractor import WIDTHS, BrainExtractor
from DALAnomalyTraining.brain_extraction.head_generator import HeadConfig, RandomHead, random_head
from DALAnomalyTraining.brain_extraction.head_pack import Head
from DALAnomalyTraining.checkpoint import load_checkpoint, save_checkpoint
from DALAnomalyTraining.moving_average import MovingAverage
from DALAnomalyTraining.randomness import generator_for, uniform

Drawn = TypeVar("Drawn")
CHECKPOINT_PARTS = ("network", "average", "optimiser", "step")


@dataclass(frozen=True)
class ExtractionTraining:
    """How the network is trained."""

    steps: int = 3400
    learning_rate: float = 1.2e-3
    average_decay: float = 0.99
    save_every: int = 100
    seed: int = 1
    real_share: float = 0.55
    widths: tuple[int, ...] = WIDTHS


def loss_of(logits: Tensor, brain: Tensor) -> Tensor:
    """Cross-entropy plus 1 - soft Dice of logits and share of brain, each (B, 1, D, H, W)."""
    probability = logits.sigmoid()
    dice = (2 * (probability * brain).sum() + 1) / (probability.sum() + brain.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, brain) + 1 - dice


def train(
    heads: Sequence[Head],
    run: Path,
    training: ExtractionTraining,
    config: HeadConfig,
    device: torch.device,
    start: Path | None = None,
) -> BrainExtractor:
    """Train, or go on from the run's last checkpoint; returns the moving average.

    Writes `last.pt` and `log.csv` (step, loss, Dice, seconds, whether the head is real) into `run`. What is drawn in a
    step depends on seed and step alone, so an interrupted run continues as if it had not been. A new run begins with
    the averaged weights of the checkpoint `start`, if there is one.

    Raises:
        UsageError: there are no heads.
        InputError: a checkpoint cannot be read, or is of another network.
    """
    pools = [pool for pool in ([h for h in heads if not h.labels], [h for h in heads if h.labels]) if pool]
    if not pools:
        msg = "the pack of heads is empty; make it with `prepare`"
        raise UsageError(msg)
    torch.manual_seed(training.seed)
    network = BrainExtractor(training.widths).to(device)
    average = MovingAverage(network, training.average_decay)
    optimiser = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=1e-4)
    run.mkdir(parents=True, exist_ok=True)
    if start is not None:
        weights = load_checkpoint(start, device, CHECKPOINT_PARTS)["average"]
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            msg = f"{start} is of another network; start from a run of the same widths"
            raise InputError(msg) from error
        average.network.load_state_dict(weights)
    first = 0
    if (run / "last.pt").exists():
        state = load_checkpoint(run / "last.pt", device, CHECKPOINT_PARTS)
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    _forget(run / "log.csv", first)

    def draw(step: int) -> tuple[RandomHead, bool]:
        generator = generator_for(torch.device("cpu"), training.seed, "head", step)
        pool = pools[0] if len(pools) == 1 or uniform(generator, 0, 1) < training.real_share else pools[1]
        head = pool[int(uniform(generator, 0, len(pool) - 1e-6))]
        return random_head(head, config, generator), not head.labels

    began = time.perf_counter()
    for step, (example, is_real) in enumerate(_ahead(draw, range(first, training.steps)), start=first):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, training)
        logits = network(example.image.to(device)[None, None])
        brain = example.brain.to(device)[None, None]
        loss = loss_of(logits, brain)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update(network, step)
        with (run / "log.csv").open("a", encoding="ascii") as log:
            seconds = time.perf_counter() - began
            log.write(f"{step},{loss.item():.4f},{_dice(logits, brain):.4f},{seconds:.3f},{int(is_real)}\n")
        if (step + 1) % training.save_every == 0 or step + 1 == training.steps:
            content = {"network": network.state_dict(), "average": average.network.state_dict(), "step": step + 1}
            save_checkpoint(run / "last.pt", content | {"optimiser": optimiser.state_dict(), "data": _described(heads)})
    extractor: BrainExtractor = average.network.eval()  # type: ignore[assignment]
    return extractor


def _described(heads: Sequence[Head]) -> str:
    maps = sum(bool(head.labels) for head in heads)
    return f"{maps} whole-head label maps with random contrasts and {len(heads) - maps} recoloured real T1 heads"


def _forget(log: Path, first: int) -> None:
    """Drop what an interrupted run logged from step `first` on."""
    if log.exists():
        rows = log.read_text(encoding="ascii").splitlines(keepends=True)
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) < first]
        log.write_text("".join(kept), encoding="ascii")


def _ahead(draw: Callable[[int], Drawn], steps: range) -> Iterator[Drawn]:
    """Draw every step's example while the network is busy with the one before."""
    with ThreadPoolExecutor(1) as pool:
        following = None
        for step in steps:
            current = following or pool.submit(draw, step)
            following = pool.submit(draw, step + 1) if step + 1 < steps.stop else None
            yield current.result()


def _rate(step: int, training: ExtractionTraining) -> float:
    warm = min(1.0, (step + 1) / 50)
    return training.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / training.steps)))


@torch.no_grad()
def _dice(logits: Tensor, brain: Tensor) -> float:
    found, truth = logits > 0, brain > 0.5
    return float((2 * (found & truth).sum() + 1) / (found.sum() + truth.sum() + 1))
