"""Reuse of the guidance difference: its rule, and runs against loops that know tokens only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapt import LAYOUT, patches, plan_of
from test_pipeline import PROMPT

from flagdit.cpp_ext import unconditional_steps
from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError, Solver, make_plan
from flagdit.engine.cost import price

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
    both = make_plan(RasConfig(0.25, warmup=2, resets=(-1,), guidance_every=3, guidance_warmup=4), 10, 72, pinned=8)
    assert "".join(".x"[step] for step in both.unconditional) == "xxxx..x..x"
    assert (
        make_plan(replace(DENSE, resets=(), guidance_every=9), 7, 72, pinned=8).unconditional
        == [True] * 4 + [False] * 3
    )
    assert make_plan(RasConfig(), 30, 72, pinned=8).unconditional == [True] * 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_every": 0}, "guidance_every is 0; allowed are 1 to 1000"),
        ({"guidance_every": 1001}, "guidance_every is 1001; allowed are 1 to 1000"),
        ({"guidance_every": 1.5}, "guidance_every is 1.5; allowed are 1 to 1000, whole numbers"),
        ({"guidance_every": True}, "guidance_every is True"),
        ({"guidance_every": None}, "guidance_every is None"),
        ({"guidance_every": 2, "guidance_warmup": 0}, "guidance_warmup is 0; allowed are 1 to 1000"),
        ({"guidance_warmup": 8}, "guidance_warmup is 8, which needs a guidance_every of 2 or more; got 1"),
        ({"guidance_every": 2, "mode": "paper"}, "paper mode runs both branches in every step; got guidance_every 2"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        make_plan(RasConfig(**options), 30, 72, pinned=8)
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
    noise, velocities = fake.waves(plan, rng, samples=samples, branches=2)
    by_patch = np.stack([LAYOUT.patchify(v) for v in velocities])  # (E, patches, R, P)
    kept = np.zeros((LAYOUT.patches, samples, LAYOUT.patch_values), np.float32)
    guided, heads, owed = np.zeros((len(by_patch), *kept.shape)), [], False
    for timed, active, state in fake.timed_run(LAYOUT, plan, noise, velocities, guidance):
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
        if "difference" in state.arrays:
            np.testing.assert_array_equal(patches(state, state.difference)[0], kept)
        heads.append(active)
        images = state.images()
    for b in range(samples):
        calls = iter(guided[:, :, b])
        start, own = LAYOUT.patchify(noise)[:, b], [head[b] for head in heads]
        *_, last = oracle.integrate(plan.steps, solver, own, start, lambda t, x, c=calls: next(c), ras.forecast)
        np.testing.assert_allclose(LAYOUT.patchify(images)[:, b], last, 1e-3, 1e-3)


@every_solver
def test_the_price(pipeline: Pipeline, solver: Solver) -> None:
    """A step that reuses the difference costs half; what is kept is one velocity more."""
    ras = RasConfig(0.25, guidance_every=2)
    reusing, usual = (make_plan(r, 20, 72, pinned=8, solver=solver) for r in (ras, RasConfig(0.25)))
    half, full = (price(pipeline.spec, plan, samples=3) for plan in (reusing, usual))
    assert {reusing.unconditional[step] for step in range(10, 20)} == {True, False}
    for call, cheap, dear in zip(reusing.evaluations, half.flops, full.flops, strict=True):
        assert cheap == (dear if reusing.unconditional[call.step] else dear / 2)
    assert half.dense_flops == full.dense_flops
    assert half.cache_bytes == full.cache_bytes + 72 * 3 * 48 * 4
    one, other = (price(pipeline.spec, plan, 3, branches=1) for plan in (reusing, usual))
    assert (one.flops, one.dense_flops, one.cache_bytes) == (other.flops, other.dense_flops, other.cache_bytes)


def test_plan_says_which_steps_reuse(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--steps", 8, "--ratio", 0.25, "--solver", "heun", "--guidance-every", 3, "--guidance-warmup", 4)
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, *options, "--json")
    plan = json.loads(out)
    assert code == 0
    both = unconditional_steps(8, 3, 4, {step["index"] for step in plan["steps"] if step["dense"]})
    assert [step["unconditional"] for step in plan["steps"]] == both and not all(both)
    work = sum(step["active"] * (1 + step["unconditional"]) for step in plan["steps"])
    assert plan["flop_ratio"] == pytest.approx(work / (2 * 8 * plan["tokens"]))
    code, out, _ = flagdit("plan", "--tokens", plan["tokens"], *options, "--json")  # without a price
    assert json.loads(out)["flop_ratio"] == pytest.approx(plan["flop_ratio"], rel=0.1)  # of pinned tokens nothing known
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, *options)
    assert f"guidance █ both branches in {sum(both)} steps, ▀ one in {8 - sum(both)}, which reuse the difference" in out
    assert [("▀" in line) for line in out.splitlines()[1:9]] == [not step["unconditional"] for step in plan["steps"]]
    assert max(len(line) for line in out.splitlines()[:9]) <= 80
    code, out, _ = flagdit("plan", "--tokens", 64, "--steps", 100, "--dense", "--guidance-every", 99)
    lines = [line.split()[0] for line in out.split("\n\n")[0].splitlines()[1:]]
    assert lines == ["0-49", "50-72", "73", "74-99"]  # step 73 is a reset


def test_generate_reuses_the_difference(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--bundle", bundle_dir, "--steps", 8, "--dense", "--report", "r.json")
    assert flagdit("generate", PROMPT, *options, "--guidance-every", 2)[0] == 0
    report = json.loads(Path("r.json").read_text())
    assert [step["branches"] for step in report["steps"]] == [2, 2, 2, 2, 1, 2, 2, 1]  # step 6 is a reset
    code, _, err = flagdit("generate", PROMPT, *options, "--guidance-warmup", 2)
    assert code == 2 and "guidance_warmup is 2, which needs a guidance_every of 2 or more; got 1" in err
