"""CUDA graphs: numbers read from tables give what arguments give, whole runs replay, and the cache forgets in order."""

import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import CUDA, DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import (
    GraphCache,
    SlotBuffers,
    Step,
    advance,
    flow_times,
    least_max_age,
    plan_evaluations,
    plan_steps,
    refresh_capacity,
    select,
    tick,
    with_cuda,
)

ROOT = Path(__file__).parents[1]
CHANNELS, VALUES, PINNED, TOKENS = 3, 12, 2, 40

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)


class Run:
    """A run of random outputs, whose operators take their numbers as arguments or from tables."""

    def __init__(self, backend: Backend, solver: str) -> None:
        rng, shape, scalar = np.random.default_rng(0), (TOKENS, 1, VALUES), (TOKENS, 1)

        def zeros(*shape: int, dtype: str = "float32") -> Any:
            return backend.put(np.zeros(shape, dtype))

        ratios = [0.5, 0.25] * 6
        self.steps = plan_steps(flow_times(12), TOKENS, PINNED, ratios, warmup=2, resets=[6], high_ratio=0.0)
        self.evaluations = plan_evaluations(self.steps, solver)
        self.max_age = least_max_age(self.steps, TOKENS, PINNED) + 1
        capacity = refresh_capacity(self.steps, TOKENS, PINNED, self.max_age)
        at = [(e.dt, e.t, self.steps[e.step].t_next, e.bend, e.arc) for e in self.evaluations]
        self.table, self.entry = backend.put(np.array(at, np.float32)), zeros(1, dtype="int32")
        self.future = backend.put(capacity[[e.step for e in self.evaluations]])
        self.outputs = rng.standard_normal((len(self.evaluations), *shape)).astype(np.float32)
        self.output = [zeros(step.active, 1, VALUES) for step in self.steps]
        self.state = {name: zeros(*shape) for name in ("velocity", "tokens", "slope")}
        self.state["latent"] = backend.put(rng.standard_normal(shape).astype(np.float32))
        self.state |= {name: zeros(*scalar, dtype="int32") for name in ("age", "drops")}
        self.state |= {"rate": zeros(*scalar), "time": backend.put(np.full(scalar, -np.inf, np.float32))}
        self.token = backend.put(np.arange(TOKENS, dtype=np.int32)[:, None])
        self.buffers = SlotBuffers([*self.state.values(), self.token], 1)
        self.score, self.ones = zeros(*scalar), backend.put(np.ones(VALUES, np.float32))
        self.swaps, self.counts = zeros(1, TOKENS, 2, dtype="int32"), zeros(1, dtype="int32")
        self.codes = zeros(1, TOKENS, dtype="uint64")
        self.backend = backend

    def choose(self, step: Step, future: Any, **entry: Any) -> None:
        """Bring the tokens of a step into its head."""
        of = (self.score, self.state["age"], self.state["drops"], self.token)
        rule = {"active": step.active, "pinned": PINNED, "starvation": 0.1, "high": step.high, "max_age": self.max_age}
        out = {"swaps": self.swaps, "counts": self.counts, "codes": self.codes}
        select(*of, **rule, **out, future=future, **entry)
        self.buffers.swap(self.swaps, self.counts, stream=entry.get("stream", 0))

    def move(self, output: Any, last: bool, dt: float, **numbers: Any) -> None:
        """What follows an engine call."""
        options = {"pinned": PINNED, "channels": CHANNELS, "metric": "change", "forecast": 0.5}
        advance(output, self.ones, **self.state, score=self.score, dt=dt, last=last, **options, **numbers)

    def by_arguments(self, index: int) -> None:
        """Evaluation `index`."""
        e = self.evaluations[index]
        step = self.steps[e.step]
        if not step.dense and self.first(index):
            self.choose(step, self.future[index])
        numbers = {"t": e.t, "next": step.t_next, "bend": e.bend}
        self.move(self.backend.put(self.outputs[index][: step.active]), e.last, e.dt, **numbers)

    def by_tables(self, index: int, stream: int = 0) -> None:
        """The same, with nothing that differs between steps of the same kind."""
        e = self.evaluations[index]
        step, at = self.steps[e.step], {"entry": self.entry, "stream": stream}
        if not step.dense and self.first(index):
            self.choose(step, self.future, **at)
        self.move(self.output[e.step], e.last, 0.0, table=self.table, **at)
        tick(self.entry, stream)

    def first(self, index: int) -> bool:
        """Whether the evaluation is the first of its step."""
        return index == 0 or self.evaluations[index - 1].step != self.evaluations[index].step

    def results(self) -> dict[str, np.ndarray]:
        return {name: self.backend.get(array) for name, array in {**self.state, "token": self.token}.items()}


@on_devices
@pytest.mark.parametrize("solver", ["euler", "midpoint", "ab2"])
def test_tables_give_what_arguments_give(backend: Backend, solver: str) -> None:
    by_arguments, by_tables = Run(backend, solver), Run(backend, solver)
    for index, evaluation in enumerate(by_tables.evaluations):
        active = by_tables.steps[evaluation.step].active
        by_tables.output[evaluation.step] = backend.put(by_tables.outputs[index][:active])
        by_arguments.by_arguments(index)
        by_tables.by_tables(index)
        results = by_tables.results()
        for name, array in by_arguments.results().items():
            np.testing.assert_array_equal(results[name], array, f"{name} after {evaluation}")
    assert backend.get(by_tables.entry) == len(by_tables.evaluations)


