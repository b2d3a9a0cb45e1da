"""Part of gpu_denoise.py: engine calls with random weights at several ratios, plain and captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flagdit.cpp_ext import GraphCache
from flagdit.export.families.flag_dit.config import FlagDiTConfig
from gpu_call import bind, empty_caches, shape_of
from gpu_device import Device, Graph, put
from gpu_models import TEXT, flops

RATIOS = (1.0, 0.5, 0.25, 0.125)
ROWS = 2


class Steps:
    """Bound engine calls of all ratios at side x side patches, over the same arrays."""

    def __init__(self, device: Device, graph: Graph, side: int) -> None:
        self.device, self.patches, self.pinned = device, side**2, side
        self.tokens = n = self.patches + self.pinned
        rng, sizes = np.random.default_rng(0), {"A": n, "R": ROWS, "T": TEXT}
        self.caches = empty_caches(device, graph, n, ROWS)
        self.inputs = {
            name: put(device, rng.standard_normal(shape_of(axes, sizes)).astype(np.float32) * 0.1, dtype)
            for name, (dtype, axes) in graph.inputs.items()
            if name not in self.caches
        }
        self.velocity = device.empty(shape_of(graph.outputs["velocity"][1], sizes))
        self.calls = {self.pinned + round(r * self.patches): r for r in RATIOS}
        arrays = {**self.inputs, **self.caches, "velocity": self.velocity}
        self.bound = {active: bind(graph, arrays, active) for active in self.calls}
        self.bound[n].run()  # the caches then hold what the model writes

    def finite(self) -> bool:
        return bool(np.isfinite(self.device.read(self.velocity)).all())


def measure(steps: Steps, config: FlagDiTConfig, repeats: int) -> Iterator[dict[str, Any]]:
    """Milliseconds of every ratio, plain and captured; efficiency is FLOP ratio / time ratio to the dense call."""
    graphs, dense = GraphCache(len(RATIOS)), dict[str, float]()
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
