"""Part of gpu_denoise.py: a run with region-adaptive sampling that stays on the device, a captured graph a kind of step.

Between two engine calls nothing waits and nothing is read: what differs from step to step is in tables on the device.
Only this step's rows of the modulations are copied, before the graph, to where the engine call reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flagdit.cpp_ext import GraphCache, SlotBuffers, Step, advance, select, tick
from flagdit.engine import RasConfig, make_plan
from flagdit.engine.session import Array
from gpu_device import Bound, Buffer, Device, Graph, Place, host_dtype, put
from gpu_values import ROWS, Demo, cache_names, inputs_of

GUIDANCE = 4.0
MOVED = ("latent", "velocity", "tokens", "rope_cos", "rope_sin", "time", "rate", "token", "age", "drops")


class DeviceRun:
    """All of one picture's run in the device's memory; `reset` begins it again."""

    def __init__(self, demo: Demo, device: Device, graph: Graph, side: int, ras: RasConfig, steps: int) -> None:
        self.demo, self.device, self.graph = demo, device, graph
        self.layout = layout = demo.layout(side)
        self.plan = make_plan(ras, steps, layout.tokens, layout.pinned, demo.spec.flow.shift)
        self.made = demo.conditions([e.t for e in self.plan.evaluations], 8)
        self.host = self._initial()
        self.state = {name: put(device, array) for name, array in self.host.items()}
        kind = graph.inputs["key_tail.0"][0]
        shape = (layout.tokens, ROWS, demo.spec.layers.kv_heads, demo.spec.rope.head_dim)
        self.caches = {name: device.empty(shape, kind) for name in cache_names(demo.spec)}
        self.fixed, self.tables = self._conditions()
        self.score, self.guidance = device.empty((layout.tokens, 1)), put(device, self._guidance())
        self.swaps, self.counts = device.empty((1, layout.tokens, 2), "int32"), device.empty((1,), "int32")
        self.keys = device.empty((1, layout.tokens), "uint64")
        self.table, self.future = (put(device, table) for table in self._numbers())
        self.row = device.empty((1,), "int32")
        moved = [self.state[name].array for name in MOVED]
        self.buffers = SlotBuffers(moved, 1, recomputed=[cache.array for cache in self.caches.values()])
        actives = sorted({step.active for step in self.plan.steps})
        self.output = {active: device.empty((active, ROWS, layout.patch_values)) for active in actives}
        self.calls = {active: self._bind(active) for active in actives}

    def _initial(self) -> dict[str, Array]:
        n, inputs = self.layout.tokens, inputs_of(self.demo, self.layout, 1, 0, self.made)
        tokens = inputs["tokens"]
        scalars = {"time": -np.inf, "rate": np.inf}
        return {
            "latent": np.ascontiguousarray(tokens[:, :1]),
            "velocity": np.zeros_like(tokens[:, :1]),
            **{name: inputs[name] for name in ("tokens", "special", "rope_cos", "rope_sin", "attention_scale")},
            **{name: np.full((n, 1), value, np.float32) for name, value in scalars.items()},
            "token": self.layout.slots()[:, None].copy(),
            **{name: np.zeros((n, 1), np.int32) for name in ("age", "drops")},
        }

    def _conditions(self) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        """What the engine reads at fixed places, and the modulations of all evaluations."""
        by_step = ("modulation", "final_modulation")
        tables = {name: put(self.device, self.made[name]) for name in by_step}
        fixed = {name: put(self.device, self.made[name][0]) for name in by_step}
        rest = {k: v for k, v in self.made.items() if k not in by_step}
        return fixed | {k: put(self.device, v, self.graph.inputs[k][0]) for k, v in rest.items()}, tables

    def _guidance(self) -> Array:
        scale = np.ones((self.layout.channels, self.layout.patch**2), np.float32)
        scale[list(self.demo.spec.guidance.channels)] = GUIDANCE
        return scale.ravel()

    def _numbers(self) -> tuple[Array, Array]:
        """Tables of `advance` and of `select`, a row an evaluation."""
        plan = self.plan
        at = [(e.dt, e.t, plan.scored_at(plan.steps[e.step]), e.bend, e.arc) for e in plan.evaluations]
        future = plan.capacity[[e.step for e in plan.evaluations]]
        return np.array(at, np.float32), np.ascontiguousarray(future, np.int32)

    def _bind(self, active: int) -> Bound:
        state, n = self.state, self.layout.tokens
        read: dict[str, Place] = {k: b.all for k, b in self.fixed.items()}
        read |= {k: state[k].rows(0, active) for k in ("tokens", "special", "rope_cos", "rope_sin")}
        read["attention_scale"] = state["attention_scale"].all
        read |= {name.format("tail"): cache.rows(active, n) for name, cache in self.caches.items()}
        written = {name.format("head"): cache.rows(0, active) for name, cache in self.caches.items()}
        return self.graph.bind(read, {"velocity": self.output[active].all, **written})

    def reset(self) -> None:
        for name, array in self.host.items():
            self.device.write(self.state[name], array)
        for buffer in (*self.caches.values(), self.score, self.row):
            self.device.write(buffer, np.zeros(buffer.shape, host_dtype(buffer.dtype)))

    def modulate(self, index: int) -> None:
        """Copy the modulations of evaluation `index` to where the engine reads them."""
        for name, table in self.tables.items():
            self.device.copy(self.fixed[name].pointer, table.pointer + index * table.row_bytes, table.row_bytes)

    def between(self, step: Step, following: Step | None) -> None:
        """What follows an engine call, up to the next."""
        s, stream = self.state, self.device.stream
        advance(
            self.output[step.active].array,
            self.guidance.array,
            *(s[name].array for name in ("velocity", "latent", "tokens")),
            self.score.array,
            s["age"].array,
            s["drops"].array,
            dt=0.0,
            pinned=self.layout.pinned,
            channels=self.layout.channels,
            metric="change",
            time=s["time"].array,
            rate=s["rate"].array,
            table=self.table.array,
            row=self.row.array,
            stream=stream,
        )
        tick(self.row.array, stream)
        if following is None or following.dense:
            return
        select(
            *(x.array for x in (self.score, s["age"], s["drops"], s["token"])),
            active=following.active,
            pinned=self.layout.pinned,
            starvation=0.1,
            high=following.high,
            max_age=self.plan.max_age,
            future=self.future.array,
            swaps=self.swaps.array,
            counts=self.counts.array,
            keys=self.keys.array,
            row=self.row.array,
            stream=stream,
        )
        self.buffers.swap(self.swaps.array, self.counts.array, stream)

    def whole(self, step: Step, following: Step | None) -> None:
        self.calls[step.active].run()
        self.between(step, following)

    def run(self, do: Callable[[Step, Step | None], None], graphs: GraphCache | None = None) -> None:
        """All steps, each through `do`, as captured graphs if there is a cache for them."""
        for index, step in enumerate(self.plan.steps):
            self.modulate(index)
            following = self.plan.steps[index + 1] if index + 1 < len(self.plan.steps) else None
            if graphs is None:
                do(step, following)
                continue
            dense = following is None or following.dense
            key = step.active << 24 | (0 if dense or following is None else following.active) << 2
            graphs.run(key, self.device.stream, lambda step=step, following=following: do(step, following))

    def results(self) -> dict[str, Array]:
        """Every array that the run leaves, as it is in memory."""
        return {name: self.device.read(buffer) for name, buffer in {**self.state, **self.caches}.items()}

    def latent(self) -> Array:
        """(patches, P), in the order of the picture."""
        pinned = self.layout.pinned
        latent, token = (self.device.read(self.state[name])[pinned:, 0] for name in ("latent", "token"))
        out = np.empty_like(latent)
        out[self.layout.patch_index(token)] = latent
        return out


def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return all(np.array_equal(one[k].view(np.uint8), other[k].view(np.uint8)) for k in one)


def measure(run: DeviceRun, repeats: int, expected: Array | None) -> dict[str, Any]:
    """One run eager and captured: whether all bits agree, and milliseconds a step of both and of their parts."""
    device, steps = run.device, len(run.plan.steps)
    graphs, engine, core = (GraphCache(32) for _ in range(3))
    captures = bool(device.stream)
    ends = []
    for cache in [None, None] + ([graphs, graphs] if captures else []):  # eager twice; captured, then all replayed
        run.reset()
        run.run(run.whole, cache)
        ends.append(run.results())
    latent = run.latent()
    cell: dict[str, Any] = {
        "tokens": run.layout.tokens,
        "active": [step.active for step in run.plan.steps],
        "eager_repeats_bit_for_bit": same(ends[0], ends[1]),
        "captured_equals_eager": same(ends[0], ends[2]) if captures else None,
        "replayed_equals_eager": same(ends[0], ends[3]) if captures else None,
        "graphs": len(graphs),
        "finite": bool(np.isfinite(latent).all()),
        "milliseconds": {},
    }
    if expected is not None:
        error = float(np.mean((latent.astype(np.float64) - expected) ** 2))
        cell["psnr_to_cpu_fp32"] = float(10 * np.log10(4 / error)) if error else float("inf")  # pixels are in -1..1
    timed = cell["milliseconds"]

    def a_step(name: str, work: Callable[[], object]) -> None:
        run.reset()
        work()  # warms up, and captures
        timed[name] = device.milliseconds(work, repeats) / steps

    def only_engine(step: Step, _: Step | None) -> None:
        run.calls[step.active].run()

    a_step("run_eager", lambda: run.run(run.whole))
    if captures:
        a_step("run_captured", lambda: run.run(run.whole, graphs))
        a_step("run_captured_engine_only", lambda: run.run(only_engine, engine))
        a_step("run_captured_core_only", lambda: run.run(run.between, core))
    sparse = next((s for s in run.plan.steps if not s.dense), None)
    dense = run.plan.steps[0]
    kinds = [("dense", dense, None)] + ([("sparse", sparse, sparse)] if sparse else [])
    for name, step, following in kinds:
        timed |= _kinds(run, name, step, following, repeats, captures)
    return cell


def _kinds(
    run: DeviceRun, name: str, step: Step, following: Step | None, repeats: int, captures: bool
) -> dict[str, float]:
    """Milliseconds of one kind of step, of 20 in a row: its engine call, what follows, and both."""
    device, times = run.device, {}
    parts: dict[str, Callable[[], None]] = {
        "whole": lambda: run.whole(step, following),
        "engine": lambda: run.calls[step.active].run(),
        "core": lambda: run.between(step, following),
    }
    for number, (part, work) in enumerate(parts.items()):
        graphs = GraphCache(1)

        def repeat(work: Callable[[], None] = work) -> None:
            for _ in range(20):
                work()

        def replay(number: int = number, graphs: GraphCache = graphs, work: Callable[[], None] = work) -> None:
            for _ in range(20):
                graphs.run(number, device.stream, work)

        for how, many in (("eager", repeat), ("captured", replay)):
            if how == "captured" and not captures:
                continue
            run.reset()
            many()
            times[f"{name}_{part}_{how}"] = device.milliseconds(many, repeats) / 20
    return times


def runs(
    demo: Demo, device: Device, precision: str, side: int, repeats: int, reference: Array | None
) -> dict[str, Any]:
    """A run of 20 steps at ratio .25 with 64 or 128 pixels a side."""
    run = DeviceRun(demo, device, demo.graph(device, precision), side, RasConfig(ratio=0.25), 20)
    return {"precision": precision, "side": side, **measure(run, repeats, reference)}


def reference(demo: Demo, device: Device, side: int) -> Array:
    """The latent of the same run, fp32 on the CPU."""
    run = DeviceRun(demo, device, demo.graph(device, "float32"), side, RasConfig(ratio=0.25), 20)
    run.run(run.whole)
    return run.latent()
