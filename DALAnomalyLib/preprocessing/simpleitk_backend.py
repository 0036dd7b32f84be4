"""Refine a pose with SimpleITK: the gradient of a measure of likeness is followed on one resolution."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.preprocessing.brain_copy import BrainCopy, Likeness
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import to_sitk

_SEED = 1
"""SimpleITK's own default is the clock."""
_BINS = 32
_SAMPLES = 40_000
"""So many of the compared voxels are looked at; at 4 mm that is all."""
_ITERATIONS = 60
_LAST_STEP_MM = 0.01


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
        reach: first step in mm.
        likeness: mutual information after Mattes, or Pearson's correlation.
        cancel: stops it at the next iteration.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # the sum over threads, and so the result, would depend on their number
    if likeness == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(to_sitk(Volume(scan.compared, scan.grid)))
    share = _SAMPLES / np.count_nonzero(scan.compared)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # The optimised rotation starts at none, about the brain's centre: far from the singularity of versors at 180.
    moved = sitk.VersorRigid3DTransform()
    moved.SetCenter(scan.centroid.tolist())
    method.SetMovingInitialTransform(_to_sitk(start))
    method.SetInitialTransform(moved, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=reach, minStep=_LAST_STEP_MM, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if cancel is not None:
        method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if cancel.cancelled else None)
    method.Execute(to_sitk(Volume(scan.image, scan.grid)), to_sitk(Volume(atlas.image, atlas.grid)))
    if cancel is not None:
        cancel.raise_if_cancelled()
    return start.after(_from_sitk(moved))


def _to_sitk(transform: RigidTransform) -> Any:
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(transform.rotation)
    affine.SetTranslation(transform.translation)
    return affine


def _from_sitk(transform: Any) -> RigidTransform:
    rotation = np.reshape(transform.GetMatrix(), (3, 3))
    return RigidTransform.from_matrix(rotation, transform.TransformPoint((0.0, 0.0, 0.0)))
