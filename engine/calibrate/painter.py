"""Pictures of the prompts that a plan is judged by, and the converged ones that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import paint
from flagdit.engine.errors import NumberError
from flagdit.engine.layout import FloatArray
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.presets import Preset

BATCH = 4
"""Pictures that are painted at a time."""


@dataclass(frozen=True)
class Painter:
    """Paints always the same prompts with the same seeds: only the plan differs."""

    pipeline: Pipeline
    prompts: tuple[str, ...]
    seed: int  # of the first
    size: tuple[int, int] | None
    guidance: float
    exact: FloatArray  # (B, C, H, W), in [-1, 1]
    scale: float = 1.0
    """What latents of an autoencoder, which know no bounds, are divided by: the largest of the converged ones."""

    @classmethod
    def of(
        cls,
        exactly: ExactPictures,
        pipeline: Pipeline,
        prompts: Sequence[str],
        *,
        seed: int,
        progress: Callable[[], None] = lambda: None,
    ) -> Painter:
        """With its converged pictures, which are made now; `progress` is called after every few."""
        exact = []
        for first in range(0, len(prompts), BATCH):
            exact.append(exactly(prompts[first : first + BATCH], seed + first))
            progress()
        whole = np.concatenate(exact)
        scale = float(np.abs(whole).max()) if pipeline.spec.latent.space == "vae" else 1.0
        return cls(pipeline, tuple(prompts), seed, exactly.size, exactly.guidance, whole / np.float32(scale), scale)

    def __call__(self, how: Preset) -> FloatArray:
        """Pictures (B, C, H, W) of all prompts, or latents; NaNs where the plan runs off to what are no numbers."""
        return np.concatenate([self._some(how, first) for first in range(0, len(self.prompts), BATCH)])

    def _some(self, how: Preset, first: int) -> FloatArray:
        texts = self.prompts[first : first + BATCH]
        try:
            made = paint(self.pipeline, how, texts, first=self.seed + first, size=self.size, guidance=self.guidance)
            return made.latents / np.float32(self.scale)
        except NumberError:  # one of many plans that are tried; fit.mean_psnr puts it behind all others
            return np.full_like(self.exact[first : first + BATCH], np.nan)

    def first(self, count: int) -> Painter:
        """Of the first so many prompts alone."""
        return replace(self, prompts=self.prompts[:count], exact=self.exact[:count])
