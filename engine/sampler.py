"""The denoising loop, as a generator: one yield a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from flagdit.cpp_ext import Step
from flagdit.engine.layout import FloatArray
from flagdit.engine.ras import Plan, RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.session import Array, Binding, OnnxSession


@dataclass(frozen=True)
class StepTime:
    """One step that was done, and the seconds of its engine calls and of the work between the calls."""

    step: Step
    evaluations: int
    denoise: float
    host: float


def sample(
    denoise: OnnxSession,
    state: RegionState,
    plan: Plan,
    conditions: Mapping[str, Array],  # of the denoise graph, constant over the run
    modulations: Mapping[str, Array],  # of the denoise graph, (E, ...): one row an evaluation
    guidance: FloatArray,  # (P,) scale of every value of a patch
    ras: RasConfig,
) -> Iterator[StepTime]:
    """Integrate the flow from noise to image; `state` holds the latents after every yield.

    All evaluations of a step compute the same tokens: the head is chosen before the first of them.
    """
    bindings: dict[int, Binding] = {}  # by active: all addresses of a run are fixed
    for index, calls in groupby(enumerate(plan.evaluations), key=lambda call: call[1].step):
        start = time.perf_counter()
        step, count, seconds = plan.steps[index], 0, 0.0
        if step.index and not step.dense:
            state.repartition(plan, step.index, ras)
        if step.active not in bindings:
            inputs, outputs = state.head(step.active)
            bindings[step.active] = denoise.bind({**inputs, **conditions}, outputs)
        binding = bindings[step.active]
        for row, evaluation in calls:
            for name, rows in modulations.items():
                binding.bind_input(name, rows[row])
            ready = time.perf_counter()
            binding.run()
            seconds += time.perf_counter() - ready
            state.advance(plan, evaluation, guidance, ras)
            count += 1
        yield StepTime(step, count, denoise=seconds, host=time.perf_counter() - start - seconds)
