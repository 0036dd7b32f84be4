"""What is asked of a detection run: one value, which travels as a JSON file to the process that runs it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from DALAnomalyLib.configuration import PreprocessingConfig, from_dictionary
from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions
from DALAnomalyLib.job.quick_mode import quick
from DALAnomalyLib.job.result_folder import writing

if TYPE_CHECKING:
    from DALAnomalyLib.volume_io import ScanDescription

Mode = Literal["full", "quick"]
SIGNS = ("absolute", "typical")


@dataclass(frozen=True)
class DetectionRequest:
    """One scan, where its results shall lie, and the user's wishes.

    Attributes:
        scan: image file or DICOM folder.
        output: folder of the results, which come when they are complete, `manifest.json` last.
        sequence: "T1", "T2" or "auto".
        brain_mask: image on the scan's grid; without one the brain is looked for.
        device: "auto", "cpu", "cuda" or "cuda:<number>".
        mode: "quick" leaves out what `quick_mode` says.
        model: model file; without one, the shipped model.
        described: fields of `ScanDescription` where the one who asks has read the header; without them it is read here.
        threshold: on the score; without one, the model's for the sequence.
        sign: which differences count, one of `SIGNS`; without one, the model's choice.
        preprocessing: how the scan is brought to the network.

    Raises:
        UsageError: the mode, the threshold, the sign or what is described is not allowed.
    """

    scan: Path
    output: Path
    sequence: str = "auto"
    brain_mask: Path | None = None
    device: str = "auto"
    mode: Mode = "full"
    model: Path | None = None
    described: Mapping[str, Any] | None = None
    threshold: float | None = None
    sign: str | None = None
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)

    def __post_init__(self) -> None:
        """Refuse what can be refused before anything is read."""
        if self.mode not in get_args(Mode):
            msg = f"mode is {self.mode}; choose one of {', '.join(get_args(Mode))}"
            raise UsageError(msg)
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0):
            msg = f"--threshold is {self.threshold}; give a positive number in units of the anomaly score"
            raise UsageError(msg)
        check_sign(self.sign)
        self.description()

    @classmethod
    def read(cls, path: Path) -> DetectionRequest:
        """Read a request that `write` wrote.

        Raises:
            InputError: the file is missing or no JSON object.
            UsageError: a value is not allowed.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{path}: the request cannot be read ({error}); write it again"
            raise InputError(msg) from error
        if not isinstance(values, dict):
            msg = f"{path}: the request is no JSON object; write it again"
            raise InputError(msg)
        return from_dictionary(cls, values, "request")

    def write(self, path: Path) -> None:
        """Write the request as JSON; relative paths stay relative to the folder where the run is started.

        Raises:
            OutputError: the file cannot be written.
        """
        with writing(path):
            path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n", encoding="utf-8")

    def description(self) -> ScanDescription | None:
        """What the one who asks has read in the header, or None."""
        if self.described is None:
            return None
        from DALAnomalyLib.volume_io import ScanDescription

        return from_dictionary(ScanDescription, self.described, "described")

    def preprocessing_over(self, config: PreprocessingConfig) -> PreprocessingConfig:
        """A model's configuration of preprocessing with the wishes of this request."""
        config = self.preprocessing.over(config)
        return quick(config) if self.mode == "quick" else config


def check_sign(sign: str | None) -> None:
    """Refuse a sign that is not offered to users."""
    if sign not in (None, *SIGNS):
        msg = f"--sign is {sign}; choose one of {', '.join(SIGNS)}"
        raise UsageError(msg)
