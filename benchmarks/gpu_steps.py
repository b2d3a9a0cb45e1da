"""Part of gpu_denoise.py: engine calls with random weights at several ratios, plain and captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flagdit.cpp_ext import GraphCache
from flagdit.export.config import FlagDiTConfig
from gpu_device import Bound, Buffer, Device, Graph, put
from gpu_models import TEXT, flops

RATIOS = (1.0, 0.5, 0.25, 0.125)
ROWS = 2
PER_SLOT = ("tokens", "special", "rope_cos", "rope_sin")


class Steps:
    """Bound engine calls of all ratios at side x side patches, over the same arrays."""

    def __init__(self, device: Device, graph: Graph, side: int) -> None:
        self.device, self.patches, self.pinned = device, side**2, side
        self.tokens = n = self.patches + self.pinned
        rng = np.random.default_rng(0)
        sizes: dict[str, int] = {"A": n, "M": n, "R": ROWS, "T": TEXT}
        self.inputs: dict[str, Buffer] = {}
        self.caches: dict[str, Buffer] = {}
        for name, (dtype, axes) in graph.inputs.items():
            shape = tuple(sizes[a] if isinstance(a, str) else a for a in axes)
            if "_tail" in name:
                self.caches[name] = device.empty(shape, dtype)
                continue
            array = rng.standard_normal(shape).astype(np.float32) * 0.1
            if name in ("attention_scale", "text_bias"):
                array = np.full(shape, 0.125 if name == "attention_scale" else 0, np.float32)
            self.inputs[name] = put(device, array, dtype)
        self.velocity = device.empty((n, ROWS, graph.inputs["tokens"][1][2]))
        self.calls = {self.pinned + round(r * self.patches): r for r in RATIOS}
        self.bound = {active: self._bind(graph, active) for active in self.calls}
        self.bound[n].run()  # the caches then hold what the model writes

    def _bind(self, graph: Graph, active: int) -> Bound:
        read = {k: b.rows(0, active) if k in PER_SLOT else b.all for k, b in self.inputs.items()}
        read |= {name: cache.rows(active, self.tokens) for name, cache in self.caches.items()}
        heads = {name.replace("tail", "head"): cache.rows(0, active) for name, cache in self.caches.items()}
        return graph.bind(read, {"velocity": self.velocity.rows(0, active), **heads})

    def finite(self) -> bool:
        return bool(np.isfinite(self.device.read(self.velocity)).all())


def measure(steps: Steps, config: FlagDiTConfig, repeats: int) -> Iterator[dict[str, Any]]:
    """Milliseconds of every ratio, plain and captured; efficiency is FLOP ratio / time ratio to the dense call."""
    graphs, dense = GraphCache(len(RATIOS)), {}
    for bound in steps.bound.values():  # a plain call for each shape, before any capture
        bound.run()
    for active, ratio in steps.calls.items():
        bound = steps.bound[active]
        share = flops(config, active, steps.tokens, ROWS) / flops(config, steps.tokens, steps.tokens, ROWS)
        cell: dict[str, Any] = {"ratio": ratio, "active": active, "flop_ratio": share}
        ways: dict[str, Callable[[], object]] = {"plain": bound.run}
        if steps.device.stream:
            ways["captured"] = lambda a=active, b=bound: graphs.run(a, steps.device.stream, b.run)  # type: ignore[misc]
        for how, work in ways.items():
            work()
            taken = steps.device.milliseconds(work, repeats)
            dense.setdefault(how, taken)
            cell[f"{how}_ms"], cell[f"{how}_efficiency"] = taken, share / (taken / dense[how])
        if ratio == 1:
            cell["captured_tflops"] = flops(config, active, steps.tokens, ROWS) / dense.get("captured", 1e9) / 1e9
        yield cell


def engine(device: Device, graph: Graph, config: FlagDiTConfig, side: int, repeats: int) -> dict[str, Any]:
    """All cells of one graph at one size."""
    steps = Steps(device, graph, side)
    cells = list(measure(steps, config, repeats))
    return {
        "patches": steps.patches,
        "tokens": steps.tokens,
        "finite": steps.finite(),
        "cells": cells,
    }
