"""Healthy scans and scans with lesions that no training has seen, for `dal-anomaly calibrate` and `evaluate`.

    python training/synthetic_cases.py PACK FOLDER --healthy 24 --lesions 24
    dal-anomaly calibrate FOLDER/healthy.csv -o NEW.dalmodel --source "24 generated subjects"
    dal-anomaly evaluate FOLDER/lesions.csv -o evaluation --model NEW.dalmodel

Every pair of scans, T1 and T2, is generated from a record that training holds out, which the column `subject` names,
stripped of its skull, with the effects of a scanner that training knows. The lesions are those of validation, every
kind in turn; each kind is a data set of its own. FOLDER must be new. What is generated from label maps need not look
like what a hospital scans: thresholds for real scans need real healthy scans.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyLib.errors import DALAnomalyError, InputError, UsageError
from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalyLib.volume_io import write_volume
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.imaging_effects import scan
from DALAnomalyTraining.generator.pair_generator import PairGenerator, Pictures
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.randomness import generator_for
from DALAnomalyTraining.synthetic_lesions import KINDS, insert_lesions
from DALAnomalyTraining.trainer import split_records

CPU = torch.device("cpu")
SEQUENCES = ("T1", "T2")
FINE = GridConfig(shape=(86, 106, 84), spacing=(2.0, 2.0, 2.0))
"""168 x 212 x 172 mm: the largest and most turned brains fit in."""
INTENSITY_SCALE = 400.0
COLUMNS = ("subject", "dataset", "sequence", "image", "lesion")


def held_out_subjects(pack: Pack, grid: GridConfig, seed: int) -> PairGenerator:
    """A generator of subjects that training never sees.

    Raises:
        InputError: the pack is so small that training holds nothing out.
    """
    training, held_out = split_records(pack.records)
    if any(record in training for record in held_out):
        msg = f"none of the pack's {len(pack.records)} subjects is held out from training; a pack needs ten for that"
        raise InputError(msg)
    return PairGenerator(pack, held_out, grid, SEQUENCES, GeneratorConfig(), CPU, seed)


def write_cases(pack: Pack, folder: Path, healthy: int, lesions: int, seed: int, grid: GridConfig = FINE) -> None:
    """Write scans, lesion masks and the tables healthy.csv and lesions.csv into a new folder, all or nothing.

    Args:
        pack: whose held-out records the subjects come from.
        folder: must be new or empty.
        healthy: how many healthy pairs.
        lesions: how many pairs with lesions.
        seed: another one gives other subjects.
        grid: the scans' own.

    Raises:
        UsageError: no subject is asked for.
        InputError: the pack holds nothing out.
        OutputError: the folder holds something already or cannot be written.
    """
    if min(healthy, lesions) < 0 or healthy + lesions == 0:
        msg = f"--healthy {healthy} and --lesions {lesions}; give at least one subject"
        raise UsageError(msg)
    pairs = held_out_subjects(pack, grid, seed)
    with result_folder(folder, ()) as partial:
        tables = (("healthy", healthy, _healthy_rows), ("lesions", lesions, _lesion_rows))
        for name, count, subjects in tables:
            with (partial / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
                table = csv.writer(stream)
                table.writerow(COLUMNS)
                for index in range(count):
                    table.writerows(subjects(pairs, partial, index))
                    print(f"{name} {index + 1}/{count}", flush=True)


def _healthy_rows(pairs: PairGenerator, folder: Path, index: int) -> Iterator[tuple[str, ...]]:
    generator = generator_for(CPU, pairs.seed, "synthetic cases", "healthy", index)
    pictures = pairs.pictures(generator)
    for sequence, image in _write_scans(pairs, pictures, folder, f"healthy{index:03d}", generator):
        yield pictures.record, "synthetic healthy", sequence, image, ""


def _lesion_rows(pairs: PairGenerator, folder: Path, index: int) -> Iterator[tuple[str, ...]]:
    name, kind = f"lesion{index:03d}", KINDS[index % len(KINDS)]
    generator = generator_for(CPU, pairs.seed, "synthetic cases", "lesions", index)
    lesioned = insert_lesions(pairs.pictures(generator), kind, tuple(reversed(pairs.grid.spacing)), generator)
    mask = f"{name}_lesion.nii.gz"
    _write(lesioned.lesion.numpy().astype(np.uint8), pairs.grid, folder / mask)
    for sequence, image in _write_scans(pairs, lesioned.pictures, folder, name, generator):
        yield lesioned.pictures.record, f"synthetic {kind.name}", sequence, image, mask


def _write_scans(
    pairs: PairGenerator, pictures: Pictures, folder: Path, name: str, generator: torch.Generator
) -> Iterator[tuple[str, str]]:
    """Sequence and file name of every scan of a subject."""
    spacing = tuple(reversed(pairs.grid.spacing))
    for sequence, picture in zip(pairs.sequences, pictures.images, strict=True):
        image = scan(picture, pictures.brain, spacing, pairs.config, generator) * INTENSITY_SCALE
        # 0 is outside the brain: that is how a stripped scan is recognised
        inside = np.where(pictures.brain.numpy() > 0, image.round().clamp_min(1).numpy(), 0)
        file = f"{name}_{sequence}.nii.gz"
        _write(inside.astype(np.int16), pairs.grid, folder / file)
        yield sequence, file


def _write(array: np.ndarray, grid: GridConfig, path: Path) -> None:
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(reversed(grid.shape), grid.spacing, strict=True))
    write_volume(Volume(array, Grid(grid.shape, grid.spacing, origin)), path)


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--healthy", type=int, default=24)
    parser.add_argument("--lesions", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        write_cases(Pack(arguments.pack), arguments.folder, arguments.healthy, arguments.lesions, arguments.seed)
    except DALAnomalyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
