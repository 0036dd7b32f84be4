import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ablations
import pytest
import yaml

from DALAnomalyLib.configuration import GridConfig, to_dictionary
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyTraining.training_config import TrainingConfig, load_training_config

BASE = load_training_config(ablations.BASE)
FULL_SIZE = load_training_config(ablations.BASE.with_name("ablation_full.yaml"))


@pytest.mark.parametrize("base", [BASE, FULL_SIZE])
def test_every_variant_differs_from_the_base_and_from_all_others(base: TrainingConfig) -> None:
    found = list(ablations.variants(base).values())
    assert found[0] == base
    assert all(one != other for index, one in enumerate(found) for other in found[:index])


@pytest.mark.parametrize("name", ablations.variants(BASE))
def test_every_variant_trains_as_long_on_the_same_grid_unless_it_is_about_that(name: str) -> None:
    variant = ablations.variants(BASE)[name]
    factor = 2 if name == "twice as many steps" else 1
    assert (variant.steps, variant.seed) == (factor * BASE.steps, BASE.seed)
    assert (variant.model.grid == BASE.model.grid) == (name != "voxels four fifths as wide")
    DALNetwork(variant.model)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("no code consistency", {"code_consistency"}),
        ("no losses on M", {"modality_consistency", "modality_similarity"}),
        ("joint with labels, no losses between anatomies", {"anatomy_consistency", "anatomy_similarity"}),
    ],
)
def test_a_left_out_loss_has_no_weight_in_any_stage_and_others_keep_theirs(name: str, left_out: set[str]) -> None:
    found = ablations.variants(BASE)
    compared = found["joint from the start, with tissue labels"] if name.startswith("joint") else BASE
    assert len(found[name].stages) == len(compared.stages)
    for stage, full in zip(found[name].stages, compared.stages, strict=True):
        before = asdict(full.weights)
        assert asdict(stage.weights) == before | dict.fromkeys(left_out, 0.0)
    assert any(getattr(stage.weights, term) for stage in compared.stages for term in left_out)


def test_what_the_base_has_already_is_left_out() -> None:
    assert set(ablations.variants(BASE)) - set(ablations.variants(FULL_SIZE)) == {"half of the regions shift tissues"}


def test_sizes_are_relative_to_the_base() -> None:
    variants = ablations.variants(FULL_SIZE)
    assert variants["R_E twice as wide"].model.network.restorer_widths == (64, 128, 256)
    assert variants["voxels four fifths as wide"].model.grid == GridConfig((76, 96, 76), (2.0, 2.0, 2.0))


def test_the_table_gives_mean_and_range_over_the_seeds() -> None:
    runs = {"base": [{"AP": 0.5}, {"AP": 0.7}], "other": [{"AP": 0.25}]}
    assert list(ablations.rows(["other", "base"], runs)) == [
        "| variant | AP |",
        "|---|---|",
        "| other | 0.250 (0.250-0.250) |",
        "| base | 0.600 (0.500-0.700) |",
    ]


def test_a_finished_run_is_neither_trained_nor_measured_again(tmp_path: Path) -> None:
    kept = {"inputs": {"pack": "a", "cases": ["glioma T2 one"]}, "figures": {"AP": 0.5}}
    (tmp_path / "ablation.json").write_text(json.dumps(kept), encoding="utf-8")
    pack: Any = SimpleNamespace(sha256="a")
    cases: Any = [SimpleNamespace(dataset="glioma", sequence="T2", subject="one")]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dictionary(BASE)), encoding="utf-8")
    equipment: Any = None
    assert ablations.measured(BASE, pack, tmp_path, cases, equipment) == {"AP": 0.5}
    other = ablations.variants(BASE)["Canny edges"]
    for given in ((other, pack, cases), (BASE, SimpleNamespace(sha256="b"), cases), (BASE, pack, [])):
        with pytest.raises(UsageError, match="another configuration, pack or table of cases"):
            ablations.measured(given[0], given[1], tmp_path, given[2], equipment)
