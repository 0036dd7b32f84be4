"""Average the weights of several checkpoints of one network into a new checkpoint (stochastic weight averaging).

    python training/average_checkpoints.py FIRST.pt SECOND.pt ... -o MEAN.pt
    python training/average_checkpoints.py Resources/Models/default.dalmodel FURTHER.pt -o MEAN.pt

The checkpoints must continue one another (`--start`), so that their weights mean the same: Izmailov et al., Averaging
Weights Leads to Wider Optima and Better Generalization, UAI 2018. All but the last may be model files. Configuration,
landmarks and record are the last's, but for the steps: each counts its own run's, and the mean has been through all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from DALAnomalyLib.errors import DALAnomalyError, UsageError
from DALAnomalyLib.job.result_folder import writing, writing_into
from DALAnomalyTraining.checkpoint import load_beginning, load_checkpoint, save_checkpoint, weights_of


def averaged(paths: list[Path]) -> dict[str, Any]:
    """The last checkpoint with the mean of all (averaged) weights.

    Raises:
        InputError: One cannot be read.
        UsageError: They are of different networks, or of different intensity scales.
    """
    cpu = torch.device("cpu")
    contents = [*(load_beginning(path, cpu) for path in paths[:-1]), load_checkpoint(paths[-1], cpu)]
    states = [weights_of(content) for content in contents]
    for path, content, state in zip(paths, contents, states, strict=True):
        shapes = {name: value.shape for name, value in state.items()}
        if shapes != {name: value.shape for name, value in states[0].items()}:
            msg = f"{path} is of another network than {paths[0]}; average checkpoints of one network"
            raise UsageError(msg)
        if content["landmarks"] != contents[0]["landmarks"]:
            msg = (
                f"{path} has another intensity scale than {paths[0]}; average runs that continue one another (--start)"
            )
            raise UsageError(msg)
    mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
    return contents[-1] | {"network": mean, "average": mean, "step": sum(content["step"] for content in contents)}


def main() -> int:
    """Write the mean; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        with writing_into(arguments.output.parent), writing(arguments.output):
            save_checkpoint(arguments.output, averaged(arguments.checkpoints))
    except DALAnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
