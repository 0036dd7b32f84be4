from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from DALAnomalyLib import model_store
from DALAnomalyLib.configuration import preset
from DALAnomalyLib.network.cost import network_cost

Run = Callable[..., Result]


def record(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_file_shows_its_digest_configuration_and_cost(run: Run, model_file: Path) -> None:
    shown = record(run("model", "info", model_file, "--json"))
    assert shown["sha256"] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert (shown["name"], shown["version"]) == ("tiny", "test")
    assert shown["sequences"] == ["T1", "T2"]
    assert shown["thresholds"]["T2"]["hybrid"] == 0.05
    assert shown["inference_flops"] == network_cost(preset("tiny")).inference_flops


def test_preset_shows_the_parameters_of_every_sub_network(run: Run) -> None:
    shown = record(run("model", "info", "--preset", "tiny", "--json"))
    cost = network_cost(preset("tiny"))
    assert shown["parameters"] == {
        **cost.parameters,
        "all": sum(cost.parameters.values()),
        "inference": cost.inference_parameters,
    }
    assert shown["inference_flops"] == cost.inference_flops > 0


def test_people_see_one_line_per_entry(run: Run, model_file: Path) -> None:
    lines = run("model", "info", model_file).stdout.splitlines()
    (digest,) = (line for line in lines if line.startswith("sha256"))
    assert hashlib.sha256(model_file.read_bytes()).hexdigest() in digest
    (grid,) = (line for line in lines if line.startswith("grid_shape"))
    assert "24 x 28 x 24" in grid
    assert any(line.startswith("inference_flops") and "GFLOP" in line for line in lines)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"metadata.json") + 60] ^= 0xFF
    path.write_bytes(data)


def raise_a_threshold(path: Path) -> None:
    """Change the metadata and leave the rest, checksum included, as a careless editor would."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["metadata.json"] = content["metadata.json"].replace(b"0.05", b"0.09")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("break_file", "words"),
    [
        (Path.unlink, "cannot be read"),
        (lambda path: path.write_bytes(b"PK not really"), "not a DALAnomaly model"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a DALAnomaly model"),
        (flip_a_bit, "tiny.dalmodel"),
        (raise_a_threshold, "was changed"),
    ],
    ids=["missing", "foreign", "truncated", "damaged", "tampered"],
)
@pytest.mark.parametrize("command", ["model info", "detect"])
def test_unusable_model_file_is_refused(
    run: Run,
    model_file: Path,
    scan: Path,
    tmp_path: Path,
    break_file: Callable[[Path], object],
    words: str,
    command: str,
) -> None:
    copy = tmp_path / "in" / "tiny.dalmodel"
    copy.write_bytes(model_file.read_bytes())
    break_file(copy)
    arguments = {
        "model info": ("model", "info", copy),
        "detect": ("detect", scan, "-o", tmp_path / "out", "--model", copy),
    }
    assert_refused(run(*arguments[command]), words)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_model_of_another_version_is_refused(
    run: Run, model_file: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_store.load_model(model_file)
    newer = tmp_path / "in" / "newer.dalmodel"
    with monkeypatch.context() as patch:
        patch.setattr(model_store, "FORMAT_VERSION", 99)
        model_store.save_model(newer, model.metadata, model.network, model.templates)
    assert_refused(run("model", "info", newer), "99")
    assert_refused(run("detect", scan, "-o", tmp_path / "out", "--model", newer), "99")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def assert_refused(done: Result, words: str) -> None:
    assert done.exit_code == 5, done.output
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_unknown_preset_is_a_usage_error(run: Run) -> None:
    done = run("model", "info", "--preset", "huge")
    assert done.exit_code == 2
    assert "paper, default, tiny" in done.stderr


def test_file_and_preset_together_are_refused(run: Run, model_file: Path) -> None:
    done = run("model", "info", model_file, "--preset", "tiny")
    assert done.exit_code == 2
    assert "--preset" in done.stderr
