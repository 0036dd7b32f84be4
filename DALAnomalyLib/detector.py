"""The detector: a scan in, its anomaly map and everything that explains it out."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from DALAnomalyLib import __version__
from DALAnomalyLib.device import resolve_device
from DALAnomalyLib.findings import Finding, find_findings
from DALAnomalyLib.model_store import Model, ModelMetadata, load_model
from DALAnomalyLib.network.dal_network import Restoration
from DALAnomalyLib.network.one_hot import class_index
from DALAnomalyLib.preprocessing.model_grid import from_model_grid
from DALAnomalyLib.preprocessing.pipeline import AUTOMATIC, PreparedScan, prepare_scan
from DALAnomalyLib.progress import CancelToken, ProgressCallback
from DALAnomalyLib.scoring.score_config import SCORE_KINDS, ScoreConfig, ScoreKind, SignChoice
from DALAnomalyLib.scoring.score_map import score_map
from DALAnomalyLib.volume import Volume


@dataclass(frozen=True)
class Detection:
    """What was found in one scan. All volumes lie on the scan's own grid."""

    score: Volume
    """Anomaly map, float32, unitless, 0 outside the brain (Eq. 15)."""
    pseudo_healthy: Volume
    """x_r, float32 in the scan's own intensity units, 0 outside the brain."""
    tissues: Volume
    """uint8: 1 CSF, 2 grey matter, 3 white matter."""
    edges: Volume
    """uint8, 0 or 1."""
    brain_mask: Volume
    """uint8, 0 or 1."""
    findings_mask: Volume
    """uint16: 0, or the label of a finding."""
    findings: tuple[Finding, ...]
    modality_vector: npt.NDArray[np.float32]
    """M, (m,)."""
    sequence: str
    sequence_evidence: str
    threshold: float
    """Score at and above which voxels belong to findings."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Versions, model, device, parameters and times in seconds; nothing about the patient."""
    warnings: tuple[str, ...] = ()


