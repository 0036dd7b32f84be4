from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from DALAnomalyLib import resources
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.network.brain_extractor import WIDTHS, BrainExtractor
from DALAnomalyLib.network.brain_extractor_file import LoadedExtractor, load_extractor
from DALAnomalyTraining.brain_extraction import evaluate as evaluation
from DALAnomalyTraining.brain_extraction import train as training_file
from DALAnomalyTraining.brain_extraction.__main__ import main
from DALAnomalyTraining.brain_extraction.evaluate import evaluate, summary
from DALAnomalyTraining.brain_extraction.head_generator import HeadConfig, random_head
from DALAnomalyTraining.brain_extraction.head_pack import Head, read_pack, write_pack
from DALAnomalyTraining.brain_extraction.train import CHECKPOINT_PARTS, ExtractionTraining, loss_of, train
from DALAnomalyTraining.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
SHAPE = (24, 28, 24)
CONFIG = HeadConfig(shape=SHAPE)
EASY = HeadConfig(SHAPE, 0, 0, 0, 0, 0, recoloured_chance=0, lesion_chance=0, coarse_chance=0, cut_chance=0)
TRAINING = ExtractionTraining(steps=6, save_every=2, widths=(3, 4))
LABELS = (0, 2, 511)


def radius(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    offsets = np.indices(shape) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    return np.linalg.norm(offsets, axis=0) / (min(shape) / 2)


def head(labels: tuple[int, ...] = (), name: str = "head") -> Head:
    """A bright brain in a darker head, or a label map of one."""
    inside, around = radius() < 0.6, radius() < 0.9
    values = (1, 2) if labels else (200, 90)
    voxels = np.where(inside, values[0], np.where(around, values[1], 0))
    return Head(name, voxels.astype(np.uint8), np.where(inside, 255, 0).astype(np.uint8), labels)


HEADS = [head(), head(LABELS)]


def rows(run: Path) -> list[list[str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.reader(file))


def weights(network: nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(one, other) for one, other in zip(weights(first), weights(second), strict=True))


def test_two_steps_leave_a_network_a_checkpoint_and_a_log(tmp_path: Path) -> None:
    run = tmp_path / "new" / "run"
    network = train(HEADS, run, replace(TRAINING, steps=2), CONFIG, CPU)
    assert isinstance(network, BrainExtractor)
    assert not network.training
    assert network.classify.in_channels == 3
    state = load_checkpoint(run / "last.pt", CPU, CHECKPOINT_PARTS)
    assert state["step"] == 2
    assert all(torch.equal(state["average"][name], weight) for name, weight in network.state_dict().items())
    assert not torch.equal(state["network"]["classify.weight"], state["average"]["classify.weight"])
    logged = rows(run)
    assert [row[0] for row in logged] == ["0", "1"]
    for _, loss, dice, seconds, is_real in logged:
        assert 0 < float(loss) < 5
        assert 0 <= float(dice) <= 1
        assert float(seconds) > 0
        assert is_real in ("0", "1")


def test_the_usual_network_is_the_shipped_one() -> None:
    assert ExtractionTraining().widths == WIDTHS


def test_same_seed_same_network_another_seed_another(tmp_path: Path) -> None:
    first = train(HEADS, tmp_path / "first", TRAINING, CONFIG, CPU)
    torch.rand(5)
    assert same(first, train(HEADS, tmp_path / "second", TRAINING, CONFIG, CPU))
    assert not same(first, train(HEADS, tmp_path / "third", replace(TRAINING, seed=2), CONFIG, CPU))


@pytest.mark.parametrize("killed_at", [1, 4, 5])
def test_resuming_equals_not_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int) -> None:
    whole = train(HEADS, tmp_path / "whole", TRAINING, CONFIG, CPU)

    drawn = 0

    def killed(*arguments: object) -> object:
        nonlocal drawn
        drawn += 1
        if drawn > killed_at:
            raise KeyboardInterrupt
        return random_head(*arguments)

    monkeypatch.setattr(training_file, "random_head", killed)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(HEADS, run, TRAINING, CONFIG, CPU)
    monkeypatch.undo()
    assert (run / "last.pt").exists() == (killed_at >= 2)
    resumed = train(HEADS, run, TRAINING, CONFIG, CPU)
    assert same(resumed, whole)
    # the time of a step is the machine's
    without_time = [[row[:3] + row[4:] for row in rows(folder)] for folder in (run, tmp_path / "whole")]
    assert without_time[0] == without_time[1]
    assert same(train(HEADS, run, TRAINING, CONFIG, CPU), whole), "a finished run is not trained further"


def test_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(InputError, match=r"last\.pt is not a readable checkpoint"):
        train(HEADS, tmp_path, TRAINING, CONFIG, CPU)


def test_a_run_begins_with_no_other_network(tmp_path: Path) -> None:
    other = {"network": {}, "average": BrainExtractor((2,)).state_dict(), "optimiser": {}, "step": 1}
    for content, message in ((other, "is of another network"), ({"config": {}}, "is no checkpoint of such a run")):
        save_checkpoint(tmp_path / "other.pt", content)
        with pytest.raises(InputError, match=rf"other\.pt {message}"):
            train(HEADS, tmp_path / "run", TRAINING, CONFIG, CPU, tmp_path / "other.pt")


def test_pack_without_heads_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the pack of heads is empty; make it with `prepare`"):
        train([], tmp_path, TRAINING, CONFIG, CPU)


@pytest.mark.parametrize("labels", [(), LABELS], ids=["scan", "label map"])
def test_loss_falls_on_one_head(tmp_path: Path, labels: tuple[int, ...]) -> None:
    training = ExtractionTraining(steps=50, learning_rate=0.1, average_decay=0.5, widths=(6, 8))
    config = replace(EASY, contrasts=("T1",), realistic_chance=1)
    network = train([head(labels)], tmp_path, training, config, CPU)
    losses = [float(row[1]) for row in rows(tmp_path)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    example = random_head(head(labels), config, torch.Generator().manual_seed(123))
    found = network(example.image[None, None])[0, 0] > 0
    truth = example.brain > 0.5
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_real_heads_have_their_share(tmp_path: Path) -> None:
    heads = [*HEADS, *(head(LABELS, f"map {number}") for number in range(5))]
    for share in (0.0, 1.0):
        train(heads, tmp_path / str(share), replace(TRAINING, real_share=share, steps=4), EASY, CPU)
        assert {row[4] for row in rows(tmp_path / str(share))} == {str(int(share))}


def test_loss_is_small_where_logits_are_right_and_large_where_they_are_wrong() -> None:
    brain = torch.zeros(1, 1, 4, 4, 4)
    brain[..., :2] = 1
    right = 20 * (2 * brain - 1)
    assert loss_of(right, brain) < 1e-3
    assert loss_of(-right, brain) > 10
    assert loss_of(torch.zeros_like(brain), brain) == pytest.approx(np.log(2) + 1 - 33 / 65, abs=1e-5)


def test_loss_of_a_head_without_brain_is_finite() -> None:
    empty = torch.zeros(1, 1, 4, 4, 4)
    assert loss_of(empty - 20, empty) < 0.01
    assert 0.5 < loss_of(empty, empty) < 3


# Evaluation and command line, on tiny folders laid out like the real ones


class Threshold(nn.Module):
    """A network that takes what is bright for brain."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1)
        nn.init.constant_(self.convolution.weight, 30.0)
        nn.init.constant_(self.convolution.bias, -20.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.convolution(image)


class Nothing(nn.Module):
    """A network that finds no brain."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return torch.full_like(image, -9.0)


def extractor(network: nn.Module) -> LoadedExtractor:
    return LoadedExtractor(network, 2.0, "0" * 64, {})


def write(array: np.ndarray, path: Path, spacing: float) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five label maps and seven real heads, of which 0 and 5 are held out."""
    folder = tmp_path_factory.mktemp("some_T1_heads")
    # of these 2 mm voxels the brain has about 270 ml
    shape = (44, 48, 46)
    for number in range(5):
        distance = radius((88, 96, 92)) * (1 + 0.01 * number)
        array = np.where(distance < 0.92, 2, np.where(distance < 0.98, 511, 0))
        write(array.astype(np.int16), folder / "maps" / f"map_{number}.nii.gz", 1.0)
    for number in range(7):
        distance = radius(shape) * (1 + 0.01 * number)
        write(
            np.where(distance < 0.9, 200, np.where(distance < 0.98, 60, 0)).astype(np.int16),
            folder / "scans" / f"head_{number}_T1.nii.gz",
            2.0,
        )
        mask = (distance < 0.9) & (distance > 0.2)
        write(mask.astype(np.int16), folder / "scans" / f"head_{number}_labels.nii.gz", 2.0)
    return folder


@pytest.fixture
def two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(evaluation.ORDINARY, shape=(48, 52, 48), noise=0, bias_field=0)
    monkeypatch.setattr(evaluation, "REPEATS", 1)
    monkeypatch.setattr(
        evaluation,
        "KINDS",
        {"T1": replace(config, contrasts=("T1",)), "stripped": replace(config, stripped_chance=1)},
    )


@pytest.mark.usefixtures("two_kinds")
def test_evaluation_measures_every_head_that_was_held_out(folders: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    measured = evaluate(folders / "maps", folders / "scans", extractor(Threshold()), table)
    maps = [f"map_{number}.nii.gz" for number in range(1, 5)]
    assert [row[:2] for row in measured] == [
        ("real T1 (IXI, labels > 0)", "head_0_T1.nii.gz"),
        ("real T1 (IXI, labels > 0)", "head_5_T1.nii.gz"),
        *((f"synthetic {kind}", name) for name in maps for kind in ("T1", "stripped")),
    ]
    assert min(value for kind, _, value in measured if "real" in kind or "T1" in kind) > 0.93
    with table.open(newline="") as file:
        written = list(csv.reader(file))
    assert written[0] == ["kind", "head", "dice"]
    assert written[1:] == [[kind, name, f"{value:.4f}"] for kind, name, value in measured]


@pytest.mark.usefixtures("two_kinds")
def test_brain_that_is_not_found_counts_as_zero(folders: Path, tmp_path: Path) -> None:
    measured = evaluate(folders / "maps", folders / "scans", extractor(Nothing()), tmp_path / "table.csv")
    assert {value for _, _, value in measured} == {0.0}


def test_summary_has_mean_and_worst_of_every_kind() -> None:
    measured = [("real", "a", 0.9), ("synthetic", "b", 0.5), ("real", "c", 0.8), ("real", "d", 1.0)]
    assert summary(measured).splitlines()[2:] == ["| real | 3 | 0.900 | 0.800 |", "| synthetic | 1 | 0.500 | 0.500 |"]


def test_kinds_differ_from_an_ordinary_head_in_what_their_name_says() -> None:
    assert evaluation.KINDS["T2"].contrasts == ("T2",)
    assert evaluation.KINDS["T2"].lesion_chance == 0
    assert evaluation.KINDS["T2 with lesions"].lesion_chance == 1
    assert evaluation.KINDS["stripped"].stripped_chance == 1
    assert evaluation.KINDS["random contrast"].realistic_chance == 0
    assert {config.shape for config in evaluation.KINDS.values()} == {HeadConfig().shape}


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["brain_extraction", *map(str, words)])
    return main()


def test_prepare_writes_a_pack(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ("--label-maps", folders / "maps", "--scans", folders / "scans")
    assert command(monkeypatch, "prepare", *sources, "-o", tmp_path / "heads.npz") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'heads.npz'}: 6 heads\n"
    assert len(list(read_pack(tmp_path / "heads.npz"))) == 6


def test_train_runs_on_a_pack_and_export_makes_a_network_file(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack(folders / "maps", folders / "scans", tmp_path / "heads.npz")
    run, file = tmp_path / "run", tmp_path / "Models" / "network.pt"
    file.parent.mkdir()
    monkeypatch.setattr(resources, "resource_folder", lambda kind: tmp_path / kind)
    assert command(
        monkeypatch, "train", "--data", tmp_path / "heads.npz", "-o", run, "--steps", 1, "--device", "cpu"
    ) == 0  # fmt: skip
    assert command(monkeypatch, "export", run, "-o", file) == 0
    assert re.search(r"network\.pt: [23]\.\d\d MB after 1 steps\n$", capsys.readouterr().out)
    loaded = load_extractor(file)
    assert loaded.spacing_mm == 2.0
    assert loaded.training["steps"] == 1
    assert re.fullmatch(r"\d whole-head label maps .* and \d recoloured real T1 heads", loaded.training["data"])
    state = load_checkpoint(run / "last.pt", CPU, CHECKPOINT_PARTS)["average"]
    for name, weight in loaded.network.state_dict().items():
        assert torch.equal(weight, state[name].half().float())
    assert (file.parent / "SHA256SUMS").read_text() == f"{loaded.digest}  network.pt\n"


@pytest.mark.usefixtures("two_kinds")
def test_evaluate_prints_a_table(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = BrainExtractor((2,)).requires_grad_(False)
    for weight in network.parameters():
        weight.zero_()
    network.classify.bias.fill_(-5)
    from DALAnomalyLib.network.brain_extractor_file import save_extractor

    save_extractor(tmp_path / "none.pt", network, 2.0, {})
    words = ("--label-maps", folders / "maps", "--scans", folders / "scans", "--network", tmp_path / "none.pt")
    assert command(monkeypatch, "evaluate", *words, "-o", tmp_path / "table.csv") == 0
    assert "| synthetic stripped | 4 | 0.000 | 0.000 |" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 + 8


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("prepare", "--label-maps", "nowhere", "--scans", "nowhere", "-o", "pack.npz"), 3, "nowhere holds no"),
        (("train", "--data", "nowhere.npz", "-o", "run"), 3, "nowhere.npz is not a readable pack"),
        (("train", "--data", "nowhere.npz", "-o", "run", "--device", "gpu"), 2, "unknown device 'gpu'"),
        (("evaluate", "--label-maps", "a", "--scans", "b", "-o", "file/table.csv"), 7, "file: cannot be written"),
        (("export", "nowhere", "-o", "file.pt"), 3, "nowhere/last.pt: no such checkpoint"),
        (
            ("evaluate", "--label-maps", "a", "--scans", "b", "-o", "table.csv", "--network", "nowhere.pt"),
            5,
            "nowhere.pt cannot be read",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_failure_is_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert command(monkeypatch, *words) == code
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert message in text
    assert text.count("\n") == 1


def test_export_of_another_networks_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "last.pt", {"average": BrainExtractor((2,)).state_dict(), "step": 1})
    assert command(monkeypatch, "export", tmp_path, "-o", tmp_path / "file.pt") == 3
    assert "last.pt is not of a brain extraction network of the usual size" in capsys.readouterr().err
