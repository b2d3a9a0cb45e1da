"""One generation: checked and planned when it is made, run by iterating over it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from flagdit.engine.conditions import make_conditions
from flagdit.engine.cost import price
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray, TokenLayout, attention_scale, base_tokens, ntk_factor
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.noise import latent_noise
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.regions import RegionState
from flagdit.engine.report import Report, StepReport
from flagdit.engine.request import Request
from flagdit.engine.result import Preview, Result
from flagdit.engine.sampler import StepTime, sample
from flagdit.engine.session import Array, OnnxSession, as_dtype
from flagdit.engine.text import TextEncoder


@dataclass(frozen=True)
class Stages:
    """What a run goes through, loaded from one bundle; none of it holds the state of a run."""

    spec: ModelSpec
    text: TextEncoder
    condition: OnnxSession
    denoise: OnnxSession


class Run:
    """A request under way: iterate over it for one Preview a step, then ask for the result."""

    def __init__(self, stages: Stages, request: Request) -> None:
        spec = stages.spec
        for prompt in request.prompts:
            stages.text.check(prompt)
        self.request, self.layout = request, TokenLayout.of(spec, request.size)
        tokens, pinned = self.layout.tokens, self.layout.pinned
        how = (request.shift, request.solver, request.weights)
        self.plan: Plan = make_plan(request.ras, request.steps, tokens, pinned, *how)
        self._stages, self._spec = stages, spec
        self._cached = np.dtype(stages.denoise.dtype("key_tail.0"))
        self._check_memory()
        self._seconds: dict[str, float] = {}
        self._timed: list[StepTime] = []
        self._ages: list[npt.NDArray[np.int16]] = []  # (B, rows, columns) a step
        self._ntk = ntk_factor(spec, self.layout, request.ntk)
        self._text_tokens = 0
        self._state: RegionState | None = None

    def _check_memory(self) -> None:
        """Refuse a run whose caches cannot fit before anything is allocated."""
        request = self.request
        samples, size = len(request.prompts), self._cached.itemsize
        needed = price(self._spec, self.plan, samples, request.branches, value_bytes=size).cache_bytes
        present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > present:
            raise RequestError(
                f"the caches need {needed / 2**30:.1f} GiB and this machine has {present / 2**30:.1f} GiB; "
                "ask for a smaller size or fewer pictures at a time"
            )

    def __iter__(self) -> Iterator[Preview]:
        """Encode the text, then yield after every step."""
        conditions, modulations = self._conditions()
        start, request = time.perf_counter(), self.request
        noise = self._noise()
        self._state = state = RegionState(
            self._spec, self.layout, noise, request.branches, self.plan.keeps, self._ntk, self._cached
        )
        base = base_tokens(self._spec) if request.proportional else None
        conditions["attention_scale"] = np.array([attention_scale(self._spec, self.layout.tokens, base)], np.float32)
        guidance = self._guidance()
        self._seconds["allocate"] = time.perf_counter() - start
        self._timed, self._ages = [], []
        for timed in sample(self._stages.denoise, state, self.plan, conditions, modulations, guidance, request.ras):
            self._timed.append(timed)
            self._ages.append(state.ages())
            yield Preview(timed, len(self.plan.steps), state)

    def result(self) -> Result:
        """The finished run. Raises RequestError if it was not iterated to its end."""
        done, planned = len(self._timed), len(self.plan.steps)
        if self._state is None or done < planned:
            raise RequestError(f"the run stopped after {done} of {planned} steps")
        start = time.perf_counter()
        latents = self._state.images()
        self._seconds["decode"] = time.perf_counter() - start
        return Result(latents, np.stack(self._ages), self._report(), self._spec)

    def _conditions(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """What denoise needs besides the tokens: constant over the run, and one row per evaluation."""
        start = time.perf_counter()
        prompts = self.request.prompts + [""] * len(self.request.prompts) * (self.request.branches - 1)
        features = {prompt: self._stages.text.features(prompt) for prompt in dict.fromkeys(prompts)}
        encoded = time.perf_counter()
        times = np.array([evaluation.t for evaluation in self.plan.evaluations], np.float32)
        graph = self._spec.graphs.condition
        made = make_conditions(self._stages.condition, graph.outputs, times, prompts, features)
        outputs = {name: as_dtype(x, self._stages.denoise.dtype(name)) for name, x in made.items()}
        self._text_tokens = max(len(text) for text in features.values())
        self._seconds = {"text_encoder": encoded - start, "condition": time.perf_counter() - encoded}
        modulations = {name: outputs.pop(name) for name in ("modulation", "final_modulation")}
        return outputs, modulations

    def _noise(self) -> FloatArray:
        """Noise (B, C, H, W): each sample's depends on its own seed only."""
        return latent_noise(self.request.seeds, (self.layout.channels, self.layout.height, self.layout.width))

    def _guidance(self) -> FloatArray:
        """Guidance scale (P,) of every value of a patch; channels that are not guided keep the conditional one."""
        scale = np.ones((self.layout.channels, self.layout.patch**2), np.float32)
        scale[[c for c in self._spec.guidance.channels if c < len(scale)]] = self.request.guidance
        return scale.ravel()

    def _report(self) -> Report:
        request, ras = self.request, self.request.ras
        taken = [(timed.step.active, timed.branches) for timed in self._timed]
        samples, size = len(request.prompts), self._cached.itemsize
        cost = price(self._spec, self.plan, samples, request.branches, self._text_tokens, size, taken)
        seconds = self._seconds | {
            "denoise": sum(t.denoise for t in self._timed),
            "host": sum(t.host for t in self._timed),
        }
        seeds, single = [int(seed) for seed in request.seeds], len(request.prompts) == 1
        return Report(
            model=self._spec.name,
            backend=self._stages.denoise.backend,
            precision=self._stages.denoise.precision,
            prompt=request.prompts[0] if single else request.prompts,
            seed=seeds[0] if single else seeds,
            size=(self.layout.width, self.layout.height),
            guidance=request.guidance,
            ntk=self._ntk,
            proportional=request.proportional,
            shift=request.shift,
            ras=asdict(replace(ras, metric=ras.ranking)),
            solver=request.solver,
            weights=[tuple(w) for w in request.weights],
            evaluations=sum(t.evaluations for t in self._timed),
            tokens=self.plan.tokens,
            pinned=self.plan.pinned,
            max_age=self.plan.max_age,
            flop_ratio=cost.flop_ratio,
            expected_speedup=cost.expected_speedup,
            cache_bytes=cost.cache_bytes,
            seconds=seconds | {"total": sum(seconds.values())},
            steps=[StepReport.of(t) for t in self._timed],
        )
