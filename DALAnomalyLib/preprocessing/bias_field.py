"""The smooth intensity drift of coils and patient (bias field), estimated by N4 and taken out.

N4: Tustison et al., N4ITK: Improved N3 Bias Correction, IEEE TMI 29 (2010). It sees the brain alone, on a coarse copy:
the field is smooth, and full resolution costs minutes without telling it apart any better.
"""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from DALAnomalyLib.errors import CancelledError, GeometryError, InputError
from DALAnomalyLib.memory import is_out_of_memory
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Volume

Box = tuple[slice, slice, slice]

MARGIN_MM = 5.0
"""How far the field reaches beyond the brain's box, so that a mask grown a little is still covered."""
ITERATIONS = (30, 30)
"""Upper bounds by level; from level to level the spline's knots get twice as dense. Two levels bend over half a brain:
the usual four bend over an eighth and take a tumour for bias (docs/preprocessing.md)."""
CONVERGENCE = 1e-3
_FEWEST_VOXELS = 8
"""Fewer brain voxels than this along an axis of the coarse copy say too little: the axis is shrunk less."""
_FLATTEST_LOG_RANGE = 1e-4
"""Where intensities differ by less, N4's histogram has no width and there is no drift to find."""


@dataclass(frozen=True, eq=False)
class BiasField:
    """A multiplicative drift: measured = true * exp(log_field).

    Attributes:
        log_field: float16 on `box`, unitless, mean 0 in the brain. The correction always starts from these rounded
            values, so that a stored field gives the same image as a fresh one (rounding moves intensities by 0.05 %).
        box: array slices (k, j, i) around the brain.
        strength: 95th minus 5th percentile of the log field in the brain; 0.1 means about 10 % of drift.
    """

    log_field: npt.NDArray[np.float16]
    box: Box
    strength: float

    def correct(self, volume: Volume) -> Volume:
        """Divide a scan by the field: float32 (D, H, W), unchanged outside the box.

        Args:
            volume: the scan that the field was estimated from, or another one on its grid.

        Raises:
            GeometryError: the field does not fit into the scan.
        """
        array = volume.array.astype(np.float32)
        if array[self.box].shape != self.log_field.shape:
            msg = f"the bias field lies on {self.box} but the scan is {volume.grid.shape}; estimate it from this scan"
            raise GeometryError(msg)
        array[self.box] *= np.exp(-self.log_field.astype(np.float32))
        return volume.with_array(array)


def estimate_bias_field(
    volume: Volume, brain: Volume, *, shrink: float = 4, cancel: CancelToken | None = None
) -> BiasField:
    """Estimate the drift inside the brain with N4.

    Args:
        volume: scan (D, H, W) in any intensity unit; voxels at or below 0 are left out.
        brain: mask on the scan's grid, above 0 inside.
        shrink: about the edge in mm of the voxels that the field is estimated on. Axes that are as coarse already
            (thick slices) stay as they are. 1 uses every voxel of a 1 mm scan, which takes minutes.
        cancel: looked at in every iteration.

    Raises:
        GeometryError: scan and mask lie on different grids.
        InputError: the mask is empty, or the scan is nowhere above 0 in it.
        CancelledError: `cancel` was turned on.
    """
    if not volume.grid.is_close(brain.grid):
        msg = f"the brain mask is on {brain.grid} but its scan on {volume.grid}; resample the mask to the scan"
        raise GeometryError(msg)
    (cancel or CancelToken()).raise_if_cancelled()
    box, steps = _box_and_steps(volume, brain, shrink)
    image = volume.array[box].astype(np.float32)
    inside = brain.array[box] > 0
    usable = inside & (image > 0)
    if not usable.any():
        msg = "no voxel of the brain mask is above 0 in the scan; check that mask and scan belong together"
        raise InputError(msg)
    log_field = _log_field(image, usable, steps, volume.grid.spacing[::-1], cancel or CancelToken())
    log_field -= log_field[inside].mean()
    rounded = log_field.astype(np.float16)
    low, high = np.percentile(rounded[inside].astype(np.float32), (5, 95))
    return BiasField(rounded, box, float(high - low))


