"""How often a scan is said not to look like those of training: rightly, of altered scans, and wrongly.

    python training/measure_out_of_distribution.py cases.csv out.csv [--model MODEL] [--keep FOLDER] [--whole-chain N]

The cases are those of `training/development_cases.py`. Every scan is prepared once by the whole chain, with its
sequence named; alterations are made of its brain on the model grid, before standardisation. With `--whole-chain N` the
first N scans (T1 and T2 by turns) are altered on their own grid as well, and go through the whole chain again: so that
one can see whether that comes to the same, and what the checks of preprocessing add to it. `--only` names alterations,
in the place of all; `--keep` is a folder for prepared scans between runs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import pickle
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from DALAnomalyLib import Detector, Volume, read_volume
from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyLib.model_store import Model, load_model
from DALAnomalyLib.network.one_hot import class_index
from DALAnomalyLib.out_of_distribution import Verdict, judge
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.intensity_standardisation import intensity_map
from DALAnomalyLib.preprocessing.model_grid import to_model_grid
from DALAnomalyLib.preprocessing.pipeline import PreparedScan
from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.preprocessing.way_back import WayBack
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.scan_figures import scan_figures
from DALAnomalyTraining.altered_scans import ALTERATIONS, KnownScan

HALF = 0.5


@dataclass(frozen=True)
class Case:
    """One scan of the list, prepared."""

    row: dict[str, str]
    prepared: PreparedScan
    lesion: np.ndarray | None
    """Bool, on the scan's own grid."""


@dataclass(frozen=True)
class Trial:
    """One alteration of one scan and what was said about it."""

    row: dict[str, str]
    alteration: str
    taken_for: str
    chain: str
    verdict: Verdict
    others: tuple[str, ...] = ()
    """Warnings of preprocessing that the scan itself does not get."""

    @property
    def is_warned_of(self) -> bool:
        """Whether the user would be told."""
        return self.verdict.warning is not None or bool(self.others)

    @property
    def group(self) -> str:
        """Health and sequence of the scan before its alteration."""
        return f"{'lesioned' if self.row['lesion'] else 'healthy'} {self.row['sequence']}"

    def as_row(self) -> dict[str, str | float | None]:
        """For the table."""
        warnings = " | ".join((*filter(None, [self.verdict.warning]), *self.others))
        values = {name: figure["value"] for name, figure in self.verdict.record.items()}
        said = {"chain": self.chain, "warned": int(self.is_warned_of)}
        what = {"alteration": self.alteration, "taken for": self.taken_for}
        case = {name: self.row[name] for name in ("subject", "dataset", "sequence")}
        return case | what | said | values | {"warning": warnings}


def other(sequence: str) -> str:
    """T1 or T2."""
    return "T2" if sequence == "T1" else "T1"


def prepared_case(row: dict[str, str], detector: Detector, keep: Path | None) -> Case:
    """Prepare a scan, or find it as an earlier run has left it."""
    name = re.sub(r"[ ,]+", "_", f"{row['dataset']} {row['subject']} {row['sequence']}")
    # another image or model of the same name is another scan
    digest = hashlib.sha256(f"{row} {detector.digest}".encode()).hexdigest()[:8]
    kept = keep / f"{name}_{digest}.pkl" if keep else None
    if kept is not None and kept.exists():
        with kept.open("rb") as file:
            _, prepared, lesion = pickle.load(file)
        return Case(row, prepared, lesion)
    mask = read_volume(Path(row["brain_mask"])) if row["brain_mask"] else None
    prepared = detector.prepare(ScanRequest(read_volume(Path(row["image"])), row["sequence"], mask))
    lesion = read_volume(Path(row["lesion"])).array > 0 if row["lesion"] else None
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("wb") as file:
            pickle.dump((row, prepared, lesion), file)
    return Case(row, prepared, lesion)


def verdict_of(model: Model, prepared: PreparedScan, raw: torch.Tensor, sequence: str) -> tuple[Verdict, torch.Tensor]:
    """What the detector would say of `raw` in the place of the prepared scan, and its tissues (1, 1, D, H, W)."""
    metadata = model.metadata
    standard = intensity_map(raw, prepared.brain, metadata.landmarks[sequence])
    image = standard.to_standard(raw).clamp(0, 1) * prepared.brain
    index = torch.tensor([metadata.config.network.sequences.index(sequence)])
    restored = model.network.restore(image, prepared.brain, index)
    figures = scan_figures(image, prepared.brain, restored, model.templates[sequence], metadata.tissue_of_class)
    tissue_of_class = torch.tensor([0, *metadata.tissue_of_class])
    tissues = tissue_of_class[class_index(restored.anatomy.image, metadata.config.network.classes)]
    return judge(figures, model.reference[sequence], sequence), tissues


