"""The typed configuration tree of a model, its presets, and its way to and from plain dictionaries.

Everything that shapes a model's output is here and travels inside the model file; what only concerns
training lives with the training code. Every decision that departs from the paper is a named field, and the
`paper` preset sets all of them to the literal reading.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.scoring.score_config import ScoreConfig

RestorationInput = Literal["anatomy_edges", "anatomy", "image_edges"]
EdgeKind = Literal["surface", "canny3d"]
RegistrationBackend = Literal["simpleitk", "greedy"]
WindowPlacement = Literal["brain", "atlas"]

STEPS = ("reorient", "brain_extraction", "n4", "registration", "crop", "sequence", "standardisation")
"""Names of the steps of preprocessing (section 4.1.2), each of which can be skipped."""

_Config = TypeVar("_Config")

TOP_MARGIN_MM = 4.0
"""From the uppermost plane of the grid down to the brain's uppermost voxel. Of the 159 mm that 112 planes of 160/112 mm
span, 155 mm are left below; the tallest of 87 brains measured 153 mm."""


@dataclass(frozen=True)
class GridConfig:
    """The network's grid: upright in world axes, spanning 160 x 224 x 160 mm in the paper (section 4.2.1)."""

    shape: tuple[int, int, int] = (112, 160, 112)
    """Voxels along the array axes (D, H, W): inferior-superior, anterior-posterior, left-right."""
    spacing: tuple[float, float, float] = (160 / 112, 224 / 160, 160 / 112)
    """Millimetres along (x, y, z): left-right, anterior-posterior, inferior-superior."""

    def __post_init__(self) -> None:
        if min(self.shape) < 16 or min(self.spacing) <= 0:
            msg = f"grid of shape {self.shape} at {self.spacing} mm; every axis needs 16 voxels and a positive spacing"
            raise UsageError(msg)


@dataclass(frozen=True)
class NetworkConfig:
    """Widths and switches of the five sub-networks (section 3; the switches are the rows of Table 7)."""

    classes: int = 3
    """C of Eq. 1-4: cerebrospinal fluid, grey matter, white matter."""
    sequences: tuple[str, ...] = ("T1", "T2")
    anatomy_extractor_widths: tuple[int, ...] = (16, 32, 64, 128)
    """E_A: channels per U-Net level, from full resolution down."""
    code_stride: int = 4
    """Voxels of the grid per voxel of the anatomical code C_a, a power of two."""
    code_channels: int = 64
    encoder_width: int = 32
    """R_A: channels between the folded input and the code."""
    restorer_widths: tuple[int, ...] = (64, 128, 256)
    """R_E: channels per level, from half resolution down."""
    combiner_widths: tuple[int, ...] = (64, 32, 16)
    """R_D: channels at the code's resolution and after each doubling up to full resolution."""
    modality_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """E_M: channels of its stride-2 convolutions on the half-size image."""
    modality_pooled: bool = False
    """Average M over space: fewer weights in the fully connected layers than the flattened vector."""
    edge_kind: EdgeKind = "surface"
    restoration_input: RestorationInput = "anatomy_edges"
    """`anatomy`: without edge-to-image; `image_edges`: without disentangling (Table 7, rows 1 and 2)."""
    modality_reuse: bool = True
    """False: one learned vector per sequence replaces the scan's own M (Table 7, row 3)."""

    def __post_init__(self) -> None:
        doublings = len(self.combiner_widths) - 1
        if self.code_stride != 2**doublings or self.code_stride < 2:
            msg = (
                f"code_stride {self.code_stride} needs log2(code_stride) + 1 combiner widths, "
                f"but {len(self.combiner_widths)} are given: {self.combiner_widths}"
            )
            raise UsageError(msg)
        if 2 ** len(self.restorer_widths) < self.code_stride:
            msg = f"R_E with {len(self.restorer_widths)} levels never reaches the code's stride {self.code_stride}"
            raise UsageError(msg)


@dataclass(frozen=True)
class PreprocessingConfig:
    """How a scan is brought to the network, as in the training of the model."""

    skip: tuple[str, ...] = ()
    """Names of `STEPS` that are left out."""
    registration_backend: RegistrationBackend = "simpleitk"
    window: WindowPlacement = "brain"
    """`brain`: the grid is placed by the brain's box; `atlas`: always at the same place of the atlas (the paper's crop
    of 240x240x155 to 160x224x160 voxels), unless that would cut the brain."""
    second_pass: bool = False
    """Measure the intensity landmarks again without the anomalies that a first pass found."""
    second_outline: bool = True
    """Outline a brain that the network found once more in the atlas' pose, so that the scan's pose does not matter."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.skip if name not in STEPS]
        if unknown:
            msg = f"no preprocessing step is called {', '.join(unknown)}; the steps are {', '.join(STEPS)}"
            raise UsageError(msg)


@dataclass(frozen=True)
class RestorationConfig:
    """How the healthy image is made of a scan beyond one pass of the network; the defaults are the paper's one pass."""

    views: Literal[1, 2, 6] = 1
    """Passes whose healthy images are averaged: 2 as it is and mirrored, 6 also shifted by a voxel either way."""
    tone_pieces: int = 0
    """Match the healthy image's brightness to the scan's in so many groups of voxels, dark to bright, which stand for
    tissues; 0 turns it off."""
    typical_looks: bool = False
    """Match tones in groups by the look of the restored anatomy on a typical scan of every sequence as well: tissues
    that the scan's own M paints alike differ there. Needs `tone_pieces`, and a model that knows its training scans."""
    shading_mm: float = 0.0
    """Follow a gain that varies this slowly through the brain (standard deviation of the smoothing in mm), as a bias
    field does that N4 has left; 0 turns it off."""
    drift_mm: float = 0.0
    """The same for differences, as another scanner makes them."""

    def __post_init__(self) -> None:
        slow = min(self.shading_mm, self.drift_mm) >= 0
        if self.views not in (1, 2, 6) or self.tone_pieces < 0 or self.tone_pieces == 1 or not slow:
            msg = (
                f"restoration with views {self.views}, tone_pieces {self.tone_pieces}, shading_mm {self.shading_mm}, "
                f"drift_mm {self.drift_mm}; views are 1, 2 or 6, tone_pieces 0 or at least 2, the others not negative"
            )
            raise UsageError(msg)
        if self.typical_looks and not self.tone_pieces:
            msg = "restoration with typical_looks and without tone_pieces; there is nothing to match, give tone_pieces"
            raise UsageError(msg)


