"""Runs of all settings over the same prompts and seeds, interleaved, so that what disturbs one disturbs all.

Letters: B pictures, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flagdit.engine.bench.exact import EXACT, EXACT_SHIFT, ExactPictures, identity
from flagdit.engine.bench.samples import Sample, Samples
from flagdit.engine.bench.settings import STEPS, Setting
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.layout import FloatArray, model_shift
from flagdit.engine.noise import NOISE
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.presets import Preset
from flagdit.engine.request import Request
from flagdit.engine.result import Result
from flagdit.engine.version import version_of

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
    kept: Samples | None = None,
) -> Iterator[list[Entry]]:
    """All settings on one batch of prompts after another: yields the entries over the pictures so far.

    The first setting must be 30 dense Euler steps. Picture i has seed i. exactly: makes the exact pictures, and says
    their size and guidance scale; by default the model's own. kept: what was measured before, which is not measured
    again (its times are those of then), and where the rest is put. Raises RequestError before the first picture if a
    setting or a prompt cannot be.
    """
    exactly = exactly or ExactPictures(pipeline, None, pipeline.spec.guidance.scale)
    check(pipeline, chosen, prompts, batch=batch, size=exactly.size, guidance=exactly.guidance)
    so_far: list[list[Sample]] = [[] for _ in chosen]
    for first in range(0, len(prompts), batch):
        group = Batch(pipeline, prompts[first : first + batch], first, exactly, extra, kept)
        for setting, samples in zip(chosen, so_far, strict=True):
            samples.append(group.sample(setting))
        yield [_entry(setting, samples, so_far[0]) for setting, samples in zip(chosen, so_far, strict=True)]


@dataclass
class Batch:
    """Prompts of which pictures are painted together, the first with the seed `first`."""

    pipeline: Pipeline
    prompts: Sequence[str]
    first: int
    exactly: ExactPictures
    extra: Extra | None = None
    kept: Samples | None = None
    _wanted: FloatArray | None = None  # exact pictures (B, 3, Y, X), decoded once

    def sample(self, setting: Setting) -> Sample:
        """What a setting gives, or gave before. Raises what the pipeline does, and OutputError if it cannot be kept."""
        if self.kept is None:
            return self._measured(setting)
        about = self._about(setting)
        known = self.kept.read(about, len(self.prompts))
        if known is None:
            known = self._measured(setting)
            self.kept.write(about, known)
        return known

    def _about(self, setting: Setting) -> list[object]:
        """All that a sample is of."""
        spec, chosen = self.pipeline.spec, self.pipeline.chosen
        engine = None if chosen.engine is None else chosen.engine.model_dump(mode="json")
        runs = [version_of("flagdit"), identity(self.pipeline), chosen.device, chosen.backend, engine]
        pictures = [self.exactly.size or spec.latent.size, self.exactly.guidance, NOISE, EXACT, EXACT_SHIFT]
        return [*runs, *pictures, list(self.prompts), self.first, repr(setting.how), self.extra is not None]

    @cached_property
    def _exact(self) -> FloatArray:
        return self.exactly(self.prompts, self.first)

    def _measured(self, setting: Setting) -> Sample:
        exact, start = self._exact, time.process_time()
        size, guidance = self.exactly.size, self.exactly.guidance
        result = paint(self.pipeline, setting.how, self.prompts, first=self.first, size=size, guidance=guidance)
        cpu, report = time.process_time() - start, result.report
        made = result.decoded(result.latents)
        if self._wanted is None:
            self._wanted = result.decoded(exact)
        wanted = self._wanted
        more = self.extra(made, wanted, self.first) if self.extra else {}
        return Sample(
            cost=report.flop_ratio * setting.how.evaluations / STEPS * len(made),
            cpu=cpu,
            denoise=report.seconds["denoise"],
            host=report.seconds["host"],
            cache_bytes=report.cache_bytes,
            psnr=psnr(made, wanted).tolist(),
            ssim=ssim(made, wanted).tolist(),
            extra={name: values.tolist() for name, values in more.items()},
        )


def _entry(setting: Setting, samples: Sequence[Sample], dense: Sequence[Sample]) -> Entry:
    """Of a setting, beside what dense steps took for the same pictures."""
    near = [value for sample in samples for value in sample.psnr]
    cpu, denoise = (sum(getattr(s, name) for s in samples) for name in ("cpu", "denoise"))
    host, cost = sum(s.host for s in samples), sum(s.cost for s in samples) / len(near)
    ratio = denoise / sum(s.denoise for s in dense)
    return Entry(
        name=setting.name,
        family=setting.family,
        steps=setting.how.count,
        solver=setting.how.solver,
        cost=cost,
        time=cpu / sum(s.cpu for s in dense),
        denoise=ratio,
        host=host / (host + denoise),
        efficiency=cost / ratio,
        psnr=float(np.mean(near)),
        psnr_error=float(np.std(near) / np.sqrt(len(near))),
        ssim=float(np.mean([value for s in samples for value in s.ssim])),
        cache_bytes=round(sum(s.cache_bytes for s in samples) / len(near)),
        seconds=cpu / len(near),
        extra={name: float(np.mean([v for s in samples for v in s.extra[name]])) for name in samples[0].extra},
    )
