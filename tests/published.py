"""The published sampling loop of RAS (arXiv 2502.10389), simulated from its description, for one square image.

It keeps what was published: patches of 2 by 2 pixels found by arithmetic that takes the image for a square, int()
twice, one sign of the starvation exponent on both sides, drop counts that begin at -(n + 1). In float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Settings:
    """What the published command line sets, under our names; skip_every 0 is its static mode."""

    ratio: float = 0.5
    steps: int = 30
    high_ratio: float = 1.0
    starvation: float = 0.1
    metric: str = "std"
    warmup: int = 4
    resets: tuple[int, ...] = (12, 22)
    skip_step: int = 0
    skip_every: int = 0

    def is_ras(self, i: int) -> bool:
        return self.warmup <= i < self.steps and i not in self.resets


def skip_list(s: Settings, rows: int, columns: int) -> list[int]:
    """How many patches every step skips."""
    skips = []
    for i in range(s.steps):
        skip = int((1 - s.ratio) * rows * columns)
        if s.skip_every:
            skip += s.skip_step * (i // s.skip_every - ((s.steps + s.warmup) // s.skip_every) // 2)
            skip = skip // 64 * 64
        skips.append(skip if s.is_ras(i) else 0)
    return skips


def halves(skip: int, high_ratio: float) -> tuple[int, int]:
    """How many patches are dropped from the low side and from the high one."""
    return int(skip * (1 - high_ratio)), int(skip * high_ratio)


def patch_metric(velocity: Tensor, metric: str) -> Tensor:
    """(C, H, W) -> (patches,)."""
    pixels = velocity.std(dim=0) if metric == "std" else velocity.norm(dim=0)
    return F.avg_pool2d(pixels[None], 2).flatten()


def pixels_of(patches: Tensor, size: int) -> Tensor:
    """Indices of the patches' pixels in a flattened size x size image."""
    corner = patches // (size // 2) * 2 * size + patches % (size // 2) * 2
    return torch.cat([corner, corner + 1, corner + size, corner + size + 1])


def split(metric: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Active and dropped patches. Refuses near ties, which would compare rounding and not the rule."""
    values, order = torch.sort(metric, stable=True)
    for border in (low, len(order) - high):
        if 0 < border < len(order):
            assert values[border] - values[border - 1] > 1e-6 * values[border]
    active = order[low : len(order) - high]
    return active, torch.cat([order[:low], order[len(order) - high :]])


def run(s: Settings, latent: Tensor, velocities: Tensor, times: Sequence[float]) -> Iterator[tuple[set[int], Tensor]]:
    """Active patches and latent (C, H, W) after each step; velocities (steps, C, H, W) are those of all patches."""
    channels, size = latent.shape[0], latent.shape[-1]
    patches = size * size // 4
    skips = skip_list(s, size // 2, size // 2)
    drops = torch.full((patches,), -(s.steps + 1), dtype=torch.float64)
    active = dropped = torch.arange(patches)
    cached = torch.zeros(0)
    for i in range(s.steps):
        output = velocities[i].reshape(channels, -1).clone()
        if s.is_ras(i):
            output = torch.zeros_like(output).index_copy(1, pixels_of(active, size), output[:, pixels_of(active, size)])
            output[:, pixels_of(dropped, size)] = cached
        latent = latent + (times[i + 1] - times[i]) * output.reshape(latent.shape)
        yield (set(active.tolist()) if s.is_ras(i) else set(range(patches))), latent
        if s.is_ras(i + 1):
            metric = patch_metric(output.reshape(latent.shape), s.metric) * torch.exp(s.starvation * drops)
            active, dropped = split(metric, *halves(skips[i + 1], s.high_ratio))
            drops[dropped] += 1
            cached = output[:, pixels_of(dropped, size)]
