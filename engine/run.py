"""One generation: checked and planned when it is made, run by iterating over it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from flagdit import cpp_ext
from flagdit.cpp_ext import Session, StepDone
from flagdit.engine.admission import admit
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.ports import caches
from flagdit.engine.cost import Cost
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.leg import Leg
from flagdit.engine.plan import Plan
from flagdit.engine.report import Report, StepReport, plain
from flagdit.engine.request import Request
from flagdit.engine.result import Preview, Result
from flagdit.engine.session import Array, dtype_of
from flagdit.engine.text import TextEncoder


@dataclass(frozen=True)
class Stages:
    """What a run goes through, loaded from one bundle; none of it holds the state of a run.

    The sessions may be of any class with `ports`, `bind(arrays)` and `run(arrays)`, as cpp_ext.Session has them.
    """

    spec: ModelSpec
    text: TextEncoder
    condition: Session
    place: Session
    denoise: Session
    bundle: str = ""
    loaded: int = 0  # bytes that the process held when they were


class Run:
    """A request under way: iterate over it for one Preview a step, then ask for the result."""

    def __init__(self, stages: Stages, request: Request) -> None:
        spec = stages.spec
        self._cached = np.dtype(dtype_of(stages.denoise, caches(spec.graphs.denoise.inputs)[0].name))
        precision = stages.denoise.precision
        self.request, self.legs = request, admit(spec, stages.text, request, precision=precision, loaded=stages.loaded)
        self._stages, self._spec = stages, spec
        self._core: cpp_ext.Run | None = None
        self._decode = 0.0
        self._timed: list[tuple[Leg, StepDone]] = []
        self._ages: list[npt.NDArray[np.int16]] = []  # (B, lines, columns) a step

    @property
    def layout(self) -> TokenLayout:
        """Of the picture."""
        return self.legs[-1].layout

    @property
    def plan(self) -> Plan:
        """Of the steps at the full size; those before them are the first leg's."""
        return self.legs[-1].plan

    @property
    def planned(self) -> list[int]:
        """Evaluations of each step of all legs."""
        return [count for leg in self.legs for count in leg.planned]

    @property
    def state(self) -> dict[str, Array]:
        """Views of what the run keeps of its tokens, by name, as docs/contract.md has them; steps change them.

        They hold to the end of their leg. Raises RequestError before the first step.
        """
        return self._begun().state

    def __iter__(self) -> Iterator[Preview]:
        """Encode the text, then yield after every step. Raises NumberError when values are no numbers any more."""
        core = self._core = self._made()
        self._timed, self._ages = [], []
        while not core.done:
            done = core.step()
            leg = self.legs[core.leg]
            self._timed.append((leg, done))
            self._ages.append(self._grown(core, leg))
            latents = core.latents(1 - done.step.t_next)[:, :, 0]
            factor = self.layout.width // leg.layout.width
            yield Preview(done, core.total, core.count - 1, self._spec, latents, factor)

    def result(self) -> Result:
        """The finished run. Raises RequestError if it was not iterated to its end."""
        done, planned = len(self._timed), len(self.planned)
        if self._core is None or done < planned:
            raise RequestError(f"the run stopped after {done} of {planned} steps")
        start = time.perf_counter()
        latents: FloatArray = self._core.latents()[:, :, 0]
        self._decode = time.perf_counter() - start
        return Result(latents, np.stack(self._ages), self._report(), self._spec)

    def _made(self) -> cpp_ext.Run:
        """A run of the core, at its beginning."""
        request, stages, coarse = self.request, self._stages, self.request.coarse
        prompts = request.prompts + [request.negative] * len(request.prompts) * (request.branches - 1)
        texts = list(dict.fromkeys(prompts))
        return cpp_ext.Run(
            cpp_ext.Stages(
                text=stages.text.session, condition=stages.condition, place=stages.place, denoise=stages.denoise
            ),
            [(leg.layout, leg.plan, leg.ntk) for leg in self.legs],
            texts=[(stages.text.tokens(text), f"the text {text[:40]!r}") for text in texts],
            rows=[texts.index(prompt) for prompt in prompts],
            seeds=request.seeds,
            branches=request.branches,
            guidance=request.guidance,
            guided=self._spec.guidance.channels,
            proportional=request.proportional,
            pads=self._spec.pads,
            coarse_factor=1 if coarse is None else coarse.factor,
            coarse_until=0.0 if coarse is None else coarse.until,
        )

    def _begun(self) -> cpp_ext.Run:
        if self._core is None or not self._core.begun:
            raise RequestError("the run has not begun; iterate over it")
        return self._core

    def _grown(self, core: cpp_ext.Run, leg: Leg) -> npt.NDArray[np.int16]:
        """Ages (B, lines, columns) of the picture's patches; a coarse step computes all of them."""
        if leg is self.legs[-1]:
            ages: npt.NDArray[np.int16] = core.ages()[:, 0]
            return ages
        return np.zeros((len(self.request.prompts), self.layout.lines, self.layout.columns), np.int16)

    def _cost(self) -> Cost:
        """Of what was done, by all legs."""
        request, costs = self.request, []
        for leg in self.legs:
            taken = [(done.step.active, done.branches) for own, done in self._timed if own is leg]
            costs.append(
                leg.price(
                    self._spec,
                    samples=len(request.prompts),
                    branches=request.branches,
                    text=self._begun().text_tokens,
                    value_bytes=self._cached.itemsize,
                    taken=taken,
                )
            )
        return reduce(lambda before, cost: cost.after(before), costs)

    def _report(self) -> Report:
        request, ras, cost, full = self.request, self.request.ras, self._cost(), self.legs[-1]
        steps = [StepReport.of(done, i, leg.layout) for i, (leg, done) in enumerate(self._timed)]
        seconds = self._begun().seconds | {
            "denoise": sum(done.denoise for _, done in self._timed),
            "host": sum(done.host for _, done in self._timed),
            "decode": self._decode,
        }
        seeds, single = [int(seed) for seed in request.seeds], len(request.prompts) == 1
        return Report(
            model=self._spec.name,
            digest=self._spec.weights.sha256,
            bundle=self._stages.bundle,
            backend=self._stages.denoise.backend,
            precision=self._stages.denoise.precision,
            prompt=request.prompts[0] if single else request.prompts,
            negative=request.negative,
            seed=seeds[0] if single else seeds,
            size=(self.layout.width, self.layout.height),
            guidance=request.guidance,
            ntk=full.ntk,
            ntk_option=request.ntk,
            proportional=request.proportional,
            preset=None if request.options is None else request.options.begins_with,
            options=None if request.options is None else plain(asdict(request.options)),
            shift=request.shift,
            times=[*(step.t for step in full.plan.steps), full.plan.steps[-1].t_next],
            ras=plain(asdict(replace(ras, ratio=ras.share, metric=ras.ranking))),
            solver=request.solver,
            weights=[tuple(w) for w in request.weights],
            coarse=None if request.coarse is None else plain(asdict(request.coarse)),
            pictures=len(request.prompts),
            evaluations=sum(step.evaluations for step in steps),
            tokens=full.plan.tokens,
            pinned=full.plan.pinned,
            max_age=full.plan.max_age,
            flop_ratio=cost.flop_ratio,
            expected_speedup=cost.expected_speedup,
            cache_bytes=cost.cache_bytes,
            seconds=seconds | {"total": sum(seconds.values())},
            steps=steps,
        )
