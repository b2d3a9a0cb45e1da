"""The denoising loop, as a generator: one yield a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flagdit.cpp_ext import Step
from flagdit.engine.layout import FloatArray
from flagdit.engine.ras import Plan, RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.session import Array, Binding, OnnxSession


@dataclass(frozen=True)
class StepTime:
    """One step that was done, and the seconds of its engine call and of the work between the calls."""

    step: Step
    denoise: float
    host: float


def sample(
    denoise: OnnxSession,
    state: RegionState,
    plan: Plan,
    conditions: Mapping[str, Array],  # of the denoise graph, constant over the run
    modulations: Mapping[str, Array],  # of the denoise graph, (S, ...): one row a step
    guidance: FloatArray,  # (P,) scale of every value of a patch
    ras: RasConfig,
) -> Iterator[StepTime]:
    """Integrate the flow from noise to image with Euler steps; `state` holds the latents after every yield."""
    bindings: dict[int, Binding] = {}  # by active: all addresses of a run are fixed
    for step in plan.steps:
        start = time.perf_counter()
        if step.index and not step.dense:
            state.repartition(plan, step.index, ras)
        if step.active not in bindings:
            inputs, outputs = state.head(step.active)
            bindings[step.active] = denoise.bind({**inputs, **conditions}, outputs)
        binding = bindings[step.active]
        for name, rows in modulations.items():
            binding.bind_input(name, rows[step.index])
        ready = time.perf_counter()
        binding.run()
        done = time.perf_counter()
        state.advance(step.active, step.t_next - step.t, guidance, ras)
        yield StepTime(step, denoise=done - ready, host=ready - start + time.perf_counter() - done)
