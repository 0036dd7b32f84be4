"""One subject of a group average: its label classes in a tight outline, and where they lie in the average."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from DALAnomalyTraining.group_average import Field, Matrix, full_transform, matrix_of
from DALAnomalyTraining.label_classes import OUTER_CSF, TISSUE_OF_CLASS, to_classes
from DALAnomalyTraining.labelled_images import RENDERED_TISSUE, cropped, like, read_image, rigid_pose, some_brain
from DALAnomalyTraining.subjects import Subject

SULCUS_MM = 4.0
"""Gaps between folds narrower than twice this belong to the brain."""
RIM_MM = 1.0
"""Fluid that a tight brain mask keeps outside the folds."""
SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian before resampling to a coarser grid."""
MARGIN_MM = 10.0


@dataclass
class LabelledBrain:
    """What is warped, and the way from the average to it.

    Attributes:
        classes: uint8 image of label classes.
        drawn: float32 image, a smooth T1-like picture of the tissues to align brains by.
        pose: rigid, from the frame of the pose image to the subject.
        affine: from the average to the subject.
        field: displacement in the average's space before `affine`; None before the first deformable round.
    """

    classes: sitk.Image
    drawn: sitk.Image
    pose: Matrix
    affine: Matrix
    field: Field | None = None

    def draw(self, grid: sitk.Image, deformed: bool = True) -> sitk.Image:
        """The picture in the average's space, with or without the displacement (which lies on `grid`)."""
        transform = full_transform(self.affine, self.field if deformed else None, grid)
        return sitk.Resample(self.drawn, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)

    def warp(self, channels: npt.NDArray[np.float32], target: sitk.Image, working: sitk.Image) -> npt.NDArray:
        """Values of the classes, brought to the average's space and interpolated linearly.

        Args:
            channels: float32 (C, classes): what each class is worth; class 0 is background.
            target: the grid of the result.
            working: the grid of the displacement.

        Returns:
            float32 (D, H, W, C).
        """
        values = np.ascontiguousarray(channels.T)[sitk.GetArrayViewFromImage(self.classes)]
        image = sitk.GetImageFromArray(values, isVector=True)
        image.CopyInformation(self.classes)
        transform = full_transform(self.affine, self.field, working)
        return sitk.GetArrayFromImage(sitk.Resample(image, target, transform, sitk.sitkLinear))


def read_brain(subject: Subject, upright: sitk.Image, rim: float = RIM_MM) -> LabelledBrain:
    """Read a label map and turn it to the picture `upright`."""
    assert subject.labels is not None
    labels = read_image(subject.labels)
    classes = to_classes(sitk.GetArrayFromImage(labels).astype(np.int64), subject.scheme)
    solid = some_brain(np.where(classes == OUTER_CSF, 0, classes).astype(np.uint8), subject.labels, subject.scheme)
    in_outline = in_tight_outline(cropped(like(solid, labels)), rim)
    picture = RENDERED_TISSUE[TISSUE_OF_CLASS[sitk.GetArrayViewFromImage(in_outline)]]
    drawn = sitk.SmoothingRecursiveGaussian(like(picture, in_outline), SMOOTHING_MM)
    pose = matrix_of(rigid_pose(in_outline, upright))
    return LabelledBrain(in_outline, drawn, pose, pose)


def in_tight_outline(solid: sitk.Image, rim: float = RIM_MM) -> sitk.Image:
    """Add the outer fluid that a tight brain mask has to label classes that have none.

    Some sources label the fluid up to the skull, some label none; theirs is left out and this takes its place: what
    fills the gaps of the brain's closed outline and a rim around it. The image grows by what that needs.
    """
    reach, back = ([max(1, round(mm / size)) for size in solid.GetSpacing()] for mm in (SULCUS_MM, SULCUS_MM - rim))
    margin = [voxels + 2 for voxels in reach]
    padded = sitk.ConstantPad(solid, margin, margin, 0)
    dilated = sitk.BinaryDilate(sitk.Greater(padded, 0), reach, sitk.sitkBall)
    outline = sitk.BinaryFillhole(sitk.BinaryErode(dilated, back, sitk.sitkBall))
    classes, inside = (sitk.GetArrayViewFromImage(image) for image in (padded, outline))
    return like(np.where((classes == 0) & (inside > 0), OUTER_CSF, classes).astype(np.uint8), padded)


def common_grid(brains: list[LabelledBrain], spacing: float) -> sitk.Image:
    """An empty image of identity direction that holds all brains in the average's space, with a margin."""
    corners = np.concatenate([_corners(brain) for brain in brains])
    low, high = corners.min(0) - MARGIN_MM, corners.max(0) + MARGIN_MM
    grid = sitk.Image((np.ceil((high - low) / spacing).astype(int) + 1).tolist(), sitk.sitkUInt8)
    grid.SetOrigin(low.tolist())
    grid.SetSpacing([spacing] * 3)
    return grid


def _corners(brain: LabelledBrain) -> npt.NDArray[np.float64]:
    """The lowest and the highest coordinates of a brain in the average's space, LPS mm (2, 3)."""
    index = np.argwhere(sitk.GetArrayViewFromImage(brain.classes) > 0)[::7, ::-1]
    matrix = np.array(brain.classes.GetDirection()).reshape(3, 3) * np.array(brain.classes.GetSpacing())
    points = index @ matrix.T + np.array(brain.classes.GetOrigin())
    back = np.linalg.inv(brain.affine)
    placed = points @ back[:3, :3].T + back[:3, 3]
    return np.array([placed.min(0), placed.max(0)])
