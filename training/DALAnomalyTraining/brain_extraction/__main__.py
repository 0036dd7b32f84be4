"""`python -m DALAnomalyTraining.brain_extraction prepare | train | export | evaluate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from DALAnomalyLib.device import resolve_device
from DALAnomalyLib.errors import DALAnomalyError, InputError
from DALAnomalyLib.job.result_folder import writing, writing_into


def main() -> int:
    """Parse the arguments, do what they ask for, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m DALAnomalyTraining.brain_extraction", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("prepare", "pack the heads to train on"), ("evaluate", "measure on the heads held out")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--label-maps", type=Path, required=True, help="folder of whole-head label maps")
        command.add_argument("--scans", type=Path, required=True, help="folder of NAME_T1 and NAME_labels files")
        command.add_argument("-o", "--output", type=Path, required=True, help="the pack (.npz), or the table (.csv)")
    commands.choices["evaluate"].add_argument("--network", type=Path, help="network file; without it the shipped one")
    command = commands.add_parser("train", help="train, or go on from the run's checkpoint")
    command.add_argument("--data", type=Path, required=True, help="pack made by prepare")
    command.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    command.add_argument("--steps", type=int, default=3400, help="length of the whole run")
    command.add_argument("--start", type=Path, help="checkpoint (last.pt) of another run to begin with")
    command.add_argument("--ordinary", action="store_true", help="draw heads as scanners deliver them every day")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX")
    command = commands.add_parser("export", help="make a network file of a run's checkpoint")
    command.add_argument("run", type=Path, help="folder of the run")
    command.add_argument("-o", "--output", type=Path, required=True, help="the network file (.pt)")
    arguments = parser.parse_args()
    try:
        {"prepare": _prepare, "train": _train, "export": _export, "evaluate": _evaluate}[arguments.command](arguments)
    except DALAnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _prepare(arguments: argparse.Namespace) -> None:
    from DALAnomalyTraining.brain_extraction.head_pack import write_pack

    count = write_pack(arguments.label_maps, arguments.scans, arguments.output)
    print(f"{arguments.output}: {count} heads")


def _train(arguments: argparse.Namespace) -> None:
    from DALAnomalyTraining.brain_extraction.head_generator import ORDINARY_HEADS, HeadConfig
    from DALAnomalyTraining.brain_extraction.head_pack import read_pack
    from DALAnomalyTraining.brain_extraction.train import ExtractionTraining, train

    device = resolve_device(arguments.device)
    with writing(arguments.output):
        train(
            list(read_pack(arguments.data)),
            arguments.output,
            ExtractionTraining(steps=arguments.steps),
            ORDINARY_HEADS if arguments.ordinary else HeadConfig(),
            device,
            arguments.start,
        )


def _export(arguments: argparse.Namespace) -> None:
    from DALAnomalyLib.model_store import list_if_shipped
    from DALAnomalyLib.network.brain_extractor import BrainExtractor
    from DALAnomalyLib.network.brain_extractor_file import save_extractor
    from DALAnomalyTraining.brain_extraction.head_pack import SPACING_MM
    from DALAnomalyTraining.checkpoint import load_checkpoint

    state = load_checkpoint(arguments.run / "last.pt", torch.device("cpu"), ("average", "step"))
    network = BrainExtractor()
    try:
        network.load_state_dict(state["average"])
    except RuntimeError as error:
        msg = f"{arguments.run / 'last.pt'} is not of a brain extraction network of the usual size; name another run"
        raise InputError(msg) from error
    record = {"steps": state["step"], "data": state.get("data", "not recorded")}
    save_extractor(arguments.output, network, SPACING_MM, record)
    list_if_shipped(arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB after {state['step']} steps")


def _evaluate(arguments: argparse.Namespace) -> None:
    from DALAnomalyLib.network.brain_extractor_file import load_extractor
    from DALAnomalyTraining.brain_extraction.evaluate import evaluate, summary

    with writing_into(arguments.output.parent), writing(arguments.output):
        rows = evaluate(arguments.label_maps, arguments.scans, load_extractor(arguments.network), arguments.output)
    print(summary(rows))


if __name__ == "__main__":
    sys.exit(main())
