"""`dal-anomaly train` and `dal-anomaly export`: from a pack to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyCLI.model_output import check_model_output
from DALAnomalyLib.job.result_folder import writing, writing_into


def train(
    config: Annotated[Path, typer.Option(readable=False, help="Training configuration (YAML), see training/configs.")],
    data: Annotated[Path, typer.Option(help="Pack made by 'dal-anomaly prepare'.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    start: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of another run, or model file; begin with its weights and landmarks."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes, one per GPU or share of the CPU.", min=1)] = 1,
    until: Annotated[int | None, typer.Option(help="Stop after this step of the whole run.", min=1)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    debug: option.Debug = False,
) -> None:
    """Train a network on a pack; the finished model is OUTPUT/model.dalmodel."""
    reporter = reporting.make_reporter(quiet=True, debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyTraining.run import train as run

        run(config, data, output, resume, device, devices, until, quiet, start)


def export(
    checkpoint: Annotated[Path, typer.Argument(readable=False, help="best.pt or last.pt of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file, NAME.dalmodel.")],
    data: Annotated[Path, typer.Option(help="The pack that the run was trained on.")],
    config: Annotated[
        Path | None, typer.Option(help="Training configuration to take restoration, score and preprocessing from.")
    ] = None,
    force: option.Force = False,
    debug: option.Debug = False,
) -> None:
    """Make a model file of a checkpoint, with mean images and thresholds measured on the pack."""
    reporter = reporting.make_reporter(debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyLib.model_store import list_if_shipped
        from DALAnomalyTraining.export import export as run
        from DALAnomalyTraining.pack import Pack

        check_model_output(output, force)
        with writing_into(output.parent), writing(output):
            metadata = run(checkpoint, Pack(data), output, config)
            list_if_shipped(output)
        reporter.result(str(output), metadata.training, f"{output}: made of step {metadata.training['steps']}")
