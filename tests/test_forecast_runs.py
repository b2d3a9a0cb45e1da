"""Whole runs that forecast keys and values: what the engine reads, from what it wrote before, by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import plans
import pytest
from test_guidance_runs import finish, request

from flagdit.cpp_ext import Binding, Session, dampings
from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError
from flagdit.engine.cost import price
from flagdit.engine.plan import make_plan
from flagdit.engine.ras import Solver
from flagdit.engine.run import Run
from flagdit.engine.session import Array


@dataclass
class Read:
    """One call of the engine: what it read behind its head, and what it wrote; copies, by name without side."""

    call: int
    token: np.ndarray  # (N, B)
    tail: dict[str, np.ndarray]  # (M, rows, G, d)
    head: dict[str, np.ndarray]


@dataclass
class Recorder:
    """A session that writes down its calls; `run` is known once it has begun."""

    session: Session
    run: Run | None = None
    reads: list[Read] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def bind(self, tensors: Mapping[str, Array]) -> RecordingBinding:
        return RecordingBinding(self, self.session.bind(tensors), tensors)


@dataclass
class RecordingBinding:
    recorder: Recorder
    binding: Binding
    tensors: Mapping[str, Array]

    def run(self) -> None:
        run = self.recorder.run
        assert run is not None
        state, head = run.state, self.tensors["key_head.0"]
        caches = [x for name, x in state.items() if name in ("cache.0", "cache.0.0", "cache.1.0")]
        call = next(i for i, cache in enumerate(caches) if head.ctypes.data == cache.ctypes.data)
        tail = {n.replace("_tail", ""): x.copy() for n, x in self.tensors.items() if "_tail" in n}
        self.binding.run()
        wrote = {n.replace("_head", ""): x.copy() for n, x in self.tensors.items() if "_head" in n}
        self.recorder.reads.append(Read(call, state["token"].copy(), tail, wrote))


def recorded(pipeline: Pipeline, *asked: Any, **more: Any) -> tuple[Run, Recorder]:
    recorder = Recorder(pipeline.stages.denoise)
    stages = replace(pipeline.stages, denoise=cast(Session, recorder))
    recorder.run = Run(stages, request(*asked, **more))
    return recorder.run, recorder


def calls_by_step(run: Run, recorder: Recorder) -> Iterator[tuple[int, list[tuple[float, list[Read]]]]]:
    """Steps that were run, by index, with the calls of each of their evaluations and when those were."""
    for preview in run:
        timed, reads = preview.timed, recorder.reads
        times = [e.t for e in run.plan.evaluations if e.step == timed.step.index]
        each = len(reads) // max(timed.evaluations, 1)
        if timed.evaluations:
            yield timed.step.index, [(t, reads[i * each : (i + 1) * each]) for i, t in enumerate(times)]
        recorder.reads = []


class Lines:
    """What one call has computed of every token: the last two, and when."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int, int], list[tuple[float, np.ndarray]]] = {}

    def compute(self, read: Read, t: float) -> None:
        samples = read.token.shape[1]
        for name, head in read.head.items():
            for slot, row in np.ndindex(head.shape[:2]):
                key = name, int(read.token[slot, row % samples]), row
                self.seen.setdefault(key, []).append((t, head[slot, row]))

    def expect(self, read: Read, t: float, damping: float) -> float:
        """The tail is on the lines; returns how far from the last values, at most."""
        samples, far = read.token.shape[1], 0.0
        for name, tail in read.tail.items():
            active = len(read.token) - len(tail)
            for slot, row in np.ndindex(tail.shape[:2]):
                *_, (t1, v1) = last = self.seen[name, int(read.token[active + slot, row % samples]), row]
                way = np.zeros_like(v1)
                if len(last) > 1:
                    t0, v0 = last[-2]
                    way = damping * (t - t1) * (v1 - v0) / (t1 - t0)
                np.testing.assert_allclose(tail[slot, row], v1 + way, 0, 1e-5 + 2**-7 * np.abs(way).max())
                far = max(far, float(np.abs(way).max()))
        return far


