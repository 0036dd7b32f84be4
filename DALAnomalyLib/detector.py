"""The detector: a scan in, its anomaly map and everything that explains it out."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from DALAnomalyLib import __version__
from DALAnomalyLib.calibration import RECOMMENDED, applying
from DALAnomalyLib.configuration import PreprocessingConfig
from DALAnomalyLib.device import resolve_device
from DALAnomalyLib.findings import Finding, find_findings
from DALAnomalyLib.model_store import Model, ModelMetadata, load_model
from DALAnomalyLib.network.cancellation import cancellable
from DALAnomalyLib.network.dal_network import Restoration
from DALAnomalyLib.network.one_hot import class_index
from DALAnomalyLib.out_of_distribution import Verdict, judge
from DALAnomalyLib.preprocessing.chain import ScanRequest
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.extraction_choice import ExtractionMethod
from DALAnomalyLib.preprocessing.pipeline import PreparedScan, Standard, prepare_scan, without_anomalies
from DALAnomalyLib.preprocessing.sequence import AUTOMATIC
from DALAnomalyLib.preprocessing.step_cache import StepCache
from DALAnomalyLib.preprocessing.steps import StepLog
from DALAnomalyLib.preprocessing.way_back import WayBack
from DALAnomalyLib.progress import CancelToken, ProgressCallback
from DALAnomalyLib.restoration import restore
from DALAnomalyLib.scan_figures import scan_figures
from DALAnomalyLib.scoring.score_config import SCORE_KINDS, ScoreConfig, ScoreKind, SignChoice
from DALAnomalyLib.scoring.score_map import score_map
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import ScanDescription

_PREPARED = 0.6
"""Share of the time that preprocessing takes."""


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
    prepared: PreparedScan | None = field(default=None, repr=False)
    """What the network was given, and every step on the way there."""
    uncertainty: Volume | None = None
    """How much x_r depends on how the scan lies on the grid: its standard deviation over several views, float32 on the
    standard scale [0, 1]; None where the model takes one view only."""


class Detector:
    """A loaded model on a device."""

    def __init__(self, model: Model, device: torch.device, equipment: Equipment | None = None) -> None:
        """Use `model`, whose tensors are on `device` already; see `load`."""
        self._model = model
        self.device = device
        self.equipment = equipment or Equipment(device=device)

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        device: str = "auto",
        atlas: Path | None = None,
        cache: StepCache | None = None,
        outline_device: str | None = None,
    ) -> Detector:
        """Load a model file, or the one that ships with the project.

        Args:
            path: The model file.
            device: "auto", "cpu", "cuda" or "cuda:<number>".
            atlas: Folder of another atlas, such as SRI24.
            cache: Where results of slow steps are kept; without one, nothing is kept.
            outline_device: Where the brain is outlined, if not on `device`.

        Raises:
            ModelFileError: The file is missing, damaged, changed or of another version.
            DeviceError: The device is absent.
        """
        chosen = resolve_device(device)
        outlining = chosen if outline_device is None else resolve_device(outline_device)
        return cls(load_model(path, chosen), chosen, Equipment(atlas, outlining, cache))

    @property
    def metadata(self) -> ModelMetadata:
        """What the model is."""
        return self._model.metadata

    @property
    def standard(self) -> Standard:
        """What the model expects of its input."""
        return Standard(self.metadata.config.grid, self.metadata.landmarks, self._model.templates)

    @property
    def digest(self) -> str:
        """SHA256 of the model file."""
        return self._model.digest

    @property
    def identity(self) -> dict[str, str]:
        """Name, version and digest of the model, for records."""
        return {"name": self.metadata.config.name, "version": self.metadata.version, "sha256": self.digest}

    def recommended_threshold(self, sequence: str, score: ScoreConfig) -> float:
        """Where detection begins: the calibration's Balanced preset if it holds for `score`, else the model's own.

        Args:
            sequence: One that the model knows.
            score: How the score is made, its sign resolved for the sequence.
        """
        calibration = applying(self.metadata.calibration, sequence, score)
        if calibration is not None:
            return calibration.presets[RECOMMENDED].threshold
        return self.metadata.thresholds[sequence][score.kind]

    def detect(
        self,
        volume: Volume,
        sequence: str = AUTOMATIC,
        brain_mask: Volume | None = None,
        threshold: float | None = None,
        sign: SignChoice | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        description: ScanDescription | None = None,
        extraction: ExtractionMethod = "auto",
        preprocessing: PreprocessingConfig | None = None,
    ) -> Detection:
        """Find anomalies in a T1 or T2 scan of a head.

        Args:
            volume: The scan, any grid and intensity scale.
            sequence: "T1", "T2" or "auto".
            brain_mask: On the scan's grid, above 0.5 inside; without one the brain is looked for.
            threshold: On the score; without one the model's recommendation for the sequence.
            sign: Which differences count, see `ScoreConfig`; without one the model's choice.
            progress: Called with a stage's name and the finished fraction.
            cancel: Checked often enough to stop within a second on a CPU.
            description: What the file's header says, see `describe_scan`.
            extraction: How the brain is looked for.
            preprocessing: Which steps are skipped, and how the others work; without it, the model's own choice.

        Raises:
            DALAnomalyError: One of its subclasses, with a message for the user.
        """
        run = _Run(progress, cancel)
        request = ScanRequest(volume, sequence, brain_mask, description, extraction)
        score = self.metadata.config.score
        score = replace(score, sign=sign or score.sign)
        prepared, restoration = self._restore(request, preprocessing, score, run)
        score = score.for_sequence(prepared.sequence)
        (detection,) = self._interpret(prepared, restoration, [score], threshold, run)
        return detection

    def detect_all_scores(
        self,
        volume: Volume,
        sequence: str = AUTOMATIC,
        brain_mask: Volume | None = None,
        sign: SignChoice | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        description: ScanDescription | None = None,
        extraction: ExtractionMethod = "auto",
        preprocessing: PreprocessingConfig | None = None,
    ) -> dict[ScoreKind, Detection]:
        """`detect` for every kind of score of Table 5 and for plain intensity, from one pass of the network."""
        run = _Run(progress, cancel)
        request = ScanRequest(volume, sequence, brain_mask, description, extraction)
        score = self.metadata.config.score
        score = replace(score, sign=sign or score.sign)
        prepared, restoration = self._restore(request, preprocessing, score, run)
        configs = [score.of_kind(kind, prepared.sequence) for kind in SCORE_KINDS]
        detections = self._interpret(prepared, restoration, configs, None, run)
        return dict(zip(SCORE_KINDS, detections, strict=True))

    def prepare(
        self,
        request: ScanRequest,
        preprocessing: PreprocessingConfig | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> PreparedScan:
        """Bring a scan to the model's grid and scale without running the network; see `detect`."""
        config = preprocessing or self.metadata.config.preprocessing
        log = StepLog(config.skip, progress, cancel)
        return prepare_scan(request, self.standard, config, self.equipment, self.device, log)

    def _restore(
        self, request: ScanRequest, preprocessing: PreprocessingConfig | None, score: ScoreConfig, run: _Run
    ) -> tuple[PreparedScan, Restoration]:
        config = preprocessing or self.metadata.config.preprocessing
        prepared = self.prepare(
            request, config, lambda stage, fraction: run.stage(stage, _PREPARED * fraction), run.cancel
        )
        run.stage("restoring the healthy image", _PREPARED)
        restoration = self._restored(prepared, run)
        if config.second_pass:
            run.stage("standardising again without anomalies", 0.7)
            prepared = self._standardised_again(prepared, restoration, config, score)
            restoration = self._restored(prepared, run)
        return prepared, restoration

    def _restored(self, prepared: PreparedScan, run: _Run) -> Restoration:
        known = self.metadata.config.network.sequences
        index = torch.tensor([known.index(prepared.sequence)], device=self.device)
        model, config = self._model, self.metadata.config.restoration
        with cancellable(model.network, run.cancel):
            return restore(model.network, prepared.image, prepared.brain, index, config, model.typical)

    def _judged(self, prepared: PreparedScan, restoration: Restoration) -> Verdict | None:
        """Whether the scan looks like those of training; None where the model does not say how those look."""
        reference = self._model.reference.get(prepared.sequence)
        if reference is None:
            return None
        template, tissues = self._model.templates[prepared.sequence], self.metadata.tissue_of_class
        # unmatched: what the network cannot paint by itself is a sign
        one_pass = replace(restoration, pseudo_healthy=restoration.one_pass)
        figures = scan_figures(prepared.image, prepared.brain, one_pass, template, tissues)
        return judge(figures, reference, prepared.sequence)

    def _standardised_again(
        self, prepared: PreparedScan, restoration: Restoration, config: PreprocessingConfig, score: ScoreConfig
    ) -> PreparedScan:
        """Leave out of the intensity landmarks what a first pass found anomalous."""
        score = score.for_sequence(prepared.sequence)
        scores = score_map(prepared.image, restoration.pseudo_healthy, prepared.brain, score)
        # not the calibrated one: calibrating must not change the scores that it is made of
        threshold = self.metadata.thresholds[prepared.sequence][score.kind]
        landmarks = None if "standardisation" in config.skip else self.metadata.landmarks[prepared.sequence]
        return without_anomalies(prepared, scores >= threshold, landmarks)

    def _interpret(
        self,
        prepared: PreparedScan,
        restoration: Restoration,
        score_configs: Sequence[ScoreConfig],
        threshold: float | None,
        run: _Run,
    ) -> list[Detection]:
        """Bring everything back to the scan's grid, and score in every way that is asked for."""
        config = self.metadata.config
        run.stage("returning to the scan's grid", 0.8)
        verdict = self._judged(prepared, restoration)
        strange = (verdict.warning,) if verdict is not None and verdict.warning is not None else ()
        back = WayBack(prepared, run.cancel)
        pseudo_healthy = back.intensities(restoration.pseudo_healthy)
        tissue_of_class = torch.tensor([0, *self.metadata.tissue_of_class], device=self.device)
        tissues = back.labels(tissue_of_class[class_index(restoration.anatomy.image, config.network.classes)])
        edges = back.labels(restoration.edges)
        uncertainty = None if restoration.spread is None else back.continuous(restoration.spread)
        detections = []
        for done, score_config in enumerate(score_configs):
            run.stage("scoring", 0.85 + 0.15 * done / len(score_configs))
            on_model = score_map(prepared.image, restoration.pseudo_healthy, prepared.brain, score_config)
            score = back.continuous(on_model)
            recommended = self.recommended_threshold(prepared.sequence, score_config)
            chosen = recommended if threshold is None else threshold
            run.stage("listing findings", 0.85 + 0.15 * (done + 0.5) / len(score_configs))
            labels, findings = find_findings(score, prepared.brain_mask, chosen, config.minimum_finding_ml)
            detections.append(
                Detection(
                    score=score,
                    pseudo_healthy=pseudo_healthy,
                    tissues=tissues,
                    edges=edges,
                    brain_mask=prepared.brain_mask,
                    uncertainty=uncertainty,
                    findings_mask=labels,
                    findings=findings,
                    modality_vector=restoration.modality[0].cpu().numpy(),
                    sequence=prepared.sequence,
                    sequence_evidence=prepared.sequence_evidence,
                    threshold=chosen,
                    provenance=self._provenance(prepared, score_config, chosen, run)
                    | {"out_of_distribution": verdict.record if verdict is not None else None},
                    warnings=(*prepared.warnings, *strange),
                    prepared=prepared,
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
            "model": self.identity,
            "device": str(self.device),
            "parameters": {
                "sequence": prepared.sequence,
                "sequence_evidence": prepared.sequence_evidence,
                "score": score_config.kind,
                "sign": score_config.sign,
                "threshold": threshold,
                "minimum_finding_ml": self.metadata.config.minimum_finding_ml,
                "model_grid_shape": list(prepared.grid.shape),
                "model_grid_spacing_mm": list(prepared.grid.spacing),
            },
            "steps": [asdict(step) for step in prepared.steps],
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
