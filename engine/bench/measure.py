"""Runs of all settings over the same prompts and seeds, interleaved, so that what disturbs one disturbs all.

Letters: B pictures, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.settings import STEPS, Setting
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.layout import FloatArray, model_shift
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.presets import Preset
from flagdit.engine.request import Request
from flagdit.engine.result import Result

Extra = Callable[[FloatArray, FloatArray, int], dict[str, npt.NDArray[np.float64]]]
"""More measures, of pictures and of the exact ones (B, C, H, W), and of the number of the first: of each, by name."""


@dataclass
class Entry:
    """What one setting took and gave. Ratios are to 30 dense Euler steps in the same run.

    cost: FLOPs. time: CPU seconds of the whole run. denoise: wall seconds of calls of `denoise`. host: share of the
    wall time spent between them. efficiency: what part of the speedup that the FLOPs allow calls of `denoise` had.
    psnr: dB to the exact picture. ssim: structural similarity to it. cache_bytes: of one picture. seconds: of a CPU, of
    one picture.
    """

    name: str
    family: str
    steps: int
    solver: str
    cost: float
    time: float
    denoise: float
    host: float
    efficiency: float
    psnr: float
    psnr_error: float  # standard error of the mean
    ssim: float
    cache_bytes: int
    seconds: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class _Sums:
    """What one setting has gathered so far."""

    cost: float = 0.0
    cpu: float = 0.0
    denoise: float = 0.0
    host: float = 0.0
    pictures: int = 0
    cache_bytes: float = 0.0
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    extra: dict[str, list[float]] = field(default_factory=dict)


def psnr(pictures: FloatArray, exact: FloatArray) -> npt.NDArray[np.float64]:
    """Of each picture (B, C, H, W) with values in [-1, 1], in dB; at most 100."""
    return decibels(np.square(np.clip(pictures, -1, 1) - np.clip(exact, -1, 1), dtype=np.float64).mean((1, 2, 3)))


def decibels(error: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of mean squared errors of values in [-1, 1]; at most 100."""
    out: npt.NDArray[np.float64] = 10 * np.log10(4 / np.maximum(error, 4e-10))
    return out


def ssim(pictures: FloatArray, exact: FloatArray) -> npt.NDArray[np.float64]:
    """Structural similarity (Wang et al. 2004) of each picture (B, C, H, W) with values in [-1, 1]."""
    from skimage.metrics import structural_similarity as similarity

    pairs = zip(np.clip(pictures, -1, 1), np.clip(exact, -1, 1), strict=True)
    return np.array([similarity(a, b, data_range=2.0, channel_axis=0) for a, b in pairs])  # type: ignore[no-untyped-call]


def paint(
    pipeline: Pipeline,
    how: Preset,
    prompts: Sequence[str],
    *,
    first: int,
    size: tuple[int, int] | None = None,
    guidance: float | None = None,
) -> Result:
    """Pictures of prompts, the first of which has the seed `first`, sampled as `how` says."""
    scale = pipeline.spec.guidance.chosen(guidance)
    run = pipeline.start(request_of(pipeline.spec, how, prompts, first=first, size=size, guidance=scale))
    for _ in run:
        pass
    return run.result()


def request_of(
    spec: ModelSpec,
    how: Preset,
    prompts: Sequence[str],
    *,
    first: int,
    size: tuple[int, int] | None,
    guidance: float,
) -> Request:
    """Pictures of prompts, the first of which has the seed `first`."""
    shift = model_shift(spec, size) if how.shift is None else how.shift
    seeds = list(range(first, first + len(prompts)))
    return Request.of(replace(how, shift=shift), list(prompts), seeds, size=size, guidance=guidance)


class Checks(Protocol):
    """Who knows what a bundle can do: a Pipeline, or a Preflight of one that is not loaded yet."""

    spec: ModelSpec

    def check(self, request: Request, /) -> None: ...


def check(
    bundle: Checks,
    chosen: Sequence[Setting],
    prompts: Sequence[str],
    *,
    batch: int,
    size: tuple[int, int] | None,
    guidance: float,
) -> None:
    """Raise RequestError if a setting or a prompt is one that `measure` would refuse, which may be after hours."""
    for first in range(0, len(prompts), batch):
        bundle.check(
            request_of(
                bundle.spec, chosen[0].how, prompts[first : first + batch], first=first, size=size, guidance=guidance
            )
        )
    for setting in chosen[1:]:
        bundle.check(request_of(bundle.spec, setting.how, prompts[:batch], first=0, size=size, guidance=guidance))


def measure(
    pipeline: Pipeline,
    chosen: Sequence[Setting],
    prompts: Sequence[str],
    *,
    batch: int = 4,
    exactly: ExactPictures | None = None,
    extra: Extra | None = None,
) -> Iterator[list[Entry]]:
    """All settings on one batch of prompts after another: yields the entries over the pictures so far.

    The first setting must be 30 dense Euler steps. Picture i has seed i. exactly: makes the exact pictures, and says
    their size and guidance scale; by default the model's own. Raises RequestError before the first picture
    if a setting or a prompt cannot be.
    """
    sums, exactly = [_Sums() for _ in chosen], exactly or ExactPictures(pipeline, None, pipeline.spec.guidance.scale)
    check(pipeline, chosen, prompts, batch=batch, size=exactly.size, guidance=exactly.guidance)
    for first in range(0, len(prompts), batch):
        texts = list(prompts[first : first + batch])
        exact = exactly(texts, first)
        wanted: FloatArray | None = None
        for setting, total in zip(chosen, sums, strict=True):
            start = time.process_time()
            result = paint(pipeline, setting.how, texts, first=first, size=exactly.size, guidance=exactly.guidance)
            total.cpu += time.process_time() - start
            wanted = result.decoded(exact) if wanted is None else wanted
            made = result.decoded(result.latents)
            _add(total, result, setting, made=made, exact=wanted)
            for name, values in (extra(made, wanted, first) if extra else {}).items():
                total.extra.setdefault(name, []).extend(values.tolist())
        yield _entries(chosen, sums)


def _add(total: _Sums, result: Result, setting: Setting, *, made: FloatArray, exact: FloatArray) -> None:
    report, count = result.report, len(exact)
    total.cost += report.flop_ratio * setting.how.evaluations / STEPS * count
    total.denoise += report.seconds["denoise"]
    total.host += report.seconds["host"]
    total.cache_bytes += report.cache_bytes
    total.pictures += count
    total.psnr += psnr(made, exact).tolist()
    total.ssim += ssim(made, exact).tolist()


def _entries(chosen: Sequence[Setting], sums: Sequence[_Sums]) -> list[Entry]:
    dense = sums[0]
    return [
        Entry(
            name=setting.name,
            family=setting.family,
            steps=setting.how.count,
            solver=setting.how.solver,
            cost=total.cost / total.pictures,
            time=total.cpu / dense.cpu,
            denoise=total.denoise / dense.denoise,
            host=total.host / (total.host + total.denoise),
            efficiency=total.cost / total.pictures / (total.denoise / dense.denoise),
            psnr=float(np.mean(total.psnr)),
            psnr_error=float(np.std(total.psnr) / np.sqrt(len(total.psnr))),
            ssim=float(np.mean(total.ssim)),
            cache_bytes=round(total.cache_bytes / total.pictures),
            seconds=total.cpu / total.pictures,
            extra={name: float(np.mean(values)) for name, values in total.extra.items()},
        )
        for setting, total in zip(chosen, sums, strict=True)
    ]