CASES: dict[str, tuple[dict[str, Any], Solver]] = {
    "plain": ({"warmup": 3, "resets": (7,)}, "ab2"),
    "one dense step": ({"warmup": 1, "resets": (5, 6, -1)}, "euler"),
    "damped by step": ({"warmup": 2, "forecast_kv": [step / 12 for step in range(12)]}, "euler"),
    "midpoint": ({"warmup": 2, "resets": (6,)}, "midpoint"),
    "heun": ({"warmup": 2, "resets": (6,)}, "heun"),
    "one branch": ({"warmup": 2, "guidance_every": 2, "guidance_warmup": 3, "resets": (7,)}, "ab2"),
    "one branch, dense": ({"warmup": 3, "guidance_every": 3, "guidance_warmup": 1, "end": 8}, "ab2"),
    "one branch in the last dense step": (
        {"ratio": [1.0] * 4 + [0.4] * 8, "ratio_end": None, "warmup": 1, "guidance_every": 2, "guidance_warmup": 3},
        "euler",
    ),
    "gate": ({"warmup": 2, "guidance_every": 2, "guidance_warmup": 3, "gate": 0.2, "max_age": 5}, "euler"),
    "budget": ({"warmup": 2, "error_budget": 0.1, "resets": (6, 7)}, "euler"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_engine_reads_the_lines_through_the_last_two(pipeline: Pipeline, case: str) -> None:
    options, solver = CASES[case]
    ras = RasConfig(**{"ratio": 0.4, "ratio_end": 0.2, "forecast_kv": 0.5, **options})
    run, recorder = recorded(pipeline, ras, solver, (7, 2))
    lines, far, steps = [Lines() for _ in range(2)], 0.0, 0
    shares = dampings(ras.forecast_kv, 12)
    for index, evaluations in calls_by_step(run, recorder):
        steps += 1
        for t, reads in evaluations:
            assert reads
            for read in reads:
                far = max(far, lines[read.call].expect(read, t, shares[index]))
        t, reads = evaluations[-1]
        for read in reads:
            lines[read.call].compute(read, t)
    assert far > 0.05 and steps == (12 if case != "gate" else steps)
    assert case != "gate" or steps < 12


@pytest.mark.parametrize("options", [{}, {"guidance_every": 2, "guidance_warmup": 3}, {"gate": 0.05}])
@pytest.mark.parametrize("solver", ["ab2", "heun"])
def test_without_damping_the_same_bytes(pipeline: Pipeline, options: dict[str, Any], solver: Solver) -> None:
    """A tail that is made of the anchors alone is the one that moves with its tokens."""
    ras = RasConfig(0.4, 0.2, warmup=2, resets=(6,), **options)
    usual = finish(pipeline.start(request(ras, solver, (7, 2))))
    run = pipeline.start(request(ras, solver, (7, 2)))
    run.replan(plans.changed(run.plan, keeps=plans.changed(run.plan.keeps, cache_slope=True)))
    np.testing.assert_array_equal(finish(run), usual)
    forecast = finish(pipeline.start(request(replace(ras, forecast_kv=0.5), solver, (7, 2))))
    assert np.abs(forecast - usual).max() > 1e-4


def test_a_batch_is_its_pictures(pipeline: Pipeline) -> None:
    ras = RasConfig(0.3, forecast_kv=0.7, guidance_every=3)
    batch = finish(pipeline.start(request(ras, "ab2", (7, 2))))
    alone = replace(request(ras, "ab2"), prompts=["green star"], seeds=[2])
    np.testing.assert_allclose(batch[1], finish(pipeline.start(alone))[0], 0, 1e-4)


def test_without_ras_steps_nothing_is_kept(pipeline: Pipeline) -> None:
    run = pipeline.start(request(replace(DENSE, forecast_kv=0.5), "ab2"))
    finish(run)
    assert not run.plan.keeps.cache_slope and not any(name.startswith("anchor") for name in run.state)


@pytest.mark.parametrize("every", [1, 2])
def test_its_memory_is_priced(pipeline: Pipeline, every: int) -> None:
    """... as it is allocated: anchors, slopes, and a time for each token, sample and call."""
    ras = RasConfig(0.3, guidance_every=every)
    usual, more = (
        price(pipeline.spec, make_plan(r, 12, 72, pinned=8), samples=2).cache_bytes
        for r in (ras, replace(ras, forecast_kv=0.5))
    )
    run = pipeline.start(request(replace(ras, forecast_kv=0.5), "euler", (7, 2)))
    finish(run)
    assert run.result().report.cache_bytes == more
    kept = [x for name, x in run.state.items() if name.startswith(("anchor", "cache_slope"))]
    assert more - usual == sum(x.nbytes for x in kept) > 0


def test_refuses() -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(RequestError, match=message):
            make_plan(RasConfig(**options), 12, 72, pinned=8)

    refused(r"forecast_kv is 1\.5; allowed are 0 \(off\) to 1", forecast_kv=1.5)
    refused("forecast_kv is nan", forecast_kv=float("nan"))
    refused("forecast_kv is -1; allowed", forecast_kv=[0.5] * 11 + [-1])
    refused("forecast_kv has 3 values; allowed are one, or one for each of the 12 steps", forecast_kv=[0.5] * 3)
    refused("paper mode keeps what it cached as it is; got forecast_kv 0.5", mode="paper", forecast_kv=0.5)
