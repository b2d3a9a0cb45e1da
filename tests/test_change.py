"""The metric "change": a patch is computed where its velocity is going to be off, and not where it stays."""

from __future__ import annotations

import fake
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.engine.layout import TokenLayout
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.ras import DENSE, RasConfig, Solver

LAYOUT = TokenLayout(16, 16, patch=2, channels=3)  # 8 x 8 patches
every_solver = pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "ab2"])


def plan_of(ras: RasConfig, steps: int, solver: Solver = "euler") -> Plan:
    return make_plan(ras, steps, LAYOUT.tokens, pinned=LAYOUT.pinned, shift=2.0, solver=solver)


def flow(plan: Plan, speed: np.ndarray, steady: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Noise (B, C, H, W), and velocities (E, B, C, H, W) of patches that change with a speed (B, rows, columns)."""
    rng, patch = np.random.default_rng(0), LAYOUT.patch_height
    pixels = speed.repeat(patch, 1).repeat(patch, 2)[:, None].astype(np.float32)
    shape = (len(speed), LAYOUT.channels, LAYOUT.height, LAYOUT.width)
    noise, constant, phase = (rng.standard_normal(shape, np.float32) for _ in range(3))
    t = np.array([evaluation.t for evaluation in plan.evaluations], np.float32)[:, None, None, None, None]
    return noise, constant + pixels * (t * np.ones_like(phase) if steady else np.sin(5 * t + phase))


def moving(samples: int, count: int, seed: int) -> np.ndarray:
    """1 for `count` patches of each sample, 0 for the others: (B, rows, columns)."""
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(LAYOUT.patches), (samples, 1)), axis=1)
    return (order < count).astype(np.float32).reshape(samples, LAYOUT.lines, LAYOUT.columns)


@every_solver
@given(count=st.integers(0, 40), extra=st.integers(0, 8), samples=st.integers(1, 2), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_computing_what_varies_is_the_dense_run(
    solver: Solver, count: int, extra: int, samples: int, seed: int
) -> None:
    """To the bit, if the ratio covers all patches that vary: a velocity that stays is as good cached."""
    ras = RasConfig(max(count + extra, 1) / LAYOUT.patches, starvation=0, warmup=2, resets=())
    speed = moving(samples, count, seed)
    plans = plan_of(ras, 10, solver), plan_of(DENSE, 10, solver)
    run, dense = (fake.run(LAYOUT, plan, *flow(plan, speed)) for plan in plans)
    for step, (heads, state), (_, expected) in zip(plans[0].steps, run, dense, strict=True):
        assert all(set(np.flatnonzero(s)) <= head for s, head in zip(speed, heads, strict=True))
        assert step.dense or len(heads[0]) == max(count + extra, 1)
        np.testing.assert_array_equal(state.images(), expected.images())


@every_solver
@given(count=st.integers(17, 64), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_what_stays_is_computed_only_when_its_age_forces_it(solver: Solver, count: int, seed: int) -> None:
    ras = RasConfig(0.25, warmup=2)
    plan, speed = plan_of(ras, 20, solver), moving(1, count, seed)
    varying, age = set(np.flatnonzero(speed)), [0] * LAYOUT.patches
    for step, ([head], state) in zip(plan.steps, fake.run(LAYOUT, plan, *flow(plan, speed)), strict=True):
        future = oracle.future_capacity(plan.steps, step.index, plan.pinned, plan.max_age)
        forced = oracle.forced_count(age, oracle.Rule(step.active, 0, max_age=plan.max_age, future=future))
        assert step.dense or len(head - varying) <= forced
        age = state.ages().ravel().tolist()


@every_solver
@given(seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_the_fastest_are_computed_first(solver: Solver, seed: int) -> None:
    """After dense steps too, with every solver: all velocities are new, and some will be off sooner."""
    ras = RasConfig(0.25, warmup=3, resets=(), starvation=0)
    speed = np.random.default_rng(seed).permutation(LAYOUT.patches).reshape(1, LAYOUT.lines, LAYOUT.columns)
    plan = plan_of(ras, 6, solver)
    heads = [head for [head], _ in fake.run(LAYOUT, plan, *flow(plan, speed, steady=True))]
    assert heads[3] == set(np.flatnonzero(speed.ravel() >= 48))


@pytest.mark.parametrize(("dilation", "reach"), [(0.0, 0), (0.5, 1), (1.0, 1)])
def test_a_dilated_region_is_computed_with_its_border(dilation: float, reach: int) -> None:
    ras = RasConfig((2 + 2 * reach) ** 2 / LAYOUT.patches, warmup=2, resets=(), starvation=0, dilation=dilation)
    speed, expected = np.zeros((2, 1, LAYOUT.lines, LAYOUT.columns))
    speed[:, 3:5, 5:7] = 1
    expected[:, 3 - reach : 5 + reach, 5 - reach : 7 + reach] = 1
    plan = plan_of(ras, 4)
    heads = [head for [head], _ in fake.run(LAYOUT, plan, *flow(plan, speed, steady=True))]
    assert heads[2:] == 2 * [set(np.flatnonzero(expected))]
