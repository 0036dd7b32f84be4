"""The average of a group of brains in shape as well as in grey values (Guimond, Meunier and Thirion 2000).

Every brain s has a map phi_s(x) = A_s (x + u_s(x)) from the average's space into its own: an affine part A_s and a
displacement u_s in mm. An average is unbiased when no brain's shape is preferred: the affine parts' mean logarithm and
the displacements' mean are zero. Both functions that end in `_removed` see to that. Points are LPS mm.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import linalg, ndimage

Matrix = npt.NDArray[np.float64]
"""(4, 4), maps (x, y, z, 1) to (x, y, z, 1) in LPS mm."""
Field = npt.NDArray[np.float32]
"""(D, H, W, 3): displacement along (x, y, z) in mm at every voxel of the working grid."""

AFFINE_ITERATIONS = 60
AFFINE_SAMPLES = 0.3
DEMONS_ITERATIONS = 20
INVERSION_STEPS = 10


def mean_affine_removed(affines: list[Matrix], poses: list[Matrix]) -> list[Matrix]:
    """Change the average's space so that the affine parts, after the rigid `poses`, are the identity on average.

    With B_s = P_s^-1 A_s the mean is exp(mean_s log B_s), and each A_s becomes A_s exp(-mean_s log B_s).

    Args:
        affines: A_s, from the average to each brain.
        poses: P_s, rigid, from the frame to each brain.
    """
    residues = [np.linalg.inv(pose) @ affine for affine, pose in zip(affines, poses, strict=True)]
    mean = np.mean([np.real(linalg.logm(residue)) for residue in residues], axis=0)
    correction = linalg.expm(-mean)
    return [affine @ correction for affine in affines]


def mean_displacement_removed(fields: list[Field], spacing: float) -> list[Field]:
    """Change the average's shape so that the displacements are zero on average.

    With w the inverse of the mean displacement, each u_s(x) becomes w(x) + u_s(x + w(x)).
    """
    mean = sum(field.astype(np.float64) for field in fields) / len(fields)
    back = inverse_displacement(np.asarray(mean, dtype=np.float32), spacing)
    return [back + _at_moved_voxels(field, back, spacing) for field in fields]


def inverse_displacement(field: Field, spacing: float) -> Field:
    """The displacement w that undoes `field` u: w(x) = -u(x + w(x)), found by repeating just that."""
    back = -field
    for _ in range(INVERSION_STEPS):
        back = -_at_moved_voxels(field, back, spacing)
    return back


def _at_moved_voxels(field: Field, displacement: Field, spacing: float) -> Field:
    """`field` at x + displacement(x), linearly interpolated; beyond the border its border values."""
    where = np.indices(field.shape[:3], dtype=np.float32) + np.moveaxis(displacement[..., ::-1], -1, 0) / spacing
    parts = [ndimage.map_coordinates(field[..., axis], where, order=1, mode="nearest") for axis in range(3)]
    return np.stack(parts, axis=-1)


def register_affine(average: sitk.Image, brain: sitk.Image, start: Matrix) -> Matrix:
    """The affine map from the average to a brain drawn in the same grey values, by their mean squared difference."""
    centre = np.array(average.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in average.GetSize()]))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(AFFINE_SAMPLES, 1)  # seeded: the same average every time
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, AFFINE_ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine_transform(start, centre), inPlace=True)
    return matrix_of(method.Execute(average, brain))


def register_deformable(average: sitk.Image, brain: sitk.Image, start: Field, smoothing: float) -> Field:
    """The displacement from the average to a brain on the same grid, by demons with symmetric forces.

    Args:
        average: float32.
        brain: float32, in the same grey values and already brought to the average by its affine part.
        start: where to start.
        smoothing: standard deviation, in voxels, of the Gaussian that keeps displacements smooth.
    """
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(DEMONS_ITERATIONS)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(smoothing)
    field: Field = sitk.GetArrayFromImage(demons.Execute(average, brain, field_image(start, average)))
    return field.astype(np.float32)


def field_image(field: Field, grid: sitk.Image) -> sitk.Image:
    """A displacement as SimpleITK wants it: float64 vectors."""
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.CopyInformation(grid)
    return image


def full_transform(affine: Matrix, field: Field | None, grid: sitk.Image) -> sitk.Transform:
    """phi_s as a transform for resampling."""
    if field is None:
        return affine_transform(affine)
    # the transform that was added last is applied first
    return sitk.CompositeTransform(
        [affine_transform(affine), sitk.DisplacementFieldTransform(field_image(field, grid))]
    )


def affine_transform(matrix: Matrix, centre: Matrix | None = None) -> sitk.AffineTransform:
    """A matrix as a transform; about a `centre` (3,) its parameters are easier to optimise."""
    middle = np.zeros(3) if centre is None else centre
    transform = sitk.AffineTransform(3)
    transform.SetCenter(middle.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((matrix[:3, :3] @ middle + matrix[:3, 3] - middle).tolist())
    return transform


def matrix_of(transform: sitk.Transform) -> Matrix:
    """The matrix of any affine or rigid transform, from what it does to the origin and the axes."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis, unit in enumerate(np.eye(3).tolist()):
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - matrix[:3, 3]
    return matrix
