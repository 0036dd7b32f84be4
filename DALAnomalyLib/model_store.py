"""Model files: everything a detector needs in one file that can be checked and is safe to open.

A model file is a zip archive of `metadata.json` (readable by people), `weights.pt` (tensors alone, read with
PyTorch's `weights_only`) and `SHA256` over both. Files in `Resources/Models` must also match its `SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from DALAnomalyLib.calibration import SequenceCalibration
from DALAnomalyLib.configuration import ModelConfig, from_dictionary, to_dictionary
from DALAnomalyLib.errors import ModelFileError, OutputError, UsageError
from DALAnomalyLib.network.dal_network import DALNetwork
from DALAnomalyLib.out_of_distribution import SequenceReference
from DALAnomalyLib.preprocessing.intensity_standardisation import Landmarks
from DALAnomalyLib.resources import CHECKSUMS, check_shipped, lies_with_shipped_models, resource_file

FORMAT = "dal-anomaly-model"
FORMAT_VERSION = 1
DEFAULT_MODEL = "default.dalmodel"

# All that may be raised by reading a damaged archive and its JSON, ...
_DAMAGED = (zipfile.BadZipFile, zlib.error, LookupError, TypeError, ValueError, EOFError, OSError, RuntimeError)
# ... and by content that is intact but not what this version expects.
_UNFIT = (LookupError, AttributeError, TypeError, ValueError, EOFError, RuntimeError, pickle.PickleError, UsageError)


@dataclass(frozen=True)
class ModelMetadata:
    """What a model is, how its scale was set and where it comes from."""

    version: str
    config: ModelConfig
    landmarks: dict[str, Landmarks]
    """Standard intensity scale per sequence."""
    thresholds: dict[str, dict[str, float]]
    """Sequence to kind of score to the recommended threshold on the score map."""
    tissue_of_class: tuple[int, ...] = (1, 2, 3)
    """Tissue (1 CSF, 2 grey, 3 white matter) of every class of A: training without labels leaves their order open."""
    training: dict[str, Any] = field(default_factory=dict)
    """Data, steps and measured figures, for people to read."""
    calibration: dict[str, SequenceCalibration] = field(default_factory=dict)
    """Sequence to its presets, measured on healthy scans; empty, or not of all sequences, until that is done."""


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    metadata: ModelMetadata
    network: DALNetwork
    templates: dict[str, Tensor]
    """Mean healthy image per sequence on the model grid, float32 (D, H, W), 0 outside the mean brain."""
    digest: str
    """SHA256 of the model file."""
    reference: Mapping[str, SequenceReference] = field(default_factory=dict)
    """What the training scans of every sequence look like; empty in model files that do not say."""

    @property
    def typical(self) -> Tensor | None:
        """Mean M of each sequence's training scans, float32 (s, m); None in model files that do not say."""
        if not self.reference:
            return None
        centres = torch.stack([each.centre for each in self.reference.values()])
        return centres.to(next(self.network.parameters()).device)


def save_model(
    path: Path,
    metadata: ModelMetadata,
    network: DALNetwork,
    templates: dict[str, Tensor],
    reference: Mapping[str, SequenceReference] | None = None,
) -> str:
    """Write a model file atomically, weights in half precision; returns its SHA256."""
    weights = io.BytesIO()
    state = {name: value.detach().cpu().half() for name, value in network.state_dict().items()}
    tensors: dict[str, Any] = {
        "network": state,
        "templates": {k: v.detach().cpu().half() for k, v in templates.items()},
    }
    if reference:
        tensors["reference"] = {name: each.content() for name, each in reference.items()}
    torch.save(tensors, weights)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION} | _to_plain(metadata)
    content = {"metadata.json": json.dumps(header, indent=1).encode(), "weights.pt": weights.getvalue()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (content | {"SHA256": _checksum(content).encode()}).items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # no dates: equal models are equal files
    _replace(path, archive.getvalue())
    return hashlib.sha256(archive.getvalue()).hexdigest()


def model_digest(path: Path | None = None) -> str:
    """SHA256 of a model file, or of the one that ships with the project, without a look into it.

    Raises:
        ModelFileError: The file is missing or cannot be read.
    """
    return hashlib.sha256(_read(path or resource_file("Models", DEFAULT_MODEL))).hexdigest()


def load_model(path: Path | None = None, device: torch.device | None = None) -> Model:
    """Read and check a model file; without `path`, the one that ships with the project.

    Raises:
        ModelFileError: The file is missing, is no model, was changed, or is of another format version.
    """
    path = path or resource_file("Models", DEFAULT_MODEL)
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    check_shipped(path, digest)
    header, weights = _unpack(path, data)
    try:
        metadata = _from_plain(header)
        tensors = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
        network = DALNetwork(metadata.config)
        network.load_state_dict({name: value.float() for name, value in tensors["network"].items()})
        templates = {name: value.float() for name, value in tensors["templates"].items()}
        _check_complete(metadata, templates)
        reference = _reference(tensors, network)
        if metadata.config.restoration.typical_looks and not reference:
            msg = "its restoration matches typical looks, but there are no statistics of training scans"
            raise ValueError(msg)
    except _UNFIT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"{path} does not fit this version of DALAnomaly ({reason}); use a model made for it"
        raise ModelFileError(msg) from error
    on_device = {name: image.to(device) for name, image in templates.items()}
    return Model(metadata, network.to(device).eval(), on_device, digest, reference)


def _replace(path: Path, data: bytes) -> None:
    """Write so that `path` always holds either the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        msg = f"{path} cannot be written ({error.strerror}); check that its folder exists and has space"
        raise OutputError(msg) from error


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` for all model files of a folder, in the format of sha256sum; lines of other files stay."""
    files = sorted([*folder.glob("*.dalmodel"), *folder.glob("*.pt")])
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    listed = folder / CHECKSUMS
    if listed.exists():
        others = listed.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        lines += [line for line in others if not line.endswith((".dalmodel", ".pt"))]
    _replace(listed, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))


