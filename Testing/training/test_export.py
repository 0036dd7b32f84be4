from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from DALAnomalyCLI.app import app
from DALAnomalyLib.configuration import from_dictionary, preset
from DALAnomalyLib.errors import InputError, OutputError, UsageError
from DALAnomalyLib.model_store import Model, load_model
from DALAnomalyLib.network.dal_network import Anatomy, DALNetwork, Restoration
from DALAnomalyLib.scoring.score_config import SCORE_KINDS
from DALAnomalyTraining import export as export_module
from DALAnomalyTraining.export import export
from DALAnomalyTraining.generator.pair_generator import PairedBatch, PairGenerator
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.reference import MARGIN
from DALAnomalyTraining.trainer import landmarks_from
from DALAnomalyTraining.training_config import TrainingConfig

CPU = torch.device("cpu")
HALF_PRECISION = 0.01
"""Of PHI in [0, 1], from the same edges, which flip in so young a network where scores nearly tie."""


@pytest.fixture(scope="module")
def checkpoint(finished_run: Any) -> dict[str, Any]:
    return torch.load(finished_run.folder / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def exported(finished_run: Any, toy_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The last checkpoint as a model file, measured on fewer subjects than usual, and read back."""
    path = tmp_path_factory.mktemp("models") / "new" / "toy.dalmodel"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "CALIBRATION_SUBJECTS", 4)
        patch.setattr(export_module, "REFERENCE_SUBJECTS", 10)
        patch.setattr(export_module, "TEMPLATE_SUBJECTS", 4)
        export(finished_run.folder / "last.pt", toy_pack, path)
    return load_model(path, CPU)


@pytest.fixture(scope="module")
def batch(checkpoint: dict[str, Any], toy_pack: Pack) -> PairedBatch:
    config = from_dictionary(TrainingConfig, checkpoint["config"])
    pairs = PairGenerator(toy_pack, toy_pack.records, config.model.grid, ("T1", "T2"), config.generator, CPU, 7)
    return pairs.batch(landmarks_from(checkpoint["landmarks"]), "test", subjects=range(2))


def test_thresholds_come_from_who_was_held_out_and_all_else_from_who_was_trained_on(
    finished_run: Any, toy_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, str]] = []

    class Watched(PairGenerator):
        def __init__(self, pack: Pack, records: Any, *rest: Any) -> None:
            self.records = records
            super().__init__(pack, records, *rest)

        def subject(self, landmarks: Any, generator: Any, alter: Any = None) -> Any:
            drawn.append((self.records[0].name, "healthy" if alter is None else "lesioned"))
            return super().subject(landmarks, generator, alter)

    monkeypatch.setattr(export_module, "PairGenerator", Watched)
    monkeypatch.setattr(export_module, "split_records", lambda records: (records[:2], records[2:4]))
    for name, count in (("CALIBRATION_SUBJECTS", 1), ("REFERENCE_SUBJECTS", 10), ("TEMPLATE_SUBJECTS", 1)):
        monkeypatch.setattr(export_module, name, count)
    export(finished_run.folder / "last.pt", toy_pack, tmp_path / "model.dalmodel")
    assert drawn == [("labels/2", "lesioned"), ("labels/2", "healthy"), *[("labels/0", "healthy")] * 11]


def test_classes_are_named_by_their_brightness_on_t1() -> None:
    tissues = torch.arange(27).reshape(1, 3, 3, 3) % 3 + 1
    t1 = tissues / 4
    batch = PairedBatch(torch.stack((t1, 1 - t1), dim=1), torch.ones(1, 1, 3, 3, 3), tissues)

    class Extractor:
        """Its classes 1, 2, 3 are white matter, CSF and grey matter."""

        config = preset("tiny")

        def extract_anatomy(self, image: torch.Tensor, brain: torch.Tensor) -> Anatomy:
            one_hot = functional.one_hot(tissues % 3, 3).movedim(-1, 1).float()
            return Anatomy(one_hot, one_hot, image)

    network: Any = Extractor()
    assert export_module._tissues_by_intensity(network, [batch]) == (3, 1, 2)


def restored(network: DALNetwork, batch: PairedBatch) -> Restoration:
    images = batch.images.flatten(0, 1)[:, None]
    brain = batch.brain.repeat_interleave(2, dim=0)
    return network.eval().restore(images, brain, torch.arange(2).repeat(2))


def pseudo_healthy(network: DALNetwork, batch: PairedBatch, drawn: Restoration | None = None) -> torch.Tensor:
    """Painted from the network's own edges, or from those of `drawn`."""
    found = restored(network, batch)
    if drawn is None:
        return found.pseudo_healthy
    with torch.inference_mode():
        code = network.restore_code(drawn.anatomy.image, drawn.edges)
        return network.combine(code, found.modality, batch.brain.repeat_interleave(2, dim=0)).clamp(0, 1)


def network_of(checkpoint: dict[str, Any], part: str) -> DALNetwork:
    network = DALNetwork(from_dictionary(TrainingConfig, checkpoint["config"]).model)
    network.load_state_dict(checkpoint[part])
    return network


def test_a_model_holds_the_averaged_network(checkpoint: dict[str, Any], exported: Model, batch: PairedBatch) -> None:
    average = restored(network_of(checkpoint, "average"), batch)
    made, last = (
        pseudo_healthy(network, batch, average) for network in (exported.network, network_of(checkpoint, "network"))
    )
    difference, otherwise = ((image - average.pseudo_healthy).abs() for image in (made, last))
    assert float(difference.max()) < HALF_PRECISION
    assert float(otherwise.mean()) > 2 * float(difference.mean())
    # to the last bit it is the average rounded to half precision
    rounded = network_of(checkpoint, "average").half().float()
    assert torch.equal(pseudo_healthy(exported.network, batch), pseudo_healthy(rounded, batch))
    for name, value in exported.network.state_dict().items():
        torch.testing.assert_close(value, checkpoint["average"][name], rtol=1e-3, atol=1e-6)


def test_a_model_says_what_it_is(checkpoint: dict[str, Any], exported: Model, toy_pack: Pack) -> None:
    metadata = exported.metadata
    assert metadata.config == from_dictionary(TrainingConfig, checkpoint["config"]).model
    assert metadata.landmarks == landmarks_from(checkpoint["landmarks"])
    assert metadata.training["data"] == "made-up brains"
    assert metadata.training["pack_sha256"] == toy_pack.sha256
    assert metadata.training["steps"] == 10
    assert 0 <= metadata.training["validation_on_synthetic_lesions"]["average_precision"] <= 1


def test_a_model_has_thresholds_for_every_sequence_and_score(exported: Model) -> None:
    thresholds = exported.metadata.thresholds
    assert {name: set(by_kind) for name, by_kind in thresholds.items()} == {
        name: set(SCORE_KINDS) for name in ("T1", "T2")
    }
    assert all(0 <= value < 2 for by_kind in thresholds.values() for value in by_kind.values())


def test_a_model_has_mean_images_of_every_sequence(exported: Model) -> None:
    assert set(exported.templates) == {"T1", "T2"}
    t1, t2 = exported.templates["T1"], exported.templates["T2"]
    assert t1.shape == exported.metadata.config.grid.shape
    assert torch.equal(t1 > 0, t2 > 0)
    assert 0.1 < float((t1 > 0).float().mean()) < 0.6
    inside = t1 > 0
    assert float(torch.corrcoef(torch.stack((t1[inside], t2[inside])))[0, 1]) < -0.3


def test_a_model_knows_what_its_training_scans_look_like(exported: Model) -> None:
    assert sorted(exported.reference) == ["T1", "T2"]
    assert exported.metadata.training["reference"] == {"subjects": 10, "margin": MARGIN}
    length = exported.network.modality_extractor.length
    assert all(each.centre.shape == (length,) and each.limits for each in exported.reference.values())


def test_without_an_average_the_network_itself_is_exported(
    checkpoint: dict[str, Any], toy_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "CALIBRATION_SUBJECTS", 1)
    monkeypatch.setattr(export_module, "REFERENCE_SUBJECTS", 10)
    monkeypatch.setattr(export_module, "TEMPLATE_SUBJECTS", 1)
    torch.save(checkpoint | {"average": None}, tmp_path / "plain.pt")
    export(tmp_path / "plain.pt", toy_pack, tmp_path / "plain.dalmodel")
    for name, value in load_model(tmp_path / "plain.dalmodel", CPU).network.state_dict().items():
        torch.testing.assert_close(value, checkpoint["network"][name], rtol=1e-3, atol=1e-6)


def test_exporting_twice_gives_the_same_file(
    finished_run: Any, toy_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "CALIBRATION_SUBJECTS", 1)
    monkeypatch.setattr(export_module, "REFERENCE_SUBJECTS", 10)
    monkeypatch.setattr(export_module, "TEMPLATE_SUBJECTS", 1)
    for name in ("a", "b"):
        export(finished_run.folder / "last.pt", toy_pack, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "no such checkpoint"),
        (lambda path: path.write_bytes(b"no checkpoint"), "is not a readable checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    toy_pack: Pack, tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / "last.pt")
    with pytest.raises(InputError, match=rf"last\.pt:? {words}"):
        export(tmp_path / "last.pt", toy_pack, tmp_path / "model.dalmodel")
    assert not (tmp_path / "model.dalmodel").exists()


def test_another_pack_than_that_of_the_run_is_refused(
    finished_run: Any, toy_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_pack, "sha256", "of another one")
    with pytest.raises(UsageError, match="was trained on another pack"):
        export(finished_run.folder / "last.pt", toy_pack, tmp_path / "model.dalmodel")
    assert not list(tmp_path.glob("*.dalmodel"))


def test_scores_of_another_configuration(
    finished_run: Any,
    toy_pack: Pack,
    tmp_path: Path,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_module, "CALIBRATION_SUBJECTS", 2)
    monkeypatch.setattr(export_module, "TEMPLATE_SUBJECTS", 2)
    other = write_config(
        model={
            "preset": "tiny",
            "score": {"mean_filter": 5},
            "restoration": {"views": 1, "tone_pieces": 4, "typical_looks": True},
        }
    )
    metadata = export(finished_run.folder / "last.pt", toy_pack, tmp_path / "other.dalmodel", other)
    assert metadata.config.score.mean_filter == 5
    assert (metadata.config.restoration.views, metadata.config.restoration.typical_looks) == (1, True)
    assert load_model(tmp_path / "other.dalmodel", CPU).metadata.config == metadata.config


def test_another_network_has_no_say(
    finished_run: Any, toy_pack: Pack, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    other = write_config(model={"preset": "tiny", "network": {"code_channels": 4}})
    with pytest.raises(UsageError, match="another network or grid"):
        export(finished_run.folder / "last.pt", toy_pack, tmp_path / "other.dalmodel", other)
    assert not list(tmp_path.glob("*.dalmodel"))


def test_where_no_file_can_be_is_told_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    arguments = ["export", "missing.pt", "--data", "missing", "-o", tmp_path / "file" / "model.dalmodel"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == OutputError.exit_code
    assert "file: cannot be written" in " ".join(result.output.split())
