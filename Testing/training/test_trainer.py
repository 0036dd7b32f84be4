"""The training loop on a toy pack: what a run's result depends on, and what it must not depend on."""

from __future__ import annotations

import csv
import errno
import hashlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from DALAnomalyLib.errors import InputError, OutputError, UsageError
from DALAnomalyTraining import trainer as trainer_module
from DALAnomalyTraining.__main__ import main
from DALAnomalyTraining.checkpoint import save_checkpoint
from DALAnomalyTraining.generator.pair_generator import PairGenerator, Pictures
from DALAnomalyTraining.objective import SUBNETWORKS, term_names
from DALAnomalyTraining.pack import Pack, PackWriter, Record
from DALAnomalyTraining.trainer import Hardware, Trainer, person_of, split_records
from DALAnomalyTraining.training_config import load_training_config
from DALAnomalyTraining.validation import Validation, ValidationResult

TIMEOUT = 1200
"""Seconds after which a process of its own, which takes about ten on an idle machine, is taken for stuck."""
ROOT = Path(__file__).resolve().parents[2]
TIMES = {"seconds", "generator_share"}
FIRST_STEPS = [
    {
        "name": "anatomy",
        "steps": 2,
        "learning_rates": {"anatomy_extractor": 1.0},
        "weights": {"tissue_cross_entropy": 1.0},
    },
    {"name": "joint", "steps": 2, "learning_rates": dict.fromkeys(SUBNETWORKS, 1.0)},
]
"""Four steps, for what shows in a few."""


def losses_of(run: Path) -> list[dict[str, str]]:
    """What a run logged, but for how long it took."""
    with (run / "steps.csv").open(newline="") as lines:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(lines)]


