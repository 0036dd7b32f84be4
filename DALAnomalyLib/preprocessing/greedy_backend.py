"""Refine a pose with Greedy (Yushkevich et al.), an optional package that need not be installed."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.preprocessing.brain_copy import BrainCopy, Likeness
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Points, Volume
from DALAnomalyLib.volume_io import to_sitk

_ITERATIONS = 40
_METRICS: dict[Likeness, str] = {"mutual information": "NMI", "correlation": "NCC 4x4x4"}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def load_greedy() -> Any:
    """The package `picsl_greedy`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        # By name at run time: the library needs it for this option alone.
        return importlib.import_module("picsl_greedy")
    except ImportError as error:
        msg = 'registration with Greedy needs a package that is missing: `pip install picsl-greedy`, or use "simpleitk"'
        raise UsageError(msg) from error


def refine(
    scan: BrainCopy,
    atlas: BrainCopy,
    start: RigidTransform,
    reach: float,
    likeness: Likeness,
    cancel: CancelToken | None,
) -> RigidTransform:
    """Maximise the likeness of scan and atlas over the scan's brain and its rim.

    Args:
        scan: fixed image.
        atlas: moving image.
        start: scan to atlas.
        reach: not used; Greedy finds its own steps.
        likeness: normalised mutual information, or correlation within small patches.
        cancel: looked at before and after, for Greedy cannot be stopped inside; on these copies it takes seconds.

    Raises:
        UsageError: the package is not installed.
    """
    del reach
    if cancel is not None:
        cancel.raise_if_cancelled()
    greedy = load_greedy().Greedy3D()
    # The scan is put where it starts, so that Greedy begins with no motion.
    grid = start.move_grid(scan.grid)
    command = (
        f"-d 3 -a -dof 6 -m {_METRICS[likeness]} -i scan atlas -gm compared -ia-identity"
        f" -n {_ITERATIONS} -o result -threads 1 -V 0"
    )
    greedy.execute(
        command,
        out=io.StringIO(),
        err=io.StringIO(),
        scan=to_sitk(Volume(scan.image, grid)),
        atlas=to_sitk(Volume(atlas.image, atlas.grid)),
        compared=to_sitk(Volume(scan.compared.astype(np.float32), grid)),
        result=None,
    )
    if cancel is not None:
        cancel.raise_if_cancelled()
    return from_ras_matrix(greedy["result"]).after(start)  # Greedy's matrix takes fixed points to moving ones


def from_ras_matrix(matrix: Points) -> RigidTransform:
    """The motion of LPS points that a matrix (4, 4) is for RAS points."""
    converted = _LPS_TO_RAS @ np.asarray(matrix, dtype=np.float64) @ _LPS_TO_RAS
    return RigidTransform.from_matrix(converted[:3, :3], converted[:3, 3])
