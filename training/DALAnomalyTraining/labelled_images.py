"""Label maps and the pictures that heads are aligned by: reading, cutting, drawing, rigid pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyLib.errors import InputError
from DALAnomalyTraining.label_classes import TISSUE_OF_CLASS

REGISTRATION_MM = 3.0
"""Voxel size that heads are aligned at."""
RENDERED_TISSUE = np.array([0, 60, 140, 220], dtype=np.float32)
"""A plain T1-like picture of CSF, grey and white matter, good enough to align heads by."""


def read_image(path: Path) -> sitk.Image:
    """One 3D image in grey values; raises `InputError` for anything else."""
    try:
        image = _squeezed(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        msg = f"{path} cannot be read as an image; check the file or leave it out of the training set"
        raise InputError(msg) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        msg = f"{path} is no single three-dimensional image in grey values; leave it out of the training set"
        raise InputError(msg)
    return image


def like(array: npt.NDArray[np.generic], reference: sitk.Image) -> sitk.Image:
    """The array as an image that lies where `reference` lies."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(reference)
    return image


def some_brain(classes: npt.NDArray[np.uint8], name: object, scheme: str) -> npt.NDArray[np.uint8]:
    """The classes as they are; raises `InputError` when there is no brain among them."""
    if not classes.any():
        msg = f"{name} shows no brain; is it a {scheme} label map or a stripped scan?"
        raise InputError(msg)
    return classes


def cropped(classes: sitk.Image) -> sitk.Image:
    """The image cut to the box of its brain; whole heads are mostly air."""
    inside = np.argwhere(sitk.GetArrayViewFromImage(classes) > 0)[:, ::-1]
    low, high = inside.min(0), inside.max(0)
    return sitk.RegionOfInterest(classes, (high - low + 1).tolist(), low.tolist())


def rigid_pose(classes: sitk.Image, template: sitk.Image) -> sitk.Transform:
    """The rigid transform from the template's space to the subject's."""
    rendered = RENDERED_TISSUE[TISSUE_OF_CLASS[sitk.GetArrayFromImage(classes)]]
    moving = registration_image(like(rendered, classes))
    start = sitk.CenteredTransformInitializer(
        template, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.3, 1)  # seeded: the same pack every time
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([3, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(template, moving)


def registration_image(image: sitk.Image) -> sitk.Image:
    """The smooth and coarse copy that heads are aligned by."""
    image = _squeezed(sitk.Cast(image, sitk.sitkFloat32))
    size = [round(n * s / REGISTRATION_MM) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(image, REGISTRATION_MM / 2)
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [REGISTRATION_MM] * 3, image.GetDirection()
    )


def _squeezed(image: sitk.Image) -> sitk.Image:
    return image[..., 0] if image.GetDimension() == 4 and image.GetSize()[3] == 1 else image
