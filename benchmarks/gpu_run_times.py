"""Part of gpu_denoise.py: whether a captured run is the eager one bit for bit, and what a step of both takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flagdit.cpp_ext import GraphCache, Step
from flagdit.engine import RasConfig
from flagdit.engine.session import Array
from gpu_device import Device
from gpu_run import DeviceRun
from gpu_values import Demo


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
