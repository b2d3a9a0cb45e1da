"""Reuse of the guidance difference: its rule, and runs against loops that know tokens only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import fake
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import velocity
from test_adapt import LAYOUT, patches, plan_of
from test_pipeline import PROMPT, difference, features

from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError, Solver, make_plan
from flagdit.engine.cost import price
from flagdit.engine.guidance import unconditional_steps
from flagdit.engine.layout import rope_rows
from flagdit.engine.request import Request
from flagdit.engine.run import Run
from flagdit.export import FlagDiT

SOLVERS: list[Solver] = ["euler", "ab2", "midpoint", "heun"]
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@given(
    steps=st.integers(1, 40),
    every=st.integers(1, 9),
    warmup=st.none() | st.integers(1, 40),
    dense=st.sets(st.integers(0, 39)),
)
def test_which_steps_run_both_branches(steps: int, every: int, warmup: int | None, dense: set[int]) -> None:
    out = unconditional_steps(steps, every, warmup if every > 1 else None, dense)
    forced = {*range((steps + 1) // 2 if warmup is None else warmup), *dense}
    assert len(out) == steps
    assert all(out[step] for step in forced if step < steps)
    for step in set(range(steps)) - forced:  # the others at a distance of `every` from the last that did
        last = max(s for s in range(step) if out[s])
        assert out[step] == (step - last == every)


def test_golden_rule() -> None:
    both = make_plan(RasConfig(0.25, warmup=2, resets=(-1,), guidance_every=3, guidance_warmup=4), 10, 72, 8)
    assert "".join(".x"[step] for step in both.unconditional) == "xxxx..x..x"
    assert make_plan(replace(DENSE, resets=(), guidance_every=9), 7, 72, 8).unconditional == [True] * 4 + [False] * 3
    assert make_plan(RasConfig(), 30, 72, 8).unconditional == [True] * 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_every": 0}, "guidance_every is 0; allowed are 1 to 1000"),
        ({"guidance_every": 1001}, "guidance_every is 1001; allowed are 1 to 1000"),
        ({"guidance_every": 1.5}, "guidance_every is 1.5; allowed are 1 to 1000, whole numbers"),
        ({"guidance_every": True}, "guidance_every is True"),
        ({"guidance_every": 2, "guidance_warmup": 0}, "guidance_warmup is 0; allowed are 1 to 1000"),
        ({"guidance_warmup": 8}, "guidance_warmup is 8, which needs a guidance_every of 2 or more; got 1"),
        ({"guidance_every": 2, "mode": "paper"}, "paper mode runs both branches in every step; got guidance_every 2"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        make_plan(RasConfig(**options), 30, 72, 8)
    assert message in str(error.value)


OPTIONS = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from([0.1, 0.4, 1.0]),
        "warmup": st.integers(1, 3),
        "resets": st.sampled_from([None, (), (-1,)]),
        "starvation": st.sampled_from([0.0, 0.1]),
        "forecast": st.integers(0, 1),
        "error_budget": st.sampled_from([0.0, 0.1]),
        "gate": st.sampled_from([0.0, 0.5, 10.0]),
        "guidance_every": st.integers(1, 4),
    }
)


@every_solver
@given(
    options=OPTIONS,
    warmup=st.integers(1, 12),
    samples=st.integers(1, 2),
    guidance=st.sampled_from([0.0, 1.5, 4.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_tokens_keep_their_difference(
    solver: Solver, options: dict[str, Any], warmup: int, samples: int, guidance: float, seed: int
) -> None:
    """Known velocities of both branches: every token is guided by its own last difference, wherever it moves."""
    reuses = options["guidance_every"] > 1
    ras = RasConfig(**options, forecast_clamp=100, guidance_warmup=warmup if reuses else None)
    plan = plan_of(ras, 12, solver)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((samples, 3, 16, 16), np.float32)
    slow, wave = (rng.standard_normal((2 * samples, 3, 16, 16), np.float32) for _ in range(2))
    times = np.array([evaluation.t for evaluation in plan.evaluations], np.float32)[:, None, None, None, None]
    velocities = slow + np.sin(5 * times + wave)
    by_patch = np.stack([LAYOUT.patchify(v) for v in velocities])  # (E, patches, R, P)
    kept = np.zeros((LAYOUT.patches, samples, LAYOUT.patch_values), np.float32)
    guided, heads, owed = np.zeros((len(by_patch), *kept.shape)), [], False
    for timed, active, state in fake.timed_run(LAYOUT, plan, ras, noise, velocities, guidance):
        due = plan.unconditional[timed.step.index] or owed
        owed = due and not timed.step.active
        assert timed.branches == (1 + due if timed.step.active else 0)
        for row, evaluation in enumerate(plan.evaluations):
            if evaluation.step == timed.step.index and timed.step.active:
                conditional, unconditional = np.split(by_patch[row], 2, axis=1)
                for b, head in enumerate(active):
                    if due:
                        kept[list(head), b] = (conditional - unconditional)[list(head), b]
                guided[row] = conditional + (guidance - 1) * kept
        if state.difference is not None:
            np.testing.assert_array_equal(patches(state, state.difference.values)[0], kept)
        heads.append(active)
        images = state.images()
    for b in range(samples):
        calls = iter(guided[:, :, b])
        start, own = LAYOUT.patchify(noise)[:, b], [head[b] for head in heads]
        *_, last = oracle.integrate(plan.steps, solver, own, start, lambda t, x, c=calls: next(c), ras.forecast)
        np.testing.assert_allclose(LAYOUT.patchify(images)[:, b], last, 1e-3, 1e-3)


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
            bend = 0 if before is None or solver == "euler" else h / 2 * (k - before[1]) / (t - before[0])
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
    noise = torch.from_numpy(run._noise())
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
        n, g, d = layout.tokens, spec.layers.kv_heads, spec.rope.head_dim
        self.pipeline, self.layout, self.conditions = pipeline, layout, conditions  # of each branch
        noise = np.random.default_rng(seed).standard_normal((1, 3, 32, 32), np.float32)
        self.cos, self.sin = rope_rows(spec, np.arange(n, dtype=np.int32))
        self.at = layout.slots()[layout.pinned :]  # tokens of the patches
        self.latent, self.velocity, self.kept = (np.zeros((n, layout.patch_values), np.float32) for _ in range(3))
        self.latent[self.at] = layout.patchify(noise)[:, 0]
        names = [f"{name}.{layer}" for name in ("key", "value") for layer in range(spec.layers.count)]
        self.caches = [{name: np.zeros((n, 1, g, d), np.float32) for name in names} for _ in range(2)]

    def branch(self, which: int, head: np.ndarray, modulations: Mapping[str, np.ndarray]) -> np.ndarray:
        """Velocities (A, P) of the tokens `head`, whose keys and values it replaces."""
        tail = np.setdiff1d(np.arange(self.layout.tokens), head)
        caches, special = self.caches[which], np.setdiff1d(head, self.at)
        inputs = {f"{n.replace('.', '_tail.')}": cache[tail] for n, cache in caches.items()}
        inputs |= {"tokens": self.latent[head][:, None], "special": np.isin(head, special)[:, None].astype(np.float32)}
        inputs |= {"rope_cos": self.cos[head][:, None], "rope_sin": self.sin[head][:, None]}
        outputs = self.pipeline.stages.denoise.run({**inputs, **self.conditions[which], **modulations})
        for name, cache in caches.items():
            cache[head] = outputs[name.replace(".", "_head.")]
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
    return {name: x if name == "attention_scale" else x[row : row + 1] for name, x in arrays.items()}


@pytest.mark.parametrize("options", [{"guidance_every": 2}, {"guidance_every": 3, "error_budget": 0.3, "gate": 0.02}])
@pytest.mark.parametrize("ratio", [0.5, 0.2])
def test_ras_is_the_slow_reference(pipeline: Pipeline, options: dict[str, Any], ratio: float) -> None:
    """Two pictures: each token's caches, of both branches, and its difference are its own after every swap."""
    seeds = (7, 2)
    run = pipeline.start(request(RasConfig(ratio, warmup=2, guidance_warmup=3, **options), "euler", seeds, 16))
    conditions, modulations = run._conditions()
    conditions["attention_scale"] = np.array([pipeline.spec.rope.head_dim**-0.5], np.float32)
    slow = [
        ByToken(pipeline, run, [rows(conditions, b), rows(conditions, b + 2)], seed) for b, seed in enumerate(seeds)
    ]
    reused = 0
    for preview in run:
        timed, state = preview.timed, preview._state
        reused += timed.branches == 1 and not timed.step.dense
        now = {name: x[timed.step.index] for name, x in modulations.items()}
        for b, sample in enumerate(slow):
            head = np.sort(state.token[: timed.step.active, b])
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
    run.plan = replace(run.plan, keeps=replace(run.plan.keeps, difference=True))
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
def test_the_price(pipeline: Pipeline, solver: Solver) -> None:
    """A step that reuses the difference costs half; what is kept is one velocity more."""
    ras = RasConfig(0.25, guidance_every=2)
    reusing, usual = (make_plan(r, 20, 72, 8, solver=solver) for r in (ras, RasConfig(0.25)))
    half, full = (price(pipeline.spec, plan, samples=3) for plan in (reusing, usual))
    assert {reusing.unconditional[step] for step in range(10, 20)} == {True, False}
    for call, cheap, dear in zip(reusing.evaluations, half.flops, full.flops, strict=True):
        assert cheap == (dear if reusing.unconditional[call.step] else dear / 2)
    assert half.dense_flops == full.dense_flops
    assert half.cache_bytes == full.cache_bytes + 72 * 3 * 48 * 4
    assert price(pipeline.spec, reusing, 3, branches=1) == price(pipeline.spec, usual, 3, branches=1)


@every_solver
def test_the_report_says_what_was_computed(pipeline: Pipeline, solver: Solver) -> None:
    run = pipeline.start(request(RasConfig(0.25, guidance_every=3, guidance_warmup=4), solver))
    finish(run)
    report, planned = run.result().report, price(pipeline.spec, run.plan, text=run._text_tokens)
    assert [step.branches for step in report.steps] == [1 + both for both in run.plan.unconditional]
    assert report.flop_ratio == pytest.approx(planned.flop_ratio) and report.cache_bytes == planned.cache_bytes
    work = sum(step.active * step.branches for step in report.steps)
    assert report.flop_ratio == pytest.approx(work / (2 * 12 * report.tokens))
    assert report.evaluations == len(run.plan.evaluations)
    assert report.ras["guidance_every"] == 3
