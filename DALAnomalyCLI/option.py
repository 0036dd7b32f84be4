"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.job.preprocessing_options import BACKENDS, EXTRACTIONS, PREPROCESSED

_SEQUENCES = {"auto": "auto", "t1": "T1", "t1w": "T1", "t2": "T2", "t2w": "T2"}


def sequence_name(text: str) -> str:
    """A sequence as the model calls it, however it is written (BIDS says T1w); names we do not know stay."""
    return _SEQUENCES.get(text.casefold(), text)


# The scan and the model
Sequence = Annotated[str, typer.Option(help="auto, T1 or T2.", callback=sequence_name)]
Series = Annotated[int | None, typer.Option(help="Number of the series in a DICOM folder; see `dal-anomaly series`.")]
# `readable=False`: whether a file may be read our readers say; Click would end a run over one of many inputs.
BrainMask = Annotated[Path | None, typer.Option(readable=False, help="Brain mask on the scan's own grid.")]
Model = Annotated[Path | None, typer.Option(readable=False, help="Model file instead of the one that is shipped.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<number>.")]
Sign = Annotated[str | None, typer.Option(help="typical (bright on T2, dark on T1) or absolute (all differences).")]

# Preprocessing
Skip = Annotated[str | None, typer.Option(help=f"Steps to leave out, with commas: {', '.join(STEPS)}; or none.")]
Preprocessed = Annotated[
    bool, typer.Option("--preprocessed", help=f"The scan is preprocessed: same as --skip {','.join(PREPROCESSED)}.")
]
BrainExtraction = Annotated[str, typer.Option(help=f"How the brain is found: {', '.join(EXTRACTIONS)}.")]
Registration = Annotated[str | None, typer.Option(help=f"Registration by {' or '.join(BACKENDS)}.")]
Window = Annotated[str | None, typer.Option(help="Place the model's grid around the brain, or fixed in the atlas.")]
SecondPass = Annotated[
    bool, typer.Option("--second-pass", help="Standardise intensities again without the anomalies found.")
]
Atlas = Annotated[Path | None, typer.Option("--atlas", readable=False, help="Folder of another atlas, such as SRI24.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep results of slow steps.")]

# The run
Workers = Annotated[int, typer.Option(help="Subjects worked on at once.", min=1)]
Force = Annotated[bool, typer.Option("--force", help="Replace what an older run wrote.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line: progress, results, errors.")]
JsonObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]
