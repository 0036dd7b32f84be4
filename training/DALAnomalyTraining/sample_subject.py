"""A synthetic subject for demonstrations: drawn from a group atlas, so that no real brain is copied."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.imaging_effects import scan
from DALAnomalyTraining.generator.pair_generator import PairGenerator
from DALAnomalyTraining.label_classes import COUNT
from DALAnomalyTraining.pack import Pack, PackWriter
from DALAnomalyTraining.randomness import generator_for, smooth_noise
from DALAnomalyTraining.synthetic_lesions import KINDS, insert_lesions

GRID = GridConfig(shape=(104, 128, 104), spacing=(1.5, 1.5, 1.5))
STILL = GeneratorConfig(
    semi_real_share=0,
    rotation_degrees=0,
    translation_mm=0,
    scaling=0,
    shearing=0,
    deformation_mm=0,
    centre_spread=0.3,
    class_contrast=0.0,
    thick_slice_chance=0,
    bias_field=0.05,
    noise=0.02,
    gamma=0,
    rim_mm=0,
)
"""An ordinary scan of an unmoved head."""
INDIVIDUALITY = 0.8
"""Strength of the noise that turns group probabilities into one brain, as log-odds."""
FOLD_MM = 7.0
"""Size of those changes: about the width of a fold of the cortex."""
INTENSITY_SCALE = 400.0


def make_sample(pack: Pack, folder: Path, seed: int) -> list[Path]:
    """Write sample_T1.nii.gz, sample_T2.nii.gz and sample_lesion.nii.gz into `folder`.

    Args:
        pack: Its label maps make the group atlas.
        folder: Where to write.
        seed: Which subject of those the atlas allows.
    """
    generator = generator_for(torch.device("cpu"), "sample", seed)
    classes = _draw_from_atlas(_group_atlas(pack), generator)
    with tempfile.TemporaryDirectory() as temporary:
        writer = PackWriter("one brain drawn from a group atlas", pack.priors)
        origin = (-(GRID.shape[2] - 1) / 2 * 1.5, -(GRID.shape[1] - 1) / 2 * 1.5, _top_row(classes) * -1.5)
        writer.add("sample", "labels", classes, {}, GRID.spacing, origin)
        writer.write(Path(temporary))
        drawn = Pack(Path(temporary))
        pairs = PairGenerator(drawn, drawn.records, GRID, ("T1", "T2"), STILL, torch.device("cpu"), seed)
        pictures = pairs.pictures(generator)
    lesioned = insert_lesions(pictures, KINDS[0], GRID.spacing, generator)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in zip(("T1", "T2"), lesioned.pictures.images, strict=True):
        image = scan(picture, lesioned.pictures.brain, GRID.spacing, STILL, generator) * INTENSITY_SCALE
        paths.append(_write(image.round().numpy().astype(np.int16), folder / f"sample_{name}.nii.gz"))
    paths.append(_write(lesioned.lesion.numpy().astype(np.uint8), folder / "sample_lesion.nii.gz"))
    return paths


def _group_atlas(pack: Pack) -> Tensor:
    """Share of subjects with each label class at every voxel, float32 (classes, D, H, W)."""
    records = [record for record in pack.records if record.source == "labels"]
    total = torch.zeros((COUNT, *GRID.shape))
    for record in records:
        alone = PairGenerator(pack, [record], GRID, ("T1", "T2"), STILL, torch.device("cpu"), 0)
        total += alone.fractions_in_frame(record).movedim(-1, 0)
    return total / len(records)


def _draw_from_atlas(atlas: Tensor, generator: torch.Generator) -> np.ndarray:
    """One plausible brain: the likeliest class after smooth random changes of the log-probabilities."""
    depth, height, width = (round(n * s / FOLD_MM) for n, s in zip(GRID.shape, GRID.spacing, strict=True))
    noise = smooth_noise(generator, GRID.shape, (depth, height, width), channels=COUNT)
    scores = (atlas + 1e-4).log() + INDIVIDUALITY * noise
    # the outline is the group's: noise belongs inside the brain
    drawn = 1 + scores[1:].argmax(dim=0)
    return torch.where(atlas[0] < 0.5, drawn, 0).numpy().astype(np.uint8)


def _top_row(classes: np.ndarray) -> int:
    return int(np.argwhere(classes > 0)[:, 0].max())


def _write(array: np.ndarray, path: Path) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GRID.spacing)
    image.SetOrigin([-(n - 1) / 2 * s for n, s in zip(reversed(GRID.shape), GRID.spacing, strict=True)])
    sitk.WriteImage(image, str(path), useCompression=True)
    return path