def _box_and_steps(volume: Volume, brain: Volume, shrink: float) -> tuple[Box, tuple[int, int, int]]:
    """Slices around the brain, and how many voxels become one along (k, j, i)."""
    boxes = ndimage.find_objects((brain.array > 0).astype(np.uint8))
    if not boxes:
        msg = "the brain mask is empty; give a mask that is above 0 inside the brain"
        raise InputError(msg)
    sides, steps = [], []
    for side, spacing, size in zip(boxes[0], volume.grid.spacing[::-1], volume.grid.shape, strict=True):
        margin = int(np.ceil(MARGIN_MM / spacing))
        sides.append(slice(max(side.start - margin, 0), min(side.stop + margin, size)))
        most = max((side.stop - side.start) // _FEWEST_VOXELS, 1)
        steps.append(int(np.clip(round(shrink / spacing), 1, most)))
    return (sides[0], sides[1], sides[2]), (steps[0], steps[1], steps[2])


def _log_field(
    image: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
    steps: tuple[int, int, int],
    spacing: tuple[float, ...],
    cancel: CancelToken,
) -> npt.NDArray[np.float32]:
    """Float32 like `image`; its mean is arbitrary."""
    # Every n-th voxel, not averages: these would mix tissues, whose separate peaks in the histogram N4 sharpens.
    starts = [(size - 1) % step // 2 for size, step in zip(image.shape, steps, strict=True)]
    coarse = tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))
    mask = usable[coarse]
    values = image[coarse]
    if not mask.any() or np.ptp(np.log(values[mask])) < _FLATTEST_LOG_RANGE:
        return np.zeros(image.shape, np.float32)
    coarse_spacing = [step * size for step, size in zip(steps, spacing, strict=True)]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.SetConvergenceThreshold(CONVERGENCE)
    _execute(
        n4, _image(np.where(mask, values, 1), coarse_spacing), _image(mask.astype(np.uint8), coarse_spacing), cancel
    )
    # SimpleITK stretches the spline over the image it is given: from the first coarse voxel to the last, no farther.
    shape = [(size - 1) * step + 1 for size, step in zip(mask.shape, steps, strict=True)]
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(_image(np.zeros(shape, np.float32), spacing)))
    rims = [(start, full - start - size) for start, full, size in zip(starts, image.shape, shape, strict=True)]
    padded: npt.NDArray[np.float32] = np.pad(field, rims, mode="edge")
    return padded


def _image(array: npt.NDArray[Any], spacing: Any) -> Any:
    """SimpleITK image in a frame of its own: where the scan lies does not matter to its drift."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(size) for size in spacing[::-1]])
    return image


def _execute(n4: Any, image: Any, mask: Any, cancel: CancelToken) -> None:
    """Run N4, stopping at the next iteration once cancelled.

    N4 does not heed Abort(); an exception in the callback does stop it, but SimpleITK prints it first.
    """
    with contextlib.ExitStack() as silence:

        def stop_if_cancelled() -> None:
            if cancel.cancelled:
                silence.enter_context(contextlib.redirect_stderr(io.StringIO()))
                cancel.raise_if_cancelled()

        n4.AddCommand(sitk.sitkIterationEvent, stop_if_cancelled)
        try:
            n4.Execute(image, mask)
        except RuntimeError as error:
            if cancel.cancelled:
                msg = "the run was cancelled"
                raise CancelledError(msg) from None
            if is_out_of_memory(error):
                raise
            msg = f"N4 could not estimate the bias field ({str(error).splitlines()[-1]}); switch this step off"
            raise InputError(msg) from error
        finally:
            n4.RemoveAllCommands()
    cancel.raise_if_cancelled()
