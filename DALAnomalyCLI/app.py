"""The `dal-anomaly` program: its commands and nothing else.

What is imported here is imported by `dal-anomaly --help`, so the commands import torch, SimpleITK and matplotlib only
when they run.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from DALAnomalyCLI.build_atlas import build_atlas
from DALAnomalyCLI.calibrate import calibrate
from DALAnomalyCLI.detect import detect
from DALAnomalyCLI.evaluate import evaluate
from DALAnomalyCLI.model import info
from DALAnomalyCLI.prepare import prepare, sample
from DALAnomalyCLI.preprocess import preprocess
from DALAnomalyCLI.series import series
from DALAnomalyCLI.train import export, train
from DALAnomalyLib import __version__
from DALAnomalyLib.job.manifest import RESEARCH_USE

app = typer.Typer(
    help=f"Unsupervised anomaly detection in brain MRI. {RESEARCH_USE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Look into model files.", no_args_is_help=True)
app.add_typer(model_app, name="model")
app.command()(detect)
app.command()(preprocess)
app.command()(series)
app.command()(evaluate)
app.command()(calibrate)
app.command()(prepare)
app.command()(train)
app.command()(export)
app.command()(sample)
app.command(name="build-atlas")(build_atlas)
model_app.command()(info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dal-anomaly {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that a log cannot hold must not fail a finished run
    app()


if __name__ == "__main__":
    main()
