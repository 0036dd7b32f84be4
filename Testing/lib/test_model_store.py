from __future__ import annotations

import io
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from DALAnomalyLib import model_store, resources
from DALAnomalyLib.configuration import preset
from DALAnomalyLib.errors import ModelFileError, OutputError
from DALAnomalyLib.model_store import Model, list_if_shipped, load_model, save_model, write_checksums
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.out_of_distribution import DISTANCE, SequenceReference
from Testing.lib.calibrations import calibrated, made_up_calibration
from Testing.lib.phantom import untrained_model

HALF_PRECISION = 2.0**-11
"""Largest relative rounding error of a normal float16 number."""


@pytest.fixture(scope="module")
def model() -> Model:
    return untrained_model()


@pytest.fixture(autouse=True)
def shipped_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of shipped models; those of the repository play no part here."""
    folder = tmp_path / "Models"
    folder.mkdir()
    monkeypatch.setattr(resources, "resource_folder", lambda _kind: folder)
    monkeypatch.setattr(model_store, "resource_file", lambda _kind, name: folder / name)
    return folder


@pytest.fixture
def path(tmp_path: Path, model: Model) -> Path:
    file = tmp_path / "tiny.dalmodel"
    saved(file, model)
    return file


def saved(path: Path, model: Model) -> str:
    return save_model(path, model.metadata, model.network, model.templates)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def repack(path: Path, changed: dict[str, bytes], forge_checksum: bool) -> None:
    """Write a model file with some members changed, and its inner checksum wrong or as a forger would make it."""
    content = members(path) | changed
    if forge_checksum:
        stated = sha256()
        for name in ("metadata.json", "weights.pt"):
            stated.update(name.encode() + sha256(content[name]).digest())
        content["SHA256"] = stated.hexdigest().encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)


def change_metadata(path: Path, change: Callable[[dict[str, Any]], object], forge_checksum: bool = True) -> None:
    header = json.loads(members(path)["metadata.json"])
    change(header)
    repack(path, {"metadata.json": json.dumps(header).encode()}, forge_checksum)


def change_tensors(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = torch.load(io.BytesIO(members(path)["weights.pt"]), weights_only=True)
    change(tensors)
    repack(path, {"weights.pt": torch_bytes(tensors)}, forge_checksum=True)


def torch_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def assert_refused(path: Path, reason: str, next_step: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert reason in message
    assert next_step in message.rpartition(";")[2], "the message must end in what to do"
    assert len(message.splitlines()) == 1


# --- round trip -------------------------------------------------------------------------------------------------------


def test_metadata_and_digest_survive(path: Path, model: Model) -> None:
    loaded = load_model(path)
    assert loaded.metadata == model.metadata
    assert loaded.digest == sha256(path.read_bytes()).hexdigest()
    assert not loaded.network.training


def test_weights_and_mean_images_survive_within_half_precision(path: Path, model: Model) -> None:
    loaded = load_model(path)
    before, after = model.network.state_dict(), loaded.network.state_dict()
    assert list(before) == list(after)
    pairs = [(before[name], after[name]) for name in before]
    pairs += [(model.templates[name], loaded.templates[name]) for name in model.templates]
    for old, new in pairs:
        assert new.dtype == torch.float32
        # below 2^-14 float16 numbers are 2^-24 apart
        torch.testing.assert_close(new, old, rtol=HALF_PRECISION, atol=2.0**-24)
    assert sorted(loaded.templates) == sorted(model.templates) == ["T1", "T2"]


@torch.inference_mode()
def test_pseudo_healthy_image_survives_within_half_precision(path: Path, model: Model) -> None:
    """Stated tolerance: 0.01 on a scale of 0 to 1, some five roundings of 2^-11 in a row for values of order 1.

    It is stated for one and the same anatomy: a class is a decision, and the rounding of a weight may turn a close one.
    """
    network, loaded = model.network, load_model(path).network
    image, brain = model.templates["T2"][None, None], (model.templates["T2"] > 0)[None, None].float()
    anatomy = network.extract_anatomy(image, brain)
    torch.testing.assert_close(
        loaded.extract_anatomy(image, brain).scores,
        anatomy.scores,
        rtol=0,
        atol=0.01 * float(anatomy.scores.abs().max()),
    )
    edges = network.extract_edges(image, anatomy.image)
    first, second = (
        each.combine(each.restore_code(anatomy.image, edges), each.extract_modality(image, torch.tensor([1])), brain)
        for each in (network, loaded)
    )
    assert first.std() > 0.1
    torch.testing.assert_close(second, first, rtol=0, atol=0.01)


def test_pseudo_healthy_image_of_half_precision_weights_survives_exactly(tmp_path: Path) -> None:
    model = untrained_model(change=lambda network: network.half().float())
    saved(tmp_path / "half.dalmodel", model)
    loaded = load_model(tmp_path / "half.dalmodel")
    image, brain = model.templates["T2"][None, None], (model.templates["T2"] > 0)[None, None].float()
    first, second = (each.network.restore(image, brain, torch.tensor([1])) for each in (model, loaded))
    assert first.pseudo_healthy.std() > 0
    torch.testing.assert_close(second.pseudo_healthy, first.pseudo_healthy, rtol=0, atol=0)


def test_calibration_survives_and_changes_no_weight(path: Path, model: Model, tmp_path: Path) -> None:
    # from a file to a file, as `calibrate` does
    before, new = load_model(path), tmp_path / "calibrated.dalmodel"
    saved(new, calibrated(before, T2=made_up_calibration()))
    loaded = load_model(new)
    assert loaded.metadata == replace(model.metadata, calibration={"T2": made_up_calibration()})
    for old, kept in ((before.network.state_dict(), loaded.network.state_dict()), (before.templates, loaded.templates)):
        assert list(old) == list(kept)
        assert all(torch.equal(old[name], kept[name]) for name in old)
    assert members(new)["weights.pt"] == members(path)["weights.pt"]


def test_a_file_from_before_there_were_calibrations_loads(path: Path) -> None:
    change_metadata(path, lambda header: header.pop("calibration"))
    assert load_model(path).metadata.calibration == {}


def reference_for(model: Model) -> SequenceReference:
    length = model.network.modality_extractor.length
    limits = {DISTANCE: (-math.inf, 7.5), "edge density": (-math.inf, 0.25)}
    return SequenceReference(
        torch.arange(float(length)), torch.eye(3, length), torch.tensor([3.0, 2.0, 1 / 3]), 0.1, limits, limits
    )


@pytest.fixture
def path_with_reference(tmp_path: Path, model: Model) -> Path:
    reference = dict.fromkeys(("T1", "T2"), reference_for(model))
    save_model(tmp_path / "reference.dalmodel", model.metadata, model.network, model.templates, reference)
    return tmp_path / "reference.dalmodel"


def test_what_training_scans_look_like_survives_exactly(path_with_reference: Path, model: Model) -> None:
    loaded, before = load_model(path_with_reference).reference, reference_for(model)
    assert sorted(loaded) == ["T1", "T2"]
    for after in loaded.values():
        assert (after.rest, after.limits, after.usual) == (before.rest, before.limits, before.usual)
        assert torch.equal(after.centre, before.centre)
        assert torch.equal(after.directions, before.directions)
        assert torch.equal(after.variances, before.variances)


def test_typical_scans_are_the_means_of_training_scans(path_with_reference: Path, model: Model) -> None:
    typical = load_model(path_with_reference).typical
    assert typical is not None
    assert torch.equal(typical, reference_for(model).centre.expand(2, -1))


def test_typical_looks_need_typical_scans(path_with_reference: Path, path: Path) -> None:
    restoration = {"views": 2, "tone_pieces": 6, "typical_looks": True, "drift_mm": 25.0}
    for each in (path_with_reference, path):
        change_metadata(each, lambda header: header["config"].update(restoration=restoration))
    assert load_model(path_with_reference).metadata.config.restoration.typical_looks
    assert_refused(path, "matches typical looks", "use a model made for it")


def test_a_file_from_before_there_were_typical_looks_has_none(path: Path) -> None:
    change_metadata(path, lambda header: header["config"]["restoration"].pop("typical_looks"))
    assert not load_model(path).metadata.config.restoration.typical_looks


def test_a_file_without_it_is_a_file_of_before(path: Path) -> None:
    assert load_model(path).reference == {}
    assert load_model(path).typical is None
    tensors = torch.load(io.BytesIO(members(path)["weights.pt"]), weights_only=True)
    assert sorted(tensors) == ["network", "templates"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda reference: reference.pop("T1"), "of T2, but the network knows T1, T2"),
        (lambda reference: reference["T1"].update(centre=torch.zeros(3)), "shapes"),
        (lambda reference: reference["T1"].update(rest=-1.0), "not above 0"),
        (lambda reference: reference["T2"].pop("directions"), "directions"),
        (lambda reference: reference["T2"]["limits"].update({DISTANCE: (0.0, math.nan)}), "range of training scans"),
        (lambda reference: reference.update(T2=torch.zeros(3)), "."),
        (lambda reference: reference["T2"].update(limits=3), "."),
    ],
)
def test_damaged_statistics_of_training_scans_are_refused(
    path_with_reference: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    change_tensors(path_with_reference, lambda tensors: change(tensors["reference"]))
    assert_refused(path_with_reference, reason, "use a model made for it")


def test_statistics_of_training_scans_that_are_no_mapping_are_refused(path_with_reference: Path) -> None:
    change_tensors(path_with_reference, lambda tensors: tensors.update(reference=[1, 2]))
    assert_refused(path_with_reference, "does not fit this version", "use a model made for it")


# --- the file ---------------------------------------------------------------------------------------------------------


def test_equal_models_are_equal_files(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "another folder" / "another name.dalmodel"
    again.parent.mkdir()
    digest = saved(again, untrained_model())
    assert again.read_bytes() == path.read_bytes()
    assert digest == sha256(path.read_bytes()).hexdigest()
    other = untrained_model()
    with torch.no_grad():
        next(other.network.parameters()).view(-1)[0] += 1
    assert saved(again, other) != digest


def test_another_process_writes_the_same_bytes(path: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from DALAnomalyLib.model_store import save_model;"
        "from Testing.lib.phantom import untrained_model; m = untrained_model();"
        f"save_model(Path({str(tmp_path / 'other.dalmodel')!r}), m.metadata, m.network, m.templates)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert (tmp_path / "other.dalmodel").read_bytes() == path.read_bytes()


def test_metadata_is_json_that_people_can_read(path: Path) -> None:
    content = members(path)
    assert sorted(content) == ["SHA256", "metadata.json", "weights.pt"]
    text = content["metadata.json"].decode("ascii")
    assert len(text.splitlines()) > 50
    header = json.loads(text)
    assert (header["format"], header["format_version"], header["version"]) == ("dal-anomaly-model", 1, "1.2.3")
    assert header["config"]["grid"]["shape"] == list(preset("tiny").grid.shape)
    assert header["config"]["network"]["sequences"] == ["T1", "T2"]
    assert len(header["landmarks"]["T2"]["values"]) == len(header["landmarks"]["T2"]["percentiles"]) == 11
    assert header["thresholds"]["T1"] == {"hybrid": 0.05, "l1": 0.05, "ssim": 0.05, "intensity": 0.05}
    assert header["training"] == {"data": "none", "steps": 0}


def test_a_failed_write_leaves_the_old_file_and_no_other(
    path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, beside = path.read_bytes(), sorted(path.parent.iterdir())
    write = Path.write_bytes

    def disk_full(self: Path, data: bytes) -> int:
        write(self, data[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\); check") as caught:
        save_model(path, replace(model.metadata, version="2"), model.network, model.templates)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == old
    assert sorted(path.parent.iterdir()) == beside


def test_the_file_appears_only_when_it_is_complete(
    path: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = path.read_bytes()
    new, replaced = tmp_path / "new.dalmodel", []

    def inspect(source: Path, target: Path) -> None:
        assert not new.exists()
        assert Path(source).parent == new.parent, "a move between disks is not atomic"
        assert Path(source).read_bytes() == complete
        replaced.append(target)

    monkeypatch.setattr(os, "replace", inspect)
    saved(new, model)
    assert replaced == [new]
    assert not new.exists()


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path, model: Model) -> None:
    with pytest.raises(OutputError, match=r"missing.*cannot be written"):
        saved(tmp_path / "missing" / "tiny.dalmodel", model)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_tampered_weights_are_refused(path: Path) -> None:
    weights = bytearray(members(path)["weights.pt"])
    weights[len(weights) // 2] ^= 1
    repack(path, {"weights.pt": bytes(weights)}, forge_checksum=False)
    assert_refused(path, "was changed after it was written", "get it again")


def test_tampered_metadata_are_refused(path: Path) -> None:
    change_metadata(path, lambda header: header["thresholds"]["T2"].update(hybrid=0.9), forge_checksum=False)
    assert_refused(path, "was changed after it was written", "get it again")


def test_swapped_members_are_refused(path: Path) -> None:
    content = members(path)
    swapped = {"metadata.json": content["weights.pt"], "weights.pt": content["metadata.json"]}
    repack(path, swapped, forge_checksum=False)
    assert_refused(path, "is not a DALAnomaly model file", "use the one that ships")


def test_a_foreign_zip_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello.txt", "hello")
    assert_refused(path, "is not a DALAnomaly model file", "use the one that ships")


@pytest.mark.parametrize("content", [b"", b"a text file\n", b"PK\x03\x04", bytes(1000)])
def test_what_is_no_zip_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(path, "is not a DALAnomaly model file, or is damaged", "use the one that ships")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert_refused(path, "is damaged", "use the one that ships")


def test_a_flipped_byte_anywhere_is_refused_or_harmless(path: Path, model: Model) -> None:
    """Harmless: bytes of the archive that nobody reads, such as its dates."""
    data, messages = path.read_bytes(), []
    places = [*range(0, 60), *range(60, len(data) - 240, len(data) // 30), *range(len(data) - 240, len(data), 4)]
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            loaded = load_model(path)
        except ModelFileError as error:
            messages.append(str(error))
        else:
            assert loaded.metadata == model.metadata
    assert len(messages) > 75
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("change", [{"format_version": 2}, {"format_version": None}, {"format": "another"}])
def test_another_format_is_refused(path: Path, change: dict[str, object]) -> None:
    change_metadata(path, lambda header: header.update(change))
    assert_refused(path, "this version reads dal-anomaly-model 1", "use a model made for it")


def test_metadata_that_are_no_mapping_are_refused(path: Path) -> None:
    repack(path, {"metadata.json": b"[1, 2]"}, forge_checksum=True)
    assert_refused(path, "is not a DALAnomaly model file", "use the one that ships")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header: header["config"]["network"].update(code_channels=16), "size mismatch|state_dict"),
        (lambda header: header["config"]["grid"].update(shape=[24, 28, 40]), "state_dict|mean image"),
        (lambda header: header["config"].update(colour="red"), "unknown colour"),
        (lambda header: header["config"]["score"].update(mean_filter=4), "mean_filter"),
        (lambda header: header["config"].update(network=7), "network"),
        (lambda header: header.pop("landmarks"), "landmarks"),
        (lambda header: header.update(landmarks=[]), "list"),
        (lambda header: header["landmarks"].pop("T1"), "landmarks are of T2, but the network knows T1, T2"),
        (lambda header: header["thresholds"].pop("T2"), "thresholds are of T1, but the network knows T1, T2"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    change_metadata(path, change)
    with pytest.raises(ModelFileError, match=rf"does not fit this version .*({reason}).*; use a model made for it"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: entry.pop("source"), "calibration of T2: source must be given"),
        (lambda entry: entry["presets"].pop("balanced"), "a calibration needs sensitive, balanced, specific"),
        (lambda entry: entry["presets"]["balanced"].update(threshold="high"), "balanced.threshold is 'high'"),
        (lambda entry: entry["presets"]["balanced"].update(threshold=float("nan")), "calibrate again"),
        (lambda entry: entry.update(presets=[1]), "must be a mapping"),
        (lambda entry: entry["score"].update(kind="louder"), "must be one of"),
    ],
)
def test_a_damaged_calibration_is_refused(
    path: Path, model: Model, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    saved(path, calibrated(model, T2=made_up_calibration()))
    change_metadata(path, lambda header: change(header["calibration"]["T2"]))
    assert_refused(path, reason, "use a model made for it")


@pytest.mark.parametrize("calibration", [[], 7, {"T2": 7}, {"T2": None}, None])
def test_a_calibration_that_is_none_is_refused(path: Path, calibration: object) -> None:
    change_metadata(path, lambda header: header.update(calibration=calibration))
    assert_refused(path, "does not fit this version", "use a model made for it")


def test_a_calibration_of_an_unknown_sequence_is_refused(path: Path, model: Model) -> None:
    saved(path, calibrated(model, FLAIR=made_up_calibration()))
    assert_refused(path, "there is a calibration of FLAIR, but the network knows T1, T2", "use a model made for it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors["network"].popitem(), "state_dict"),
        (lambda tensors: tensors["network"].update(surplus=torch.zeros(1)), "state_dict"),
        (lambda tensors: tensors.update(network=DALNetwork(preset("default")).state_dict()), "state_dict"),
        (lambda tensors: tensors.update(network=torch.zeros(3)), "Tensor"),
        (lambda tensors: tensors["network"].update(surplus="text"), "str"),
        (lambda tensors: tensors.pop("templates"), "templates"),
        (lambda tensors: tensors["templates"].pop("T1"), "mean images are of T2, but the network knows T1, T2"),
        (lambda tensors: tensors["templates"].update(T1=torch.zeros(2, 2, 2)), "a mean image is"),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(
    path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    change_tensors(path, change)
    assert_refused(path, reason, "use a model made for it")


@pytest.mark.parametrize("content", [b"", b"no tensors", torch_bytes([1, 2]), torch_bytes(torch.zeros(2))])
def test_weights_that_are_none_are_refused(path: Path, content: bytes) -> None:
    repack(path, {"weights.pt": content}, forge_checksum=True)
    assert_refused(path, "does not fit this version", "use a model made for it")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "missing.dalmodel", "No such file", "check the path")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, "cannot be read", "check the path")


class Malicious:
    """What unpickling it would do: make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_the_weights_is_refused_and_not_run(path: Path, tmp_path: Path, legacy: bool) -> None:
    mark = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save({"network": Malicious(mark)}, buffer, _use_new_zipfile_serialization=not legacy)
    repack(path, {"weights.pt": buffer.getvalue()}, forge_checksum=True)
    assert_refused(path, "does not fit this version", "use a model made for it")
    assert not mark.exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert mark.exists(), "the attack itself must work, or this test proves nothing"