@dataclass(frozen=True)
class ModelConfig:
    """All that a detector needs besides weights and landmarks."""

    name: str = "paper"
    grid: GridConfig = field(default_factory=GridConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    restoration: RestorationConfig = field(default_factory=RestorationConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    minimum_finding_ml: float = 0.1
    """Connected components smaller than this are not reported."""


PRESETS: dict[str, ModelConfig] = {
    "paper": ModelConfig(
        network=NetworkConfig(edge_kind="canny3d"),
        preprocessing=PreprocessingConfig(registration_backend="greedy", window="atlas"),
    ),
    "default": ModelConfig(
        name="default",
        grid=GridConfig(shape=(60, 76, 60), spacing=(2.5, 2.5, 2.5)),
        network=NetworkConfig(
            anatomy_extractor_widths=(8, 16, 32, 64),
            code_stride=2,
            code_channels=32,
            encoder_width=32,
            restorer_widths=(32, 64, 128),
            combiner_widths=(32, 8),
            modality_widths=(16, 32, 64, 64, 64),
        ),
        restoration=RestorationConfig(views=6, tone_pieces=6, typical_looks=True, shading_mm=25.0, drift_mm=25.0),
        score=ScoreConfig(
            ssim_window="gaussian11",
            minimum_filter=3,
            opening=True,
            mean_filter=5,
            mask_erosion=5,
            guided_filter=7,
            guided_epsilon=0.02,
            difference_guides=True,
            signal_floor=0.08,
            sign="typical",
        ),
    ),
    "tiny": ModelConfig(
        name="tiny",
        grid=GridConfig(shape=(24, 28, 24), spacing=(6.5, 6.5, 6.5)),
        network=NetworkConfig(
            anatomy_extractor_widths=(4, 8),
            code_stride=2,
            code_channels=8,
            encoder_width=8,
            restorer_widths=(8, 16),
            combiner_widths=(8, 4),
            modality_widths=(8, 8),
        ),
        restoration=RestorationConfig(views=2),
        score=ScoreConfig(minimum_filter=0, mean_filter=3, mask_erosion=0),
        # too coarse for the atlas to matter: this preset is for trying out and for tests
        preprocessing=PreprocessingConfig(skip=("brain_extraction", "n4", "registration")),
    ),
}


def preset(name: str) -> ModelConfig:
    """The named preset; raises `UsageError` listing the names when there is none such."""
    if name not in PRESETS:
        msg = f"unknown preset '{name}'; choose one of {', '.join(PRESETS)}"
        raise UsageError(msg)
    return PRESETS[name]


def to_dictionary(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain values that JSON and YAML can hold."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def from_dictionary(kind: type[_Config], values: Mapping[str, Any], where: str = "configuration") -> _Config:
    """Build the dataclass `kind` from plain values; unknown or missing names and wrong types raise `UsageError`."""
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        msg = f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        raise UsageError(msg)
    missing = [name for name, item in known.items() if name not in values and _is_required(item)]
    if missing:
        msg = f"{where}: {', '.join(missing)} must be given"
        raise UsageError(msg)
    return kind(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_dictionary(hint, _mapping(value, where), where)
    if origin is types.UnionType:  # a value or None
        return None if value is None else _convert(arguments[0], value, where)
    if origin is Literal:
        return _checked(value in arguments, value, f"one of {', '.join(map(repr, arguments))}", where)
    if origin is tuple:
        _checked(isinstance(value, list | tuple), value, "a list", where)
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, where) for item in value)
        _checked(len(value) == len(arguments), value, f"{len(arguments)} values", where)
        return tuple(_convert(argument, item, where) for argument, item in zip(arguments, value, strict=True))
    if origin in (dict, collections.abc.Mapping):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in _mapping(value, where).items()}
    if hint is float:
        _checked(isinstance(value, int | float) and not isinstance(value, bool), value, "a number", where)
        return float(value)
    if hint is int:
        return _checked(isinstance(value, int) and not isinstance(value, bool), value, "a whole number", where)
    if hint is Any:
        return value
    if hint is Path:
        return Path(_checked(isinstance(value, str), value, "a path", where))
    return _checked(isinstance(value, hint), value, f"a {hint.__name__}", where)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    return typing.cast(Mapping[str, Any], _checked(isinstance(value, Mapping), value, "a mapping", where))


def _checked(good: bool, value: Any, wanted: str, where: str) -> Any:
    if not good:
        msg = f"{where} is {value!r}; it must be {wanted}"
        raise UsageError(msg)
    return value
