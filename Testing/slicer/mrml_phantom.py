"""A small scan with a result, as nodes and arrays whose every value and place is known."""

from __future__ import annotations

import numpy as np
import slicer

from DALAnomalySlicer.detection_result import DetectionResult

SHAPE = (20, 24, 28)
"""(D, H, W)."""
LESION = (slice(6, 10), slice(4, 10), slice(4, 10))
SMALL_LESION = (slice(12, 15), slice(15, 18), slice(18, 22))
PEAK, SMALL_PEAK = (6, 4, 9), (13, 16, 20)
THRESHOLD = 0.25


def rotation(degrees: float, axis: int = 2) -> np.ndarray:
    """(3, 3), about the x, y or z axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(3)
    first, second = [other for other in range(3) if other != axis]
    turned[[first, first, second, second], [first, second, first, second]] = cosine, -sine, sine, cosine
    return turned


def affine(
    directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> np.ndarray:
    """(4, 4) from index (i, j, k) to RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing
    matrix[:3, 3] = origin
    return matrix


SPACING = (2.0, 2.5, 3.0)
AFFINES = {
    "RAS": affine(np.eye(3), SPACING, (-30.0, -20.0, 10.0)),
    "LPS": affine(np.diag([-1.0, -1.0, 1.0]), SPACING, (30.0, 20.0, -10.0)),
    "flipped": affine(np.diag([1.0, -1.0, -1.0]), SPACING, (-25.0, 35.0, 40.0)),
    "left-handed": affine(np.diag([-1.0, 1.0, 1.0]), SPACING, (25.0, -35.0, -40.0)),
    "permuted": affine(np.eye(3)[:, [2, 0, 1]], SPACING, (5.0, 6.0, 7.0)),
    "oblique": affine(rotation(25) @ rotation(-15, axis=0) @ np.diag([-1.0, -1.0, 1.0]), SPACING, (12.0, 23.0, -34.0)),
}
"""Grids by name, index (i, j, k) to RAS mm."""


def add_scan(ijk_to_ras: np.ndarray | None = None, array: np.ndarray | None = None, name: str = "T1 head"):
    """A scan node with a display node; without an array, 100 everywhere."""
    array = np.full(SHAPE, 100, dtype=np.int16) if array is None else array
    matrix = slicer.util.vtkMatrixFromArray(AFFINES["LPS"] if ijk_to_ras is None else ijk_to_ras)
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name=name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    return node


def add_transform(matrix: np.ndarray, name: str = "moved"):
    """A linear transform node, (4, 4) from the child's coordinates to world."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def make_result(shape: tuple[int, int, int] = SHAPE, **changes: object) -> DetectionResult:
    """Two lesions, 0.5 and 0.4 with one voxel of 1.0 in each, in a brain of three slabs of tissue."""
    score, brain, tissues, edges = (np.zeros(shape, dtype) for dtype in (np.float32, np.uint8, np.uint8, np.uint8))
    brain[2:-2, 2:-2, 2:-2] = 1
    score[brain > 0] = 0.05
    score[LESION], score[SMALL_LESION] = 0.5, 0.4
    score[PEAK], score[SMALL_PEAK] = 1.0, 0.9
    tissues[2:9], tissues[9:12], tissues[12:-2] = 1, 2, 3
    edges[5] = 1
    values = {
        "score": score,
        "pseudo_healthy": np.where(brain > 0, np.float32(80), np.float32(0)),
        "uncertainty": np.float32(0.02) * brain,
        "tissues": tissues * brain,
        "edges": edges * brain,
        "brain_mask": brain,
        "sequence": "T1",
        "sequence_evidence": "the name says T1",
        "threshold": THRESHOLD,
        "minimum_finding_ml": 0.1,
        "warnings": ("rough brain mask",),
        "manifest": {"model": {"name": "phantom"}},
    }
    return DetectionResult(**{**values, **changes})


def world_of(ijk_to_world: np.ndarray, voxel: tuple[int, int, int]) -> tuple[float, float, float]:
    """RAS mm of the centre of a voxel (k, j, i)."""
    k, j, i = voxel
    x, y, z, _ = (ijk_to_world @ (i, j, k, 1)).tolist()
    return x, y, z
