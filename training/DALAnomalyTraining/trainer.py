"""The training loop: stages, devices and processes (Lightning Fabric), checkpoints, logs and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from tqdm import tqdm

from DALAnomalyLib.configuration import from_dictionary, to_dictionary
from DALAnomalyLib.errors import InputError, OutputError, UsageError
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks
from DALAnomalyTraining.checkpoint import load_beginning, load_checkpoint, save_checkpoint, weights_of
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.montage import save_montage
from DALAnomalyTraining.moving_average import MovingAverage
from DALAnomalyTraining.objective import SUBNETWORKS, Objective
from DALAnomalyTraining.pack import Pack, Record
from DALAnomalyTraining.run_log import RunLog
from DALAnomalyTraining.training_config import Stage, TrainingConfig
from DALAnomalyTraining.validation import Validation

VALIDATION_SHARE = 10
"""Every tenth person of a pack is held out for validation."""
_PERSON = re.compile(r"\bIXI\d{3}|\bsub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Hardware:
    """Where to train; names are Lightning Fabric's."""

    accelerator: str = "auto"
    devices: int = 1

    @property
    def has_gpu(self) -> bool:
        """Whether training will run on CUDA devices."""
        return self.accelerator != "cpu" and torch.cuda.is_available()


def split_records(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Records to train on and records held out; a pack of too few people validates on what it trains on.

    Nobody who is held out is trained on by another record, as when a person was scanned twice or IXI came in two forms.
    """
    people = list(dict.fromkeys(map(person_of, records)))
    held_out = set(people[VALIDATION_SHARE - 1 :: VALIDATION_SHARE])
    training = [record for record in records if person_of(record) not in held_out]
    return training, [record for record in records if person_of(record) in held_out] or records


def person_of(record: Record) -> str:
    """Whose scan it is, by the names of IXI (IXI014-Guys-0828) and BIDS (sub-7_ses-2); else each record is somebody."""
    named = _PERSON.search(record.name.rpartition("/")[2])
    return record.name if named is None else named[0]


class Trainer:
    """One process's part in a training run."""

    def __init__(self, config: TrainingConfig, pack: Pack, run: Path, hardware: Hardware) -> None:
        """Set up devices, network, optimiser and data; nothing is written before `fit`."""
        self.config, self.run = config, run
        self.fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            # frozen stages leave sub-networks out of the graph
            strategy=DDPStrategy(find_unused_parameters=True) if hardware.devices > 1 else "auto",
        )
        self.fabric.launch()
        # not Fabric's own: it takes a batch apart to convert it, and refuses frozen dataclasses
        self.autocast = (config.precision if hardware.has_gpu else config.cpu_precision) == "bf16-mixed"
        self._check_batch()
        torch.use_deterministic_algorithms(config.deterministic)
        torch.manual_seed(config.seed)
        self.pack = pack
        training, held_out = split_records(pack.records)
        self._check_tissues(training)
        self.pairs, self.held_out = (self._generator(records) for records in (training, held_out))
        # channels last: the same weights and figures, a third less time per step on CPUs
        self.network = DALNetwork(config.model)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = MovingAverage(self.network, config.ema_decay) if config.ema_decay else None
        groups = [
            {"params": list(getattr(self.network, name).parameters()), "name": name}
            for name in SUBNETWORKS
            if hasattr(self.network, name)
        ]
        objective = Objective(self.network, config.objective, config.generator)
        self.objective, self.optimizer = self.fabric.setup(objective, torch.optim.Adam(groups, lr=config.learning_rate))
        if self.average is not None:
            self.average.network.to(self.fabric.device)
        self.landmarks: dict[str, Landmarks] = {}
        self.step = 0
        self.best = -math.inf
        self.began_with: dict[str, Any] | None = None

    def _check_batch(self) -> None:
        parts = self.fabric.world_size * self.config.accumulation
        if self.config.subjects_per_step % (2 * parts):
            msg = (
                f"subjects_per_step {self.config.subjects_per_step} is no multiple of 2 subjects x {parts} "
                "(processes x accumulation); every part needs pairs of subjects"
            )
            raise UsageError(msg)

    def _check_tissues(self, training: list[Record]) -> None:
        """Real pairs have no tissue labels: what learns from these alone would learn nothing, without a word."""
        if self.config.generator.cluster_pairs or any(record.source != "paired" for record in training):
            return
        for stage in self.config.stages:
            if stage.weights.tissue_cross_entropy > 0:
                msg = (
                    f'stage "{stage.name}" learns tissues (tissue_cross_entropy), but this pack has real pairs alone, '
                    "whose tissues nobody labelled; set generator: {cluster_pairs: true}, or train with ixi_paper.yaml"
                )
                raise UsageError(msg)

    def _generator(self, records: list[Record]) -> PairGenerator:
        model = self.config.model
        return PairGenerator(
            self.pack,
            records,
            model.grid,
            model.network.sequences,
            self.config.generator,
            self.fabric.device,
            self.config.seed,
        )

    @property
    def validated_network(self) -> DALNetwork:
        """The network that is validated and exported."""
        return self.network if self.average is None else self.average.network  # type: ignore[return-value]

    def fit(
        self, resume: bool = False, until: int | None = None, quiet: bool = False, start: Path | None = None
    ) -> int:
        """Train to the end, or to step `until`; returns how many steps that were.

        Args:
            resume: Continue from the run's last checkpoint, step-exactly.
            until: Stop after this step of the whole run.
            quiet: No progress bar.
            start: Begin a new run with the (averaged) weights and landmarks of a checkpoint or of a model file.
        """
        self._start(resume, start)
        log = RunLog(self.run, self.step) if self.fabric.is_global_zero else None
        validation = Validation(self.held_out, self.landmarks, self.config.validation_subjects)
        first, last = self.step, self.config.steps if until is None else min(until, self.config.steps)
        saved = time.monotonic()
        with (
            tqdm(total=self.config.steps, initial=self.step, disable=quiet or log is None, mininterval=2.0) as bar,
            nullcontext() if log is None else closing(log),
        ):
            while self.step < last:
                stage, begin = self.config.stage_at(self.step)
                figures = self._train_step(stage, begin)
                self.step += 1
                if log is not None:
                    log.write("steps", self.step - 1, figures)
                    bar.set_postfix_str(f"{stage.name}, loss {figures['total']:.4f}", refresh=False)
                    bar.update()
                # not where `until` stops, which must not have a say in what is best
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    self._validate(validation, log, bar.write)
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes or self.step == last:
                    self._save("last.pt")
                    saved = time.monotonic()
        return self.step - first

    def _start(self, resume: bool, start: Path | None) -> None:
        saved = [path for name in ("last.pt", "best.pt") if (path := self.run / name).exists()]
        if resume and start is not None:
            msg = "--resume continues the run with its own weights, --start begins one with others'; give one of them"
            raise UsageError(msg)
        if resume:
            # best.pt alone is of a run that was stopped before its first last.pt
            self._load(saved[0] if saved else self.run / "last.pt")
            return
        if saved:
            msg = (
                f"{self.run} already holds a training run; add --resume to continue it, remove it or choose another "
                "folder"
            )
            raise OutputError(msg)
        if start is None:
            self.landmarks = self.pairs.learn_landmarks(self.config.landmark_subjects)
        else:
            self._take_weights(start)
        if self.fabric.is_global_zero:
            self.run.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(to_dictionary(self.config), sort_keys=False)
            (self.run / "config.yaml").write_text(text, encoding="utf-8")
        self.fabric.barrier()

    def _train_step(self, stage: Stage, begin: int) -> dict[str, float]:
        """One optimiser step; returns every term, averaged over processes and micro-batches."""
        started = time.monotonic()
        self.objective.train()
        self._set_rates(stage, begin)
        parts = self.config.accumulation
        per_part = self.config.subjects_per_step // (self.fabric.world_size * parts)
        sums: dict[str, torch.Tensor] = {}
        generating = 0.0
        for part in range(parts):
            first = (self.fabric.global_rank * parts + part) * per_part
            slots = range(first, first + per_part)
            before = time.monotonic()
            batch = self.pairs.batch(self.landmarks, "train", self.step, subjects=slots)
            generating += time.monotonic() - before
            keys: list[tuple[object, ...]] = [(self.config.seed, "noise", self.step, slot) for slot in slots]
            with (
                self.fabric.no_backward_sync(self.objective, enabled=part < parts - 1),
                torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.autocast),
            ):
                terms = self.objective(batch, stage.weights, frozenset(stage.learning_rates), keys)
            if not terms["total"].requires_grad:
                msg = (
                    f'stage "{stage.name}": none of its losses reaches a sub-network that its learning_rates name; '
                    "mend its weights or its learning_rates"
                )
                raise UsageError(msg)
            self.fabric.backward(terms["total"] / parts)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / parts
        figures = {name: float(value) for name, value in self._reduced(sums).items()}
        norm = self._clipped_norm()
        if not math.isfinite(figures["total"]) or not math.isfinite(norm):
            # before the weights take it up: a checkpoint of them would be lost
            msg = (
                f"the loss {figures['total']:g} or its gradient {norm:g} is not finite at step {self.step}; "
                "lower the learning rate or train in 32-true precision"
            )
            raise InputError(msg)
        self._update()
        elapsed = time.monotonic() - started
        return figures | {"gradient_norm": norm, "seconds": elapsed, "generator_share": generating / elapsed}

    def _set_rates(self, stage: Stage, begin: int) -> None:
        config = self.config
        progress = self.step / max(1, config.steps - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        decayed = config.final_rate_factor + (1 - config.final_rate_factor) * cosine
        rising = min(1.0, (self.step - begin + 1) / config.warm_up_steps) if config.warm_up_steps else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * decayed * rising * stage.learning_rates.get(group["name"], 0.0)

    def _clipped_norm(self) -> float:
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        limit = self.config.gradient_clip or math.inf
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network, self.step)

    def _reduced(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        reduced: Any = self.fabric.all_reduce(terms, reduce_op="mean") if self.fabric.world_size > 1 else terms
        return dict(reduced)

    def _validate(self, validation: Validation, log: RunLog | None, say: Callable[[str], None]) -> None:
        # every process validates alike, so that all agree on what is best
        result = validation(self.validated_network)
        if log is not None:
            log.write("validation", self.step - 1, result.figures)
            for warning in result.warnings():
                say(f"*** WARNING at step {self.step}: {warning} ***")
            shown = ("average_precision", "healthy_error", "leakage", "anatomy_agreement")
            say(f"step {self.step}: " + ", ".join(f"{name} {result.figures[name]:.3f}" for name in shown))
            montages = self.run / "montages"
            montages.mkdir(exist_ok=True)
            heading = f"step {self.step}, AP {result.average_precision:.3f}"
            save_montage(result.pictures, montages / f"step_{self.step:06d}.png", heading)
        collapsed = bool(result.warnings())
        if result.average_precision > self.best and not collapsed:
            self.best = result.average_precision
            self._save("best.pt")

    def _save(self, name: str) -> None:
        if not self.fabric.is_global_zero:
            return
        content = {
            "config": to_dictionary(self.config),
            "pack": self.pack.sha256,
            "data": self.pack.description,
            "start": self.began_with,
            "step": self.step,
            "best": self.best,
            "landmarks": {key: dataclasses.asdict(value) for key, value in self.landmarks.items()},
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.run / name, content)

    def _take_weights(self, path: Path) -> None:
        content = load_beginning(path, self.fabric.device)
        state = weights_of(content)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            msg = f"{path} holds another network than this configuration's; start from one of the same model"
            raise UsageError(msg) from error
        if self.average is not None:
            self.average.network.load_state_dict(state)
        # the weights know intensities on this scale
        self.landmarks = landmarks_from(content["landmarks"])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.began_with = {"file": path.name, "sha256": digest, "steps": content["step"], "start": content.get("start")}

    def _load(self, path: Path) -> None:
        content = load_checkpoint(path, self.fabric.device)
        if from_dictionary(TrainingConfig, content["config"], f"{path}: config") != self.config:
            msg = f"{path} was trained with another configuration; resume with the run's own config.yaml"
            raise UsageError(msg)
        if content["pack"] != self.pack.sha256:
            msg = f"{path} was trained on another pack; resume with the pack it started on"
            raise UsageError(msg)
        self.network.load_state_dict(content["network"])
        if self.average is not None:
            self.average.network.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.landmarks = landmarks_from(content["landmarks"])
        self.step, self.best, self.began_with = content["step"], content["best"], content.get("start")


def landmarks_from(values: dict[str, Any]) -> dict[str, Landmarks]:
    """Landmarks per sequence from their plain form in a checkpoint."""
    return {name: Landmarks(tuple(v["values"]), tuple(v["percentiles"])) for name, v in values.items()}
