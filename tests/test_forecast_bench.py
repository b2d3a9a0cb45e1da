"""The bounds that forecasts are compared with: what the oracle puts into the tail, and what a random choice chooses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import by_hand
import numpy as np
import pytest
from test_guidance_runs import finish, request

from flagdit.cpp_ext import Binding, Session
from flagdit.engine import Pipeline, RasConfig
from flagdit.engine.run import Run
from flagdit.engine.session import Array

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import forecast_bounds
from bound_runs import BoundRun

RAS = RasConfig(0.5, 0.25, warmup=3, resets=(6,))


@dataclass
class Probe:
    """A session that compares what each RAS call reads and writes with a dense call of its own; `run` must be set."""

    session: Session
    pipeline: Pipeline
    run: Run | None = None
    off: dict[str, float] = field(default_factory=lambda: {"tail": 0.0, "velocity": 0.0})  # largest differences
    calls: list[tuple[int, int]] = field(default_factory=list)  # active and cached tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def bind(self, tensors: Mapping[str, Array]) -> ProbeBinding:
        return ProbeBinding(self, self.session.bind(tensors), tensors)

    def dense(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Of the latents of the run, of one sample, in the order of its slots, and the conditions of a call."""
        assert self.run is not None
        token, latent = self.run.state["token"], self.run.state["latent"]
        rows = tensors["tokens"].shape[1]
        placed, _ = by_hand.places(self.pipeline, self.run.layout)
        outputs = {port.name for port in self.session.ports if port.output}
        full = {name: x[:0] if by_hand.tail(name) else x for name, x in tensors.items() if name not in outputs}
        full["tokens"] = np.tile(latent, (1, rows, 1))
        for name, by_token in placed.items():
            values = by_token[token[:, 0]]
            full[name] = values if tensors[name].ndim == values.ndim else values[:, None].repeat(rows, 1)
        return self.session.run(full)


@dataclass
class ProbeBinding:
    probe: Probe
    binding: Binding
    tensors: Mapping[str, Array]

    def run(self) -> None:
        active, cached = len(self.tensors["tokens"]), len(self.tensors["key_tail.0"])
        self.probe.calls.append((active, cached))
        self.binding.run()
        if not cached:
            return
        dense, off = self.probe.dense(self.tensors), self.probe.off
        for name, tail in self.tensors.items():
            if by_hand.tail(name):
                fresh = dense[name.replace("_tail.", "_head.")]
                off["tail"] = max(off["tail"], float(np.abs(tail - fresh[active:]).max()))
        head = self.tensors["velocity"] - dense["velocity"][:active]
        off["velocity"] = max(off["velocity"], float(np.abs(head).max()))


@pytest.mark.parametrize(("fresh", "chance"), [(True, None), (True, 5), (False, None)])
def test_the_oracle_reads_what_a_dense_call_computes(pipeline: Pipeline, fresh: bool, chance: int | None) -> None:
    """... so that the head gets the velocity of a dense step; without it, keys and velocities are others."""
    probe = Probe(pipeline.stages.denoise, pipeline)
    stages = replace(pipeline.stages, denoise=cast(Session, probe))
    run = probe.run = BoundRun(stages, request(RAS, "ab2"), fresh, chance)
    finish(run)
    n = run.plan.tokens
    calls = [[(n, 0)] if step.dense else [(n, 0)] * fresh + [(step.active, n - step.active)] for step in run.plan.steps]
    assert probe.calls == [call for step in calls for call in step]
    if fresh:
        assert probe.off["tail"] < 1e-4 and probe.off["velocity"] < 1e-4
    else:
        assert probe.off["tail"] > 1e-2 and probe.off["velocity"] > 1e-2


def test_the_tail_keeps_its_velocity(pipeline: Pipeline) -> None:
    """Keys are fresh, but the picture is no dense one: what a step leaves out still moves along what it had."""
    dense = finish(pipeline.start(request(replace(RAS, ratio=1.0, ratio_end=None), "ab2")))
    off = {}
    for fresh in (False, True):
        run = BoundRun(pipeline.stages, request(RAS, "ab2"), fresh)
        off[fresh] = float(np.abs(finish(run) - dense).max())
    assert off[True] > 1e-2 and off[False] > 1e-2


def test_a_run_without_bounds_is_a_run(pipeline: Pipeline) -> None:
    usual, bound = finish(pipeline.start(request(RAS))), finish(BoundRun(pipeline.stages, request(RAS)))
    np.testing.assert_array_equal(bound, usual)


def test_a_random_choice_computes_as_many_others(pipeline: Pipeline) -> None:
    ages = {}
    for chance in (None, 1, 1, 2):
        run = BoundRun(pipeline.stages, request(RAS), chance=chance)
        finish(run)
        result = run.result()
        if chance in ages:
            np.testing.assert_array_equal(result.ages, ages[chance])
        ages[chance] = result.ages
        counts = (result.ages == 0).sum((1, 2, 3))
        np.testing.assert_array_equal(counts, [step.active - run.plan.pinned for step in run.plan.steps])
        assert result.ages.max() <= run.plan.max_age
    assert (ages[None] != ages[1]).any() and (ages[2] != ages[1]).any()


def test_measures_a_bundle(pipeline: Pipeline) -> None:
    prompts = ["a red apple", "green star"]
    exact = [np.zeros((1, 3, 32, 32), np.float32)] * 2
    rows = forecast_bounds.measure(pipeline, {"p": forecast_bounds.Preset(8, "ab2", RAS, 3.0)}, prompts, exact)
    ways = [("ranked", "stale"), ("ranked", "forecast 0.5"), ("ranked", "forecast 0.7"), ("ranked", "fresh")]
    assert [(row.regions, row.keys) for row in rows[:4]] == ways
    assert [row.regions for row in rows[4:]] == ["random"] * 4 + ["all"] * (1 + len(forecast_bounds.SHIFTS))
    assert all(len(row.psnr) == 2 for row in rows) and rows[8].work == 8
    (work,) = {row.work for row in rows[:8]}
    assert all(work <= row.work < work + 1 for row in rows[9:])
    assert len({tuple(row.psnr) for row in rows[:8]}) == 8
    forecast_bounds.show(rows)
