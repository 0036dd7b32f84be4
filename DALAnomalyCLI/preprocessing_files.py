"""The files that show what preprocessing made of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector
    from DALAnomalyLib.preprocessing.pipeline import PreparedScan
    from DALAnomalyLib.volume import Volume

QUALITY_FILE = "qc.png"
INTERMEDIATE_FILES = (
    "corrected.nii.gz",
    "model_input.nii.gz",
    "atlas_space.nii.gz",
    "atlas_space_brain_mask.nii.gz",
    "atlas_to_scan.tfm",
)


def write_quality_file(path: Path, prepared: PreparedScan, detector: Detector, name: str) -> None:
    """Draw the picture: the brain's outline, the scan against the atlas, intensities before and after."""
    from DALAnomalyCLI.quality_picture import QualityPicture, write_quality_picture

    placed = prepared.placed
    inside = prepared.brain > 0
    images = detector.equipment.atlas().images if placed.in_atlas else {}
    atlas_image = images.get(prepared.sequence, images.get("T1"))  # the one it was registered to
    lines = tuple(
        f"{step.name.replace('_', ' ')} ({step.status}, {step.seconds:.1f} s): {step.evidence or 'no remarks'}"
        for step in prepared.steps
    )
    picture = QualityPicture(
        name=name,
        scan=placed.scan,
        corrected=placed.corrected,
        brain=placed.brain,
        moved_scan=placed.moved if placed.in_atlas else None,
        atlas_image=atlas_image,
        before=prepared.raw[inside].cpu().numpy(),
        after=prepared.image[inside].cpu().numpy(),
        lines=lines,
        warnings=prepared.warnings,
    )
    write_quality_picture(path, picture)


def write_intermediate(folder: Path, prepared: PreparedScan, detector: Detector) -> None:
    """Write what lies between the scan and the network.

    The bias-corrected scan on its own grid; what the network is given, on the model grid; and, where the scan could be
    registered, the standardised brain on the atlas' grid with the transform that leads there.
    """
    from DALAnomalyLib.volume import Volume
    from DALAnomalyLib.volume_io import write_volume

    placed = prepared.placed
    write_volume(placed.as_read(placed.corrected.array), folder / "corrected.nii.gz")
    model_input = Volume(prepared.image[0, 0].cpu().numpy(), prepared.grid)
    write_volume(model_input, folder / "model_input.nii.gz")
    if placed.in_atlas:
        image, mask = _in_atlas(prepared, detector)
        write_volume(image, folder / "atlas_space.nii.gz")
        write_volume(mask, folder / "atlas_space_brain_mask.nii.gz")
        _write_transform(prepared, folder / "atlas_to_scan.tfm")


def _in_atlas(prepared: PreparedScan, detector: Detector) -> tuple[Volume, Volume]:
    """The brain on the atlas' grid in one interpolation, standardised, and its mask."""
    import torch

    from DALAnomalyLib.preprocessing.model_grid import to_model_grid
    from DALAnomalyLib.volume import Volume

    grid = detector.equipment.atlas().brain_mask.grid
    array, mask = to_model_grid(prepared.placed.moved, prepared.placed.moved_brain, grid)
    moved = torch.from_numpy(array).to(prepared.raw.device)  # where the landmarks are
    standard = prepared.intensities.to_standard(moved).clamp(0, 1).cpu().numpy() * mask
    return Volume(standard.astype(np.float32), grid), Volume(mask, grid)


def _write_transform(prepared: PreparedScan, path: Path) -> None:
    """As ITK has it: points of the atlas (the output of resampling) to points of the scan, LPS mm."""
    import SimpleITK as sitk

    back = prepared.placed.to_atlas.inverse()
    transform = sitk.VersorRigid3DTransform()
    transform.SetMatrix(list(back.rotation), 1e-5)
    transform.SetTranslation(list(back.translation))
    sitk.WriteTransform(transform, str(path))
