"""Runs that reuse the guidance difference: against torch, and against a slow loop that knows tokens only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import by_hand
import numpy as np
import plans
import pytest
import torch
from noise import noise_of
from reference import velocity
from test_guidance import every_solver
from test_pipeline import PROMPT, difference, features

from flagdit.engine import DENSE, Pipeline, RasConfig, Solver
from flagdit.engine.bundle.ports import caches, twin
from flagdit.engine.cost import price
from flagdit.engine.request import Request
from flagdit.engine.run import Run
from flagdit.export import FlagDiT


def integrate(
    flag_dit: FlagDiT, noise: torch.Tensor, text: tuple[torch.Tensor, torch.Tensor], run: Run, guidance: float
) -> torch.Tensor:
    """Dense sampling in torch, by the textbook's formulas, with one difference for the whole picture."""
    s, b, solver = flag_dit.state_dict(), len(noise), run.request.solver
    features, mask = text
    kept, before = torch.zeros_like(noise), None

    def v(t: float, x: torch.Tensor, both: bool) -> torch.Tensor:
        nonlocal kept
        at = torch.full((b,), t)
        conditional = velocity(s, x, at, features[:b], mask[:b], 4)
        if both:
            kept = conditional - velocity(s, x, at, features[b:], mask[b:], 4)
        return conditional + (guidance - 1) * kept

    x = noise
    for step, both in zip(run.plan.steps, run.plan.unconditional, strict=True):
        t, h = step.t, step.t_next - step.t
        k = v(t, x, both)
        if solver == "midpoint":
            x = x + h * v(t + h / 2, x + h / 2 * k, both)
        elif solver == "heun":
            x = x + h / 2 * (k + v(step.t_next, x + h * k, both))
        else:
            straight = before is None or solver == "euler" or (step.t_next == 1 and h > 1.001 * (t - before[0]))
            bend = 0 if straight else h / 2 * (k - before[1]) / (t - before[0])
            x, before = x + h * (k + bend), (t, k)
    return x


def request(ras: RasConfig, solver: Solver = "euler", seeds: tuple[int, ...] = (7,), steps: int = 12) -> Request:
    return Request([PROMPT, "green star"][: len(seeds)], list(seeds), steps, None, 4.0, 2.0, ras, solver)


def finish(run: Run) -> np.ndarray:
    for _ in run:
        pass
    return run.result().latents


@every_solver
@pytest.mark.parametrize("every", [2, 3, 9])
def test_dense_run_is_torchs(pipeline: Pipeline, flag_dit: FlagDiT, solver: Solver, every: int) -> None:
    run = pipeline.start(request(replace(DENSE, resets=(), guidance_every=every, guidance_warmup=3), solver, (7, 2)))
    noise = torch.from_numpy(np.concatenate([noise_of(seed, (1, 3, 32, 32)) for seed in run.request.seeds]))
    text = features(pipeline, [PROMPT, "green star", "", ""])
    with torch.no_grad():
        expected = integrate(flag_dit, noise, text, run, guidance=4.0)
    latents = finish(run)
    assert difference(latents, expected.numpy()) < 1e-4
    usual = finish(pipeline.start(request(DENSE, solver, (7, 2))))
    assert difference(latents, usual) > 1e-2  # the option does something


class ByToken:
    """One sample of a region-adaptive Euler run: arrays by token, gathered and scattered, no slot ever moves."""

    def __init__(self, pipeline: Pipeline, run: Run, conditions: list[Mapping[str, np.ndarray]], seed: int) -> None:
        spec, layout = pipeline.spec, run.layout
        n = layout.tokens
        self.pipeline, self.layout, self.conditions = pipeline, layout, conditions  # of each branch
        noise = noise_of(seed, (1, 3, 32, 32))
        self.placed, _ = by_hand.places(pipeline, layout)
        self.at = layout.slots()[layout.pinned :]  # tokens of the patches
        self.latent, self.velocity, self.kept = (np.zeros((n, layout.patch_values), np.float32) for _ in range(3))
        self.latent[self.at] = layout.patchify(noise)[:, 0]
        self.caches = [
            {p.name: np.zeros((n, 1, *p.shape[2:]), np.float32) for p in caches(spec.graphs.denoise.inputs)}
            for _ in conditions
        ]

    def branch(self, which: int, head: np.ndarray, modulations: Mapping[str, np.ndarray]) -> np.ndarray:
        """Velocities (A, P) of the tokens `head`, whose keys and values it replaces."""
        tail = np.setdiff1d(np.arange(self.layout.tokens), head)
        own = self.caches[which]
        inputs = {name: cache[tail] for name, cache in own.items()} | {"tokens": self.latent[head][:, None]}
        for port in self.pipeline.spec.graphs.denoise.inputs:
            if port.name in self.placed:
                values = self.placed[port.name][head]
                inputs[port.name] = values[:, None] if "R" in port.shape else values
        outputs = self.pipeline.stages.denoise.run({**inputs, **self.conditions[which], **modulations})
        for name, cache in own.items():
            cache[head] = outputs[twin(name)]
        return cast(np.ndarray, outputs["velocity"][:, 0])

    def step(self, head: np.ndarray, both: bool, dt: float, modulations: list[Mapping[str, np.ndarray]]) -> None:
        conditional = self.branch(0, head, modulations[0])
        if both:
            self.kept[head] = conditional - self.branch(1, head, modulations[1])
        self.velocity[head] = conditional + 3 * self.kept[head]
        self.latent[self.at] += np.float32(dt) * self.velocity[self.at]

    def image(self) -> np.ndarray:
        return self.layout.unpatchify(self.latent[self.at][:, None])[0]


