"""What the worker left in its folder, as arrays on the input's grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.job.result_layout import MANIFEST_FILE, PLAIN_VOLUMES
from DALAnomalyLib.volume import AnyArray


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """One result. All arrays are (k, j, i) on the input's grid.

    Attributes:
        score: float32, unitless, 0 outside the brain.
        pseudo_healthy: float32 in the input's intensity units, 0 outside the brain.
        tissues: uint8: 1 CSF, 2 grey matter, 3 white matter.
        edges: uint8, 0 or 1.
        brain_mask: uint8, 0 or 1.
        sequence: "T1" or "T2".
        sequence_evidence: why, in one line.
        threshold: score at and above which voxels belong to findings.
        minimum_finding_ml: smaller findings are dropped.
        warnings: for the user.
        manifest: the whole record of the run.
        uncertainty: float32, standard deviation of the pseudo-healthy image over several views of the scan, on the
            model's standard scale 0 to 1; None where the model takes one view only.
    """

    score: AnyArray
    pseudo_healthy: AnyArray
    tissues: AnyArray
    edges: AnyArray
    brain_mask: AnyArray
    sequence: str
    sequence_evidence: str
    threshold: float
    minimum_finding_ml: float
    warnings: tuple[str, ...]
    manifest: dict[str, Any]
    uncertainty: AnyArray | None = None


def read_result(folder: Path) -> DetectionResult:
    """Read a folder of results that `python -m DALAnomalyLib.job` wrote.

    Raises:
        InputError: a file is missing, damaged or of another version.
        GeometryError: an array does not have the shape of the input.
    """
    manifest = _manifest(folder / MANIFEST_FILE)
    try:
        parameters = manifest["parameters"]
        shape = tuple(manifest["input"]["shape_kji"])
        written = manifest["outputs"]
        facts: dict[str, Any] = {
            "sequence": str(parameters["sequence"]),
            "sequence_evidence": str(parameters["sequence_evidence"]),
            "threshold": float(parameters["threshold"]),
            "minimum_finding_ml": float(parameters["minimum_finding_ml"]),
            "warnings": tuple(str(warning) for warning in manifest["warnings"]),
        }
    except (LookupError, TypeError, ValueError) as error:
        msg = f"{folder / MANIFEST_FILE}: is of another version ({error!r}); run the detection again"
        raise InputError(msg) from error
    volumes = {
        file: field for file, field in PLAIN_VOLUMES.volumes.items() if field != "uncertainty" or file in written
    }
    return DetectionResult(**_arrays(folder, shape, volumes), **facts, manifest=manifest)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); run the detection again"
        raise InputError(msg) from error


def _arrays(folder: Path, shape: tuple[int, ...], volumes: Mapping[str, str]) -> dict[str, Any]:
    """Field of `DetectionResult` to its array; `volumes` are file names and fields."""
    from DALAnomalyLib.volume_io import read_map

    arrays = {field: read_map(folder / file).array for file, field in volumes.items()}
    for name, array in arrays.items():
        if array.shape != shape:
            msg = f"{folder}: {name} is {array.shape} but the input is {shape} (k, j, i); run the detection again"
            raise GeometryError(msg)
    return arrays
