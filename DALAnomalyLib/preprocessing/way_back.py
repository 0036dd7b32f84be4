"""From the model grid back to the scan's own: one interpolation per output, through one inverted chain.

Registration only changed the scan's header, so the chain is: interpolate at the voxels of the moved scan, then put the
axes back in their first order, which moves voxels and no values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from DALAnomalyLib.preprocessing.model_grid import from_model_grid
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import AnyArray, Volume


class WayBack:
    """Brings (1, 1, D, H, W) tensors on the model grid to the scan's grid as it was read."""

    def __init__(self, prepared: PreparedScan, cancel: CancelToken) -> None:
        """Prepare the way of one scan; `cancel` is looked at before each interpolation."""
        self._prepared = prepared
        self._cancel = cancel
        self._target = prepared.placed.moved.grid
        self._brain = prepared.placed.brain.array > 0
        self._weight = self._resampled(prepared.brain)

    def continuous(self, values: Tensor) -> Volume:
        """A map that may fade out at the brain's border, float32."""
        return self._original(np.where(self._brain, self._resampled(values), 0).astype(np.float32))

    def intensities(self, standard: Tensor) -> Volume:
        """Standard intensities in the scan's own units, float32, without a dark rim where brain meets background.

        The scan's bias field is put on again, so that the result compares with the scan as it was read.
        """
        in_scan_units = self._prepared.intensities.to_scan(standard) * self._prepared.brain
        summed = self._resampled(in_scan_units)
        array = np.divide(summed, self._weight, out=np.zeros_like(summed), where=self._brain & (self._weight > 0.01))
        return self._original((array * self._prepared.placed.gain).astype(np.float32))

    def labels(self, values: Tensor) -> Volume:
        """A label map, uint8, by the nearest voxel."""
        array = values[0, 0].cpu().numpy().astype(np.uint8)
        self._cancel.raise_if_cancelled()
        nearest = from_model_grid(array, self._prepared.grid, self._target, "nearest").array
        return self._original(nearest * self._brain)

    def _resampled(self, values: Tensor) -> npt.NDArray[np.float32]:
        array = values[0, 0].float().cpu().numpy()
        self._cancel.raise_if_cancelled()
        resampled: npt.NDArray[np.float32] = from_model_grid(array, self._prepared.grid, self._target, "linear").array
        return resampled

    def _original(self, array: AnyArray) -> Volume:
        return self._prepared.placed.as_read(array)
