"""`python -m DALAnomalyTraining`: training without the command line's packages, and under torchrun."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyTraining.run import train


def main() -> int:
    """Parse the arguments, train, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m DALAnomalyTraining", description="Train a DAL network.", allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="pack made by `dal-anomaly prepare`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue from the run's last checkpoint")
    parser.add_argument("--start", type=Path, help="checkpoint of another run, or model file, to begin with")
    parser.add_argument("--accelerator", "--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--devices", type=int, default=1, help="processes, one per GPU or CPU share")
    parser.add_argument("--until", type=int, help="stop after this many steps of the whole run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    try:
        train(
            arguments.config,
            arguments.data,
            arguments.output,
            arguments.resume,
            arguments.accelerator,
            arguments.devices,
            arguments.until,
            arguments.quiet,
            arguments.start,
        )
    except DALAnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; --resume continues from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