class Detector:
    """A loaded model on a device."""

    def __init__(self, model: Model, device: torch.device) -> None:
        """Use `model`, whose tensors are on `device` already; see `load`."""
        self._model = model
        self.device = device

    @classmethod
    def load(cls, path: Path | None = None, device: str = "auto") -> Detector:
        """Load a model file, or the one that ships with the project.

        Raises:
            ModelFileError: The file is missing, damaged, changed or of another version.
            DeviceError: The device is absent.
        """
        chosen = resolve_device(device)
        return cls(load_model(path, chosen), chosen)

    @property
    def metadata(self) -> ModelMetadata:
        """What the model is."""
        return self._model.metadata

    @property
    def digest(self) -> str:
        """SHA256 of the model file."""
        return self._model.digest

    def detect(
        self,
        volume: Volume,
        sequence: str = AUTOMATIC,
        brain_mask: Volume | None = None,
        threshold: float | None = None,
        sign: SignChoice | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Detection:
        """Find anomalies in a skull-stripped, roughly upright T1 or T2 scan.

        Args:
            volume: The scan, any grid and intensity scale.
            sequence: "T1", "T2" or "auto".
            brain_mask: On the scan's grid, above 0 inside; without one the scan's foreground is taken.
            threshold: On the score; without one the model's recommendation for the sequence.
            sign: Which differences count, see `ScoreConfig`; without one the model's choice.
            progress: Called with a stage's name and the finished fraction.
            cancel: Checked often enough to stop within a second on a CPU.

        Raises:
            DALAnomalyError: One of its subclasses, with a message for the user.
        """
        run = _Run(progress, cancel)
        prepared, restoration = self._restore(volume, sequence, brain_mask, run)
        score = self.metadata.config.score
        score = replace(score, sign=sign or score.sign).for_sequence(prepared.sequence)
        (detection,) = self._interpret(prepared, restoration, volume, [score], threshold, run)
        return detection

    def detect_all_scores(
        self,
        volume: Volume,
        sequence: str = AUTOMATIC,
        brain_mask: Volume | None = None,
        sign: SignChoice | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> dict[ScoreKind, Detection]:
        """`detect` for every kind of score of Table 5 and for plain intensity, from one pass of the network."""
        run = _Run(progress, cancel)
        prepared, restoration = self._restore(volume, sequence, brain_mask, run)
        score = self.metadata.config.score
        score = replace(score, sign=sign or score.sign)
        configs = [score.of_kind(kind, prepared.sequence) for kind in SCORE_KINDS]
        detections = self._interpret(prepared, restoration, volume, configs, None, run)
        return dict(zip(SCORE_KINDS, detections, strict=True))

    def _restore(
        self, volume: Volume, sequence: str, brain_mask: Volume | None, run: _Run
    ) -> tuple[PreparedScan, Restoration]:
        metadata = self.metadata
        run.stage("preparing the scan", 0.0)
        prepared = prepare_scan(
            volume,
            brain_mask,
            sequence,
            metadata.config.grid,
            metadata.landmarks,
            self._model.templates,
            self.device,
            run.cancel,
        )
        run.stage("restoring the healthy image", 0.2)
        index = torch.tensor([metadata.config.network.sequences.index(prepared.sequence)], device=self.device)
        with _cancellable(self._model.network, run.cancel):
            restoration = self._model.network.restore(prepared.image, prepared.brain, index)
        return prepared, restoration

    def _interpret(
        self,
        prepared: PreparedScan,
        restoration: Restoration,
        volume: Volume,
        score_configs: Sequence[ScoreConfig],
        threshold: float | None,
        run: _Run,
    ) -> list[Detection]:
        """Bring everything back to the scan's grid, and score in every way that is asked for."""
        config = self.metadata.config
        run.stage("returning to the scan's grid", 0.6)
        back = _WayBack(prepared, volume, run.cancel)
        pseudo_healthy = back.intensities(restoration.pseudo_healthy)
        tissue_of_class = torch.tensor([0, *self.metadata.tissue_of_class], device=self.device)
        tissues = back.labels(tissue_of_class[class_index(restoration.anatomy.image, config.network.classes)])
        edges = back.labels(restoration.edges)
        detections = []
        for done, score_config in enumerate(score_configs):
            run.stage("scoring", 0.8 + 0.2 * done / len(score_configs))
            on_model = score_map(prepared.image, restoration.pseudo_healthy, prepared.brain, score_config)
            score = back.continuous(on_model)
            recommended = self.metadata.thresholds[prepared.sequence][score_config.kind]
            chosen = recommended if threshold is None else threshold
            run.stage("listing findings", 0.8 + 0.2 * (done + 0.5) / len(score_configs))
            labels, findings = find_findings(score, prepared.brain_mask, chosen, config.minimum_finding_ml)
            detections.append(
                Detection(
                    score=score,
                    pseudo_healthy=pseudo_healthy,
                    tissues=tissues,
                    edges=edges,
                    brain_mask=prepared.brain_mask,
                    findings_mask=labels,
                    findings=findings,
                    modality_vector=restoration.modality[0].cpu().numpy(),
                    sequence=prepared.sequence,
                    sequence_evidence=prepared.sequence_evidence,
                    threshold=chosen,
                    provenance=self._provenance(prepared, score_config, chosen, run),
                    warnings=prepared.warnings,
                )
            )
        run.stage("done", 1.0)
        return detections

    def _provenance(
        self, prepared: PreparedScan, score_config: ScoreConfig, threshold: float, run: _Run
    ) -> dict[str, Any]:
        return {
            "versions": {
                "DALAnomaly": __version__,
                "Python": platform.python_version(),
                "torch": torch.__version__,
                "SimpleITK": version("SimpleITK"),
                "numpy": np.__version__,
            },
            "model": {
                "name": self.metadata.config.name,
                "version": self.metadata.version,
                "sha256": self.digest,
            },
            "device": str(self.device),
            "parameters": {
                "sequence": prepared.sequence,
                "sequence_evidence": prepared.sequence_evidence,
                "score": score_config.kind,
                "sign": score_config.sign,
                "threshold": threshold,
                "model_grid_shape": list(prepared.grid.shape),
                "model_grid_spacing_mm": list(prepared.grid.spacing),
            },
            "seconds": run.seconds,  # complete when the run is done
        }


class _Run:
    """Progress, cancellation and timing of one call."""

    def __init__(self, progress: ProgressCallback | None, cancel: CancelToken | None) -> None:
        self._progress = progress
        self.cancel = cancel or CancelToken()
        self.seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None

    def stage(self, name: str, fraction: float) -> None:
        """Close the running stage's account and begin `name`."""
        self.cancel.raise_if_cancelled()
        now = time.perf_counter()
        if self._current is not None:
            last, began = self._current
            self.seconds[last] = round(self.seconds.get(last, 0.0) + now - began, 3)
        self._current = (name, now)
        if self._progress is not None:
            self._progress(name, fraction)


@contextmanager
def _cancellable(network: nn.Module, cancel: CancelToken) -> Iterator[None]:
    """Check `cancel` before every layer: no single one takes a second."""

    def check(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        cancel.raise_if_cancelled()

    handles = [module.register_forward_pre_hook(check) for module in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _WayBack:
    """Brings (1, 1, D, H, W) tensors on the model grid to the scan's grid, one interpolation each."""

    def __init__(self, prepared: PreparedScan, volume: Volume, cancel: CancelToken) -> None:
        self._prepared = prepared
        self._cancel = cancel
        self._target = volume.grid
        self._brain = prepared.brain_mask.array > 0
        self._weight = self._resampled(prepared.brain)

    def continuous(self, values: Tensor) -> Volume:
        """A map that may fade out at the brain's border, float32."""
        array: npt.NDArray[np.float32] = np.where(self._brain, self._resampled(values), 0).astype(np.float32)
        return Volume(array, self._target)

    def intensities(self, standard: Tensor) -> Volume:
        """Standard intensities in the scan's own units, float32, without a dark rim where brain meets background."""
        in_scan_units = self._prepared.intensities.to_scan(standard) * self._prepared.brain
        summed = self._resampled(in_scan_units)
        array = np.divide(summed, self._weight, out=np.zeros_like(summed), where=self._brain & (self._weight > 0.01))
        return Volume(array.astype(np.float32), self._target)

    def labels(self, values: Tensor) -> Volume:
        """A label map, uint8."""
        array = values[0, 0].cpu().numpy().astype(np.uint8)
        self._cancel.raise_if_cancelled()
        nearest = from_model_grid(array, self._prepared.grid, self._target, "nearest")
        return nearest.with_array(nearest.array * self._brain)

    def _resampled(self, values: Tensor) -> npt.NDArray[np.float32]:
        array = values[0, 0].float().cpu().numpy()
        self._cancel.raise_if_cancelled()
        resampled: npt.NDArray[np.float32] = from_model_grid(array, self._prepared.grid, self._target, "linear").array
        return resampled
