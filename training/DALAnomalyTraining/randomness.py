"""Random numbers that depend on what is drawn and not on when.

That is what makes resuming step-exact, and results equal on one process or several.
"""

from __future__ import annotations

import hashlib

import torch


def generator_for(device: torch.device, *key: object) -> torch.Generator:
    """A generator on `device` whose stream is a function of `key` alone, such as (seed, "train", step, slot)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`."""
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def chance(generator: torch.Generator, probability: float) -> bool:
    """True with `probability`."""
    return uniform(generator, 0.0, 1.0) < probability


def smooth_noise(
    generator: torch.Generator, shape: tuple[int, ...], cells: tuple[int, int, int], channels: int = 1
) -> torch.Tensor:
    """Normal noise on `cells` control points, interpolated to `shape` (D, H, W): float32 (channels, D, H, W)."""
    coarse = torch.randn((1, channels, *cells), generator=generator, device=generator.device)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]
