from __future__ import annotations

import hashlib
import pickle
import sysconfig
from pathlib import Path

import pytest
import torch

from DALAnomalyLib import resources
from DALAnomalyLib.errors import ModelFileError
from DALAnomalyLib.network.brain_extractor import BrainExtractor
from DALAnomalyLib.network.brain_extractor_file import FILE_NAME, FORMAT, load_extractor, save_extractor
from DALAnomalyLib.resources import CHECKSUMS, check_shipped, resource_file, resource_folder

LARGEST_BYTES = 5_000_000
TRAINING = {"steps": 3, "data": "none", "dice": 0.5}


@pytest.fixture
def network() -> BrainExtractor:
    torch.manual_seed(0)
    return BrainExtractor((4, 6, 5)).train()


@pytest.fixture
def file(tmp_path: Path, network: BrainExtractor) -> Path:
    path = tmp_path / "network.pt"
    save_extractor(path, network, 2.5, TRAINING)
    return path


@pytest.fixture
def shipped_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models of an installation that has nothing else."""
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "installed" / "DALAnomalyLib" / "resources.py"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme="": str(tmp_path / "nowhere"))
    folder = tmp_path / "installed" / "Resources" / "Models"
    folder.mkdir(parents=True)
    return folder


def test_what_is_saved_is_loaded_in_half_precision(file: Path, network: BrainExtractor) -> None:
    loaded = load_extractor(file)
    assert (loaded.spacing_mm, loaded.training) == (2.5, TRAINING)
    assert loaded.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not loaded.network.training
    assert loaded.device == torch.device("cpu")
    weights = loaded.network.state_dict()
    assert weights.keys() == network.state_dict().keys()
    for name, weight in network.state_dict().items():
        assert weights[name].dtype == torch.float32
        assert torch.equal(weights[name], weight.half().float())
    stored = torch.load(file, weights_only=True)["state"].values()
    assert {weight.dtype for weight in stored} == {torch.float16}


def test_loaded_network_finds_what_the_saved_one_found(file: Path, network: BrainExtractor) -> None:
    image = torch.rand(1, 1, 9, 8, 7)
    with torch.inference_mode():
        torch.testing.assert_close(load_extractor(file).network(image), network(image), rtol=0, atol=0.02)


def test_saving_leaves_the_network_as_it_was(tmp_path: Path, network: BrainExtractor) -> None:
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    save_extractor(tmp_path / "network.pt", network, 2.0, {})
    assert network.training
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_file_of_the_usual_size_fits_its_budget(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    save_extractor(path, BrainExtractor(), 2.0, TRAINING)
    assert path.stat().st_size <= LARGEST_BYTES
    load_extractor(path)


def test_shipped_file_is_small_listed_and_says_what_it_was_trained_on() -> None:
    path = resource_file("Models", FILE_NAME)
    assert path.stat().st_size <= LARGEST_BYTES
    shipped = load_extractor()
    assert f"{shipped.digest}  {FILE_NAME}" in (path.parent / CHECKSUMS).read_text().splitlines()
    assert shipped.spacing_mm == 2.0
    assert shipped.training["steps"] > 0
    assert shipped.training["data"]
    assert all(weight.isfinite().all() for weight in shipped.network.state_dict().values())


def refuse(path: Path, message: str = r"is not a brain extraction network of this version \(\w+\)") -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        load_extractor(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert "install" in text, "the message says what to do"
    assert "weights_only" not in text, "PyTorch's advice is to execute what the file contains"


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_truncated_file_is_refused(file: Path, kept: float) -> None:
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    refuse(file)


def test_file_whose_weights_were_overwritten_is_refused(file: Path) -> None:
    data = file.read_bytes()
    weight = next(iter(torch.load(file, weights_only=True)["state"].values())).numpy().tobytes()
    assert data.count(weight) == 1
    file.write_bytes(data.replace(weight, bytes(len(weight))))
    refuse(file)


@pytest.mark.parametrize("content", [b"", b"not a network", pickle.dumps({"format": FORMAT})])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(content)
    refuse(path)


def test_the_other_kind_of_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(resource_file("Models", "default.dalmodel").read_bytes())
    refuse(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "dal-anomaly-brain-extraction-0"},
        {"widths": [4, 6]},
        {"widths": None},
        {"state": {}},
        {"spacing_mm": "two"},
        {"training": 3},
    ],
    ids=str,
)
def test_file_with_other_content_is_refused(file: Path, change: dict[str, object]) -> None:
    torch.save(torch.load(file, weights_only=True) | change, file)
    refuse(file)


@pytest.mark.parametrize("part", ["format", "widths", "spacing_mm", "state", "training"])
def test_file_that_lacks_a_part_is_refused(file: Path, part: str) -> None:
    content = torch.load(file, weights_only=True)
    del content[part]
    torch.save(content, file)
    refuse(file)


def test_file_that_holds_no_table_is_refused(file: Path) -> None:
    torch.save([1, 2, 3], file)
    refuse(file)


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda value, file: pickle.dump(value, file), torch.save], ids=["pickle", "torch"])
def test_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, write) -> None:
    path = tmp_path / "network.pt"
    with path.open("wb") as opened:
        write({"format": FORMAT, "training": Trap(tmp_path / "trapped")}, opened)
    refuse(path)
    assert not (tmp_path / "trapped").exists()


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    refuse(tmp_path / "network.pt", "network.pt cannot be read")
    refuse(tmp_path, "cannot be read")


def test_installation_without_the_network_says_so(shipped_folder: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"{FILE_NAME} is not in .*Models.*install the package again"):
        load_extractor()


def list_as_shipped(path: Path, digest: str | None = None) -> None:
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / CHECKSUMS).write_text(f"{'0' * 64}  other.dalmodel\n{digest}  {path.name}\n")


def test_shipped_file_must_be_the_listed_one(file: Path, shipped_folder: Path) -> None:
    path = shipped_folder / FILE_NAME
    path.write_bytes(file.read_bytes())
    list_as_shipped(path)
    assert load_extractor().spacing_mm == 2.5
    # a whole, readable network that was put in its place
    save_extractor(path, BrainExtractor((2,)), 2.0, {})
    for call in (load_extractor, lambda: load_extractor(path)):
        with pytest.raises(ModelFileError, match=f"not the model that was shipped.*{CHECKSUMS}") as caught:
            call()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_digest_listed_for_another_name_does_not_count(file: Path, shipped_folder: Path) -> None:
    path = shipped_folder / FILE_NAME
    path.write_bytes(file.read_bytes())
    list_as_shipped(path, "1" * 64)
    with (shipped_folder / CHECKSUMS).open("a") as listing:
        listing.write(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  another.pt\n")
    with pytest.raises(ModelFileError, match="not the model that was shipped"):
        load_extractor()


def test_way_to_the_shipped_folder_does_not_matter(file: Path, shipped_folder: Path) -> None:
    path = shipped_folder / FILE_NAME
    path.write_bytes(file.read_bytes())
    list_as_shipped(path, "1" * 64)
    with pytest.raises(ModelFileError, match="not the model that was shipped"):
        load_extractor(shipped_folder / ".." / "Models" / FILE_NAME)


def test_file_elsewhere_need_not_be_listed(file: Path, shipped_folder: Path) -> None:
    list_as_shipped(shipped_folder / FILE_NAME, "1" * 64)
    assert load_extractor(file).spacing_mm == 2.5


def test_folder_without_a_list_and_installation_without_the_folder_are_not_checked(
    file: Path, shipped_folder: Path
) -> None:
    path = shipped_folder / FILE_NAME
    path.write_bytes(file.read_bytes())
    assert load_extractor().spacing_mm == 2.5
    path.unlink()
    shipped_folder.rmdir()
    check_shipped(file, "1" * 64)
    with pytest.raises(ModelFileError, match="no folder Models"):
        resource_folder("Models")
