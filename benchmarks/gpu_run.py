"""Part of gpu_denoise.py: a run with region-adaptive sampling on the device, with a captured graph a kind of step.

Between two engine calls nothing waits and nothing is read: what differs from step to step is in tables on the device.
Only this step's rows of what `condition` made are copied, before the graph, to where the engine call reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from flagdit.cpp_ext import GraphCache, SlotBuffers, Step, advance, select, tick
from flagdit.engine import RasConfig, make_plan
from flagdit.engine.bundle.ports import timed
from flagdit.engine.layout import model_shift
from flagdit.engine.session import Array
from gpu_call import bind, empty_caches
from gpu_device import Buffer, Device, Graph, put
from gpu_types import host_dtype
from gpu_values import ROWS, Demo, inputs_of

GUIDANCE = 4.0
MOVED = ("latent", "velocity", "tokens", "time", "rate", "token", "age", "drops")
"""Of what a run keeps, and what `place` says of tokens and rows besides."""


class DeviceRun:
    """All of one picture's run in the device's memory; `reset` begins it again."""

    def __init__(self, demo: Demo, device: Device, graph: Graph, side: int, ras: RasConfig, steps: int) -> None:
        self.demo, self.device, self.graph = demo, device, graph
        self.layout = layout = demo.layout(side)
        self.plan = make_plan(
            ras, steps, layout.tokens, pinned=layout.pinned, shift=model_shift(demo.spec, (side, side))
        )
        self.made = demo.conditions([e.t for e in self.plan.evaluations], 8)
        self.host = self._initial()
        self.state = {name: put(device, array) for name, array in self.host.items()}
        self.caches = empty_caches(device, graph, layout.tokens, ROWS)
        self.fixed, self.tables = self._conditions()
        self.score, self.guidance = device.empty((layout.tokens, 1)), put(device, self._guidance())
        self.swaps, self.counts = device.empty((1, layout.tokens, 2), "int32"), device.empty((1,), "int32")
        self.codes = device.empty((1, layout.tokens), "uint64")
        self.table, self.future = (put(device, table) for table in self._numbers())
        self.entry = device.empty((1,), "int32")
        by_row = [port.name for port in demo.spec.graphs.place.outputs if graph.inputs[port.name][1][:2] == ("A", "R")]
        moved = [self.state[name].array for name in (*MOVED, *by_row)]
        self.buffers = SlotBuffers(moved, 1, recomputed=[cache.array for cache in self.caches.values()])
        actives = sorted({step.active for step in self.plan.steps})
        self.output = {active: device.empty((active, ROWS, layout.patch_values)) for active in actives}
        arrays = {**self.fixed, **self.state, **self.caches}
        self.calls = {a: bind(graph, {**arrays, "velocity": output}, a) for a, output in self.output.items()}

    def _initial(self) -> dict[str, Array]:
        n, inputs = self.layout.tokens, inputs_of(self.demo, self.layout, 1, 0, self.made)
        tokens = inputs["tokens"]
        scalars = {"time": -np.inf, "rate": np.inf}
        return {
            "latent": np.ascontiguousarray(tokens[:, :1]),
            "velocity": np.zeros_like(tokens[:, :1]),
            "tokens": tokens,
            **{port.name: inputs[port.name] for port in self.demo.spec.graphs.place.outputs},
            **{name: np.full((n, 1), value, np.float32) for name, value in scalars.items()},
            "token": self.layout.slots()[:, None].copy(),
            **{name: np.zeros((n, 1), np.int32) for name in ("age", "drops")},
        }

    def _conditions(self) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        """What the engine reads at fixed places, and what changes there, of all evaluations."""
        by_step = [port.name for port in timed(self.demo.spec.graphs.condition)]
        tables = {name: put(self.device, self.made[name], self.graph.inputs[name][0]) for name in by_step}
        first = self.made | {name: self.made[name][0] for name in by_step}
        return {name: put(self.device, x, self.graph.inputs[name][0]) for name, x in first.items()}, tables

    def _guidance(self) -> Array:
        channels = self.layout.channels
        scale = np.ones((channels, self.layout.patch_values // channels), np.float32)
        scale[list(self.demo.spec.guidance.channels)] = GUIDANCE
        return scale.ravel()

    def _numbers(self) -> tuple[Array, Array]:
        """Tables of `advance` and of `select`, an entry an evaluation."""
        plan = self.plan
        at = [(e.dt, e.t, plan.scored_at(plan.steps[e.step]), e.bend, e.arc) for e in plan.evaluations]
        future = plan.capacity[[e.step for e in plan.evaluations]]
        return np.array(at, np.float32), np.ascontiguousarray(future, np.int32)

    def reset(self) -> None:
        for name, array in self.host.items():
            self.device.write(self.state[name], array)
        for buffer in (*self.caches.values(), self.score, self.entry):
            self.device.write(buffer, np.zeros(buffer.shape, host_dtype(buffer.dtype)))

    def condition(self, index: int) -> None:
        """Copy what evaluation `index` is conditioned on to where the engine reads it."""
        for name, table in self.tables.items():
            self.device.copy(self.fixed[name].pointer, table.pointer + index * table.row_bytes, table.row_bytes)

    def between(self, step: Step, following: Step | None) -> None:
        """What follows an engine call, up to the next."""
        s, stream = self.state, self.device.stream
        advance(
            self.output[step.active].array,
            self.guidance.array,
            s["velocity"].array,
            s["latent"].array,
            s["tokens"].array,
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
            entry=self.entry.array,
            stream=stream,
        )
        tick(self.entry.array, stream)
        if following is None or following.dense:
            return
        select(
            self.score.array,
            s["age"].array,
            s["drops"].array,
            s["token"].array,
            active=following.active,
            pinned=self.layout.pinned,
            starvation=0.1,
            high=following.high,
            max_age=self.plan.max_age,
            future=self.future.array,
            swaps=self.swaps.array,
            counts=self.counts.array,
            codes=self.codes.array,
            entry=self.entry.array,
            stream=stream,
        )
        self.buffers.swap(self.swaps.array, self.counts.array, stream)

    def whole(self, step: Step, following: Step | None) -> None:
        self.calls[step.active].run()
        self.between(step, following)

    def run(self, do: Callable[[Step, Step | None], None], graphs: GraphCache | None = None) -> None:
        """All steps, each through `do`, as captured graphs if there is a cache for them."""
        for index, step in enumerate(self.plan.steps):
            self.condition(index)
            following = self.plan.steps[index + 1] if index + 1 < len(self.plan.steps) else None
            if graphs is None:
                do(step, following)
                continue
            dense = following is None or following.dense
            key = step.active << 24 | (0 if dense or following is None else following.active) << 2
            graphs.run(key, self.device.stream, partial(do, step, following))

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