def test_a_bare_pickle_in_the_weights_is_refused_and_not_run(path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    repack(path, {"weights.pt": pickle.dumps(Malicious(mark), protocol=2)}, forge_checksum=True)
    assert_refused(path, "does not fit this version", "use a model made for it")
    assert not mark.exists()


# --- shipped models ---------------------------------------------------------------------------------------------------


def test_the_shipped_model_is_the_default(shipped_folder: Path, model: Model) -> None:
    digest = saved(shipped_folder / "default.dalmodel", model)
    write_checksums(shipped_folder)
    assert (shipped_folder / "SHA256SUMS").read_text() == f"{digest}  default.dalmodel\n"
    assert load_model().digest == digest


def test_a_list_keeps_what_is_said_of_other_files_and_takes_any_name(shipped_folder: Path, model: Model) -> None:
    listing = shipped_folder / "SHA256SUMS"
    listing.write_bytes(b"0123  atlas.nii.gz\n4567  gone.dalmodel\n89ab  \xe4.nii\n")
    digest = saved(shipped_folder / "m\u00fcnchen.dalmodel", model)
    list_if_shipped(shipped_folder / "m\u00fcnchen.dalmodel")
    lines = listing.read_bytes().split(b"\n")
    assert lines == [f"{digest}  m\u00fcnchen.dalmodel".encode(), b"0123  atlas.nii.gz", b"89ab  \xe4.nii", b""]
    assert load_model(shipped_folder / "m\u00fcnchen.dalmodel").digest == digest


def test_a_model_elsewhere_is_not_listed(tmp_path: Path, model: Model) -> None:
    saved(tmp_path / "own.dalmodel", model)
    list_if_shipped(tmp_path / "own.dalmodel")
    assert not (tmp_path / "SHA256SUMS").exists()


def test_a_shipped_model_that_is_not_listed_is_refused(shipped_folder: Path, model: Model, tmp_path: Path) -> None:
    path = shipped_folder / "default.dalmodel"
    saved(path, model)
    write_checksums(shipped_folder)
    saved(path, untrained_model(change=lambda network: network.half().float()))
    load_model(path)  # rounding to half precision was all that changed
    saved(path, replace(model, metadata=replace(model.metadata, version="forged")))
    assert_refused(path, "is not the model that was shipped", "install DALAnomaly again")
    elsewhere = tmp_path / "default.dalmodel"
    elsewhere.write_bytes(path.read_bytes())
    assert load_model(elsewhere).metadata.version == "forged"  # a user's own


def test_a_digest_listed_for_another_name_does_not_count(shipped_folder: Path, model: Model) -> None:
    saved(shipped_folder / "a.dalmodel", model)
    write_checksums(shipped_folder)
    (shipped_folder / "a.dalmodel").rename(shipped_folder / "b.dalmodel")
    assert_refused(shipped_folder / "b.dalmodel", "is not the model that was shipped", "install DALAnomaly again")


def test_a_shipped_model_is_known_by_any_path_to_it(shipped_folder: Path, model: Model, tmp_path: Path) -> None:
    saved(shipped_folder / "default.dalmodel", model)
    write_checksums(shipped_folder)
    link = tmp_path / "link.dalmodel"
    link.symlink_to(shipped_folder / "default.dalmodel")
    assert load_model(link).metadata == model.metadata
    (shipped_folder / "SHA256SUMS").write_bytes(b"\xff\n")
    assert_refused(link, "is not the model that was shipped", "install DALAnomaly again")
