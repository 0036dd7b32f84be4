"""What preprocessing needs besides the scan: atlas, brain extraction network, cache; each loaded on first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from DALAnomalyLib.network.brain_extractor_file import LoadedExtractor, load_extractor
from DALAnomalyLib.preprocessing.atlas import Atlas, load_atlas
from DALAnomalyLib.preprocessing.step_cache import StepCache
from DALAnomalyLib.volume import AnyArray


class Equipment:
    """The tools of preprocessing, shared by all scans of a run."""

    def __init__(
        self, atlas: Path | None = None, device: torch.device | None = None, step_cache: StepCache | None = None
    ) -> None:
        """Use the atlas in a folder (without one, the shipped atlas), a device for networks, and maybe a cache."""
        self._atlas_folder = atlas
        self._device = device
        self._cache = step_cache

    def atlas(self) -> Atlas:
        """The atlas; raises `ModelFileError` when it is not there."""
        return load_atlas(self._atlas_folder)

    def extractor(self) -> LoadedExtractor:
        """The brain extraction network; raises `ModelFileError` when it is not there."""
        return _extractor(self._device)

    def remembered(self, key: str, compute: Callable[[], dict[str, AnyArray]]) -> tuple[dict[str, AnyArray], bool]:
        """What the cache holds under `key`, or else what `compute` gives; and whether the cache held it."""
        kept = self._cache.get(key) if self._cache else None
        if kept is not None:
            return kept, True
        made = compute()
        if self._cache:
            self._cache.put(key, made)
        return made, False


@cache
def _extractor(device: torch.device | None) -> LoadedExtractor:
    return load_extractor(device=device)
