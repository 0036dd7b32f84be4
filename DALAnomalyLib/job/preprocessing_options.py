"""What the user may ask of preprocessing, over the choices of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from DALAnomalyLib.configuration import PreprocessingConfig, RegistrationBackend, WindowPlacement
from DALAnomalyLib.errors import UsageError

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detector
    from DALAnomalyLib.preprocessing.extraction_choice import ExtractionMethod

EXTRACTIONS = ("auto", "stripped", "network", "hd-bet", "synthstrip", "atlas")
BACKENDS = ("simpleitk", "greedy")
WINDOWS = ("brain", "atlas")
PREPROCESSED = ("brain_extraction", "n4", "registration")
"""What a scan needs no more that lies skull-stripped and corrected in the atlas' pose."""


@dataclass(frozen=True)
class PreprocessingOptions:
    """What the user asked of preprocessing; None leaves the choice to the model."""

    skip: str | None = None
    preprocessed: bool = False
    extraction: str = "auto"
    registration: str | None = None
    window: str | None = None
    second_pass: bool = False
    atlas: Path | None = None
    series: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        """Refuse what can be refused before anything is read."""
        for option, value, known in (
            ("--brain-extraction", self.extraction, EXTRACTIONS),
            ("--registration", self.registration or BACKENDS[0], BACKENDS),
            ("--window", self.window or WINDOWS[0], WINDOWS),
        ):
            if value not in known:
                msg = f"{option} is {value}; choose one of {', '.join(known)}"
                raise UsageError(msg)
        if self.skip is not None and self.preprocessed:
            msg = "--preprocessed and --skip both name the steps to leave out; give one of them"
            raise UsageError(msg)
        PreprocessingConfig(skip=self.skipped or ())

    @property
    def skipped(self) -> tuple[str, ...] | None:
        """The steps named by the user; None if there is no wish."""
        if self.preprocessed:
            return PREPROCESSED
        if self.skip is None:
            return None
        return tuple(name.strip() for name in self.skip.split(",") if name.strip() not in ("", "none"))

    @property
    def extraction_method(self) -> ExtractionMethod:
        """How the brain is found."""
        return cast("ExtractionMethod", self.extraction)

    def over(self, config: PreprocessingConfig) -> PreprocessingConfig:
        """A model's configuration with the user's wishes."""
        return replace(
            config,
            skip=config.skip if self.skipped is None else self.skipped,
            registration_backend=cast("RegistrationBackend", self.registration or config.registration_backend),
            window=cast("WindowPlacement", self.window or config.window),
            second_pass=self.second_pass or config.second_pass,
        )

    def load_detector(self, model: Path | None, device: str, outline_device: str | None = None) -> Detector:
        """The detector of a model file, or of the shipped model, with atlas and cache as wished.

        Args:
            model: model file; None for the shipped one.
            device: where the networks run.
            outline_device: where the brain is outlined, if not there.
        """
        from DALAnomalyLib.detector import Detector
        from DALAnomalyLib.preprocessing.step_cache import StepCache, default_cache_folder

        cache = StepCache(default_cache_folder()) if self.cache else None
        return Detector.load(model, device, self.atlas, cache, outline_device)
