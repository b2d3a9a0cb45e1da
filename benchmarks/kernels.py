"""Roofline of what runs between two engine calls: bytes moved, time, and the share of the memory's bandwidth.

    python benchmarks/kernels.py --json kernels.json                  # on the GPU, in a build with CUDA
    python benchmarks/kernels.py --device cpu --quick --against demo  # and beside a RAS step of the demo's engine

Bytes are the least that the shapes allow: every value that is needed is read or written once. The bandwidth is that of
a copy of 256 MiB in the same run. On CUDA many launches are captured in one graph and timed by events, so that no time
of the host counts; arrays smaller than the L2 cache may stay in it, and then be faster than the copy. `select` and
`dilate` have little to move: their time is latency. Scores are random, so more rows cross the head's border than in a
run, where the regions of focus are continuous.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from flagdit.cpp_ext import SlotBuffers, advance, dilate, select
from flagdit.files import write_file
from machines import MIB, Cpu, Cuda, Launch, Machine

CHANNELS, VALUES, BRANCHES = 4, 16, 2  # patches of 2 x 2 latents, guided


@dataclass(frozen=True)
class Caches:
    """Keys and values of a model."""

    layers: int
    width: int  # of the keys of a token in a layer: kv heads x head size
    head: int  # size of a head


MODELS = {"12 x 384": Caches(12, 384, 64), "24 x 1024": Caches(24, 1024, 128)}


@dataclass(frozen=True)
class Case:
    """What is measured: a model, a picture, and how much of it a step computes."""

    model: str
    tokens: int
    samples: int
    dtype: str
    ratio: float

    @property
    def active(self) -> int:
        return round(self.tokens * self.ratio)

    @property
    def value_bytes(self) -> int:
        return 4 if self.dtype == "float32" else 2

    @property
    def slot_bytes(self) -> int:
        """Of all that moves with a token of one sample: keys, values, RoPE, patches, five scalars."""
        row = self.value_bytes * VALUES + 4 * MODELS[self.model].head
        return self.cached_bytes + BRANCHES * row + 2 * 4 * VALUES + 5 * 4

    @property
    def cached_bytes(self) -> int:
        """Of its keys and values."""
        model = MODELS[self.model]
        return BRANCHES * self.value_bytes * 2 * model.layers * model.width


@dataclass(frozen=True)
class Cell:
    """One operator in one case."""

    op: str
    case: Case
    bytes: int
    microseconds: float
    gb_per_second: float
    of_bandwidth: float


class Region:
    """The arrays of a run, and its operators with the bytes they move."""

    def __init__(self, machine: Machine, case: Case) -> None:
        n, b, r = case.tokens, case.samples, case.samples * BRANCHES
        self.machine, self.case = machine, case
        self.output = machine.array((case.active, r, VALUES), case.dtype)
        self.tokens = machine.array((n, r, VALUES), case.dtype)
        self.velocity, self.latent = (machine.array((n, b, VALUES)) for _ in range(2))
        self.score, self.rate, self.time = (machine.array((n, b)) for _ in range(3))
        self.age, self.drops = (machine.array((n, b), "int32") for _ in range(2))
        self.token = machine.put(np.repeat(np.arange(n, dtype=np.int32)[:, None], b, 1))
        self.guidance, self.grid = machine.array((VALUES,)), machine.array((b, n))
        self.swaps, self.counts = machine.array((b, n, 2), "int32"), machine.array((b,), "int32")
        self.codes = machine.array((b, n), "uint64")

    def advance(self, number: int, stream: int) -> None:
        """As in a run that ranks by change, with times that go on."""
        advance(
            self.output,
            self.guidance,
            self.velocity,
            self.latent,
            self.tokens,
            self.score,
            self.age,
            self.drops,
            dt=0.0,
            pinned=0,
            channels=CHANNELS,
            metric="change",
            time=self.time,
            rate=self.rate,
            t=2.0 + number,
            next=3.0 + number,
            stream=stream,
        )

    def select(self, number: int, stream: int) -> None:
        select(
            self.score,
            self.age,
            self.drops,
            self.token,
            active=self.case.active,
            pinned=0,
            starvation=0.1,
            high=0,
            max_age=-1,
            future=None,
            swaps=self.swaps,
            counts=self.counts,
            codes=self.codes,
            stream=stream,
        )

    def dilate(self, number: int, stream: int) -> None:
        line = round(self.case.tokens**0.5)
        dilate(self.score, self.token, self.grid, line, 0, 0.5, stream=stream)

    def ops(self, small: bool) -> Iterator[tuple[str, Launch, int]]:
        """Each with the bytes it moves, in turn: `advance` changes the scores that the others go by.

        small: also those that do not depend on the model.
        """
        n, b, a, size = self.case.tokens, self.case.samples, self.case.active, self.case.value_bytes
        yield self.repartition()
        if not small:
            return
        yield "select", self.select, 4 * 4 * n * b + self.crossing() * 2 * 4
        yield "dilate", self.dilate, 5 * 4 * n * b  # score and grid in and out, token
        head = BRANCHES * size * VALUES + 4 * VALUES + 4 * 4  # output; velocity written; time and rate in and out
        tail = 2 * 4  # time and rate
        every = (3 * 4 + BRANCHES * size) * VALUES + 4 + 4 * 4  # velocity read, latent, tokens; score, age and drops
        yield "advance", self.advance, b * (a * head + (n - a) * tail + n * every)

    def crossing(self) -> int:
        """Swaps that `select` asks for, of all samples."""
        self.select(0, 0)
        return int(self.machine.get(self.counts).sum())

    def repartition(self) -> tuple[str, Launch, int]:
        """The swap of all per-slot arrays, and the bytes it moves."""
        n, b, r = self.case.tokens, self.case.samples, self.case.samples * BRANCHES
        model = MODELS[self.case.model]
        cached = [self.machine.array((n, r, model.width), self.case.dtype) for _ in range(2 * model.layers)]
        rope = [self.machine.array((n, r, model.head // 2)) for _ in range(2)]
        scalars = [self.age, self.drops, self.token, self.time, self.rate]
        buffers = SlotBuffers([*rope, self.tokens, self.velocity, self.latent, *scalars], b, recomputed=cached)
        # Two slots, each read and written; of keys and values one is read, the other written.
        moved = self.crossing() * 2 * (2 * self.case.slot_bytes - self.case.cached_bytes)
        return "repartition", lambda _, stream: buffers.swap(self.swaps, self.counts, stream), moved


def cases(machine: Machine, quick: bool) -> list[Case]:
    """All that fits in half of the memory; a part of it if it has to be quick."""
    if quick:
        return [Case("12 x 384", 1024, 1, machine.dtypes[0], ratio) for ratio in (0.5, 0.25)]
    axes = product(MODELS, (1024, 4096), (1, 4), machine.dtypes, (0.5, 0.25, 0.125))
    every = (Case(*case) for case in axes)
    return [case for case in every if case.tokens * case.samples * case.slot_bytes <= machine.memory / 2]


def measure(machine: Machine, case: Case, bandwidth: float) -> Iterator[Cell]:
    """All operators of a case; those that do not depend on the model with the first one only."""
    region = Region(machine, case)
    for name, launch, size in region.ops(small=case.model == next(iter(MODELS))):
        seconds = machine.seconds(launch, lambda: region.time.__setitem__(slice(None), 0))
        yield Cell(name, case, size, seconds * 1e6, size / seconds / 1e9, size / seconds / bandwidth)


def between_calls(bundle: str, side: int, steps: int) -> list[dict[str, float | str]]:
    """Of each engine of a bundle that suits this CPU: seconds of a RAS step, and of all between two such calls."""
    from flagdit.engine import Pipeline, RasConfig  # the kernels alone need none of the engine's dependencies
    from flagdit.engine.request import Request

    pipeline = Pipeline.load(bundle, threads=1)
    _, high, wide = pipeline.spec.tokens.patch
    ras = RasConfig(ratio=0.25, warmup=2, resets=())
    request = Request(["a red apple"], [0], steps, (side * wide, side * high), 4.0, 1.0, ras)
    out: list[dict[str, float | str]] = []
    for precision in pipeline.precisions:
        timed = [preview.timed for preview in pipeline.at(precision).start(request)]
        sparse = [t for t in timed if not t.step.dense][1:]  # the first one binds
        engine, host = (median(getattr(t, name) for t in sparse) for name in ("denoise", "host"))
        times = {"engine_seconds": engine, "between_seconds": host, "share": host / engine}
        out.append({"precision": precision, "patches": side**2, "ratio": 0.25, **times})
    return out


def show(cells: list[Cell], bandwidth: float) -> None:
    """Print the cells as a table."""
    table = Table(title=f"a copy runs at {bandwidth / 1e9:.1f} GB/s", header_style="bold", box=None)
    for name in ("op", "model", "tokens", "samples", "dtype", "ratio", "MB", "us", "GB/s", "of the copy"):
        table.add_column(name, justify="left" if name in ("op", "model", "dtype") else "right")
    for c in cells:
        case = (c.case.model if c.op == "repartition" else "", str(c.case.tokens), str(c.case.samples), c.case.dtype)
        measured = (f"{c.bytes / 1e6:.2f}", f"{c.microseconds:.1f}", f"{c.gb_per_second:.1f}", f"{c.of_bandwidth:.0%}")
        table.add_row(c.op, *case, f"{c.case.ratio:g}", *measured)
    Console(width=100).print(table)


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    quick: Annotated[bool, typer.Option(help="Two small cases.")] = False,
    launches: Annotated[int, typer.Option(min=1, help="Of every operator in every case.")] = 20,
    against: Annotated[str | None, typer.Option(help="A bundle, or demo: its RAS step beside what follows it.")] = None,
    side: Annotated[int, typer.Option(help="Patches a side, with --against.")] = 32,
    steps: Annotated[int, typer.Option(min=5, help="Of the run, with --against.")] = 16,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Measure the operators between two engine calls."""
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"got {device!r}, allowed cpu and cuda", param_hint="--device")
    machine: Machine = Cuda(launches) if device == "cuda" else Cpu(launches)
    size = 256 * MIB
    bandwidth = 2 * size / machine.copy_seconds(size)
    cells = [cell for case in cases(machine, quick) for cell in measure(machine, case, bandwidth)]
    show(cells, bandwidth)
    results: dict[str, object] = {
        "command": f"benchmarks/kernels.py --device {device} --launches {launches}" + " --quick" * quick,
        "machine": machine.name,
        "copy_gb_per_second": bandwidth / 1e9,
        "cells": [asdict(cell) for cell in cells],
    }
    if against is not None:
        engines = between_calls(against, side, steps)
        results["against"] = {"bundle": against, "engines": engines}
        for engine in engines:
            print(f"between two calls of {against} in {engine['precision']}: {engine['share']:.2%} of a call")
    if json_path is not None:
        write_file(json_path, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
