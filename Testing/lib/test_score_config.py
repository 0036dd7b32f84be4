import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.score_config import ScoreConfig


def test_defaults_are_the_papers() -> None:
    config = ScoreConfig()
    assert (config.kind, config.sign) == ("hybrid", "absolute")
    assert (config.minimum_filter, config.mean_filter, config.mask_erosion) == (3, 9, 3)
    assert (config.difference_power, config.opening, config.mean_passes) == (1.0, False, 1)
    assert (config.guided_filter, config.signal_floor) == (0, 0)


def test_every_step_can_be_turned_off() -> None:
    config = ScoreConfig(minimum_filter=0, mean_filter=0, mask_erosion=0)
    assert dataclasses.replace(config, kind="l1").kind == "l1"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kind", "l2"),
        ("ssim_window", "uniform9"),
        ("sign", "both"),
        ("minimum_filter", 4),
        ("mean_filter", -3),
        ("mask_erosion", 2.5),
        ("mask_erosion", True),
        ("difference_power", 0.0),
        ("difference_power", float("nan")),
        ("mean_passes", 0),
        ("guided_filter", 6),
        ("guided_epsilon", 0.0),
        ("signal_floor", -0.1),
        ("signal_floor", 1.0),
        ("signal_floor", float("nan")),
    ],
)
def test_a_bad_value_is_named_with_its_option(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{option} is {value!r}; "):
        ScoreConfig(**{option: value})


def test_import_leaves_torch_alone() -> None:
    code = "import sys, DALAnomalyLib.scoring.score_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("sequence", "side"), [("T1", "negative"), ("T2", "positive"), ("FLAIR", "positive")])
def test_the_typical_sign_depends_on_the_sequence(sequence: str, side: str) -> None:
    assert ScoreConfig(sign="typical").for_sequence(sequence).sign == side
    assert ScoreConfig(sign="absolute").for_sequence(sequence).sign == "absolute"
    assert ScoreConfig(sign="typical").of_kind("l1", sequence) == ScoreConfig(kind="l1", sign=side)  # type: ignore[arg-type]


def test_plain_intensity_looks_on_the_typical_side_whatever_the_sign_of_the_others() -> None:
    assert ScoreConfig(sign="absolute").of_kind("intensity", "T1").sign == "negative"
    assert ScoreConfig(sign="absolute").of_kind("intensity", "T2").sign == "positive"
