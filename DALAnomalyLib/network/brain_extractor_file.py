"""The file of the brain extraction network: weights in half precision and a note on where they come from."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from DALAnomalyLib.errors import ModelFileError
from DALAnomalyLib.network.brain_extractor import BrainExtractor
from DALAnomalyLib.resources import check_shipped, resource_file

FILE_NAME = "brain_extraction.pt"
FORMAT = "dal-anomaly-brain-extraction-1"


@dataclass(frozen=True)
class LoadedExtractor:
    """A network on its device.

    Attributes:
        network: in evaluation mode.
        spacing_mm: voxel size of the images it was trained on.
        digest: SHA256 of its file.
        training: data, steps and measured figures, for people to read.
    """

    network: BrainExtractor
    spacing_mm: float
    digest: str
    training: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device


def save_extractor(path: Path, network: BrainExtractor, spacing_mm: float, training: dict[str, Any]) -> None:
    """Write the network; `training` holds numbers and text only."""
    state = {name: value.detach().cpu().half() for name, value in network.state_dict().items()}
    widths = [level[0][0].out_channels for level in (network.unet.first, *network.unet.down)]
    content = {"format": FORMAT, "widths": widths, "spacing_mm": spacing_mm, "state": state, "training": training}
    torch.save(content, path)


def load_extractor(path: Path | None = None, device: torch.device | None = None) -> LoadedExtractor:
    """Read a network; without `path`, the one that ships with the project.

    Raises:
        ModelFileError: missing, damaged, changed, or of another format.
    """
    path = path or resource_file("Models", FILE_NAME)
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}); install DALAnomaly again"
        raise ModelFileError(msg) from error
    digest = hashlib.sha256(data).hexdigest()
    check_shipped(path, digest)
    try:
        # PyTorch itself does not look at the checksums
        damaged = zipfile.ZipFile(io.BytesIO(data)).testzip()
        if damaged is not None:
            raise ValueError(damaged)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        network = BrainExtractor(tuple(content["widths"]))
        network.load_state_dict({name: value.float() for name, value in content["state"].items()})
        spacing, training = float(content["spacing_mm"]), dict(content["training"])
    except Exception as error:
        # PyTorch's own message advises to execute what an untrusted file contains
        msg = f"{path} is not a brain extraction network of this version ({type(error).__name__}); install it again"
        raise ModelFileError(msg) from error
    return LoadedExtractor(network.to(device).eval(), spacing, digest, training)
