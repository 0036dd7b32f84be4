"""Write the case list of the development data for `dal-anomaly evaluate`.

    python training/development_cases.py $DAL_DATA cases.csv
    python training/development_cases.py $DAL_DATA further.csv --further-heads

Lesions: five gliomas and one multiple sclerosis patient, T1 and T2. Healthy: one T1 and T2 pair, the IXI T1 scans that
the bundled model's training held out (with their masks, and once more as raw heads), and IXI scans it was trained on,
in a group of their own. The further heads are all other raw IXI T1 scans but for those that the bundled model's
thresholds were calibrated on.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

HELD_OUT = ("IXI014", "IXI131", "IXI216", "IXI296", "IXI445", "IXI565")
TRAINED_ON = ("IXI034", "IXI161", "IXI253", "IXI385")

CALIBRATED_ON = (
    *("IXI067", "IXI104", "IXI165", "IXI205", "IXI256", "IXI277"),
    *("IXI338", "IXI438", "IXI483", "IXI525", "IXI577", "IXI611"),
)


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


def further_heads(data: Path) -> list[dict[str, str]]:
    """One row per raw head that training knew and that has no part in the thresholds."""
    scans = sorted((data / "ixi_t1_2mm").glob("*_T1.nii.gz"))
    subjects = {scan.name.removesuffix("_T1.nii.gz"): scan for scan in scans}
    return [
        _row(subject, "IXI trained on, raw", "T1", scan)
        for subject, scan in subjects.items()
        if subject not in HELD_OUT + CALIBRATED_ON
    ]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--further-heads", action="store_true", help="these instead")
    arguments = parser.parse_args()
    cases = (further_heads if arguments.further_heads else rows)(arguments.data)
    if not cases:
        sys.exit(f"{arguments.data} has no ixi_t1_2mm/*_T1.nii.gz; is it the development data's folder?")
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(cases[0]))
        writer.writeheader()
        writer.writerows(cases)
    print(f"{arguments.output}: {len(cases)} scans")


if __name__ == "__main__":
    main()
