"""Detects anomalies in every scan of a folder, in 3D Slicer without a window. Research use only, not for diagnosis.

    Slicer --no-splash --no-main-window --python-script batch_detect.py INPUT_FOLDER OUTPUT_FOLDER

Scans are the NIfTI, NRRD and MetaImage files that lie in INPUT_FOLDER itself. The results of each go into a folder of
OUTPUT_FOLDER that is named like the file; `summary.csv` there has one row per scan. A scan that fails keeps no other
from being done. The exit code is 0 only if none failed. After an interruption `--skip-existing` leaves out the scans
that the summary calls done, whatever they were searched with. PyTorch has to be installed (open the module once and
click Detect); for folders of DICOM files there is the command line, `dal-anomaly detect`.
"""

from __future__ import annotations

import argparse
import csv
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

import slicer
import slicer.util

from DALAnomaly import DALAnomalyLogic
from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.export.volumes import write_volumes
from DALAnomalySlicer.scan_volume import LPS_OF_RAS
from DALAnomalySlicer.scene_export import export_context

SUMMARY = "summary.csv"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Row:
    """One line of the summary; `volume_ml` is that of all findings together."""

    scan: str
    status: str
    sequence: str = ""
    findings: int | None = None
    volume_ml: float | None = None
    seconds: float = 0.0
    warnings: str = ""
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def main(arguments: Sequence[str]) -> int:
    """Work through a folder; returns the exit code."""
    options = parse(arguments)
    scans = scans_in(options.input)
    if not scans:
        print(f"{options.input}: holds no scan; give a folder of NIfTI, NRRD or MetaImage files", file=sys.stderr)
        return 2
    if options.input.resolve() == options.output.resolve():
        print(f"{options.output}: holds the scans themselves; choose another folder for the results", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    summary = options.output / SUMMARY
    try:
        before = rows_before(summary)
    except DALAnomalyError:
        print(f"{summary}: is no table of this script; move it away or choose another folder", file=sys.stderr)
        return 2
    done_before = [name for name, row in before.items() if options.skip_existing and row["status"] == DONE]
    waiting = [path for path in scans if shown(path.name) not in done_before]
    if len(waiting) < len(scans):
        print(f"{len(scans) - len(waiting)} of {len(scans)} scans were done before")
    failures, table, complete = 0, {}, True
    for row in rows(waiting, options):
        table[row.scan] = {name: "" if value is None else str(value) for name, value in asdict(row).items()}
        failures += row.status == FAILED
        say(f"{row.scan}: {row.error or f'{row.findings} findings, {row.volume_ml} ml'}")
        complete = keep(summary, table)  # what is done stays known whatever happens next
    complete = complete or keep(summary, table)
    print(f"{len(scans) - failures} of {len(scans)} scans done, see {summary if complete else 'above'}")
    return 1 if failures or not complete else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="batch_detect.py", description="Detect anomalies in every scan of a folder.")
    parser.add_argument("input", type=Path, metavar="INPUT_FOLDER")
    parser.add_argument("output", type=Path, metavar="OUTPUT_FOLDER")
    parser.add_argument("--sequence", choices=("auto", "T1", "T2"), default="auto")
    parser.add_argument("--mode", choices=("full", "quick"), default="full")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:<number>")
    parser.add_argument("--skip-existing", action="store_true", help="leave out the scans that are done")
    return parser.parse_args(arguments)


def keep(summary: Path, table: dict[str, dict[str, str]]) -> bool:
    """Put these rows among those of the summary, where another start may have written; whether that was possible."""
    try:
        write_summary(summary, (rows_before(summary) | table).values())
    except (OSError, DALAnomalyError) as error:  # open in a spreadsheet, say
        say(f"{summary}: cannot be written now ({error}), and lacks the last of the rows above", sys.stderr)
        return False
    return True


def rows_before(summary: Path) -> dict[str, dict[str, str]]:
    """The rows of an earlier start by scan, less those whose results are gone.

    Raises:
        InputError: another table lies there, which must not be replaced.
    """
    from DALAnomalyLib.job.csv_table import read_table

    if not summary.exists():
        return {}
    there = {shown(entry.parent.name) for entry in summary.parent.glob("*/manifest.json")}
    rows = [row.values for row in read_table(summary, COLUMNS)]
    return {row["scan"]: row for row in rows if row["status"] != DONE or row["scan"] in there}


def write_summary(summary: Path, table: Iterable[dict[str, str]]) -> None:
    """Replace the summary at once, so that it is never half written."""
    part = summary.with_name(f".{SUMMARY}.{secrets.token_hex(4)}")
    try:
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(sorted(table, key=lambda row: row["scan"]))
        part.replace(summary)
    finally:
        part.unlink(missing_ok=True)


def say(text: str, stream: TextIO | None = None) -> None:
    print(shown(text), file=stream or sys.stdout, flush=True)


def shown(text: str) -> str:
    """Text as it is printed, and read back from the summary; names of files need not be text."""
    return text.encode("utf-8", "backslashreplace").decode().strip()


def scans_in(folder: Path) -> list[Path]:
    from DALAnomalyLib.volume_io import READABLE_SUFFIXES

    return sorted(path for path in folder.glob("*") if path.name.lower().endswith(READABLE_SUFFIXES) and path.is_file())


def rows(scans: Sequence[Path], options: argparse.Namespace) -> Iterator[Row]:
    for path in scans:
        began = time.monotonic()
        try:
            found = detect(path, options)
        except DALAnomalyError as error:
            found = {"status": FAILED, "error": shown(str(error))}
        except Exception as error:  # whatever is wrong with this scan, the others want to be done
            found = {"status": FAILED, "error": shown(f"{type(error).__name__}: {error}")}
        finally:
            slicer.mrmlScene.Clear(False)  # a scan with its results takes up to a gigabyte
        yield Row(scan=shown(path.name), seconds=round(time.monotonic() - began, 1), **found)


def detect(path: Path, options: argparse.Namespace) -> dict[str, object]:
    """Detect, write the results, and return what is to be said of them."""
    scan = load_scan(path)
    detected = DALAnomalyLogic().process(scan, options.sequence, mode=options.mode, device=options.device)
    write_volumes(export_context(scan), options.output / path.name)
    return {
        "status": DONE,
        "sequence": detected.sequence,
        "findings": len(detected.rows),
        "volume_ml": round(sum(row.volume_ml for row in detected.rows), 3),
        "warnings": " | ".join(detected.warnings),
    }


def load_scan(path: Path) -> slicer.vtkMRMLScalarVolumeNode:
    """Read a scan as the command line does, which refuses files that are damaged: Slicer fills them up with zeros."""
    from DALAnomalyLib.volume_io import read_volume

    volume = read_volume(path)
    scan = slicer.util.addVolumeFromArray(volume.array, LPS_OF_RAS @ volume.grid.affine, path.name)
    scan.AddDefaultStorageNode()
    scan.GetStorageNode().SetFileName(str(path))  # beside which a sidecar may say what sequence it is
    return scan


if __name__ == "__main__":
    status = 1
    try:
        status = main(sys.argv[1:])
    finally:  # an error would leave Slicer running without a window
        slicer.util.exit(status)
