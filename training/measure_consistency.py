"""How much preprocessing changes the score of scans that are preprocessed already.

    python training/measure_consistency.py $DAL_DATA/lesions/glioma

For every NAME_T1.nii.gz and NAME_T2.nii.gz (skull-stripped, in the atlas' pose): the score with the whole chain against
the score with `--preprocessed`, inside the brain on the scan's own grid.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from DALAnomalyLib import Detector, read_volume
from DALAnomalyLib.configuration import PreprocessingConfig

VARIANTS = {
    "all steps": PreprocessingConfig(),
    "without N4": PreprocessingConfig(skip=("n4",)),
    "without registration": PreprocessingConfig(skip=("registration",)),
}


def main() -> None:
    """Print one row per scan and variant, and the means."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    detector = Detector.load()
    untouched = replace(VARIANTS["all steps"], skip=("brain_extraction", "n4", "registration"))
    rows = []
    print("| scan | variant | correlation of scores | Dice of findings |\n|---|---|---|---|")
    for path in sorted(Path(sys.argv[1]).glob("*_T[12].nii.gz")):
        scan = read_volume(path)
        before = detector.detect(scan, preprocessing=untouched)
        inside = before.brain_mask.array > 0
        for name, config in VARIANTS.items():
            after = detector.detect(scan, preprocessing=config)
            alike = float(np.corrcoef(before.score.array[inside], after.score.array[inside])[0, 1])
            first, second = (found.findings_mask.array > 0 for found in (before, after))
            total = np.count_nonzero(first) + np.count_nonzero(second)
            dice = 2 * np.count_nonzero(first & second) / total if total else 1.0
            rows.append((name, alike, dice))
            print(f"| {path.name} | {name} | {alike:.3f} | {dice:.3f} |", flush=True)
    for name in VARIANTS:
        values = np.array([row[1:] for row in rows if row[0] == name])
        print(f"| mean of {len(values)} | {name} | {values[:, 0].mean():.3f} | {values[:, 1].mean():.3f} |")


if __name__ == "__main__":
    main()
