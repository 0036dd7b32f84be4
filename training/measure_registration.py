"""How reliably scans are registered to the atlas, whatever pose their header gives.

    python training/measure_registration.py $DAL_DATA registration.csv --trials 20

Five scans per sequence. Each is registered as it is, then in random poses made by moving its header (up to 45 degrees
about a random axis, up to 60 mm). Afterwards both answers should take the brain to the same place: `error_mm` is the
mean distance of its voxels. Greedy does the first `--greedy` trials of each scan beside SimpleITK. At the end the
figures of quality control are computed in deliberately wrong poses, 25 to 60 degrees off.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from DALAnomalyLib.preprocessing.atlas import Atlas, load_atlas
from DALAnomalyLib.preprocessing.brain_copy import copy_brain
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.registration import MIDDLE_MM, register_rigidly
from DALAnomalyLib.preprocessing.registration_quality import LEAST_OVERLAP, LEAST_SIMILARITY, brain_overlap, similarity
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Points, Volume
from DALAnomalyLib.volume_io import read_volume

SCANS = {
    "T1": (
        "healthy_pair/kirby113_T1",
        "lesions/ms/mslub26_T1",
        "ixi_t1_2mm/IXI014_T1",
        "lesions/glioma/TCIA01_378_1_T1",
        "lesions/glioma/TCIA13_623_1_T1",
    ),
    "T2": (
        "healthy_pair/kirby113_T2",
        "lesions/ms/mslub26_T2",
        "lesions/glioma/TCIA01_378_1_T2",
        "lesions/glioma/TCIA10_628_1_T2",
        "lesions/glioma/TCIA13_623_1_T2",
    ),
}
FIELDS = ("sequence", "scan", "kind", "trial", "error_mm", "similarity", "overlap", "accepted", "starts", "seconds")
CLOSE_MM = 2.0


def main() -> None:
    """Write the CSV file as the trials go, and print what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=20, help="random poses per scan")
    parser.add_argument("--greedy", type=int, default=0, help="so many of them with Greedy as well")
    parser.add_argument("--atlas", type=Path, help="folder of another atlas, such as SRI24; default: the shipped one")
    parser.add_argument("--sequence", choices=SCANS, help="only this one")
    arguments = parser.parse_args()
    atlas, rows = load_atlas(arguments.atlas), []
    print(f"atlas: {atlas.name}")
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for sequence in [arguments.sequence] if arguments.sequence else SCANS:
            for name in SCANS[sequence]:
                for row in measure(atlas, sequence, arguments.data / name, arguments.trials, arguments.greedy):
                    writer.writerow(row)
                    file.flush()
                    rows.append(row)
            report(sequence, [row for row in rows if row["sequence"] == sequence])


def measure(atlas: Atlas, sequence: str, path: Path, trials: int, greedy_trials: int) -> Iterator[dict[str, object]]:
    """All trials with one scan, one row each; the seconds are of one processor."""
    image, brain = load(path)
    points = image.grid.index_to_physical(np.argwhere(brain.array)[::50])
    rng = np.random.default_rng(sum(path.name.encode()))
    for backend in ("simpleitk", "greedy")[: 2 if greedy_trials else 1]:
        reference = None
        for trial in range((trials if backend == "simpleitk" else greedy_trials) + 1):
            moved = random_motion(rng, points.mean(axis=0), (0, 45), 60) if trial else RigidTransform()
            start = time.process_time()
            result = register_rigidly(
                moved.move(image),
                moved.move(brain),
                atlas.images[sequence],
                atlas.brain_mask,
                backend=backend,
            )
            seconds = time.process_time() - start
            corrected = result.transform.after(moved)
            reference = reference or corrected
            error = distance(corrected, reference, points)
            row = (sequence, path.name, backend, trial, f"{error:.3f}", f"{result.similarity:.3f}")
            row += (f"{result.brain_overlap:.3f}", result.accepted, result.starts, f"{seconds:.2f}")
            yield dict(zip(FIELDS, row, strict=True))
        if backend == "simpleitk":
            right = reference
        else:
            print(f"{path.name}: Greedy and SimpleITK are {distance(reference, right, points):.2f} mm apart")
    yield from wrong_poses(atlas, sequence, path, image, brain, right, rng)


def wrong_poses(
    atlas: Atlas,
    sequence: str,
    path: Path,
    image: Volume,
    brain: Volume,
    right: RigidTransform,
    rng: np.random.Generator,
) -> Iterator[dict[str, object]]:
    """What quality control sees in twenty poses that are wrong for sure."""
    scan = copy_brain(image, brain, MIDDLE_MM)
    target = copy_brain(atlas.images[sequence], atlas.brain_mask, MIDDLE_MM)
    for trial in range(20):
        wrong = right.after(random_motion(rng, scan.centroid, (25, 60), 10))
        alike, overlap = similarity(scan, target, wrong), brain_overlap(scan, target, wrong)
        accepted = alike >= LEAST_SIMILARITY and overlap >= LEAST_OVERLAP
        row = (sequence, path.name, "wrong pose", trial, "", f"{alike:.3f}", f"{overlap:.3f}", accepted, 0, "")
        yield dict(zip(FIELDS, row, strict=True))


def load(path: Path) -> tuple[Volume, Volume]:
    """Scan and brain mask; raw IXI heads have one in their labels, the others are stripped."""
    image = read_volume(path.with_name(f"{path.name}.nii.gz"))
    if path.name.startswith("IXI"):
        labels = read_volume(path.with_name(path.name.replace("_T1", "_labels") + ".nii.gz"))
        return image, labels.with_array((labels.array > 0).astype(np.uint8))
    return image, foreground_mask(image)


def random_motion(rng: np.random.Generator, centre: Points, degrees: tuple[float, float], mm: float) -> RigidTransform:
    """A rotation about a random axis through `centre` and a shift of at most `mm`."""
    axis, shift = rng.normal(size=(2, 3))
    angle = np.radians(rng.uniform(*degrees))
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    shift *= rng.uniform(0, mm) / np.linalg.norm(shift)
    return RigidTransform.from_matrix(rotation, centre - rotation @ centre + shift)


def distance(first: RigidTransform, second: RigidTransform, points: Points) -> float:
    """Mean distance in mm between where both take the points."""
    return float(np.linalg.norm(first.apply(points) - second.apply(points), axis=-1).mean())


def report(sequence: str, rows: list[dict[str, object]]) -> None:
    """Print the figures of one sequence."""
    for backend in ("simpleitk", "greedy"):
        done = [row for row in rows if row["kind"] == backend]
        trials = [row for row in done if row["trial"]]
        if not trials:
            continue
        errors = np.array([float(str(row["error_mm"])) for row in trials])
        far = [row for row in trials if float(str(row["error_mm"])) > CLOSE_MM]
        accepted, fooled = (sum(bool(row["accepted"]) for row in group) for group in (done, far))
        seconds = np.median([float(str(row["seconds"])) for row in done])
        print(
            f"{sequence} {backend}: {np.count_nonzero(errors <= CLOSE_MM)} of {len(errors)} within {CLOSE_MM:.0f} mm, "
            f"median {np.median(errors):.2f}, worst {errors.max():.2f} mm; {accepted} of {len(done)} accepted, "
            f"of the far ones {fooled} of {len(far)}; {seconds:.1f} s of one core"
        )
    for kind in ("simpleitk", "wrong pose"):
        group = [row for row in rows if row["kind"] == kind]
        for figure in ("similarity", "overlap"):
            values = [float(str(row[figure])) for row in group]
            print(f"{sequence} {kind}: {figure} {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
