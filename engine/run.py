"""One generation: checked and planned when it is made, run by iterating over it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from flagdit import cpp_ext
from flagdit.cpp_ext import Session, StepDone, report_of
from flagdit.engine.admission import admit
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.decoder import Decoder
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.leg import Leg
from flagdit.engine.model import model_of
from flagdit.engine.plan import Plan
from flagdit.engine.report import Report
from flagdit.engine.request import Request
from flagdit.engine.result import Preview, Result
from flagdit.engine.session import Array
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
    decode: Session | None = None
    encode: Session | None = None
    preview: Session | None = None

    @cached_property
    def graphs(self) -> cpp_ext.Stages:
        """As the core takes them, with what runs on a GPU leave for the next one."""
        return cpp_ext.Stages(
            texts=self.text.sessions,
            condition=self.condition,
            place=self.place,
            denoise=self.denoise,
            encode=self.encode,
        )


class Run:
    """A request under way: iterate over it for one Preview a step, then ask for the result."""

    def __init__(self, stages: Stages, request: Request) -> None:
        spec, prompts, precision = stages.spec, stages.text.prompts, stages.denoise.precision
        self.request = request
        self.job = admit(spec, prompts, request, precision=precision, loaded=stages.loaded)
        self.legs = Leg.all_of(self.job)
        self._stages, self._spec = stages, spec
        self._core: cpp_ext.Run | None = None
        self._decode = 0.0
        self._done: list[StepDone] = []
        self._leg: list[int] = []  # that each step was of

    def replan(self, plan: Plan) -> None:
        """Take another plan of the steps at the full size, for experiments, before the first of them."""
        self.job = self.job.replanned(plan)
        self.legs = Leg.all_of(self.job)

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
        core, width = self._begin(), self.layout.width
        for done in self._steps(core):
            look, factor = core.snapshot(1 - done.step.t_next), width // self.legs[core.leg].layout.width
            yield Preview(done, core.total, core.count - 1, self._decoder, look, factor)

    def finish(self) -> Result:
        """The result of all steps, without looking at it in between: a GPU is not waited for."""
        for _ in self._steps(self._begin()):
            pass
        return self.result()

    def result(self) -> Result:
        """The finished run. Raises RequestError if it was not iterated to its end."""
        done, planned = len(self._done), len(self.planned)
        if self._core is None or done < planned:
            raise RequestError(f"the run stopped after {done} of {planned} steps")
        start = time.perf_counter()
        latents: FloatArray = self._core.latents()[:, :, 0]
        self._decode = time.perf_counter() - start
        return Result(latents, self._ages(self._core), self._report(), self._decoder)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self._spec, self.job, self._stages.decode, self._stages.preview)

    def _begin(self) -> cpp_ext.Run:
        self._core = cpp_ext.Run(self._stages.graphs, self.job, self._stages.text.prompts)
        self._done, self._leg = [], []
        return self._core

    def _steps(self, core: cpp_ext.Run) -> Iterator[StepDone]:
        while not core.done:
            self._done.append(core.step())
            self._leg.append(core.leg)
            yield self._done[-1]

    def _begun(self) -> cpp_ext.Run:
        if self._core is None or not self._core.begun:
            raise RequestError("the run has not begun; iterate over it")
        return self._core

    def _ages(self, core: cpp_ext.Run) -> npt.NDArray[np.int16]:
        """(S, B, lines, columns) of the picture's patches; a coarse step computes all of them."""
        own = core.all_ages()[:, :, 0]
        before = len(self._done) - len(own)
        return np.concatenate([np.zeros((before, *own.shape[1:]), np.int16), own])

    def _report(self) -> Report:
        spec, stages = self._spec, self._stages
        told = report_of(
            self._begun(),
            self.job,
            stages=stages.graphs,
            model=model_of(spec),
            name=spec.name,
            digest=spec.weights.sha256,
            bundle=stages.bundle,
            steps=self._done,
            legs=self._leg,
            decode=self._decode,
            said=self.request.options is not None,
        )
        return Report.model_validate_json(told)