@pytest.mark.parametrize("backend", [b for b in DEVICES if b in CUDA], ids=str)
@pytest.mark.parametrize("solver", ["euler", "midpoint"])
@pytest.mark.parametrize("capacity", [1, 8])
def test_graphs_replay_a_run(backend: Backend, solver: str, capacity: int) -> None:
    """One graph for each number of active tokens; a cache of one captures again and again, to the same end."""
    stream = backend.stream()
    expected, run, cache = Run(backend, solver), Run(backend, solver), GraphCache(capacity)
    outputs = {step.active: run.output[step.index] for step in run.steps}  # one address for each graph
    run.output = [outputs[step.active] for step in run.steps]
    keys = set()
    for index, evaluation in enumerate(run.evaluations):
        expected.by_arguments(index)
        step = run.steps[evaluation.step]
        backend.overwrite(outputs[step.active], run.outputs[index][: step.active])
        key = step.active << 2 | run.first(index) << 1 | evaluation.last
        keys.add(key)
        cache.run(key, stream, lambda index=index: run.by_tables(index, stream))
        backend.synchronize()
    for name, array in expected.results().items():
        np.testing.assert_array_equal(run.results()[name], array, name)
    assert len(cache) == min(capacity, len(keys))


@pytest.mark.parametrize("backend", [b for b in DEVICES if b in CUDA], ids=str)
def test_a_failed_capture_leaves_nothing_behind(backend: Backend) -> None:
    stream, cache, entry = backend.stream(), GraphCache(2), backend.put(np.zeros(1, np.int32))
    backend.synchronize()

    def fail() -> None:
        tick(entry, stream)
        raise KeyError("no such step")

    with pytest.raises(KeyError, match="no such step"):
        cache.run(0, stream, fail)
    assert len(cache) == 0
    cache.run(0, stream, lambda: tick(entry, stream))
    cache.run(0, stream, fail)  # is not called again
    backend.synchronize()
    assert backend.get(entry) == 2


@pytest.mark.skipif(with_cuda(), reason="a build with CUDA")
def test_a_build_without_cuda_says_so() -> None:
    with pytest.raises(RuntimeError, match="GraphCache: needs CUDA, and this build has no CUDA kernels"):
        GraphCache(1).run(0, 0, lambda: None)


def test_rows_stay_within_the_table() -> None:
    """As on CUDA, where a kernel cannot refuse."""
    for entry, dt in ((-1, 1.0), (0, 1.0), (2, 3.0), (7, 3.0)):
        ones = [np.ones((1, 1, 1), np.float32) for _ in range(4)]
        scalars = [np.zeros((1, 1), dtype) for dtype in ("f4", "i4", "i4")]
        table = np.array([[1, 0, 0, 0, 0], [2, 0, 0, 0, 0], [3, 0, 0, 0, 0]], np.float32)
        at = {"table": table, "entry": np.array([entry], np.int32)}
        advance(ones[0], np.ones(1, np.float32), *ones[1:], *scalars, dt=0, pinned=0, channels=1, **at)
        assert ones[2] == 1 + dt


def test_refuses() -> None:
    run = Run(DEVICES[0], "euler")
    table, entry = {"table": run.table}, {"entry": run.entry}

    def refused(message: str, **numbers: Any) -> None:
        with pytest.raises(ValueError, match=f"advance: {message}"):
            run.move(run.output[0], True, **({"dt": 0.0} | numbers))

    refused("table, entry: got one of them, allowed both or none", **table)
    refused("dt, t, next, bend, arc: got 0.5.*, allowed 0 with a table", **table, **entry, dt=0.5)
    refused("dt, t, next, bend, arc: got .*, 0.25.*, .*, allowed 0 with a table", **table, **entry, t=0.25)
    refused(r"table: got float32 \(12, 3\) on cpu, allowed float32 \(12, 5\)", table=run.table[:, :3].copy(), **entry)
    refused(r"table: got float32 \(0, 5\) on cpu, allowed float32 \(1, 5\)", table=run.table[:0], **entry)
    refused(r"entry: got int32 \(2,\) on cpu, allowed int32 \(1,\)", **table, entry=np.zeros(2, np.int32))
    step = next(step for step in run.steps if not step.dense)
    with pytest.raises(ValueError, match=r"select: future: got int32 \(\d+,\) on cpu, allowed 2 dimensions"):
        run.choose(step, run.future[0], **entry)
    with pytest.raises(ValueError, match=r"tick: entry: got float32 \(1,\) on cpu, allowed int32 \(1,\)"):
        tick(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="capacity: got 0, allowed 1 or more"):
        GraphCache(0)


@pytest.fixture(scope="module")
def lru_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of lru_trace.cpp."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path_factory.mktemp("lru") / "lru_trace"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    sources = [f"-I{ROOT / 'cpp_ext/include'}", str(ROOT / "tests/lru_trace.cpp")]
    subprocess.run([compiler, "-std=c++17", *warnings, *sources, "-o", str(program)], check=True)
    return program


@given(capacity=st.integers(1, 4), keys=st.lists(st.integers(-1, 6), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_cache_forgets_the_least_recently_used(lru_trace: Path, capacity: int, keys: list[int]) -> None:
    words = [str(lru_trace), str(capacity), *map(str, keys)]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    kept: OrderedDict[int, None] = OrderedDict()
    for key, line in zip(keys, lines, strict=True):
        what = "refused" if key < 0 else "kept" if key in kept else "made"
        if key >= 0:
            kept[key] = None
            kept.move_to_end(key)
        if len(kept) > capacity:
            kept.popitem(last=False)
        assert line == f"{what} {len(kept)}"
