"""Matching x_r to a scan: what scanners do is taken over, what lesions do is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.intensity_alignment import follow_drift, follow_shading, match_tones

SHAPE = (40, 44, 42)


def head() -> tuple[Tensor, Tensor]:
    """A healthy image of three tissues in smooth folds, and its brain: (1, 1, D, H, W)."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = ((z**2 + y**2 + x**2) < 0.8).float()[None, None]
    folds = torch.sin(9 * x) * torch.sin(8 * y + 1) + torch.sin(10 * z)
    tissues = torch.bucketize(folds, torch.tensor([-0.5, 0.4])).float()[None, None]
    return (0.2 + 0.25 * tissues) * brain, brain


def noise(seed: int = 0) -> Tensor:
    return 0.01 * torch.randn((1, 1, *SHAPE), generator=torch.Generator().manual_seed(seed))


def lesion() -> Tensor:
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")
    return (((z - 20) ** 2 + (y - 26) ** 2 + (x - 15) ** 2) < 6**2)[None, None]


def mean_error(first: Tensor, second: Tensor, where: Tensor) -> float:
    return float((first - second)[where].abs().mean())


class TestTones:
    def test_a_contrast_curve_is_taken_over(self) -> None:
        healthy, brain = head()
        image = (healthy**1.3 * 1.1 + noise()) * brain
        matched = match_tones(healthy, image, brain, pieces=6)
        inside = brain > 0
        assert mean_error(healthy, image, inside) > 0.04
        assert mean_error(matched, image, inside) < 0.012  # the noise alone is .008

    def test_a_lesion_is_not(self) -> None:
        healthy, brain = head()
        where = lesion()
        image = torch.where(where, 0.95, healthy + noise()) * brain
        matched = match_tones(healthy, image, brain, pieces=6)
        assert mean_error(matched, healthy, brain > 0) < 0.003

    def test_tissues_that_are_painted_alike_are_told_apart_by_another_painting(self) -> None:
        tissues, brain = head()
        # M paints the two brighter tissues alike, the scan does not; other vectors paint them apart, in another order
        healthy = tissues.clamp(max=0.45)
        image = torch.where(tissues > 0.6, 0.6, tissues) * brain + noise() * brain
        others = torch.cat([1 - tissues, (0.9 * tissues).clamp(max=0.3)], dim=1) * brain
        inside = brain > 0
        assert mean_error(match_tones(healthy, image, brain, pieces=6), image, inside) > 0.04
        assert mean_error(match_tones(healthy, image, brain, 6, others), image, inside) < 0.012

    def test_a_lesion_is_not_by_another_painting_either(self) -> None:
        tissues, brain = head()
        image = torch.where(lesion(), 0.95, tissues + noise()) * brain
        matched = match_tones(tissues.clamp(max=0.45), image, brain, 6, (1 - tissues) * brain)
        assert mean_error(matched, tissues, brain > 0) < 0.005

    def test_nothing_outside_the_brain_and_nothing_out_of_range(self) -> None:
        healthy, brain = head()
        matched = match_tones(healthy, (healthy + 0.9) * brain, brain, pieces=3)
        assert not matched[brain == 0].any()
        assert matched.max() <= 1

    def test_every_scan_of_a_batch_on_its_own(self) -> None:
        healthy, brain = head()
        images = [healthy * 0.8, healthy * 1.2]
        together = match_tones(torch.cat([healthy] * 2), torch.cat(images), torch.cat([brain] * 2), pieces=4)
        alone = [match_tones(healthy, image, brain, pieces=4) for image in images]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_hardly_any_brain_is_left_alone(self) -> None:
        healthy, _ = head()
        brain = torch.zeros_like(healthy)
        brain[..., 20, 20, 20] = 1
        torch.testing.assert_close(match_tones(healthy * brain, brain, brain, pieces=6), healthy * brain)


class TestShading:
    def test_a_gain_is_followed_better_than_by_a_drift(self) -> None:
        healthy, brain = head()
        gain = torch.linspace(0.5, 1.2, SHAPE[0]).view(-1, 1, 1)
        shaded, end = healthy * gain, (brain > 0) & (gain < 0.8)
        image = (shaded + 6 * noise()) * brain  # as far from the scan as a network's healthy image
        followed, drifted = (follow(healthy, image, brain, 4.0) for follow in (follow_shading, follow_drift))
        assert mean_error(followed, shaded, end) < 0.2 * mean_error(healthy, shaded, end)
        assert mean_error(followed, shaded, end) < 0.4 * mean_error(drifted, shaded, end)

    @pytest.mark.parametrize("change", [-0.15, 0.3])
    def test_a_lesion_is_not(self, change: float) -> None:
        healthy, brain = head()
        where = lesion()
        image = torch.where(where, healthy + change, healthy + noise()) * brain
        followed = follow_shading(healthy, image, brain, 8.0)
        assert float((image - followed)[where].mean()) / change > 0.93
        assert mean_error(followed, healthy, (brain > 0) & ~where) < 0.005

    def test_every_scan_of_a_batch_on_its_own(self) -> None:
        healthy, brain = head()
        images = [healthy * 0.8, healthy.clamp(max=0.5)]
        together = follow_shading(torch.cat([healthy] * 2), torch.cat(images), torch.cat([brain] * 2), 8.0)
        alone = [follow_shading(healthy, image, brain, 8.0) for image in images]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_no_difference_no_change_and_nothing_outside_the_brain(self) -> None:
        healthy, brain = head()
        torch.testing.assert_close(follow_shading(healthy, healthy, brain, 8.0), healthy)
        assert not follow_shading(healthy, (healthy + 0.1) * brain, brain, 8.0)[brain == 0].any()
        nothing = torch.zeros_like(healthy)
        assert torch.equal(follow_shading(nothing, nothing, brain, 8.0), nothing)


class TestDrift:
    @pytest.mark.parametrize("sigma", [3.0, 4.0])  # in a brain of 38 voxels
    def test_a_drift_is_followed(self, sigma: float) -> None:
        healthy, brain = head()
        ramp = torch.linspace(-0.1, 0.1, SHAPE[2])
        image = (healthy + ramp + noise()) * brain
        followed = follow_drift(healthy, image, brain, sigma)
        inside = brain > 0
        assert mean_error(healthy, image, inside) > 0.03
        assert mean_error(followed, image, inside) < 0.4 * mean_error(healthy, image, inside)

    def test_a_lesion_is_not(self) -> None:
        healthy, brain = head()
        where = lesion()
        image = torch.where(where, healthy + 0.3, healthy + noise()) * brain
        followed = follow_drift(healthy, image, brain, 8.0)
        assert float((image - followed)[where].mean()) > 0.95 * float((image - healthy)[where].mean())

    def test_nothing_outside_the_brain(self) -> None:
        healthy, brain = head()
        assert not follow_drift(healthy, (healthy + 0.1) * brain, brain, 8.0)[brain == 0].any()

    def test_no_difference_no_change(self) -> None:
        healthy, brain = head()
        torch.testing.assert_close(follow_drift(healthy, healthy, brain, 8.0), healthy)
