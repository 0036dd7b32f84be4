"""Time of every step from a raw scan to the result, and peak memory, on this machine.

    python training/benchmark_preprocessing.py SCAN [--isotropic] [--compare]

`--isotropic` first resamples the scan to 256 x 256 x 256 voxels of 1 mm. `--compare` also runs, in the same process, N4
on unshrunk voxels and registration by Greedy (package picsl-greedy), and prints their times as ratios.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from DALAnomalyLib import Detector, read_volume
from DALAnomalyLib.preprocessing.bias_field import estimate_bias_field
from DALAnomalyLib.preprocessing.registration import register_rigidly
from DALAnomalyLib.preprocessing.resampling import resample
from DALAnomalyLib.volume import Grid, Volume


def isotropic(volume: Volume) -> Volume:
    """The scan on 256 x 256 x 256 voxels of 1 mm around its centre, axes as in the world."""
    centre = volume.grid.index_to_physical((np.array(volume.grid.shape) - 1) / 2)
    x, y, z = (float(value) for value in centre - 127.5)
    grid = Grid((256, 256, 256), (1.0, 1.0, 1.0), (x, y, z))
    return Volume(resample(volume.array, volume.grid, grid, "linear"), grid)


def main() -> None:
    """Print a Markdown table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--isotropic", action="store_true")
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    began = time.perf_counter()
    volume = read_volume(arguments.scan)
    detector = Detector.load()
    ready = time.perf_counter()
    if arguments.isotropic:
        volume = isotropic(volume)
    started, processor = time.perf_counter(), time.process_time()
    detection = detector.detect(volume)
    took, busy = time.perf_counter() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{arguments.scan.name}, {volume.grid.shape[::-1]} voxels; reading and loading took {ready - began:.1f} s")
    print("| stage | seconds |\n|---|---|")
    for name, seconds in detection.provenance["seconds"].items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| all | {took:.1f} |")
    print(f"processor time {busy:.1f} s, peak memory {peak:.2f} GiB")
    if arguments.compare:
        _compare(detector, detection)


def _compare(detector: Detector, detection: object) -> None:
    prepared = detection.prepared  # type: ignore[attr-defined]
    placed, atlas = prepared.placed, detector.equipment.atlas()
    image, mask = atlas.images[prepared.sequence], atlas.brain_mask
    ours = _seconds(lambda: estimate_bias_field(placed.scan, placed.brain))
    unshrunk = _seconds(lambda: estimate_bias_field(placed.scan, placed.brain, shrink=1))
    print(f"N4: {ours:.1f} s, unshrunk {unshrunk:.1f} s ({unshrunk / ours:.1f} times)")
    times = {}
    for backend in ("simpleitk", "greedy"):
        times[backend] = _seconds(
            lambda backend=backend: register_rigidly(placed.corrected, placed.brain, image, mask, backend=backend)
        )
    print(f"registration: SimpleITK {times['simpleitk']:.1f} s, Greedy {times['greedy']:.1f} s")


def _seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