def list_if_shipped(path: Path) -> None:
    """Write `SHA256SUMS` anew if a model file was put among the shipped ones, of which each must be listed."""
    if lies_with_shipped_models(path):
        write_checksums(path.parent)


def _check_complete(metadata: ModelMetadata, templates: dict[str, Tensor]) -> None:
    """What a sequence lacks would otherwise show in the midst of a run."""
    known = list(metadata.config.network.sequences)
    parts: dict[str, dict[str, Any]] = {
        "landmarks": metadata.landmarks,
        "thresholds": metadata.thresholds,
        "mean images": templates,
    }
    for name, part in parts.items():
        if sorted(part) != sorted(known):
            msg = f"{name} are of {', '.join(part) or 'nothing'}, but the network knows {', '.join(known)}"
            raise ValueError(msg)
    strangers = sorted(set(metadata.calibration) - set(known))
    if strangers:
        msg = f"there is a calibration of {', '.join(strangers)}, but the network knows {', '.join(known)}"
        raise ValueError(msg)
    for image in templates.values():
        if tuple(image.shape) != metadata.config.grid.shape:
            msg = f"a mean image is {tuple(image.shape)}, but the grid {metadata.config.grid.shape}"
            raise ValueError(msg)


def _reference(tensors: Mapping[str, Any], network: DALNetwork) -> dict[str, SequenceReference]:
    """Files of before there were references have none."""
    content = tensors.get("reference", {})
    known, length = network.config.network.sequences, network.modality_extractor.length
    if content and sorted(content) != sorted(known):
        msg = f"statistics of training scans are of {', '.join(content)}, but the network knows {', '.join(known)}"
        raise ValueError(msg)
    return {name: SequenceReference.read(each, length) for name, each in content.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"model file {path} cannot be read ({error.strerror}); check the path, or leave --model out"
        raise ModelFileError(msg) from error


def _unpack(path: Path, data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            content = {name: file.read(name) for name in ("metadata.json", "weights.pt")}
            stated = file.read("SHA256").decode()
            header = dict(json.loads(content["metadata.json"]))
    except _DAMAGED as error:
        msg = f"{path} is not a DALAnomaly model file, or is damaged; train one or use the one that ships"
        raise ModelFileError(msg) from error
    if stated != _checksum(content):
        msg = f"{path} was changed after it was written (its checksum does not match); get it again from its source"
        raise ModelFileError(msg)
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{path} has format {header.get('format')} {header.get('format_version')}, this version reads "
            f"{FORMAT} {FORMAT_VERSION}; use a model made for it"
        )
        raise ModelFileError(msg)
    return header, content["weights.pt"]


def _checksum(content: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode() + hashlib.sha256(content[name]).digest())
    return digest.hexdigest()


def _to_plain(metadata: ModelMetadata) -> dict[str, Any]:
    landmarks = {name: asdict(value) for name, value in metadata.landmarks.items()}
    return {
        "version": metadata.version,
        "config": to_dictionary(metadata.config),
        "landmarks": landmarks,
        "thresholds": metadata.thresholds,
        "tissue_of_class": list(metadata.tissue_of_class),
        "training": metadata.training,
        "calibration": {name: to_dictionary(value) for name, value in metadata.calibration.items()},
    }


def _from_plain(header: dict[str, Any]) -> ModelMetadata:
    return ModelMetadata(
        version=header["version"],
        config=from_dictionary(ModelConfig, header["config"], "model configuration"),
        landmarks={name: from_dictionary(Landmarks, values) for name, values in header["landmarks"].items()},
        thresholds=header["thresholds"],
        tissue_of_class=tuple(header["tissue_of_class"]),
        training=header["training"],
        calibration={
            name: from_dictionary(SequenceCalibration, values, f"calibration of {name}")
            for name, values in header.get("calibration", {}).items()  # older files have none
        },
    )
