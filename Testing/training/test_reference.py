from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from DALAnomalyLib.configuration import preset
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.model_store import load_model, save_model
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.out_of_distribution import DISTANCE, FIGURES, judge
from DALAnomalyLib.scan_figures import ScanFigures
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.reference import MARGIN, add_reference, fit_reference
from Testing.lib.phantom import untrained_model

ROOT = Path(__file__).resolve().parents[2]
LENGTH, DIRECTIONS = 64, 6


def made_up(count: int, seed: int = 0, shift: float = 0.0) -> list[ScanFigures]:
    """Scans whose M varies along a few directions, with a little noise on all; `shift` is across those directions."""
    random = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(LENGTH, LENGTH, generator=torch.Generator().manual_seed(9))).Q
    modality = torch.randn(count, DIRECTIONS, generator=random) @ basis[:DIRECTIONS] + shift * basis[-1]
    modality += 0.01 * torch.randn(count, LENGTH, generator=random)
    plain = 0.5 + 0.05 * torch.randn(count, len(FIGURES) - 1, generator=random)
    names = [name for name in FIGURES if name != DISTANCE]
    return [ScanFigures(m, dict(zip(names, row.tolist(), strict=True))) for m, row in zip(modality, plain, strict=True)]


def test_of_new_scans_of_the_same_kind_about_one_in_a_hundred_is_outside_the_usual_ranges() -> None:
    fitted = fit_reference(made_up(200))
    usual = replace(fitted, limits=fitted.usual)
    share = sum(judge(each, usual, "T1").warning is not None for each in made_up(1000, seed=1)) / 1000
    assert 0.001 < share < 0.04


def test_the_margin_takes_limits_farther_from_the_median() -> None:
    fitted = fit_reference(made_up(200))
    for name, (low, high) in fitted.usual.items():
        if name.startswith("share of"):
            continue
        wide_low, wide_high = fitted.limits[name]
        assert (wide_low < low) == (FIGURES[name][0] is not None)
        assert (wide_high > high) == (FIGURES[name][1] is not None)
    low, high = fitted.usual["grey matter less CSF"]
    wide_low, wide_high = fitted.limits["grey matter less CSF"]
    assert (wide_high - wide_low) / (high - low) == pytest.approx(MARGIN, rel=1e-3)


def test_a_share_is_too_small_below_half_of_the_usual_one_and_never_too_large() -> None:
    fitted = fit_reference(made_up(200))
    for tissue in ("CSF", "grey matter", "white matter"):
        assert fitted.limits[f"share of {tissue}"] == (pytest.approx(0.25, abs=0.02), math.inf)


def test_m_across_the_directions_of_training_is_far_and_along_them_is_not() -> None:
    fitted = fit_reference(made_up(200))
    assert len(fitted.directions) == DIRECTIONS
    across, along = (fitted.distance(made_up(1, seed=3, shift=shift)[0].modality) for shift in (2.0, 0.0))
    assert across > 2 * fitted.limits[DISTANCE][1]
    assert along < fitted.limits[DISTANCE][1]


def test_distances_are_measured_to_other_scans() -> None:
    """Fitted to 20 scans alone, those very scans would seem far nearer than new ones."""
    fitted = fit_reference(made_up(20))
    nearer = [fitted.distance(each.modality) for each in made_up(20)]
    assert fitted.usual[DISTANCE][1] > 1.05 * max(nearer)


def test_too_few_scans_are_refused() -> None:
    with pytest.raises(InputError, match="at least 10"):
        fit_reference(made_up(9))


def test_a_model_whose_m_does_not_depend_on_the_scan_is_no_error() -> None:
    figures = [replace(each, modality=torch.ones(LENGTH)) for each in made_up(20)]
    assert fit_reference(figures).distance(torch.ones(LENGTH)) == 0


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """An untrained `tiny` model in a file, without statistics of training scans."""
    model = untrained_model()
    path = tmp_path / "plain.dalmodel"
    save_model(path, model.metadata, DALNetwork(preset("tiny")).eval(), model.templates)
    return path


def test_a_model_file_receives_its_reference_and_keeps_the_rest(
    model_file: Path, toy_pack: Pack, tmp_path: Path
) -> None:
    digests = [add_reference(model_file, toy_pack, tmp_path / name, GeneratorConfig(), subjects=10) for name in "ab"]
    before, after = load_model(model_file), load_model(tmp_path / "a")
    assert digests == [after.digest] * 2, "the same subjects every time"
    assert before.reference == {}
    assert sorted(after.reference) == ["T1", "T2"]
    assert all(set(each.limits) == set(FIGURES) for each in after.reference.values())
    assert after.metadata.training == before.metadata.training | {"reference": {"subjects": 10, "margin": MARGIN}}
    assert replace(after.metadata, training={}) == replace(before.metadata, training={})
    for name, value in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], value)
    for name, image in before.templates.items():
        assert torch.equal(after.templates[name], image)


def test_another_pack_than_that_of_the_model_is_refused(model_file: Path, toy_pack: Pack, tmp_path: Path) -> None:
    model = load_model(model_file)
    metadata = replace(model.metadata, training=model.metadata.training | {"pack_sha256": "of another one"})
    save_model(model_file, metadata, model.network, model.templates)
    with pytest.raises(UsageError, match="was trained on another pack"):
        add_reference(model_file, toy_pack, tmp_path / "new.dalmodel", GeneratorConfig(), subjects=10)
    assert not (tmp_path / "new.dalmodel").exists()


def test_the_script_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "training/add_reference.py", "missing.dalmodel", str(tmp_path), "-o", "new.dalmodel"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'training'}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == InputError.exit_code
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
