"""What the tests of training share: a toy pack of made-up brains, and a tiny configuration of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from DALAnomalyTraining.label_classes import COUNT, OUTER_CSF, TISSUE_OF_CLASS
from DALAnomalyTraining.pack import Pack, PackWriter

SPACING = 5.0
SEMI_AXES = (60.0, 75.0, 62.0)
"""Millimetres along (x, y, z)."""
NESTED = ((1.0, OUTER_CSF), (0.9, 2), (0.72, 1), (0.25, 3))
"""Share of the semi-axes within which a class lies, from outside in: outer CSF, cortex, white matter, ventricles."""
SMALL = {4: (0, 0, -45), 5: (14, 0, 0), 6: (20, 22, 5), 7: (26, 5, 5), 8: (19, -8, 2), 9: (30, -25, -10)} | {
    10: (28, 20, -18), 11: (14, 32, -4), 12: (11, -18, -18), 13: (6, -6, 20)
}  # fmt: skip
"""Class and centre, millimetres from the brain's, of the deep structures, each on both sides."""
TISSUE_INTENSITY = {"T1": (0.0, 40.0, 90.0, 130.0), "T2": (0.0, 200.0, 110.0, 80.0)}
"""Of background, CSF, grey and white matter."""

Bytes = npt.NDArray[np.uint8]


