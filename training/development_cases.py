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
CALIBRATED_ON = frozenset(
    f"IXI{number}" for number in ("067", "104", "165", "205", "256", "277", "338", "438", "483", "525", "577", "611")
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
    heads = _ixi_heads(data)
    for dataset, names in (("IXI held out", HELD_OUT), ("IXI trained on", TRAINED_ON)):
        for name in names:
            mask = heads[name].with_name(f"{name}_labels.nii.gz")
            cases.append(_row(name, dataset, "T1", heads[name], brain_mask=mask))
    cases += [_row(name, "IXI held out, raw", "T1", heads[name]) for name in HELD_OUT]
    return cases


def further_heads(data: Path) -> list[dict[str, str]]:
    """One row per raw head that training knew and that has no part in the thresholds."""
    heads = _ixi_heads(data)
    names = sorted(heads.keys() - CALIBRATED_ON - set(HELD_OUT))
    return [_row(name, "IXI trained on, raw", "T1", heads[name]) for name in names]


def _ixi_heads(data: Path) -> dict[str, Path]:
    heads = {scan.name.removesuffix("_T1.nii.gz"): scan for scan in (data / "ixi_t1_2mm").glob("*_T1.nii.gz")}
    if missing := {*HELD_OUT, *TRAINED_ON} - heads.keys():
        sys.exit(f"{data}/ixi_t1_2mm has no T1 of {', '.join(sorted(missing))}; is it the development data's folder?")
    return heads


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
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(cases[0]))
        writer.writeheader()
        writer.writerows(cases)
    print(f"{arguments.output}: {len(cases)} scans")


if __name__ == "__main__":
    main()
