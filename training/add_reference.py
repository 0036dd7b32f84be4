"""Add to a model file what its training scans look like, so that it warns about scans that do not.

    python training/add_reference.py MODEL PACK -o NEW [--config training/configs/default.yaml] [--subjects 200]

MODEL is a model file, PACK the training pack of the model. `dal-anomaly export` does this by itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.reference import SUBJECTS, add_reference
from DALAnomalyTraining.training_config import load_training_config


def main() -> int:
    """Write the new model file; returns the exit code."""
    parser = argparse.ArgumentParser(description="Add the statistics of training scans to a model file.")
    parser.add_argument("model", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file to write; may be MODEL")
    parser.add_argument("--config", type=Path, help="YAML file that the model was trained with")
    parser.add_argument("--subjects", type=int, default=SUBJECTS, help="generated subjects")
    arguments = parser.parse_args()
    try:
        generator = load_training_config(arguments.config).generator if arguments.config else GeneratorConfig()
        pack = Pack(arguments.pack)
        digest = add_reference(arguments.model, pack, arguments.output, generator, arguments.subjects)
    except DALAnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{digest}  {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