def numbers_of(run: Path) -> dict[str, torch.Tensor]:
    rows = losses_of(run)
    return {name: torch.tensor([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def checkpoint_of(run: Path, name: str = "last.pt") -> dict[str, Any]:
    return torch.load(run / name, weights_only=True)


def validated_steps(run: Path) -> list[int]:
    """How many steps were done at each validation."""
    table = run / "validation.csv"
    lines = table.read_text().splitlines() if table.exists() else []
    return [int(row["step"]) + 1 for row in csv.DictReader(lines)]


def trained(config: Path, pack: Pack, run: Path, resume: bool = False, until: int | None = None) -> Trainer:
    trainer = Trainer(load_training_config(config), pack, run, Hardware("cpu", 1))
    trainer.fit(resume, until, quiet=True)
    return trainer


def assert_same_weights(first: Path, second: Path) -> None:
    """Bit for bit: network, average, and the optimiser's moments."""
    one, other = checkpoint_of(first), checkpoint_of(second)
    assert one["step"] == other["step"]
    for part in ("network", "average"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    states = [content["optimizer"]["state"] for content in (one, other)]
    assert states[0].keys() == states[1].keys()
    for index, state in states[0].items():
        assert all(torch.equal(torch.as_tensor(value), states[1][index][name]) for name, value in state.items())


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`process(...)`: start `python -m DALAnomalyTraining` with those arguments, on one thread."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "DALAnomalyTraining", "--accelerator", "cpu", "--quiet"]
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *map(str, arguments)], env=environment, cwd=ROOT, **pipes))
        return started[-1]

    yield start
    for process in started:  # those that a failed test left behind
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_run_resumes_step_exactly(
    finished_run: Any, toy_pack_folder: Path, tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    """10 steps in one go are 5 steps, kill -9, a new process with --resume, and the rest, over two stage boundaries.

    The kill comes while step 5 is being validated: it is logged but no checkpoint holds it.
    """
    run = tmp_path / "run"
    arguments = ["--config", finished_run.config, "--data", toy_pack_folder, "-o", run]
    killed = process(*arguments)
    steps = run / "steps.csv"
    deadline = time.monotonic() + TIMEOUT
    while not steps.exists() or steps.read_text().count("\n") < 6:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert 4 <= checkpoint_of(run)["step"] < 10
    assert not (run / "model.dalmodel").exists()
    resumed = process(*arguments, "--resume")
    _, errors = resumed.communicate(timeout=TIMEOUT)
    assert resumed.returncode == 0, errors
    assert losses_of(run) == losses_of(finished_run.folder)
    assert len(losses_of(run)) == 10
    assert_same_weights(run, finished_run.folder)
    validations = [folder.joinpath("validation.csv").read_text() for folder in (run, finished_run.folder)]
    assert validations[0] == validations[1]


@pytest.mark.parametrize("until", [2, 3, 7], ids=["within a stage", "between stages", "in the joint stage"])
def test_resuming_changes_nothing_wherever_a_run_stopped(
    finished_run: Any, toy_pack: Pack, tmp_path: Path, until: int
) -> None:
    run = tmp_path / "run"
    stopped = trained(finished_run.config, toy_pack, run, until=until)
    assert stopped.step == checkpoint_of(run)["step"] == until
    assert validated_steps(run) == [step for step in validated_steps(finished_run.folder) if step <= until]
    trained(finished_run.config, toy_pack, run, resume=True)
    assert validated_steps(run) == validated_steps(finished_run.folder)
    assert losses_of(run) == losses_of(finished_run.folder)
    assert_same_weights(run, finished_run.folder)


def test_the_average_lags_behind_the_network(finished_run: Any) -> None:
    content = checkpoint_of(finished_run.folder)
    assert content["average"].keys() == content["network"].keys()
    assert any(not torch.equal(content["average"][name], value) for name, value in content["network"].items())


def test_the_same_seed_is_the_same_run_and_validating_changes_nothing(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    often = write_config("often.yaml", stages=FIRST_STEPS, validate_every=2)
    never = write_config("never.yaml", stages=FIRST_STEPS, validate_every=100)
    torch.rand(3)
    trained(often, toy_pack, tmp_path / "often")
    torch.rand(7)
    trained(never, toy_pack, tmp_path / "never")
    assert losses_of(tmp_path / "often") == losses_of(tmp_path / "never")
    assert_same_weights(tmp_path / "often", tmp_path / "never")


def test_another_seed_is_another_run(toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]) -> None:
    for seed in (0, 1):
        trained(write_config(f"{seed}.yaml", stages=FIRST_STEPS, seed=seed), toy_pack, tmp_path / str(seed), until=2)
    totals = [numbers_of(tmp_path / str(seed))["total"] for seed in (0, 1)]
    assert bool((totals[0] != totals[1]).all())


@pytest.mark.parametrize("wanted", [True, False])
def test_the_deterministic_option_binds_torch(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], wanted: bool
) -> None:
    config = load_training_config(write_config(stages=FIRST_STEPS, deterministic=wanted))
    trainer = Trainer(config, toy_pack, tmp_path / "run", Hardware("cpu", 1))
    assert torch.are_deterministic_algorithms_enabled() is wanted
    if wanted:
        trainer.fit(until=3, quiet=True)  # every operation has a deterministic form
        assert math.isfinite(float(losses_of(tmp_path / "run")[-1]["total"]))


BIG_BATCH = {"stages": FIRST_STEPS, "subjects_per_step": 4, "learning_rate": 1e-4, "warm_up_steps": 0}
"""Steps small enough that rounding does not grow within a few of them."""
TOLERANCE = 1e-5
"""Relative; float32 sums in another order differ by about 1e-6 after a few steps."""


def assert_nearly_equal_losses(first: Path, second: Path, tolerance: float = TOLERANCE) -> None:
    one, other = numbers_of(first), numbers_of(second)
    assert one.keys() == other.keys()
    assert len(one["step"]) == len(other["step"]) == 4
    for name, values in one.items():
        bound = 10 * tolerance if name == "gradient_norm" else tolerance
        torch.testing.assert_close(other[name], values, rtol=bound, atol=1e-6, equal_nan=True, msg=name)


def test_accumulating_two_halves_is_one_big_batch(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    for parts in (1, 2):
        trained(write_config(f"{parts}.yaml", **BIG_BATCH, accumulation=parts), toy_pack, tmp_path / str(parts))
    assert_nearly_equal_losses(tmp_path / "1", tmp_path / "2")


def test_half_precision_trains_alike_and_keeps_weights_in_float32(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    for precision in ("32-true", "bf16-mixed"):
        config = write_config(f"{precision}.yaml", **BIG_BATCH, cpu_precision=precision)
        trained(config, toy_pack, tmp_path / precision)
    exact, half = (numbers_of(tmp_path / precision)["total"] for precision in ("32-true", "bf16-mixed"))
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)
    assert {value.dtype for value in checkpoint_of(tmp_path / "bf16-mixed")["network"].values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_trains_in_half_precision(toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]) -> None:
    trainer = Trainer(load_training_config(write_config(**BIG_BATCH)), toy_pack, tmp_path / "run", Hardware("cuda"))
    trainer.fit(quiet=True)
    assert trainer.autocast
    assert bool(numbers_of(tmp_path / "run")["total"].isfinite().all())
    assert {value.dtype for value in checkpoint_of(tmp_path / "run")["network"].values()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_train_like_one(
    toy_pack: Pack,
    toy_pack_folder: Path,
    tmp_path: Path,
    write_config: Callable[..., Path],
    process: Callable[..., subprocess.Popen[str]],
) -> None:
    """Four subjects a step on one process, or two each on two that exchange gradients through gloo."""
    config = write_config(**BIG_BATCH)
    both = process("--config", config, "--data", toy_pack_folder, "-o", tmp_path / "two", "--devices", 2)
    trained(config, toy_pack, tmp_path / "one")
    _, errors = both.communicate(timeout=TIMEOUT)
    assert both.returncode == 0, errors
    assert_nearly_equal_losses(tmp_path / "one", tmp_path / "two")
    weights = [checkpoint_of(tmp_path / name)["network"] for name in ("one", "two")]
    for name, value in weights[0].items():
        # Adam turns the rounding of a vanishing gradient into part of a step of the learning rate
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=4 * BIG_BATCH["learning_rate"])
    assert (tmp_path / "two" / "model.dalmodel").exists()


@pytest.mark.parametrize(("subjects", "accumulation"), [(3, 1), (2, 2), (6, 2)])
def test_a_step_that_cannot_be_shared_out_in_pairs_is_refused(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], subjects: int, accumulation: int
) -> None:
    config = load_training_config(write_config(subjects_per_step=subjects, accumulation=accumulation))
    with pytest.raises(UsageError, match=f"subjects_per_step {subjects} is no multiple of 2 subjects x {accumulation}"):
        Trainer(config, toy_pack, tmp_path / "run", Hardware("cpu", 1))


def test_no_lesion_enters_training(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever trains is drawn without `alter`; validation draws its lesions from another generator's records."""
    calls: list[tuple[PairGenerator, object]] = []
    draw = PairGenerator.subject

    def watched(
        self: PairGenerator,
        landmarks: Any,
        generator: torch.Generator,
        alter: Callable[[Pictures], Pictures] | None = None,
    ) -> Any:
        calls.append((self, alter))
        return draw(self, landmarks, generator, alter)

    monkeypatch.setattr(PairGenerator, "subject", watched)
    trainer = trained(write_config(stages=FIRST_STEPS, validate_every=1), toy_pack, tmp_path / "run", until=2)
    assert trainer.pairs is not trainer.held_out
    altered = [generator for generator, alter in calls if alter is not None]
    assert altered == [trainer.held_out]
    assert [alter for generator, alter in calls if generator is trainer.pairs] == [None] * 4  # 2 steps of 2 subjects


def records(count: int) -> list[Record]:
    return [Record(f"{index}", "labels", (2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0) for index in range(count)]


def test_every_tenth_record_is_held_out() -> None:
    training, held_out = split_records(records(25))
    assert [record.name for record in held_out] == ["9", "19"]
    assert len(training) == 23
    assert not {record.name for record in training} & {record.name for record in held_out}


def test_whoever_is_held_out_is_trained_on_by_no_other_record() -> None:
    several = records(8)
    for name in ("t1/IXI014", "pairs/IXI014-Guys-0828", "a/sub-3_ses-1", "a/sub-3_ses-2", "a/sub-31", "b/subject_3"):
        several.append(replace(several[0], name=name))
    training, held_out = split_records([*several[:8], several[10], several[8], *several[9:], *records(4)])
    assert [record.name for record in held_out] == ["t1/IXI014", "pairs/IXI014-Guys-0828"]
    assert {record.name for record in several} - {record.name for record in training} == {
        "t1/IXI014",
        "pairs/IXI014-Guys-0828",
    }
    assert person_of(several[10]) == person_of(several[11]) != person_of(several[12])
    folder = [replace(several[0], name=f"sub-controls/{name}") for name in ("a", "b")]
    assert person_of(folder[0]) != person_of(folder[1])


@pytest.mark.parametrize(("people", "sessions", "held_out"), [(1, 12, 0), (3, 10, 0), (10, 3, 1), (25, 2, 2)])
def test_people_with_many_scans_leave_something_to_train_on(people: int, sessions: int, held_out: int) -> None:
    names = [f"cohort/sub-{person}_ses-{session}" for person in range(people) for session in range(sessions)]
    everyone = [replace(records(1)[0], name=name) for name in names]
    training, validation = split_records(everyone)
    if held_out:
        assert (len(training), len(validation)) == ((people - held_out) * sessions, held_out * sessions)
    else:
        assert training == validation == everyone


def test_real_pairs_alone_teach_no_tissues(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_pack, "records", [record for record in toy_pack.records if record.source == "paired"])
    weights = {"tissue_cross_entropy": 1.0}
    stages = [{"name": "anatomy", "steps": 1, "learning_rates": {"anatomy_extractor": 1.0}, "weights": weights}]
    unlabelled = load_training_config(write_config("a.yaml", stages=stages))
    with pytest.raises(UsageError, match=r'stage "anatomy" learns tissues.*cluster_pairs: true.*ixi_paper\.yaml'):
        Trainer(unlabelled, toy_pack, tmp_path / "run", Hardware("cpu"))
    clustered = load_training_config(write_config("b.yaml", stages=stages, generator={"cluster_pairs": True}))
    Trainer(clustered, toy_pack, tmp_path / "run", Hardware("cpu"))


def test_resuming_and_beginning_with_others_weights_exclude_one_another(toy_pack: Pack, finished_run: Any) -> None:
    trainer = Trainer(load_training_config(finished_run.config), toy_pack, finished_run.folder, Hardware("cpu"))
    with pytest.raises(UsageError, match=r"--resume continues .*, --start begins"):
        trainer.fit(resume=True, start=finished_run.folder / "last.pt")


def test_a_small_pack_validates_on_what_it_trains_on() -> None:
    training, held_out = split_records(records(9))
    assert training == held_out == records(9)


def test_frozen_sub_networks_hold_still(finished_run: Any, toy_pack: Pack, tmp_path: Path) -> None:
    """The first stage moves E_A alone, the second all but E_A, the third everything."""
    run = tmp_path / "run"
    start = Trainer(load_training_config(finished_run.config), toy_pack, run, Hardware("cpu", 1)).network.state_dict()
    states = [{name: value.clone() for name, value in start.items()}]
    for until in (3, 6, 10):
        trained(finished_run.config, toy_pack, run, resume=until > 3, until=until)
        states.append(checkpoint_of(run)["network"])
    moved = []
    for before, after in pairwise(states):
        changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        moved.append(changed)
    everything = {name.partition(".")[0] for name in start}
    assert moved == [{"anatomy_extractor"}, everything - {"anatomy_extractor"}, everything]


def test_rates_rise_in_every_stage_and_fall_over_the_run(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    """2 warm-up steps per stage, half a cosine from 1e-3 down to a tenth, E_A at a tenth in the joint stage."""
    config = load_training_config(write_config())
    trainer = Trainer(config, toy_pack, tmp_path / "run", Hardware("cpu", 1))

    def rates(step: int) -> dict[str, float]:
        trainer.step = step
        trainer._set_rates(*config.stage_at(step))
        return {group["name"]: group["lr"] for group in trainer.optimizer.param_groups}

    decay = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(10)]
    assert rates(0)["anatomy_extractor"] == pytest.approx(1e-3 / 2)
    assert rates(0)["anatomy_restorer"] == 0
    assert rates(2)["anatomy_extractor"] == pytest.approx(1e-3 * decay[2])
    assert rates(3)["anatomy_restorer"] == pytest.approx(1e-3 * decay[3] / 2)
    assert rates(3)["anatomy_extractor"] == 0
    assert rates(7)["anatomy_extractor"] == pytest.approx(1e-4 * decay[7])
    assert rates(9)["anatomy_restorer"] == pytest.approx(1e-4)


@pytest.mark.parametrize(("start", "tolerance"), [("last.pt", 0.0), ("model.dalmodel", 1e-3)])
def test_a_run_can_begin_with_the_weights_and_landmarks_of_another(
    start: str,
    tolerance: float,
    toy_pack: Pack,
    finished_run: Any,
    tmp_path: Path,
    write_config: Callable[..., Path],
) -> None:
    other = checkpoint_of(finished_run.folder)
    held = {"name": "held", "steps": 1, "learning_rates": {"anatomy_encoder": 0.0}, "weights": {"reconstruction": 1.0}}
    config = write_config(seed=5, stages=[held])
    trainer = Trainer(load_training_config(config), toy_pack, tmp_path / "run", Hardware("cpu", 1))
    trainer.fit(start=finished_run.folder / start, quiet=True)
    begun = checkpoint_of(tmp_path / "run")
    assert begun["step"] == 1
    assert begun["landmarks"] == other["landmarks"]
    digest = hashlib.sha256((finished_run.folder / start).read_bytes()).hexdigest()
    assert begun["start"] == {"file": start, "sha256": digest, "steps": begun["start"]["steps"], "start": None}
    assert 0 < begun["start"]["steps"] <= 10
    for part in ("network", "average"):
        for name, value in other["average"].items():
            # half precision in a model file
            torch.testing.assert_close(begun[part][name], value, rtol=tolerance, atol=tolerance)


def test_weights_of_another_network_are_refused(
    toy_pack: Pack, finished_run: Any, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    config = write_config(model={"preset": "tiny", "network": {"code_channels": 4}})
    trainer = Trainer(load_training_config(config), toy_pack, tmp_path / "run", Hardware("cpu", 1))
    for name in ("last.pt", "model.dalmodel"):
        with pytest.raises(UsageError, match=rf"{name} holds another network"):
            trainer.fit(start=finished_run.folder / name)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(toy_pack: Pack, finished_run: Any) -> None:
    before = (finished_run.folder / "last.pt").read_bytes()
    with pytest.raises(OutputError, match="already holds a training run; add --resume"):
        trained(finished_run.config, toy_pack, finished_run.folder)
    assert (finished_run.folder / "last.pt").read_bytes() == before


def test_resuming_with_another_configuration_is_refused(
    toy_pack: Pack, finished_run: Any, write_config: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match="trained with another configuration"):
        trained(write_config(seed=5, validate_every=5), toy_pack, finished_run.folder, resume=True)


def test_resuming_with_the_runs_own_record_of_its_configuration(toy_pack: Pack, finished_run: Any) -> None:
    config = load_training_config(finished_run.folder / "config.yaml")
    assert config == load_training_config(finished_run.config)


def test_resuming_a_run_from_before_an_option_was_there(toy_pack: Pack, finished_run: Any, tmp_path: Path) -> None:
    content = checkpoint_of(finished_run.folder)
    del content["config"]["cpu_precision"]
    save_checkpoint(tmp_path / "last.pt", content)
    assert trained(finished_run.config, toy_pack, tmp_path, resume=True).step == content["step"]


def test_resuming_with_another_pack_is_refused(
    finished_run: Any, tmp_path: Path, add_brain: Callable[..., None], brain_labels: Callable[..., Any], priors: Any
) -> None:
    writer = PackWriter("others", priors)
    add_brain(writer, "other", "labels", brain_labels(0.9))
    writer.write(tmp_path / "pack")
    with pytest.raises(UsageError, match="trained on another pack"):
        trained(finished_run.config, Pack(tmp_path / "pack"), finished_run.folder, resume=True)


def test_resuming_nothing_is_refused(toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"last\.pt: no such checkpoint"):
        trained(write_config(), toy_pack, tmp_path / "nothing", resume=True)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_run_that_diverges_stops_and_keeps_its_last_checkpoint(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, poison: str
) -> None:
    """Whether the loss itself is no number or only its gradient is, no weight ever takes it up."""
    run = tmp_path / "run"
    config = write_config(stages=FIRST_STEPS)
    draw = PairGenerator.batch
    trainer = Trainer(load_training_config(config), toy_pack, run, Hardware("cpu", 1))

    def poisoned(self: PairGenerator, landmarks: Any, *key: object, subjects: range) -> Any:
        batch = draw(self, landmarks, *key, subjects=subjects)
        if key == ("train", 2):
            if poison == "loss":
                batch.images[0, 0, 12, 14, 12] = math.nan
            else:
                weight = next(trainer.network.representation_combiner.parameters())
                weight.requires_grad_(True)  # the stage before had it frozen
                weight.register_hook(lambda gradient: gradient * math.inf)
        return batch

    monkeypatch.setattr(PairGenerator, "batch", poisoned)
    with pytest.raises(InputError, match=r"not finite at step 2; lower the learning rate"):
        trainer.fit(quiet=True)
    content = checkpoint_of(run)
    assert content["step"] == 2
    for weights in (content["network"], trainer.network.state_dict()):
        assert all(bool(value.isfinite().all()) for value in weights.values())
    assert len(losses_of(run)) == 2
    # and from there it goes on, once the cause is gone
    monkeypatch.undo()
    assert trained(config, toy_pack, run, resume=True).step == 4


def test_an_interrupted_checkpoint_leaves_the_old_one(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up, or the process dies, while the third checkpoint is being written."""
    run, written = tmp_path / "run", 0
    config = write_config(stages=FIRST_STEPS)
    synchronise = os.fsync

    def interrupted(file: int) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronise(file)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(OSError, match="No space left"):
        trained(config, toy_pack, run)
    monkeypatch.undo()
    assert not list(run.glob(".*.part"))
    assert checkpoint_of(run)["step"] == 2
    trained(config, toy_pack, run, resume=True)
    trained(config, toy_pack, tmp_path / "undisturbed")
    assert losses_of(run) == losses_of(tmp_path / "undisturbed")
    assert_same_weights(run, tmp_path / "undisturbed")


def result(precision: float, agreement: float = 1.0) -> ValidationResult:
    figures = {"average_precision": precision, "anatomy_agreement": agreement, "healthy_error": 0.0, "leakage": 0.0}
    return ValidationResult(figures, [])


@pytest.fixture
def validating(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[ValidationResult]]:
    """Let validations have these results, one after another; returns those that are left."""

    def answer(*results: ValidationResult) -> list[ValidationResult]:
        left = list(results)
        monkeypatch.setattr(Validation, "__call__", lambda self, network: left.pop(0))
        monkeypatch.setattr(trainer_module, "save_montage", lambda *_: None)
        return left

    return answer


def test_the_best_checkpoint_is_the_most_precise_that_has_not_collapsed(
    toy_pack: Pack,
    tmp_path: Path,
    write_config: Callable[..., Path],
    validating: Callable[..., list[ValidationResult]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = validating(result(0.2), result(0.9, agreement=0.1), result(0.5), result(0.3))
    run = tmp_path / "run"
    trainer = trained(write_config(stages=FIRST_STEPS, validate_every=1), toy_pack, run)
    assert results == []
    assert trainer.best == 0.5
    assert checkpoint_of(run, "best.pt")["step"] == 3
    assert checkpoint_of(run)["step"] == 4
    output = capsys.readouterr()
    assert "*** WARNING at step 2: COLLAPSE: sequences agree on 0.10" in output.out + output.err


def test_a_resumed_run_knows_what_was_best_and_what_it_began_with(
    toy_pack: Pack,
    finished_run: Any,
    tmp_path: Path,
    write_config: Callable[..., Path],
    validating: Callable[..., list[ValidationResult]],
) -> None:
    results = validating(result(0.5), result(0.3))
    config, run = load_training_config(write_config(stages=FIRST_STEPS, validate_every=2)), tmp_path / "run"
    Trainer(config, toy_pack, run, Hardware("cpu")).fit(until=2, quiet=True, start=finished_run.folder / "last.pt")
    resumed = Trainer(config, toy_pack, run, Hardware("cpu"))
    resumed.fit(resume=True, quiet=True)
    assert (results, resumed.best) == ([], 0.5)
    assert checkpoint_of(run, "best.pt")["step"] == 2
    assert checkpoint_of(run)["start"]["file"] == "last.pt"


def test_what_is_validated_is_the_average(toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]) -> None:
    config = load_training_config(write_config(ema_decay=0.9))
    trainer = Trainer(config, toy_pack, tmp_path / "run", Hardware("cpu"))
    assert trainer.average is not None
    assert trainer.validated_network is trainer.average.network


def test_a_run_that_saved_nothing_but_its_best_goes_on_from_there(
    toy_pack: Pack,
    tmp_path: Path,
    write_config: Callable[..., Path],
    validating: Callable[..., list[ValidationResult]],
) -> None:
    results = validating(result(0.5), result(0.3))
    config, run = load_training_config(write_config(stages=FIRST_STEPS, validate_every=2)), tmp_path / "run"
    Trainer(config, toy_pack, run, Hardware("cpu")).fit(until=3, quiet=True)
    (run / "last.pt").unlink()
    assert checkpoint_of(run, "best.pt")["step"] == 2
    resumed = Trainer(config, toy_pack, run, Hardware("cpu"))
    assert resumed.fit(resume=True, quiet=True) == config.steps - 2
    assert (results, resumed.best) == ([], 0.5)
    assert checkpoint_of(run)["step"] == config.steps


def test_the_best_of_a_run_that_saved_nothing_else_is_not_overwritten_or_taken_for_another_runs(
    toy_pack: Pack, finished_run: Any, tmp_path: Path
) -> None:
    """As a run leaves it that is stopped between its first validation and its first `last.pt`."""
    shutil.copy(finished_run.folder / "last.pt", tmp_path / "best.pt")
    with pytest.raises(OutputError, match="already holds a training run"):
        trained(finished_run.config, toy_pack, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


TISSUES_ALONE = dict.fromkeys(term_names(), 0.0) | {"tissue_cross_entropy": 1.0}


@pytest.mark.parametrize("rates", [{}, {"modality_extractor": 1.0}])
def test_a_stage_that_teaches_nothing_is_refused(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path], rates: dict[str, float]
) -> None:
    idle = {"name": "idle", "steps": 2, "learning_rates": rates, "weights": TISSUES_ALONE}
    trainer = Trainer(load_training_config(write_config(stages=[idle])), toy_pack, tmp_path / "run", Hardware("cpu"))
    with pytest.raises(UsageError, match='stage "idle": none of its losses reaches a sub-network'):
        trainer.fit(quiet=True)


def test_nobody_who_is_held_out_is_trained_on(
    tmp_path: Path,
    write_config: Callable[..., Path],
    add_brain: Callable[..., None],
    brain_labels: Callable[..., Any],
    priors: Any,
) -> None:
    writer = PackWriter("ten", priors)
    for number in range(10):
        add_brain(writer, f"labels/{number}", "labels", brain_labels(0.9 + 0.02 * number))
    writer.write(tmp_path / "pack")
    trainer = Trainer(load_training_config(write_config()), Pack(tmp_path / "pack"), tmp_path / "run", Hardware("cpu"))
    names = [[subject.record.name for subject in pairs._others] for pairs in (trainer.pairs, trainer.held_out)]
    assert names == [[f"labels/{number}" for number in range(9)], ["labels/9"]]


BRAIN_EXTRACTION = ROOT / "Resources" / "Models" / "brain_extraction.pt"


def test_a_checkpoint_of_another_kind_is_refused(
    toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    config, run = load_training_config(write_config(stages=FIRST_STEPS)), tmp_path / "run"
    torch.save([1, 2], tmp_path / "list.pt")
    run.mkdir()
    shutil.copy(BRAIN_EXTRACTION, run / "last.pt")
    for how in ({"start": BRAIN_EXTRACTION}, {"start": tmp_path / "list.pt"}, {"resume": True}):
        folder = run if "resume" in how else tmp_path / "new"
        with pytest.raises(InputError, match="is no checkpoint of such a run; name another"):
            Trainer(config, toy_pack, folder, Hardware("cpu")).fit(quiet=True, **how)


def test_a_finished_run_leaves_its_figures_and_pictures(finished_run: Any) -> None:
    names = {path.name for path in finished_run.folder.iterdir()}
    assert {"config.yaml", "last.pt", "steps.csv", "validation.csv", "tensorboard", "montages"} <= names
    montages = sorted(path.name for path in (finished_run.folder / "montages").iterdir())
    assert montages == ["step_000005.png", "step_000010.png"]
    logged = losses_of(finished_run.folder)[-1]
    assert {"total", "gradient_norm", "reconstruction", "restoration", "code_consistency"} <= set(logged)
    with (finished_run.folder / "validation.csv").open(newline="") as lines:
        validated = list(csv.DictReader(lines))
    assert [row["step"] for row in validated] == ["4", "9"]
    assert {"average_precision_T1", "best_dice_T2", "class_fraction_3", "anatomy_agreement", "edge_density"} <= set(
        validated[0]
    )


def test_training_learns_tissues(
    tmp_path: Path,
    write_config: Callable[..., Path],
    add_brain: Callable[..., None],
    brain_labels: Callable[..., Any],
    priors: Any,
) -> None:
    writer = PackWriter("label maps alone", priors)
    add_brain(writer, "one", "labels", brain_labels(1.0))
    writer.write(tmp_path / "pack")
    weights = dict.fromkeys(term_names(), 0.0) | {"tissue_cross_entropy": 1.0}
    stages = [{"name": "anatomy", "steps": 16, "learning_rates": {"anatomy_extractor": 1.0}, "weights": weights}]
    config = write_config(stages=stages, learning_rate=1e-2, ema_decay=0.0, final_rate_factor=1.0)
    trained(config, Pack(tmp_path / "pack"), tmp_path / "run")
    entropy = numbers_of(tmp_path / "run")["tissue_cross_entropy"]
    assert float(entropy[-4:].mean()) < 0.8 * float(entropy[:4].mean())


@pytest.mark.parametrize("arguments", [["--resume"], []], ids=["nothing to resume", "already there"])
def test_errors_are_one_line_with_their_exit_code(
    finished_run: Any,
    toy_pack_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    run = tmp_path / "nothing" if arguments else finished_run.folder
    command = ["train", "--config", finished_run.config, "--data", toy_pack_folder, "-o", run, *arguments]
    monkeypatch.setattr(sys, "argv", [str(part) for part in [*command, "--accelerator", "cpu", "--quiet"]])
    assert main() == (InputError if arguments else OutputError).exit_code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
