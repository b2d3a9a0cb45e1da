"""Pictures of a bundle's weights, painted by torch from the bundle's own text features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from flagdit.cpp_ext import flow_times
from flagdit.engine import Pipeline
from flagdit.engine.layout import FloatArray, model_shift
from flagdit.engine.noise import latent_noise
from flagdit.export import FlagDiT, load_checkpoint
from torch_sampling import Published, Task, sample_dense, sample_regions

Sample = Callable[[Task], Iterator[Tensor]]
"""From a task to a latent (1, C, H, W) after each step."""


@dataclass(frozen=True)
class Precision:
    """A model, the dtype of its weights, and whether it is cast to bf16 as it runs."""

    name: str
    model: FlagDiT
    dtype: torch.dtype
    autocast: bool = False


def precisions(directory: Path) -> tuple[Precision, Precision, Precision]:
    """The weights of a bundle in fp32, and two ways to compute in bf16."""
    whole, half = load_checkpoint(directory), load_checkpoint(directory).bfloat16()
    return (
        Precision("fp32", whole, torch.float32),
        Precision("bf16 weights", half, torch.bfloat16),
        Precision("bf16 autocast", whole, torch.float32, autocast=True),
    )


@dataclass(frozen=True)
class TorchPainter:
    """One way to sample, at one size. text_tokens: length that shorter texts are padded to."""

    pipeline: Pipeline
    size: tuple[int, int]
    guidance: float
    precision: Precision
    sample: Sample
    text_tokens: int = 0

    def __call__(self, prompt: str, seed: int, steps: int, on_step: Callable[[], None]) -> FloatArray:
        """Latents (1, C, H, W), from the noise that flagdit takes for the seed."""
        task = self._task(prompt, seed, steps)
        latents = task.noise
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.precision.autocast):
            for latent in self.sample(task):
                latents = latent
                on_step()
        out: FloatArray = latents.numpy()
        return out

    def _task(self, prompt: str, seed: int, steps: int) -> Task:
        spec = self.pipeline.spec
        text, mask = (torch.from_numpy(x) for x in self.pipeline.stages.text.encode([prompt, ""]))
        missing = max(0, self.text_tokens - text.shape[1])
        text, mask = F.pad(text, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        shape = (1, spec.latent.channels, self.size[1], self.size[0])
        noise = torch.from_numpy(latent_noise([seed], shape[1:]))
        scale = torch.ones(shape[1], 1, 1)
        scale[[c for c in spec.guidance.channels if c < len(scale)]] = self.guidance
        times = flow_times(steps, model_shift(spec, self.size))
        return Task(noise, text.to(self.precision.dtype), mask, times, scale)


def dense(model: FlagDiT) -> Sample:
    """All of the picture in every step."""
    return partial(sample_dense, model)


def regions(model: FlagDiT, options: Callable[[int], Published]) -> Sample:
    """Only some of it in most; the options are those of so many steps."""

    def sample(task: Task) -> Iterator[Tensor]:
        for _, latent in sample_regions(model, task, options(len(task.times) - 1)):
            yield latent

    return sample


def compiled(model: FlagDiT) -> Sample:
    """The dense model as torch.compile makes it for one size, its weights prepacked."""
    return partial(sample_dense, torch.compile(model, dynamic=False, options={"freezing": True}))


def seconds_of_a_step(painters: Sequence[TorchPainter], prompt: str, steps: int = 4) -> list[float]:
    """CPU time of each painter, in turn; the first steps do not count."""
    taken: list[float] = []
    for count in (1, steps):
        taken = []
        for paint in painters:
            start = time.process_time()
            paint(prompt, 0, count, lambda: None)
            taken.append((time.process_time() - start) / count)
    return taken
