"""What int8 and fp8 need before an engine is built: scales beside it. What they cost: pictures beside those in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flagdit.engine.bundle.manifest import ModelSpec
from flagdit.engine.bundle.regular import digest
from flagdit.engine.compiler.find_scales import PROMPTS, find_scales, load_wide, opened, pipeline_of, run_of
from flagdit.engine.compiler.quantised import to_quantised
from flagdit.engine.compiler.scales import SCALES, Low, Scales, read_scales, write_scales
from flagdit.engine.errors import BuildError
from flagdit.engine.layout import FloatArray

SEEN = 3
"""Pictures that are painted in fp32 and beside it."""

Report = Callable[[float], None]


class Difference(NamedTuple):
    """What quantised products do to pictures: the mean PSNR to those in fp32, in dB, over how many."""

    psnr: float
    pictures: int


def scales_for(
    model_dir: Path, spec: ModelSpec, output: Path, *, kept: Path | None, prompts: Sequence[str], report: Report
) -> Scales:
    """The scales of a model, which then lie in the directory `output` (SCALES).

    kept: scales that were found before, which are taken as they are if there are any, unless there are prompts to find
    others on. Raises BuildError if they are of another graph, or there is nothing to find them on.
    """
    graph = digest(model_dir / spec.graphs.denoise.file).sha256
    if kept is not None and kept.is_file() and not prompts:
        scales = read_scales(kept)
        if scales.graph != graph:
            raise BuildError(f"{kept} is of another graph; remove it, and its scales are found anew")
    else:
        scales = find_scales(model_dir, spec, prompts, report=report)
    write_scales(output / SCALES, scales)
    return scales


def difference_of(model_dir: Path, spec: ModelSpec, low: Low, scales: Scales, *, report: Report) -> Difference | None:
    """Pictures with products in `low` beside those of the model's own graph, both on the CPU, all else in fp32.

    The prompts are examples that the scales were not found on, if there are others. None if nothing can be painted.
    """
    prompts = [p for p in spec.examples if p not in scales.prompts][:SEEN] or list(scales.prompts)[:SEEN]
    if not spec.texts or not prompts:
        return None
    pipeline, graph, decibels = pipeline_of(model_dir, spec), model_dir / spec.graphs.denoise.file, []
    model = load_wide(graph)
    to_quantised(model, low, scales, half=None)
    denoise = opened(graph, model)
    for number, prompt in enumerate(prompts):
        seed = PROMPTS + number
        wanted = run_of(pipeline, pipeline.stages.denoise, prompt, seed).latents
        made = run_of(pipeline, denoise, prompt, seed).latents
        decibels.append(psnr_of(made, wanted, bounded=spec.latent.space == "pixels"))
        report((number + 1) / len(prompts))
    return Difference(round(float(np.mean(decibels)), 2), len(prompts))


def psnr_of(made: FloatArray, wanted: FloatArray, *, bounded: bool) -> float:
    """In dB, at most 100. bounded: of pixels in [-1, 1]; otherwise of latents, over the largest of those wanted."""
    if bounded:
        made, wanted = np.clip(made, -1, 1), np.clip(wanted, -1, 1)
    most = 1.0 if bounded else float(np.abs(wanted).max())
    error = float(np.square(made - wanted, dtype=np.float64).mean()) / most**2
    return float(10 * np.log10(4 / max(error, 4e-10)))
