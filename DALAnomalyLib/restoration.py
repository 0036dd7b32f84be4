"""The pseudo-healthy image of a scan from several passes of the network, matched to the scan's own intensities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.configuration import RestorationConfig
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.intensity_alignment import follow_drift, follow_shading, match_tones
from DALAnomalyLib.network.dal_network import DALNetwork, Restoration

_LEFT_RIGHT = 4


@torch.inference_mode()
def restore(
    network: DALNetwork,
    image: Tensor,
    brain: Tensor,
    sequence: Tensor,
    config: RestorationConfig,
    typical: Tensor | None = None,
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
        typical: (k, m), modality vectors of typical scans: what they tell apart in the restored anatomy is matched to
            the scan separately, even where the scan's own M paints it alike. Needed for `config.typical_looks`.

    Returns:
        With `pseudo_healthy` in [0, 1], 0 outside the brain, and, of several views, `spread`.

    Raises:
        UsageError: `config` wants typical looks and `typical` is missing.
    """
    if not config.typical_looks:
        typical = None
    elif typical is None:
        msg = "typical_looks needs the modality vectors of typical scans; export the model again, or turn it off"
        raise UsageError(msg)
    first = network.restore(image, brain, sequence, typical)
    paintings, spread = _paintings(first), None
    if config.views > 1:
        paintings, spread = _over_views(network, image, brain, sequence, typical, config.views, paintings)
    healthy = paintings[:, :1]
    if config.tone_pieces:
        healthy = match_tones(healthy, image, brain, config.tone_pieces, paintings[:, 1:])
    spacing = sum(network.config.grid.spacing) / 3
    if config.shading_mm:
        healthy = follow_shading(healthy, image, brain, config.shading_mm / spacing)
    if config.drift_mm:
        healthy = follow_drift(healthy, image, brain, config.drift_mm / spacing)
    return replace(first, pseudo_healthy=healthy, spread=spread, painted=first.pseudo_healthy)


def _paintings(restoration: Restoration) -> Tensor:
    """x_r, then the restored anatomy as it looks on typical scans, (B, 1 + k, D, H, W)."""
    healthy, typical = restoration.pseudo_healthy, restoration.typical
    return healthy if typical is None else torch.cat([healthy, typical], dim=1)


def _over_views(
    network: DALNetwork,
    image: Tensor,
    brain: Tensor,
    sequence: Tensor,
    typical: Tensor | None,
    count: int,
    first: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean of all paintings over `count` views, of which the first is done, and standard deviation of x_r."""
    number, total, squares = torch.ones_like(brain), first.clone(), first.square()
    for view in _further_views(count):
        seen = network.restore(view.of(image), view.of(brain), sequence, typical)
        restored, covered = view.back(_paintings(seen)), view.back(torch.ones_like(brain))
        number += covered
        total += restored
        squares += restored.square()
    mean = total / number
    variance = (squares / number - mean.square())[:, :1].clamp_min(0)
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
