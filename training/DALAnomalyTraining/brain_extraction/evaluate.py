"""How well the brain extraction network does on heads that it has not seen, real and synthetic."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyLib.network.brain_extractor_file import LoadedExtractor
from DALAnomalyLib.preprocessing.brain_extraction import extract_brain
from DALAnomalyLib.volume import AnyArray, Grid, Volume
from DALAnomalyLib.volume_io import read_volume
from DALAnomalyTraining.brain_extraction.head_generator import HeadConfig, random_head
from DALAnomalyTraining.brain_extraction.head_labels import CONTRASTS
from DALAnomalyTraining.brain_extraction.head_pack import (
    HELD_OUT_LABEL_MAPS,
    SPACING_MM,
    head_of_label_map,
    is_held_out,
    labels_of,
    real_heads,
    whole_head_maps,
)
from DALAnomalyTraining.randomness import generator_for

Row = tuple[str, str, float]
"""Kind of head, name, Dice."""
ORDINARY = HeadConfig(
    rotation_degrees=10,
    scaling=0.05,
    translation_mm=5,
    deformation_mm=0,
    lesion_chance=0,
    coarse_chance=0,
    bias_field=0.2,
    noise=0.04,
    cut_chance=0,
    stripped_chance=0,
    realistic_chance=1,
)
"""A whole head on an ordinary scanner; the kinds below change one thing each."""
KINDS = {
    **{name: replace(ORDINARY, contrasts=(name,)) for name in CONTRASTS},
    "random contrast": replace(ORDINARY, realistic_chance=0),
    "T2, slices up to 6 mm": replace(ORDINARY, contrasts=("T2",), coarse_chance=1, coarsest_mm=6),
    "T1 with lesions": replace(ORDINARY, contrasts=("T1",), lesion_chance=1),
    "T2 with lesions": replace(ORDINARY, contrasts=("T2",), lesion_chance=1),
    "stripped": replace(ORDINARY, stripped_chance=1),
}
REPEATS = 3


def evaluate(label_maps: Path, scans: Path, extractor: LoadedExtractor, table: Path) -> list[Row]:
    """Measure on everything that was held out, and write `table` (kind, name, Dice)."""
    rows = [*_real(scans, extractor), *_synthetic(label_maps, extractor)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "head", "dice"))
        writer.writerows((kind, name, f"{value:.4f}") for kind, name, value in rows)
    return rows


def summary(rows: list[Row]) -> str:
    """Mean and worst Dice of every kind, as a Markdown table."""
    lines = ["| heads | n | mean Dice | worst |", "|---|---|---|---|"]
    for kind in dict.fromkeys(row[0] for row in rows):
        values = [row[2] for row in rows if row[0] == kind]
        lines.append(f"| {kind} | {len(values)} | {np.mean(values):.3f} | {min(values):.3f} |")
    return "\n".join(lines)


def _real(scans: Path, extractor: LoadedExtractor) -> Iterator[Row]:
    for position, path in enumerate(real_heads(scans)):
        if is_held_out(position):
            scan = read_volume(path)
            labels = sitk.GetArrayFromImage(sitk.ReadImage(str(labels_of(path))))
            brain = ndimage.binary_fill_holes(labels > 0)
            yield "real T1 (IXI, labels > 0)", path.name, _dice_on(scan, brain, extractor)


def _synthetic(label_maps: Path, extractor: LoadedExtractor) -> Iterator[Row]:
    for path in whole_head_maps(label_maps)[-HELD_OUT_LABEL_MAPS:]:
        head = head_of_label_map(path)
        for kind, config in KINDS.items():
            for repeat in range(REPEATS):
                generator = generator_for(torch.device("cpu"), "evaluate", path.name, kind, repeat)
                example = random_head(head, config, generator)
                grid = Grid(config.shape, (SPACING_MM,) * 3)
                value = _dice_on(Volume(example.image.numpy(), grid), example.brain.numpy() >= 0.5, extractor)
                yield f"synthetic {kind}", path.name, value


def _dice_on(scan: Volume, truth: AnyArray, extractor: LoadedExtractor) -> float:
    try:
        found = extract_brain(scan, extractor).array > 0
    except DALAnomalyError:
        return 0.0
    return float(2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)))