def made_up_brain(scale: float = 1.0) -> Bytes:
    """Nested ellipsoids with all the classes of a pack, uint8 (D, H, W), upright, in a box that just holds them."""
    semi_axes = scale * np.array(SEMI_AXES)
    size = 2 * np.ceil(semi_axes / SPACING).astype(int) + 1
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * SPACING for n in reversed(size)), indexing="ij")
    radius = np.sqrt((x / semi_axes[0]) ** 2 + (y / semi_axes[1]) ** 2 + (z / semi_axes[2]) ** 2)
    labels = np.zeros(x.shape, np.uint8)
    for share, number in NESTED:
        labels[radius <= share] = number
    for number, centre in SMALL.items():
        place = scale * np.array(centre)
        labels[np.sqrt((abs(x) - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2) <= 6.5] = number
    return labels


def made_up_image(labels: Bytes, sequence: str, seed: int = 0) -> Bytes:
    """A made-up scan of a made-up brain, uint8 (D, H, W), at least 1 inside it."""
    noise = np.random.default_rng(seed).normal(0, 6, labels.shape)
    image = np.array(TISSUE_INTENSITY[sequence])[TISSUE_OF_CLASS[labels]] + noise
    return np.where(labels > 0, image.clip(1, 255), 0).astype(np.uint8)


def made_up_priors() -> dict[str, list[list[list[float]]]]:
    """Every class as bright as its tissue, with some variation within and between scans."""
    return {
        sequence: [
            [[by_tissue[tissue] for tissue in TISSUE_OF_CLASS], [4.0] * COUNT],
            [[6.0] * COUNT, [1.0] * COUNT],
        ]
        for sequence, by_tissue in TISSUE_INTENSITY.items()
    }


@pytest.fixture(scope="session")
def brain_labels() -> Callable[..., Bytes]:
    """`brain_labels(scale)`: the label classes of a made-up brain."""
    return made_up_brain


@pytest.fixture(scope="session")
def brain_image() -> Callable[..., Bytes]:
    """`brain_image(labels, sequence, seed)`: a made-up scan of it."""
    return made_up_image


@pytest.fixture(scope="session")
def priors() -> dict[str, list[list[list[float]]]]:
    """Made-up priors of T1 and T2."""
    return made_up_priors()


@pytest.fixture(scope="session")
def add_brain() -> Callable[..., None]:
    """`add_brain(writer, name, source, labels, images)`: add a subject, centred in the frame, to a pack's writer."""

    def add(writer: PackWriter, name: str, source: Any, labels: Bytes, images: dict[str, Bytes] | None = None) -> None:
        inside = np.argwhere(labels)
        top, (_, y, x) = inside[:, 0].max(), (inside.min(0) + inside.max(0)) / 2
        origin = (-x * SPACING, -y * SPACING, -top * SPACING)
        writer.add(name, source, labels, images or {}, (SPACING,) * 3, origin, "toy")

    return add


@pytest.fixture(scope="session")
def toy_pack_folder(tmp_path_factory: pytest.TempPathFactory, add_brain: Callable[..., None]) -> Path:
    """Four label maps, one semi-real subject and one real pair."""
    writer = PackWriter("made-up brains", made_up_priors())
    for index in range(4):
        add_brain(writer, f"labels/{index}", "labels", made_up_brain(0.92 + 0.05 * index))
    labels = made_up_brain(1.02)
    add_brain(writer, "semi_real/0", "semi_real", labels, {"T1": made_up_image(labels, "T1", 1)})
    labels = made_up_brain(0.97)
    whole = np.where(labels > 0, OUTER_CSF, 0).astype(np.uint8)
    scans = {name: made_up_image(labels, name, 2) for name in TISSUE_INTENSITY}
    add_brain(writer, "paired/0", "paired", whole, scans)
    folder = tmp_path_factory.mktemp("pack")
    writer.write(folder)
    return folder


@pytest.fixture(scope="session")
def toy_pack(toy_pack_folder: Path) -> Pack:
    """The toy pack, opened."""
    return Pack(toy_pack_folder)


STAGES: list[dict[str, Any]] = [
    {
        "name": "anatomy",
        "steps": 3,
        "learning_rates": {"anatomy_extractor": 1.0},
        "weights": {
            "reconstruction": 0, "restoration": 0, "anatomy_consistency": 0, "anatomy_similarity": 0,
            "modality_consistency": 0, "modality_similarity": 0, "code_consistency": 0, "tissue_cross_entropy": 1.0,
        },
    },
    {
        "name": "restoration",
        "steps": 3,
        "learning_rates": {
            "modality_extractor": 1.0, "anatomy_encoder": 1.0, "anatomy_restorer": 1.0, "representation_combiner": 1.0,
        },
        "weights": {"anatomy_consistency": 0, "anatomy_similarity": 0},
    },
    {
        "name": "joint",
        "steps": 4,
        "learning_rates": {
            "anatomy_extractor": 0.1, "modality_extractor": 1.0, "anatomy_encoder": 1.0, "anatomy_restorer": 1.0,
            "representation_combiner": 1.0,
        },
        "weights": {"tissue_cross_entropy": 0.1},
    },
]  # fmt: skip


def write_tiny_config(path: Path, **changes: Any) -> Path:
    """Write the YAML of a run of ten tiny steps in three stages, with `changes`."""
    values = {
        "model": {"preset": "tiny"},
        "stages": STAGES,
        "learning_rate": 1e-3,
        "warm_up_steps": 2,
        "final_rate_factor": 0.1,
        "ema_decay": 0.9,
        "validate_every": 1000,
        "validation_subjects": 1,
        "landmark_subjects": 2,
        "checkpoint_minutes": 0,
    }
    path.write_text(yaml.safe_dump(values | changes, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """`write_config(seed=1, ...)`: a configuration file of ten tiny steps in three stages, with those changes."""
    return lambda name="config.yaml", **changes: write_tiny_config(tmp_path / name, **changes)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums come out the same, bit for bit, in this process and in those that tests start with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@dataclass(frozen=True)
class FinishedRun:
    """A whole run with its export."""

    config: Path
    folder: Path


@pytest.fixture(scope="session")
def finished_run(toy_pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Ten steps in one go, validated after five and ten; not to be changed."""
    from DALAnomalyTraining.run import train

    folder = tmp_path_factory.mktemp("finished")
    config = write_tiny_config(folder / "config.yaml", validate_every=5)
    with one_thread():
        train(config, toy_pack_folder, folder / "run", accelerator="cpu", quiet=True)
    return FinishedRun(config, folder / "run")