def on_model_grid(case: Case, model: Model, only: Collection[str]) -> Iterator[Trial]:
    """The alterations `only` of a prepared scan, after the scan as it is and with the other name."""
    prepared, sequence = case.prepared, case.row["sequence"]
    verdict, tissues = verdict_of(model, prepared, prepared.raw, sequence)
    yield Trial(case.row, "none", sequence, "model grid", verdict)
    verdict, _ = verdict_of(model, prepared, prepared.raw, other(sequence))
    yield Trial(case.row, f"named {other(sequence)}", other(sequence), "model grid", verdict)
    lesion = np.zeros(prepared.grid.shape, bool)
    if case.lesion is not None:
        placed = prepared.placed
        upright = to_anatomical_order(Volume(case.lesion.astype(np.float32), placed.original))
        lesion = to_model_grid(placed.to_atlas.move(upright), placed.moved_brain, prepared.grid)[0] >= HALF
    spacing = prepared.grid.spacing
    known = KnownScan(
        prepared.raw[0, 0].numpy(),
        prepared.brain[0, 0].numpy() > HALF,
        tissues[0, 0].numpy(),
        lesion,
        (spacing[2], spacing[1], spacing[0]),
    )
    for name, (sequences, alter) in ALTERATIONS.items():
        if sequence in sequences and name in only:
            raw = torch.from_numpy(alter(known, np.random.default_rng(0)))[None, None]
            yield Trial(case.row, name, sequence, "model grid", verdict_of(model, prepared, raw, sequence)[0])


def through_whole_chain(case: Case, model: Model, detector: Detector, only: Collection[str]) -> Iterator[Trial]:
    """The same of a scan on its own grid, its brain given, detected like any scan of a user."""
    row, prepared = case.row, case.prepared
    sequence, scan = row["sequence"], read_volume(Path(row["image"]))
    _, tissues = verdict_of(model, prepared, prepared.raw, sequence)
    brain = prepared.brain_mask
    spacing = scan.grid.spacing
    known = KnownScan(
        scan.array.astype(np.float32),
        brain.array > 0,
        WayBack(prepared, CancelToken()).labels(tissues).array.astype(np.int64),
        case.lesion if case.lesion is not None else np.zeros(scan.array.shape, bool),
        (spacing[2], spacing[1], spacing[0]),
    )
    trials = [("none", sequence, known.image), (f"named {other(sequence)}", other(sequence), known.image)]
    for name, (sequences, alter) in ALTERATIONS.items():
        if sequence in sequences and name in only:
            trials.append((name, sequence, alter(known, np.random.default_rng(0))))
    for name, taken_for, array in trials:
        try:
            again = detector.prepare(ScanRequest(scan.with_array(array), taken_for, brain))
        except DALAnomalyError as error:
            print(f"{row['subject']} {name}: {error}")
            continue
        others = tuple(each for each in again.warnings if each not in prepared.warnings)
        yield Trial(row, name, taken_for, "whole", verdict_of(model, again, again.raw, taken_for)[0], others)


def summary(trials: list[Trial]) -> str:
    """Warned and all scans, by alteration and group, as a table."""
    groups = sorted({trial.group for trial in trials})
    lines = ["| alteration | chain | " + " | ".join(groups) + " |", "|---|---|" + "---|" * len(groups)]
    for name, chain in dict.fromkeys((trial.alteration, trial.chain) for trial in trials):
        cells = []
        for group in groups:
            said = [t.is_warned_of for t in trials if (t.alteration, t.chain, t.group) == (name, chain, group)]
            cells.append(f"{sum(said)} of {len(said)}" if said else "")
        lines.append(f"| {name} | {chain} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the summary, write every trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", type=Path, help="model file with statistics of training scans")
    parser.add_argument("--keep", type=Path, help="folder for prepared scans")
    parser.add_argument("--whole-chain", type=int, default=0, metavar="N")
    parser.add_argument("--only", nargs="+", choices=ALTERATIONS, default=[*ALTERATIONS], help="default: all")
    arguments = parser.parse_args()
    model = load_model(arguments.model, torch.device("cpu"))
    if not model.reference:
        parser.error("the model does not say what its training scans look like; see training/add_reference.py")
    detector = Detector(model, torch.device("cpu"))
    with arguments.cases.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    trials: list[Trial] = []
    for number, row in enumerate(rows):
        case = prepared_case(row, detector, arguments.keep)
        trials += on_model_grid(case, model, arguments.only)
        if number < arguments.whole_chain:
            trials += through_whole_chain(case, model, detector, arguments.only)
        print(f"{number + 1} of {len(rows)}: {row['dataset']} {row['subject']} {row['sequence']}", flush=True)
        with arguments.output.open("w", newline="", encoding="utf-8") as file:
            table = [trial.as_row() for trial in trials]
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    print(summary(trials))


if __name__ == "__main__":
    main()
