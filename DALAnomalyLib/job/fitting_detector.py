"""One detector for many scans, where memory suffices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from DALAnomalyLib.job.memory_ladder import Attempt, attempts_on, first_that_fits
from DALAnomalyLib.job.preprocessing_options import PreprocessingOptions

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector

_Result = TypeVar("_Result")


class FittingDetector:
    """Moves its detector down the ladder of memory when a scan does not fit; the scans after it find it there.

    Attributes:
        detector: as it lies now; none where moving it failed.
        metadata: of its model.
        identity: of its model, as manifests have it.
        devices: where it has worked, in order.
    """

    detector: Detector

    def __init__(
        self,
        options: PreprocessingOptions,
        model: Path | None,
        device: str,
        say: Callable[[str, str], None],
        source: str,
    ) -> None:
        """Load the detector.

        Args:
            options: how scans are preprocessed.
            model: model file; None for the shipped one.
            device: where the networks shall run, as `resolve_device` knows it.
            say: told, for the user, with which scan memory ran out and what is tried next.
            source: what is said in the place of a scan if it runs out already while the model is loaded.

        Raises:
            DALAnomalyError: one of its subclasses; no such device, or the model cannot be loaded.
        """
        from DALAnomalyLib.device import resolve_device

        self._options, self._model, self._say = options, model, say
        self._attempts = attempts_on(str(resolve_device(device)))
        self._attempt: Attempt | None = None
        self.devices: list[str] = []
        self.metadata, self.identity = self.run(source, lambda detector: (detector.metadata, detector.identity))

    def run(self, source: str, work: Callable[[Detector], _Result]) -> _Result:
        """What `work` makes of the detector, and of the next one where memory runs out; `source` names its scan.

        Raises:
            DeviceError: memory does not suffice anywhere.
        """
        return first_that_fits(
            self._attempts, lambda attempt: work(self._placed(attempt)), lambda message: self._say(source, message)
        )

    def _placed(self, attempt: Attempt) -> Detector:
        if attempt != self._attempt:
            if self._attempt is not None:
                del self.detector  # out of memory before the next one comes
            self._attempt = None
            self.detector = self._options.load_detector(self._model, attempt.device, attempt.outline_device)
            self._attempt, self._attempts = attempt, self._attempts[self._attempts.index(attempt) :]
            self.devices = list(dict.fromkeys([*self.devices, str(self.detector.device)]))
        return self.detector
