"""Small copies of a brain, which registration works on instead of the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from DALAnomalyLib.errors import GeometryError
from DALAnomalyLib.preprocessing.model_grid import to_model_grid
from DALAnomalyLib.volume import Grid, Points, Volume

Likeness = Literal["mutual information", "correlation"]
"""What a refinement of the pose maximises; the first reaches further, the second is the more exact."""

RIM_MM = 8.0
"""How far around the brain the empty background is compared as well: it holds the brain's outline."""
MARGIN_MM = 16.0
"""Empty space around the brain's box."""
LOCAL_MM = 16.0
"""Width (sigma) of the neighbourhood whose mean is taken away."""


@dataclass(frozen=True, eq=False)
class BrainCopy:
    """A brain alone, on a coarse grid of cubic voxels along the scan's own axes.

    Because it follows the scan's axes, a scan whose header was moved gives the same voxels.

    Attributes:
        image: float32 (D, H, W), the brain's details, -1 to 1, 0 outside: each voxel's rank among the brain's
            intensities (0 to 1) less the mean rank nearby. Ranks keep fluid, vessels and lesions from outweighing all
            else; without the local mean neither the outline nor a bias field makes wrong poses look alike.
        brain: bool (D, H, W).
        compared: bool (D, H, W), the brain and a rim around it as far as the scanner saw: beyond the end of a slab the
            brain goes on, unseen.
        grid: of the three arrays.
        field: the scan's grid, which is what the scanner saw.
    """

    image: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    compared: npt.NDArray[np.bool_]
    grid: Grid
    field: Grid

    @property
    def centroid(self) -> Points:
        """Float64 (3,), LPS mm of the brain's centre of mass."""
        return self.grid.index_to_physical(np.argwhere(self.brain).mean(axis=0))

    @property
    def millilitres(self) -> float:
        """Volume of the brain."""
        return float(np.count_nonzero(self.brain)) * self.grid.voxel_volume_ml

    def coarser(self, spacing: float) -> BrainCopy:
        """The same brain with voxels of `spacing` mm."""
        return _resampled(Volume(self.image, self.grid), Volume(self.brain, self.grid), spacing, self.field)


def copy_brain(image: Volume, brain: Volume, spacing: float) -> BrainCopy:
    """Copy the brain out of a scan.

    Args:
        image: scan (D, H, W), with or without its skull, in any intensity unit.
        brain: nonzero inside the brain, on the scan's grid.
        spacing: edge of the copy's voxels in mm.

    Raises:
        GeometryError: scan and mask lie on different grids.
        InputError: the mask is empty.
    """
    if not image.grid.is_close(brain.grid):
        msg = f"the brain mask is on {brain.grid} but its scan on {image.grid}; resample the mask to the scan"
        raise GeometryError(msg)
    shrunk = _resampled(*_block_means(image, brain, spacing), spacing, image.grid)
    return replace(shrunk, image=_details(shrunk.image, shrunk.brain, LOCAL_MM / spacing))


def _details(image: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_], sigma: float) -> npt.NDArray[np.float32]:
    ranks = np.zeros_like(image)
    ranks[brain] = stats.rankdata(image[brain]) / np.count_nonzero(brain)  # equal intensities get equal ranks
    total, weight = (
        ndimage.gaussian_filter(array, sigma, mode="constant", truncate=2)
        for array in (ranks, brain.astype(np.float32))
    )
    details: npt.NDArray[np.float32] = (ranks - total / np.maximum(weight, 1e-6)) * brain
    return details


def within(field: Grid, points: Points) -> npt.NDArray[np.bool_]:
    """Which LPS points (..., 3) lie inside the voxels of a grid."""
    indices = field.physical_to_index(points)
    inside: npt.NDArray[np.bool_] = np.all((indices > -0.5) & (indices < np.array(field.shape) - 0.5), axis=-1)
    return inside


def _resampled(image: Volume, brain: Volume, spacing: float, field: Grid) -> BrainCopy:
    grid = _grid_around(brain, spacing)
    array, mask = to_model_grid(image, brain, grid)
    inside = mask > 0
    near = ndimage.distance_transform_edt(~inside, sampling=spacing) <= max(RIM_MM, spacing)
    compared = np.zeros_like(inside)
    compared[near] = within(field, grid.index_to_physical(np.argwhere(near)))
    return BrainCopy(array, inside, compared, grid, field)


def _grid_around(brain: Volume, spacing: float) -> Grid:
    """Cubic voxels along the axes of `brain`, around its box and a margin."""
    (box,) = ndimage.find_objects((brain.array > 0).astype(np.uint8)) or ((slice(0, 1),) * 3,)
    start, stop = (np.array([getattr(side, end) for side in box]) for end in ("start", "stop"))
    size_mm = (stop - start) * np.array(brain.grid.spacing)[::-1] + 2 * MARGIN_MM
    depth, height, width = (int(count) for count in np.ceil(size_mm / spacing))
    centre = brain.grid.index_to_physical((start + stop - 1) / 2)
    half = Grid((depth, height, width), (spacing,) * 3, direction=brain.grid.direction)
    x, y, z = (float(v) for v in centre - half.index_to_physical((np.array(half.shape) - 1) / 2))
    return Grid(half.shape, half.spacing, (x, y, z), half.direction)


def _block_means(image: Volume, brain: Volume, spacing: float) -> tuple[Volume, Volume]:
    """Average whole blocks of fine voxels inside the brain's box: far cheaper than smoothing millions of them."""
    blocks = [max(1, int(spacing / (2 * size))) for size in reversed(image.grid.spacing)]
    boxes = ndimage.find_objects((brain.array > 0).astype(np.uint8))
    if not boxes or max(blocks) == 1:
        return image, brain
    box = boxes[0]
    weight = (brain.array[box] > 0).astype(np.float32)
    means = []
    for array in (image.array[box] * weight, weight):
        padded = np.pad(array, [(0, -size % block) for size, block in zip(array.shape, blocks, strict=True)])
        (a, b, c), (d, e, f) = blocks, (s // n for s, n in zip(padded.shape, blocks, strict=True))
        means.append(padded.reshape(d, a, e, b, f, c).mean(axis=(1, 3, 5)))
    array, share = means
    x, y, z = (
        float(v)
        for v in image.grid.index_to_physical([s.start + (n - 1) / 2 for s, n in zip(box, blocks, strict=True)])
    )
    i, j, k = (size * block for size, block in zip(image.grid.spacing, reversed(blocks), strict=True))
    grid = Grid(share.shape, (i, j, k), (x, y, z), image.grid.direction)
    inside = share >= 0.5
    np.divide(array, share, out=array, where=inside)
    return Volume(array, grid), Volume(inside.astype(np.uint8), grid)
