"""The pseudo-healthy image of a scan from several passes of the network, matched to the scan's own intensities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.configuration import RestorationConfig
from DALAnomalyLib.intensity_alignment import follow_drift, match_tones
from DALAnomalyLib.network.dal_network import DALNetwork, Restoration

_LEFT_RIGHT = 4


@torch.inference_mode()
def restore(
    network: DALNetwork, image: Tensor, brain: Tensor, sequence: Tensor, config: RestorationConfig
) -> Restoration:
    """Eq. 14, averaged over views of the scan and matched to its intensities, as `config` says.

    What the network restores depends a little on how the scan lies on the grid; a lesion does not. Averaging over views
    cancels the former. Anatomy, edges and M are those of the scan as it lies.

    Args:
        network: In evaluation mode.
        image: x, float32 (B, 1, D, H, W), standardised to [0, 1], 0 outside the brain.
        brain: The same shape, 0 or 1.
        sequence: (B,), see `DALNetwork.restore`.
        config: How many views, and what is matched.

    Returns:
        With `pseudo_healthy` in [0, 1], 0 outside the brain, and, of several views, `spread`.
    """
    first = network.restore(image, brain, sequence)
    healthy, spread = first.pseudo_healthy, None
    if config.views > 1:
        healthy, spread = _over_views(network, image, brain, sequence, config.views, healthy)
    if config.tone_pieces:
        healthy = match_tones(healthy, image, brain, config.tone_pieces)
    if config.drift_mm:
        spacing = sum(network.config.grid.spacing) / 3
        healthy = follow_drift(healthy, image, brain, config.drift_mm / spacing)
    return replace(first, pseudo_healthy=healthy, spread=spread, painted=first.pseudo_healthy)


def _over_views(
    network: DALNetwork, image: Tensor, brain: Tensor, sequence: Tensor, count: int, first: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_r over `count` views, of which the first is done."""
    number, total, squares = torch.ones_like(brain), first.clone(), first.square()
    for view in _further_views(count):
        seen = network.restore(view.of(image), view.of(brain), sequence).pseudo_healthy
        restored, covered = view.back(seen), view.back(torch.ones_like(brain))
        number += covered
        total += restored
        squares += restored.square()
    mean = total / number
    variance = (squares / number - mean.square()).clamp_min(0)
    return mean * brain, variance.sqrt() * brain


@dataclass(frozen=True)
class _View:
    """A scan mirrored or not, and shifted by whole voxels along all axes; what leaves the grid is lost."""

    mirrored: bool
    shift: int

    def of(self, volume: Tensor) -> Tensor:
        volume = volume.flip(_LEFT_RIGHT) if self.mirrored else volume
        return _shifted(volume, self.shift)

    def back(self, volume: Tensor) -> Tensor:
        volume = _shifted(volume, -self.shift)
        return volume.flip(_LEFT_RIGHT) if self.mirrored else volume


def _further_views(count: int) -> Iterator[_View]:
    for shift in (0,) if count == 2 else (0, 1, -1):
        for mirrored in (False, True):
            if mirrored or shift:
                yield _View(mirrored, shift)


def _shifted(volume: Tensor, voxels: int) -> Tensor:
    # negative padding cuts off
    return functional.pad(volume, (voxels, -voxels) * 3) if voxels else volume
