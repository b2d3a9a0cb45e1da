"""The denoising loop, as a generator: one yield a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from flagdit.cpp_ext import Step
from flagdit.engine import adapt
from flagdit.engine.layout import FloatArray
from flagdit.engine.ras import Plan, RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.session import Array, Binding, OnnxSession


@dataclass(frozen=True)
class StepTime:
    """One step that was done, and the seconds of its engine calls and of the work between the calls.

    step: as it was done, which is as it was planned unless the run decides (RasConfig.error_budget, gate).
    """

    step: Step
    evaluations: int  # engine calls; a step that the gate passed over made none
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
        step = decide(plan, plan.steps[index], state, ras)
        count, seconds = 0, 0.0
        if step.index and not step.dense and step.active:
            state.repartition(plan, step, ras)
        for row, evaluation in calls:
            if step.active:
                if step.active not in bindings:
                    inputs, outputs = state.head(step.active)
                    bindings[step.active] = denoise.bind({**inputs, **conditions}, outputs)
                binding = bindings[step.active]
                for name, rows in modulations.items():
                    binding.bind_input(name, rows[row])
                ready = time.perf_counter()
                binding.run()
                seconds += time.perf_counter() - ready
                count += 1
            state.advance(plan, step, evaluation, guidance, ras)
        yield StepTime(step, count, denoise=seconds, host=time.perf_counter() - start - seconds)


def decide(plan: Plan, step: Step, state: RegionState, ras: RasConfig) -> Step:
    """The step as planned; or with more tokens, to stay within the error budget; or with none, if the gate says so."""
    if step.dense or not (ras.error_budget or ras.gate):
        return step
    errors = adapt.errors_left(*state.patches(state.score, state.velocity))
    if errors[0] < ras.gate:
        (age,) = state.patches(state.age)
        if not adapt.forced(age, plan.capacity[step.index], plan.max_age):
            return adapt.with_active(step, 0, plan.tokens)
    if not ras.error_budget:
        return step
    active = plan.pinned + adapt.needed(errors, ras.error_budget, ras.bucket)
    return adapt.with_active(step, max(step.active, active), plan.tokens)
