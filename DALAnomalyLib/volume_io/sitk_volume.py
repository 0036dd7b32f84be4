"""Volumes to SimpleITK images and back."""

# SimpleITK carries no type information.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.volume import Grid, Volume


def to_sitk(volume: Volume) -> Any:
    """Copy a volume into a SimpleITK image; booleans become uint8."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction)
    return image


def from_sitk(image: Any) -> Volume:
    """Copy a 3D scalar SimpleITK image, keeping its pixel type.

    Raises:
        GeometryError: its direction is not orthonormal.
    """
    width, height, depth = image.GetSize()
    grid = Grid((depth, height, width), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(sitk.GetArrayFromImage(image), grid)
