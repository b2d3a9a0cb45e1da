"""The denoising loop, as a generator: one yield a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from flagdit.cpp_ext import Step
from flagdit.engine import adapt
from flagdit.engine.layout import FloatArray
from flagdit.engine.plan import Plan
from flagdit.engine.ras import RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.session import Array, Binding, OnnxSession, empty


@dataclass(frozen=True)
class StepTime:
    """One step that was done, and the seconds of its engine calls and of the work between the calls.

    step: as it was done, which is as it was planned unless the run decides (RasConfig.error_budget, gate).
    """

    step: Step
    evaluations: int  # of the velocity; a step that the gate passed over made none
    branches: int  # of guidance that it computed
    denoise: float
    host: float


def sample(
    denoise: OnnxSession,
    state: RegionState,
    plan: Plan,
    conditions: Mapping[str, Array],  # of the denoise graph, constant over the run
    modulations: Mapping[str, Array],  # of the denoise graph, (E, R, ...): one entry an evaluation
    guidance: FloatArray,  # (P,) scale of every value of a patch
    ras: RasConfig,
    shared: Mapping[str, Array] | None = None,  # of the denoise graph, the same for all rows
) -> Iterator[StepTime]:
    """Integrate the flow from noise to image; `state` holds the latents after every yield.

    All evaluations of a step compute the same tokens and branches: the head is chosen before the first of them.
    """
    engine = Engine(denoise, state, conditions, modulations, shared or {})
    owed = False  # a step that was to run both branches and that the gate left out passes its turn on
    for index, evaluations in groupby(enumerate(plan.evaluations), key=lambda call: call[1].step):
        start = time.perf_counter()
        step, both = decide(plan, plan.steps[index], state, ras), plan.unconditional[index] or owed
        calls, owed = len(state.calls) if both else 1, both and not step.active
        count, seconds = 0, 0.0
        if step.dense:
            state.remember(plan, step, calls)
        elif step.index and step.active:
            state.repartition(plan, step, ras, calls)
        for row, evaluation in evaluations:
            if step.active:
                if count:
                    state.retarget(plan, step, evaluation.t, calls)
                seconds += engine.run(step.active, row, calls)
                state.computed(step, evaluation.t, calls)
                state.guide(step.active, calls, guidance)
                count += 1
            state.advance(plan, step, evaluation, guidance, ras)
        branches = (state.branches if both else 1) if step.active else 0
        yield StepTime(step, count, branches, denoise=seconds, host=time.perf_counter() - start - seconds)


class Engine:
    """`denoise` over the buffers of a run: all of its addresses are fixed, so each number of tokens is bound once."""

    def __init__(
        self,
        denoise: OnnxSession,
        state: RegionState,
        conditions: Mapping[str, Array],
        modulations: Mapping[str, Array],
        shared: Mapping[str, Array],
    ) -> None:
        """The arrays are those of `sample`."""
        self._denoise, self._state, self._modulations = denoise, state, modulations
        self._current = [  # this evaluation's entry: to copy it costs less than to bind it where it lies
            {name: empty(x[0, call.rows].shape, x.dtype) for name, x in modulations.items()} for call in state.calls
        ]
        self._inputs = [
            {name: x[call.rows] for name, x in conditions.items()} | current | dict(shared)
            for call, current in zip(state.calls, self._current, strict=True)
        ]
        self._bindings: dict[tuple[int, int], Binding] = {}  # by active and call

    def run(self, active: int, evaluation: int, calls: int) -> float:
        """Evaluate the head of `active` slots in the first `calls` of the state's calls; returns their seconds."""
        seconds = 0.0
        for call in range(calls):
            binding = self._bind(active, call)
            for name, entries in self._modulations.items():
                np.copyto(self._current[call][name], entries[evaluation, self._state.calls[call].rows])
            ready = time.perf_counter()
            binding.run()
            seconds += time.perf_counter() - ready
        return seconds

    def _bind(self, active: int, call: int) -> Binding:
        key = active, call
        if key not in self._bindings:
            inputs, outputs = self._state.head(active, call)
            self._bindings[key] = self._denoise.bind({**inputs, **self._inputs[call]}, outputs)
        return self._bindings[key]


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
