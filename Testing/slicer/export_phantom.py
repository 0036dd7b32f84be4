"""A scan with two findings as an export context, and as the DICOM series it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.detection_result import DetectionResult
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.finding_context import FindingRow
from Testing.lib.dicom_phantom import IDENTIFIER, NAME, head, write_series

FRAME = "1.2.3.4.5.6"
MODEL_DIGEST = "55668f0214fa7f23cceb4b50526f713da299bcb494230e8c2de37edfeaf3ec4e"
IDENTIFIERS = (*NAME.split("^"), IDENTIFIER, "19700102", "1970-01-02", FRAME)
"""What nothing but a DICOM object may hold."""
THRESHOLD = 0.1

_TURN = np.radians(20)
_OBLIQUE = np.array([[np.cos(_TURN), -np.sin(_TURN), 0], [np.sin(_TURN), np.cos(_TURN), 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]]
)
DIRECTIONS = {
    "axial": np.eye(3),
    "oblique": _OBLIQUE,
    "slices reversed": _OBLIQUE @ np.diag([1, 1, -1]),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
"""Grids by name: columns are the LPS vectors of the axes (i, j, k)."""


def scan_with(direction: np.ndarray = DIRECTIONS["axial"]) -> Volume:
    """(24, 48, 40) voxels of 4 x 4.5 x 7 mm around the head of the sample."""
    return head(direction.ravel())


def context_of(
    scan: Volume,
    statuses: Sequence[str] = ("", ""),
    dicom_files: Sequence[Path] = (),
    score: np.ndarray | None = None,
    name: str = "",
    **changes: Any,
) -> ExportContext:
    """A result with a finding of 0.5, and one of 0.3 with a single voxel of 0.9; no voxel lies in any middle."""
    result = DetectionResult(**{**_result(scan, _score(scan) if score is None else score), **changes})
    brain = scan.with_array(result.brain_mask)
    labels, findings = find_findings(scan.with_array(result.score), brain, THRESHOLD, 0.1)
    rows = tuple(
        FindingRow(
            number=finding.label,
            volume_ml=finding.volume_ml,
            peak=finding.peak,
            mean=finding.mean,
            tissue="white matter",
            side="left",
            extent_mm=finding.extent_mm,
            centroid_ras=finding.centroid_ras_mm,
            status=status,
        )
        for finding, status in zip(findings, statuses, strict=True)
    )
    return ExportContext(name, scan, result, labels, rows, THRESHOLD, 0.1, tuple(dicom_files))


def write_source(folder: Path, scan: Volume, **elements: Any) -> list[Path]:
    """The scan as a classic DICOM series; its files in an order that has nothing to do with their places."""
    files = sorted(write_series(folder, scan, **{"FrameOfReferenceUID": FRAME, **elements}).iterdir())
    return files[::2] + files[1::2][::-1]


def places(scan: Volume, mask: np.ndarray) -> np.ndarray:
    """LPS mm of the voxels in a mask, in a fixed order."""
    return in_order(scan.grid.index_to_physical(np.argwhere(mask)))


def in_order(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) rounded and sorted, so that sets of them can be compared."""
    rounded = np.round(points, 2) + 0.0
    return rounded[np.lexsort(rounded.T)]


def frame_points(image: Any, frame: int) -> np.ndarray:
    """LPS mm of every pixel of a frame of a multi-frame image, (rows, columns, 3), from its functional groups alone."""
    shared = image.SharedFunctionalGroupsSequence[0]
    position = image.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
    along_row, down_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(
        float
    )
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    rows = np.arange(image.Rows)[:, None, None] * down_column * float(between_rows)
    columns = np.arange(image.Columns)[None, :, None] * along_row * float(between_columns)
    return np.array(position, dtype=float) + rows + columns


def _score(scan: Volume) -> np.ndarray:
    score = np.full(scan.array.shape, 0.01, np.float32)
    score[5:8, 10:20, 8:15] = 0.5
    score[15:17, 30:35, 20:30] = 0.3
    score[16, 31, 28] = 0.9
    return score


def _result(scan: Volume, score: np.ndarray) -> dict[str, Any]:
    brain = np.zeros(scan.array.shape, np.uint8)
    brain[2:-2, 3:-3, 3:-3] = 1
    return {
        "score": score,
        "pseudo_healthy": scan.array.astype(np.float32) * brain,
        "uncertainty": np.float32(0.02) * brain,
        "tissues": 2 * brain,
        "edges": brain,
        "brain_mask": brain,
        "sequence": "T1",
        "sequence_evidence": "the name says T1",
        "threshold": THRESHOLD,
        "minimum_finding_ml": 0.1,
        "warnings": ("rough <brain> mask",),
        "manifest": _manifest(),
    }


def _manifest() -> dict[str, Any]:
    manifest = {
        "versions": {"DALAnomaly": "0.1.0", "torch": "2.8.0+cu128"},
        "model": {"name": "default", "version": "0.1.0", "sha256": MODEL_DIGEST},
        "device": "cuda:0",
        "input": {"name": f"{NAME}.nii.gz", "files": 24},
        "requested": {"sequence": "auto", "threshold": None, "preprocessing": {"extraction": "auto"}},
        "parameters": {"sequence": "T1", "threshold": THRESHOLD, "model_grid_shape": [60, 76, 60]},
        "steps": [{"name": "n4", "status": "done", "seconds": 1.25, "evidence": f"read /data/{NAME}/scan.nii: good"}],
        "times": {"started": "2026-01-02T03:04:05+00:00", "seconds": 14.5, "stages_seconds": {"n4": 1.25}},
    }
    return json.loads(json.dumps(manifest))
