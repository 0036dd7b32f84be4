"""Write the case list of the development data for `dal-anomaly evaluate`.

    python training/development_cases.py $DAL_DATA cases.csv

Lesions: five gliomas and one multiple sclerosis patient, T1 and T2. Healthy: one T1 and T2 pair, the IXI T1 scans that
the bundled model's training held out (with their masks, and once more as raw heads), and IXI scans it was trained on,
in a group of their own.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HELD_OUT = ("IXI014", "IXI131", "IXI216", "IXI296", "IXI445", "IXI565")
TRAINED_ON = ("IXI034", "IXI161", "IXI253", "IXI385")


def rows(data: Path) -> list[dict[str, str]]:
    """One row per scan, with absolute paths."""
    cases = []
    for lesion in sorted(data.glob("lesions/*/*_lesion.nii.gz")):
        for sequence in ("T1", "T2"):
            scan = lesion.with_name(lesion.name.replace("_lesion", f"_{sequence}"))
            cases.append(_row(lesion.name.removesuffix("_lesion.nii.gz"), lesion.parent.name, sequence, scan, lesion))
    for sequence in ("T1", "T2"):
        scan = data / "healthy_pair" / f"kirby113_{sequence}.nii.gz"
        cases.append(_row("kirby113", "Kirby healthy", sequence, scan))
    for dataset, names in (("IXI held out", HELD_OUT), ("IXI trained on", TRAINED_ON)):
        for name in names:
            folder = data / "ixi_t1_2mm"
            scan = folder / f"{name}_T1.nii.gz"
            cases.append(_row(name, dataset, "T1", scan, brain_mask=folder / f"{name}_labels.nii.gz"))
    for name in HELD_OUT:
        scan = data / "ixi_t1_2mm" / f"{name}_T1.nii.gz"
        cases.append(_row(name, "IXI held out, raw", "T1", scan))
    return cases


def _row(
    subject: str,
    dataset: str,
    sequence: str,
    image: Path,
    lesion: Path | None = None,
    brain_mask: Path | None = None,
) -> dict[str, str]:
    for path in (image, lesion, brain_mask):
        if path is not None and not path.exists():
            sys.exit(f"{path} does not exist; is the first argument the development data's folder?")
    return {
        "subject": subject,
        "dataset": dataset,
        "sequence": sequence,
        "image": str(image.resolve()),
        "lesion": str(lesion.resolve()) if lesion else "",
        "brain_mask": str(brain_mask.resolve()) if brain_mask else "",
    }


def main() -> None:
    """Write the CSV file named on the command line."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    cases = rows(Path(sys.argv[1]))
    with Path(sys.argv[2]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(cases[0]))
        writer.writeheader()
        writer.writerows(cases)
    print(f"{sys.argv[2]}: {len(cases)} scans")


if __name__ == "__main__":
    main()
