"""The options of preprocessing that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyLib.configuration import STEPS
from DALAnomalyLib.job.preprocessing_options import BACKENDS, EXTRACTIONS, PREPROCESSED

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
AtlasFolder = Annotated[Path | None, typer.Option("--atlas", help="Folder of another atlas, such as SRI24.")]
Series = Annotated[int | None, typer.Option(help="Number of the series in a DICOM folder; see `dal-anomaly series`.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep results of slow steps.")]
