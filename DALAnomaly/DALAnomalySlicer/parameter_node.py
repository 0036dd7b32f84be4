"""Every choice of the panel, saved with the scene."""

# No `from __future__ import annotations`: the wrapper looks at the types themselves.

import enum
from typing import Annotated

from slicer import vtkMRMLDisplayableNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Sequence(enum.Enum):
    AUTO = "auto"
    T1 = "T1"
    T2 = "T2"

    def label(self) -> str:
        return _("Automatic") if self is Sequence.AUTO else self.value


class Mode(enum.Enum):
    FULL = "full"
    QUICK = "quick"

    def label(self) -> str:
        return {Mode.FULL: _("Full"), Mode.QUICK: _("Quick")}[self]


class OpacityMode(enum.Enum):
    CONSTANT = "constant"
    PROPORTIONAL = "proportional"

    def label(self) -> str:
        return {OpacityMode.CONSTANT: _("Constant"), OpacityMode.PROPORTIONAL: _("Grows with the score")}[self]


class ImageFormat(enum.Enum):
    NIFTI = ".nii.gz"
    NRRD = ".nrrd"

    def label(self) -> str:
        return {ImageFormat.NIFTI: "NIfTI", ImageFormat.NRRD: "NRRD"}[self]


@parameterNodeWrapper
class DALAnomalyParameterNode:
    """What the user chose.

    `brainMask` and `device` are tied to their widgets by hand: the mask is a segmentation or a label map, and which
    devices there are depends on the machine. At which threshold a result is looked at is kept with the result.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    brainMask: vtkMRMLDisplayableNode
    sequence: Sequence = Sequence.AUTO
    mode: Mode = Mode.FULL
    device: str = "auto"
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 1.0
    opacityMode: OpacityMode = OpacityMode.PROPORTIONAL
    imageFormat: ImageFormat = ImageFormat.NIFTI
