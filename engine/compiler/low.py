"""What int8 and fp8 need before an engine is built: scales beside it. What they cost: pictures beside those in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from flagdit.engine.bench.measure import decibels
from flagdit.engine.bundle.regular import digest
from flagdit.engine.compiler.find_scales import PROMPTS, Report, load_wide, opened, run_of
from flagdit.engine.compiler.quantised import to_quantised
from flagdit.engine.compiler.scales import Low, Scales, read_scales
from flagdit.engine.errors import BuildError
from flagdit.engine.layout import FloatArray
from flagdit.engine.pipeline import Pipeline

SEEN = 3
"""Pictures that are painted in fp32 and beside it."""


class Difference(NamedTuple):
    """What quantised products do to pictures: the mean PSNR to those in fp32, in dB, over how many."""

    psnr: float
    pictures: int


def kept_scales(path: Path, graph: Path) -> Scales:
    """Scales that were found before. Raises BuildError if they are of another graph."""
    scales = read_scales(path)
    if scales.graph != digest(graph).sha256:
        raise BuildError(f"{path} is of another graph; remove it, and its scales are found anew")
    return scales


def difference_of(pipeline: Pipeline, low: Low, scales: Scales, *, report: Report) -> Difference | None:
    """Pictures with products in `low` beside those of the model's own graph, both on the CPU, all else in fp32.

    pipeline: of `pipeline_of`. The prompts are examples that the scales were not found on, if there are others. None if
    there are none at all.
    """
    spec, seen = pipeline.spec, list[float]()
    prompts = [p for p in spec.examples if p not in scales.prompts][:SEEN] or list(scales.prompts)[:SEEN]
    if not prompts:
        return None
    graph = pipeline.bundle.path(spec.graphs.denoise.file)
    model = load_wide(graph)
    to_quantised(model, low, scales, half=None)
    denoise = opened(graph, model)
    for number, prompt in enumerate(prompts):
        seed = PROMPTS + number
        wanted = run_of(pipeline, pipeline.stages.denoise, prompt, seed).latents
        made = run_of(pipeline, denoise, prompt, seed).latents
        seen.append(psnr_of(made, wanted, bounded=spec.latent.space == "pixels"))
        report((number + 1) / len(prompts))
    return Difference(round(float(np.mean(seen)), 2), len(prompts))


def psnr_of(made: FloatArray, wanted: FloatArray, *, bounded: bool) -> float:
    """In dB, at most 100. bounded: of pixels in [-1, 1]; otherwise of latents, over the largest of those wanted."""
    if bounded:
        made, wanted = np.clip(made, -1, 1), np.clip(wanted, -1, 1)
    most = 1.0 if bounded else float(np.abs(wanted).max())
    return float(decibels(np.square(made - wanted, dtype=np.float64).mean() / most**2))
