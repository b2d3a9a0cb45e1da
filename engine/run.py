"""One generation: checked and planned when it is made, run by iterating over it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from flagdit.engine.admission import admit
from flagdit.engine.coarse import coarse_noise, go_on_from
from flagdit.engine.conditions import make_conditions
from flagdit.engine.cost import Cost
from flagdit.engine.errors import RequestError
from flagdit.engine.finite import check_finite
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.leg import Leg
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.noise import latent_noise
from flagdit.engine.plan import Plan
from flagdit.engine.ports import caches
from flagdit.engine.ports import timed as timed_ports
from flagdit.engine.regions import RegionState
from flagdit.engine.report import Report, StepReport, plain
from flagdit.engine.request import Request
from flagdit.engine.result import Preview, Result
from flagdit.engine.sampler import StepTime
from flagdit.engine.session import Array, OnnxSession, as_dtype
from flagdit.engine.text import TextEncoder


@dataclass(frozen=True)
class Stages:
    """What a run goes through, loaded from one bundle; none of it holds the state of a run."""

    spec: ModelSpec
    text: TextEncoder
    condition: OnnxSession
    place: OnnxSession
    denoise: OnnxSession
    bundle: str = ""
    loaded: int = 0  # bytes that the process held when they were


class Run:
    """A request under way: iterate over it for one Preview a step, then ask for the result."""

    def __init__(self, stages: Stages, request: Request) -> None:
        spec = stages.spec
        self._cached = np.dtype(stages.denoise.dtype(caches(spec.graphs.denoise.inputs)[0].name))
        self.request, self.legs = request, admit(spec, stages.text, request, stages.denoise.precision, stages.loaded)
        self._stages, self._spec = stages, spec
        self._seconds: dict[str, float] = {}
        self._timed: list[tuple[Leg, StepTime]] = []
        self._ages: list[npt.NDArray[np.int16]] = []  # (B, rows, columns) a step
        self._text_tokens = 0

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

    def __iter__(self) -> Iterator[Preview]:
        """Encode the text, then yield after every step. Raises NumberError when values are no numbers any more."""
        conditions, modulations = self._conditions()
        self._seconds["allocate"], self._timed, self._ages = 0.0, [], []
        entry = 0
        for leg in self.legs:
            count = len(leg.plan.evaluations)
            yield from self._walk(leg, conditions, {n: x[entry : entry + count] for n, x in modulations.items()})
            entry += count

    def _walk(self, leg: Leg, conditions: dict[str, Array], modulations: dict[str, Array]) -> Iterator[Preview]:
        """The steps of a leg; modulations have an entry for each of its evaluations."""
        state, total = self._begin(leg), len(self.planned)
        for timed in leg.run(self._stages.denoise, conditions, modulations, self._guidance()):
            self._timed.append((leg, timed))
            self._check_finite(state, total)
            self._ages.append(self._grown(state))
            yield Preview.of(
                self._spec, timed, total, len(self._timed) - 1, state, self.layout.width // leg.layout.width
            )

    def _check_finite(self, state: RegionState, total: int) -> None:
        """Refuse to go on from latents that are no numbers: in every step, since that takes some microseconds."""
        timed, denoise = self._timed[-1][1], self._stages.denoise
        (latents,) = state.patches(state.latent)  # a [nextline] token has none
        when = f"after step {len(self._timed)} of {total} (time {timed.step.t_next:.3g})"
        check_finite({"the latent": latents}, when, f"denoise on {denoise.backend}", denoise.precision)

    def _begin(self, leg: Leg) -> RegionState:
        """The state of a leg: at noise, or at what the coarse one has left, which is freed first."""
        start, noise, coarse = time.perf_counter(), self._noise(), self.request.coarse
        if coarse is not None and leg is self.legs[0]:
            noise = coarse_noise(noise, coarse.factor)
        elif coarse is not None:
            noise = go_on_from(self.legs[0].end(), noise, coarse)
            self.legs[0].state = None
        state = leg.begin(noise, self._stages.place, self._cached)
        self._seconds["allocate"] += time.perf_counter() - start
        return state

    def _grown(self, state: RegionState) -> npt.NDArray[np.int16]:
        """Ages (B, rows, columns) of the picture's patches; a coarse step computes all of them."""
        if state.layout == self.layout:
            return state.ages()
        return np.zeros((state.samples, self.layout.rows, self.layout.columns), np.int16)

    def result(self) -> Result:
        """The finished run. Raises RequestError if it was not iterated to its end."""
        done, planned, state = len(self._timed), len(self.planned), self.legs[-1].state
        if state is None or done < planned:
            raise RequestError(f"the run stopped after {done} of {planned} steps")
        start = time.perf_counter()
        latents = state.images()
        self._seconds["decode"] = time.perf_counter() - start
        return Result(latents, np.stack(self._ages), self._report(), self._spec)

    def _conditions(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """What denoise needs besides the tokens: constant over the run, and one row per evaluation of all legs."""
        start = time.perf_counter()
        request = self.request
        prompts = request.prompts + [request.negative] * len(request.prompts) * (request.branches - 1)
        features = {prompt: self._stages.text.features(prompt) for prompt in dict.fromkeys(prompts)}
        encoded = time.perf_counter()
        times = np.array([evaluation.t for leg in self.legs for evaluation in leg.plan.evaluations], np.float32)
        graph = self._spec.graphs.condition
        check_finite({f"the text {prompt[:40]!r}": x for prompt, x in features.items()}, *self._maker("text_encoder"))
        made = make_conditions(self._stages.condition, graph.outputs, times, prompts, features, self._spec.pads)
        check_finite(made, *self._maker("condition"))
        outputs = {name: as_dtype(x, self._stages.denoise.dtype(name)) for name, x in made.items()}
        self._text_tokens = max(len(text) for text in features.values())
        self._seconds = {"text_encoder": encoded - start, "condition": time.perf_counter() - encoded}
        modulations = {port.name: outputs.pop(port.name) for port in timed_ports(graph)}
        return outputs, modulations

    def _maker(self, graph: str) -> tuple[str, str, str]:
        """What check_finite says of a graph that runs before the first step, in fp32."""
        return "before the first step", f"{graph} on {self._stages.denoise.backend}", "float32"

    def _noise(self) -> FloatArray:
        """Noise (B, C, H, W) of the picture: each sample's depends on its own seed only."""
        return latent_noise(self.request.seeds, (self.layout.channels, self.layout.height, self.layout.width))

    def _guidance(self) -> FloatArray:
        """Guidance scale (P,) of every value of a patch; channels that are not guided keep the conditional one."""
        scale = np.ones((self.layout.channels, self.layout.patch_values // self.layout.channels), np.float32)
        scale[[c for c in self._spec.guidance.channels if c < len(scale)]] = self.request.guidance
        return scale.ravel()

    def _cost(self) -> Cost:
        """Of what was done, by all legs."""
        size, costs = self._cached.itemsize, []
        for leg in self.legs:
            taken = [(timed.step.active, timed.branches) for own, timed in self._timed if own is leg]
            costs.append(leg.price(self._text_tokens, size, taken))
        return reduce(lambda before, cost: cost.after(before), costs)

    def _report(self) -> Report:
        request, ras, cost, full = self.request, self.request.ras, self._cost(), self.legs[-1]
        steps = [StepReport.of(timed, i, leg.layout) for i, (leg, timed) in enumerate(self._timed)]
        seconds = self._seconds | {
            "denoise": sum(timed.denoise for _, timed in self._timed),
            "host": sum(timed.host for _, timed in self._timed),
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
