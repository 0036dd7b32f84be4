"""What the tests of the command line share: a small phantom, a small model, and the program itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from typer.testing import CliRunner, Result

from DALAnomalyLib.volume import Grid, Volume

GRID = Grid((36, 44, 36), (4.0, 4.0, 4.0), (-70.0, -86.0, -70.0))
"""144 x 176 x 144 mm: as large as a head, few voxels."""


@pytest.fixture(scope="session")
def phantom() -> Volume:
    """A T2-like brain of three nested shells with a bright lesion; float32, 0 outside the brain."""
    points = GRID.index_to_physical(np.moveaxis(np.indices(GRID.shape), 0, -1))
    radius = np.linalg.norm(points / (58.0, 74.0, 60.0), axis=-1)
    image = np.select([radius < 0.25, radius < 0.75, radius < 0.92, radius < 1.0], [300.0, 90.0, 140.0, 260.0], 0.0)
    lesion = np.linalg.norm(points - (25.0, -20.0, 20.0), axis=-1) < 14.0
    texture = np.random.default_rng(0).normal(0, 4, GRID.shape)
    return Volume(np.where(image > 0, np.where(lesion, 320.0, image) + texture, 0).astype(np.float32), GRID)


@pytest.fixture(scope="session")
def lesion(phantom: Volume) -> Volume:
    """The phantom's lesion, uint8."""
    points = GRID.index_to_physical(np.moveaxis(np.indices(GRID.shape), 0, -1))
    return phantom.with_array((np.linalg.norm(points - (25.0, -20.0, 20.0), axis=-1) < 14.0).astype(np.uint8))


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tiny` model that was never trained, with templates of the phantom's kind and low thresholds."""
    import torch

    from DALAnomalyLib.configuration import preset
    from DALAnomalyLib.model_store import ModelMetadata, save_model
    from DALAnomalyLib.network.dal_network import DALNetwork
    from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks

    torch.manual_seed(0)
    config = preset("tiny")
    scale = Landmarks(tuple(torch.linspace(0.05, 0.8, 11).tolist()))
    thresholds = dict.fromkeys(("hybrid", "l1", "ssim", "intensity"), 0.05)
    metadata = ModelMetadata("test", config, {"T1": scale, "T2": scale}, {"T1": thresholds, "T2": thresholds})
    template = torch.rand(config.grid.shape)
    path = tmp_path_factory.mktemp("model") / "tiny.dalmodel"
    save_model(path, metadata, DALNetwork(config), {"T1": template, "T2": 1 - template})
    return path


@pytest.fixture
def scan(tmp_path: Path, phantom: Volume) -> Path:
    """The phantom as a file in a folder of its own, so that the tests see what appears elsewhere."""
    from DALAnomalyLib.volume_io import write_volume

    path = tmp_path / "in" / "scan.nii.gz"
    path.parent.mkdir()
    write_volume(phantom, path)
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the program in this process: `run("detect", scan, "-o", out)`."""
    from DALAnomalyCLI.app import app

    def invoke(*arguments: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke
