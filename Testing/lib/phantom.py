"""An asymmetric brain known at every point in space, sampled on any grid, and a model that was never trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from DALAnomalyLib.configuration import RestorationConfig, preset
from DALAnomalyLib.model_store import Model, ModelMetadata
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks
from DALAnomalyLib.preprocessing.model_grid import model_grid_for, to_model_grid
from DALAnomalyLib.preprocessing.pipeline import Standard, prepare_scan
from DALAnomalyLib.scoring.score_config import SCORE_KINDS
from DALAnomalyLib.volume import Grid, Volume

SCAN_GRID = Grid((34, 46, 38), (3.9, 4.2, 4.1), (-71.0, -93.0, -66.0))
"""Just around the brain; all sizes and spacings differ, so that no mix-up of axes passes."""
FINE_GRID = Grid((62, 62, 62), (3.0, 3.0, 3.0), (-91.0, -91.0, -89.0))
"""A cube around the brain that can be turned without cutting it."""

CONTRASTS = {"T1": (120.0, 330.0, 500.0, 200.0), "T2": (600.0, 330.0, 190.0, 700.0)}
"""Intensities of fluid, grey matter, white matter and lesion."""
LESION_CENTRE = np.array([24.0, -26.0, 20.0])
LESION_RADIUS_MM = 15.0
THRESHOLD = 0.05
_BORDER_MM = 3.0
"""Width over which one tissue turns into the next: sampling a sharper border would depend on the lattice."""


def intensities(points: np.ndarray, sequence: str = "T2", lesion: bool = True) -> np.ndarray:
    """Intensity at LPS points (..., 3) in mm; 0 outside the brain, whose border alone is sharp."""
    fluid, grey, white, abnormal = CONTRASTS[sequence]
    image = np.full(points.shape[:-1], fluid)
    for value, centre, radii in (
        (grey, (0, 0, 2), (58, 73, 53)),
        (white, (4, -3, 4), (42, 58, 38)),
        (fluid, (-12, 8, 6), (9, 24, 11)),
        (grey, (16, 12, -8), (10, 14, 9)),
    ):
        image += (value - image) * _inside(points, centre, radii)
    if lesion:
        image += (abnormal - image) * _inside(points, LESION_CENTRE, (LESION_RADIUS_MM,) * 3)
    x, y, z = np.moveaxis(points, -1, 0)
    texture = 6 * np.sin(x / 9 + 1) * np.cos(y / 12) + 6 * np.sin(z / 10 + y / 25) + 0.1 * x
    return (image + texture) * _brain(points)


def scan(grid: Grid = SCAN_GRID, sequence: str = "T2", lesion: bool = True) -> Volume:
    """The phantom on a grid, float32."""
    return Volume(intensities(_points(grid), sequence, lesion).astype(np.float32), grid)


def brain_mask(grid: Grid = SCAN_GRID) -> Volume:
    """The phantom's brain, uint8."""
    return Volume(_brain(_points(grid)).astype(np.uint8), grid)


def reordered(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same physical image with its array axes permuted, then some of them reversed."""
    grid = volume.grid
    columns = np.reshape(grid.direction, (3, 3))[:, ::-1][:, order]  # along the array's axes
    spacing = np.array(grid.spacing)[::-1][list(order)]
    array, origin = volume.array.transpose(order), np.array(grid.origin)
    for axis in np.flatnonzero(flips):
        array = np.flip(array, axis)
        origin = origin + columns[:, axis] * spacing[axis] * (array.shape[axis] - 1)
        columns = columns * np.where(np.arange(3) == axis, -1, 1)
    new_grid = Grid(array.shape, tuple(spacing[::-1].tolist()), tuple(origin), tuple(columns[:, ::-1].ravel()))
    return Volume(np.ascontiguousarray(array), new_grid)


def restored_order(array: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """An array in the axis order of before `reordered`."""
    return np.flip(array, tuple(np.flatnonzero(flips))).transpose(np.argsort(order))


def oblique(grid: Grid, degrees: float, axis: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> Grid:
    """`grid` turned about its own centre."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    centre = grid.index_to_physical((np.array(grid.shape) - 1) / 2)
    origin = centre + rotation @ (np.array(grid.origin) - centre)
    turned = rotation @ np.reshape(grid.direction, (3, 3))
    return Grid(grid.shape, grid.spacing, tuple(origin), tuple(turned.ravel()))


def untrained_model(name: str = "tiny", change: Callable[[DALNetwork], None] = lambda _network: None) -> Model:
    """The preset `name` with random weights, on the CPU; its mean images are the phantom without its lesion."""
    config = preset(name)
    # no training scans whose looks it could know
    config = replace(config, restoration=replace(config.restoration, typical_looks=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DALNetwork(config).eval()
    change(network)
    grid = model_grid_for(brain_mask(), config.grid.shape, config.grid.spacing)
    templates = {
        sequence: torch.from_numpy(to_model_grid(scan(sequence=sequence, lesion=False), brain_mask(), grid)[0]) / 1000
        for sequence in CONTRASTS
    }
    scale = Landmarks(tuple(torch.linspace(0.05, 0.8, 11).tolist()))
    thresholds = dict.fromkeys(SCORE_KINDS, THRESHOLD)
    metadata = ModelMetadata(
        version="1.2.3",
        config=config,
        landmarks=dict.fromkeys(CONTRASTS, scale),
        thresholds={sequence: dict(thresholds) for sequence in CONTRASTS},
        training={"data": "none", "steps": 0},
    )
    return Model(metadata, network, templates, digest="0123456789abcdef" * 4)


def knowing_model() -> Model:
    """A model whose pseudo-healthy image is the phantom on T2 without its lesion, in the upright pose.

    It has a trained network's answer: it depends on where in the head a voxel is, and hardly on the lattice. Random
    weights do not serve to compare lattices, for they turn a shift by a fraction of a voxel into another image.
    """
    model = untrained_model()
    # its answer to a mirrored scan would not be mirrored
    one_view = replace(model.metadata.config, restoration=RestorationConfig())
    metadata = replace(model.metadata, config=one_view)
    prepared = prepare_scan(
        ScanRequest(scan(FINE_GRID, lesion=False), "T2"),
        Standard(metadata.config.grid, metadata.landmarks, model.templates),
        metadata.config.preprocessing,
        Equipment(),
        torch.device("cpu"),
    )
    model.network.combine = lambda _code, _modality, brain: prepared.image * brain
    return replace(model, metadata=metadata)


def _points(grid: Grid) -> np.ndarray:
    return grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def _brain(points: np.ndarray) -> np.ndarray:
    hemispheres = _depth(points, (0, 0, 2), (63, 79, 58)) > 0
    temporal_lobe = _depth(points, (32, -22, -30), (24, 38, 24)) > 0
    return hemispheres | temporal_lobe


def _inside(points: np.ndarray, centre: np.ndarray | tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """1 deep inside an ellipsoid, 0 far outside, 0.5 at its border."""
    return 1 / (1 + np.exp(-4 * _depth(points, centre, radii) / _BORDER_MM))


def _depth(points: np.ndarray, centre: np.ndarray | tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """About the distance in mm to the surface of an ellipsoid, above 0 inside."""
    return (1 - np.linalg.norm((points - np.asarray(centre)) / radii, axis=-1)) * min(radii)