def rows(arrays: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {name: x[row : row + 1] for name, x in arrays.items()}


@pytest.mark.parametrize("options", [{"guidance_every": 2}, {"guidance_every": 3, "error_budget": 0.3, "gate": 0.02}])
@pytest.mark.parametrize("ratio", [0.5, 0.2])
def test_ras_is_the_slow_reference(pipeline: Pipeline, options: dict[str, Any], ratio: float) -> None:
    """Two pictures: each token's caches, of both branches, and its difference are its own after every swap."""
    seeds = (7, 2)
    run = pipeline.start(request(RasConfig(ratio, warmup=2, guidance_warmup=3, **options), "euler", seeds, 16))
    times = [evaluation.t for evaluation in run.plan.evaluations]
    conditions, modulations = by_hand.conditions(pipeline, [*run.request.prompts, "", ""], times)
    _, shared = by_hand.places(pipeline, run.layout)
    slow = [
        ByToken(pipeline, run, [rows(conditions, row) | shared for row in (b, b + 2)], seed)
        for b, seed in enumerate(seeds)
    ]
    reused = 0
    for preview in run:
        timed = preview.timed
        reused += timed.branches == 1 and not timed.step.dense
        now = {name: x[timed.step.index] for name, x in modulations.items()}
        for b, sample in enumerate(slow):
            head = np.sort(run.state["token"][: timed.step.active, b])
            if timed.step.active:
                dt = timed.step.t_next - timed.step.t
                sample.step(head, timed.branches == 2, dt, [rows(now, b), rows(now, b + 2)])
            else:
                sample.latent[sample.at] += np.float32(timed.step.t_next - timed.step.t) * sample.velocity[sample.at]
    assert reused >= 3
    latents = run.result().latents
    for b, sample in enumerate(slow):
        assert difference(latents[b], sample.image()) < 1e-4


def test_one_call_a_branch_is_one_call_of_both(pipeline: Pipeline) -> None:
    """Nothing reused, but the branches apart."""
    expected = finish(pipeline.start(request(RasConfig(0.3), "ab2", (7, 2))))
    run = pipeline.start(request(RasConfig(0.3), "ab2", (7, 2)))
    plan = plans.changed(run.plan, keeps=plans.changed(run.plan.keeps, difference=True))
    run.replan(plan)
    assert difference(finish(run), expected) < 1e-5


@pytest.mark.parametrize("ras", [DENSE, RasConfig(0.3)])
def test_without_effect_the_same_bytes(pipeline: Pipeline, ras: RasConfig) -> None:
    """A run that reuses nothing, since its warm-up has no end; and one without guidance."""
    usual, none = (finish(pipeline.start(replace(request(ras, "ab2"), guidance=g))) for g in (4.0, 1.0))
    full = request(replace(ras, guidance_every=2, guidance_warmup=1000), "ab2")
    np.testing.assert_array_equal(finish(pipeline.start(full)), usual)
    single = replace(request(replace(ras, guidance_every=2, guidance_warmup=4), "ab2"), guidance=1.0)
    run = pipeline.start(single)
    np.testing.assert_array_equal(finish(run), none)
    assert {step.branches for step in run.result().report.steps} == {1}


@pytest.mark.parametrize("ras", [replace(DENSE, guidance_every=3), RasConfig(0.25, guidance_every=2)])
def test_a_batch_is_its_pictures(pipeline: Pipeline, ras: RasConfig) -> None:
    batch = finish(pipeline.start(request(ras, "ab2", (7, 2))))
    for i, prompt in enumerate([PROMPT, "green star"]):
        alone = replace(request(ras, "ab2"), prompts=[prompt], seeds=[(7, 2)[i]])
        assert difference(batch[i], finish(pipeline.start(alone))[0]) < 1e-5


@every_solver
def test_the_report_says_what_was_computed(pipeline: Pipeline, solver: Solver) -> None:
    run = pipeline.start(request(RasConfig(0.25, guidance_every=3, guidance_warmup=4), solver))
    finish(run)
    report, planned = (
        run.result().report,
        price(pipeline.spec, run.plan, text=len(pipeline.stages.text.prompts.tokens(PROMPT))),
    )
    assert [step.branches for step in report.steps] == [1 + both for both in run.plan.unconditional]
    assert report.flop_ratio == pytest.approx(planned.flop_ratio) and report.cache_bytes == planned.cache_bytes
    work = sum(step.active * step.branches for step in report.steps)
    assert report.flop_ratio == pytest.approx(work / (2 * 12 * report.tokens))
    assert report.evaluations == len(run.plan.evaluations)
    assert report.ras["guidance_every"] == 3
