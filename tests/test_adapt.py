"""Runs that decide how much a step computes: the error budget and the gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import fake
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Step, StepDone, errors_left, forced, patches_needed
from flagdit.engine import Plan, RasConfig, Solver, make_plan
from flagdit.engine.layout import TokenLayout

LAYOUT = TokenLayout(16, 16, patch=2, channels=3)  # 64 patches in 8 rows
SHARES = 16  # of the picture, that counts are rounded up to
CALLS = {"euler": 1, "ab2": 1, "midpoint": 2, "heun": 2}
every_solver = pytest.mark.parametrize("solver", CALLS)
Done = list[tuple[StepDone, list[set[int]]]]


def plan_of(ras: RasConfig, steps: int = 30, solver: Solver = "euler") -> Plan:
    return make_plan(ras, steps, LAYOUT.tokens, pinned=LAYOUT.pinned, solver=solver)


def flow(plan: Plan, samples: int, change: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise (B, C, H, W), and velocities (E, B, C, H, W) that wave about a constant one with a `change`."""
    rng = np.random.default_rng(seed)
    shape = (samples, LAYOUT.channels, LAYOUT.height, LAYOUT.width)
    noise, constant, phase = (rng.standard_normal(shape, np.float32) for _ in range(3))
    times = np.array([evaluation.t for evaluation in plan.evaluations], np.float32)
    return noise, constant + np.float32(change) * np.sin(7 * times[:, None, None, None, None] + 5 * phase)


def run(plan: Plan, ras: RasConfig, samples: int = 1, change: float = 0.5, seed: int = 0) -> tuple[Done, fake.State]:
    done = list(fake.timed_run(LAYOUT, plan, *flow(plan, samples, change, seed)))
    return [(timed, heads) for timed, heads, _ in done], done[-1][-1]


def patches(state: fake.State, *arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays (N, B, ...) of a state by patch, (patches, B, ...)."""
    at = np.argsort(state.token[LAYOUT.pinned :], axis=0)
    return [np.take_along_axis(a[LAYOUT.pinned :], at.reshape(at.shape + (1,) * (a.ndim - 2)), 0) for a in arrays]


scores = st.tuples(st.integers(1, 40), st.integers(1, 3), st.integers(0, 99))


def random_scores(case: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    count, samples, seed = case
    rng = np.random.default_rng(seed)
    return rng.random((count, samples), np.float32), rng.standard_normal((count, samples, 6)).astype(np.float32)


@given(case=scores)
@settings(max_examples=50, deadline=None)
def test_the_errors_left(case: tuple[int, int, int]) -> None:
    """Of the worst sample, in units of its velocity; the fewer, the more is computed, and none if all is."""
    score, velocity = random_scores(case)
    errors = errors_left(score, velocity)
    for k in range(len(score) + 1):
        kept = [sorted(column)[: len(score) - k] for column in score.T.astype(np.float64)]
        rms = [np.sqrt(np.mean(v.astype(np.float64) ** 2)) for v in velocity.transpose(1, 0, 2)]
        assert errors[k] == pytest.approx(max(sum(s) / len(score) / r for s, r in zip(kept, rms, strict=True)))
    assert (np.diff(errors) <= 1e-12).all() and errors[-1] == 0


def test_an_unknown_change_is_never_within_a_budget() -> None:
    errors = errors_left(np.array([[1], [np.inf], [2]], np.float32), np.ones((3, 1, 4), np.float32))
    np.testing.assert_allclose(errors, [np.inf, 1, 1 / 3, 0])


@given(case=scores, budget=st.floats(1e-6, 2), bucket=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_what_a_budget_needs(case: tuple[int, int, int], budget: float, bucket: int) -> None:
    """The least that meets it, up to whole parts of the picture, which are whole buckets."""
    errors = errors_left(*random_scores(case))
    total, count = len(errors) - 1, patches_needed(errors, budget, bucket)
    least = min(k for k, error in enumerate(errors) if error <= budget)
    assert least <= count < least + bucket * (-(-total // (SHARES * bucket)))
    assert count == total or count % bucket == 0
    assert len({patches_needed(errors, e, bucket) for e in errors}) <= SHARES + 1


@given(samples=st.integers(1, 3), count=st.integers(1, 20), max_age=st.integers(-1, 6), seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_a_step_is_forced_where_the_oracle_forces_a_patch(samples: int, count: int, max_age: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    future = np.cumsum([0, *rng.integers(0, count + 1, max(max_age, 0))]).astype(np.int32)[: max_age + 1]
    age = rng.integers(0, max(max_age, 0) + 1, (count, samples), np.int32)
    rule = oracle.Rule(0, 0, max_age=max_age, future=future.tolist())
    assert forced(age, future, max_age) == any(oracle.forced_count(column, rule) for column in age.T.tolist())


@every_solver
@pytest.mark.parametrize("samples", [1, 2])
def test_a_tiny_budget_computes_everything(solver: Solver, samples: int) -> None:
    dense, tiny = RasConfig(1.0), RasConfig(0.25, error_budget=1e-9)
    done, state = run(plan_of(tiny, 12, solver), tiny, samples)
    assert all(timed.step.dense and timed.step.active == LAYOUT.tokens for timed, _ in done)
    assert [timed.evaluations for timed, _ in done] == 12 * [CALLS[solver]]
    np.testing.assert_array_equal(state.images(), run(plan_of(dense, 12, solver), dense, samples)[1].images())


@every_solver
def test_a_generous_budget_is_the_planned_ratio(solver: Solver) -> None:
    planned, generous = RasConfig(0.25), RasConfig(0.25, error_budget=10)
    expected, _ = run(plan_of(planned, 12, solver), planned, 2)
    done, _ = run(plan_of(generous, 12, solver), generous, 2)
    assert [heads for _, heads in done] == [heads for _, heads in expected]
    assert [timed.step for timed, _ in done] == plan_of(planned, 12, solver).steps


@every_solver
@pytest.mark.parametrize("budget", [0.02, 0.05, 0.1])
def test_the_budget_holds(solver: Solver, budget: float) -> None:
    """Without starvation and its bound nothing but the score ranks, so what is left out is within the budget."""
    ras = RasConfig(0.1, starvation=0, error_budget=budget)
    plan, before, computed = plan_of(ras, 20, solver), None, set()
    for timed, heads, state in fake.timed_run(LAYOUT, plan, *flow(plan, 2, 0.2)):
        if not plan.steps[timed.step.index].dense:
            assert before is not None
            for b, head in enumerate(heads):
                left = [score for patch, score in enumerate(before[0][:, b]) if patch not in head]
                scale = np.sqrt(np.mean(before[1][:, b] ** 2))
                assert sum(left) / LAYOUT.patches / scale <= budget * (1 + 1e-5)
            computed.add(timed.step.active)
        before = patches(state, state.score, state.velocity)
    assert len(computed) > 1  # as much as each step needs


@every_solver
def test_a_gated_step_moves_along_the_cached_velocities(solver: Solver) -> None:
    """With no bound on the age a huge gate skips all but the dense steps, and they call no engine."""
    ras = RasConfig(0.25, starvation=0, gate=10)
    plan = plan_of(ras, 30, solver)
    before, gated, calls, computed = None, 0, [], np.zeros((2, LAYOUT.lines, LAYOUT.columns), int)
    for timed, heads, state in fake.timed_run(LAYOUT, plan, *flow(plan, 2, 0.05)):
        step = plan.steps[timed.step.index]
        calls.append(timed.evaluations)
        if not step.dense:
            assert before is not None and heads == [set(), set()]
            assert (timed.step.active, timed.evaluations, timed.denoise) == (0, 0, 0.0)
            latent, velocity, age = patches(state, state.latent, state.velocity, state.age)
            np.testing.assert_array_equal(velocity, before[1])
            np.testing.assert_array_equal(age, before[2] + 1)
            np.testing.assert_allclose(latent, before[0] + (step.t_next - step.t) * velocity, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(state.tokens[LAYOUT.pinned :], state.latent[LAYOUT.pinned :])
            gated += 1
        before = patches(state, state.latent, state.velocity, state.age)
        computed += state.ages() == 0
    assert gated == 24 and sum(calls) == 6 * CALLS[solver]
    assert (computed == 6).all()


@pytest.mark.parametrize(("solver", "order"), [*((solver, 1) for solver in CALLS), ("euler", 2)])
def test_a_gated_step_follows_its_forecast(solver: Solver, order: Literal[1, 2]) -> None:
    """With velocities linear (quadratic) in time a run that stops asking the engine ends where the dense one does."""
    gated = RasConfig(0.25, warmup=order + 1, resets=(), starvation=0, gate=10, forecast=order, forecast_clamp=100)
    dense, images = RasConfig(1.0), []
    for ras in (dense, gated):
        plan = plan_of(ras, 12, solver)
        rng, t = np.random.default_rng(0), np.array([e.t for e in plan.evaluations], np.float32)
        terms = rng.standard_normal((order + 2, 2, LAYOUT.channels, LAYOUT.height, LAYOUT.width), np.float32)
        velocities = sum(np.multiply.outer(t**power, term) for power, term in enumerate(terms[1:]))
        done = list(fake.timed_run(LAYOUT, plan, terms[0], velocities))
        images.append(done[-1][-1].images())
    assert sum(timed.evaluations for timed, _, _ in done) == (order + 1) * CALLS[solver]
    np.testing.assert_allclose(images[1], images[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("max_age", [3, 4, 6, 9])
def test_a_gate_skips_what_the_promise_allows(samples: int, max_age: int) -> None:
    ras = RasConfig(0.25, max_age=max_age, gate=10)
    plan, age, calls = plan_of(ras), np.zeros((LAYOUT.patches, samples), np.int32), 0
    for timed, _, state in fake.timed_run(LAYOUT, plan, *flow(plan, samples, 0.05)):
        step = plan.steps[timed.step.index]
        future = oracle.future_capacity(plan.steps, step.index, plan.pinned, max_age)
        rule = oracle.Rule(step.active, 0, max_age=max_age, future=future)
        due = any(oracle.forced_count(column, rule) for column in age.T.tolist())
        assert timed.step == (step if step.dense or due else Step(step.index, step.t, step.t_next, 0, False))
        (age,) = patches(state, state.age)
        assert age.max() <= max_age
        calls += timed.evaluations
    assert calls == 30 if max_age == 3 else calls < 30


def test_nothing_is_gated_before_its_change_is_known() -> None:
    """With Euler a rate takes two velocities: after a warm-up of one step, of each patch."""
    ras = RasConfig(0.25, warmup=1, resets=(), starvation=0, gate=10)
    plan = plan_of(ras, 12)
    done, state = run(plan, ras, change=0.05)
    assert [timed.step.active > 0 for timed, _ in done] == [True] * 5 + [False] * 7
    computed = sum(timed.step.active - plan.pinned for timed, _ in done if timed.step.active)
    assert computed == 2 * LAYOUT.patches and state.ages().min() == 7


OPTIONS = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from([0.1, 0.25, 0.6]),
        "ratio_end": st.sampled_from([None, 0.05, 0.4, 1.0]),
        "warmup": st.integers(1, 4),
        "resets": st.sampled_from([None, ()]),
        "starvation": st.sampled_from([0.1, 1.0]),
        "bucket": st.sampled_from([1, 6]),
        "forecast": st.integers(0, 2),
        "forecast_norm": st.booleans(),
        "dilation": st.sampled_from([0.0, 0.5, 1.0]),
        "error_budget": st.sampled_from([0.0, 0.02, 0.2, 2.0]),
        "gate": st.sampled_from([0.0, 0.02, 0.2, 10.0]),
    }
)


@given(
    options=OPTIONS,
    steps=st.integers(1, 20),
    slack=st.integers(0, 4),
    samples=st.integers(1, 2),
    solver=st.sampled_from(list(CALLS)),
    change=st.sampled_from([0.0, 0.1, 3.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_every_option_keeps_the_promise(
    options: dict[str, Any], steps: int, slack: int, samples: int, solver: Solver, change: float, seed: int
) -> None:
    """No patch is lost or older than promised, and what a step says it computed it has computed."""
    ras = RasConfig(**options)
    plan = plan_of(ras, steps, solver)
    plan = plan_of(replace(ras, max_age=plan.max_age // 2 + slack), steps, solver)
    for timed, heads, state in fake.timed_run(LAYOUT, plan, *flow(plan, samples, change, seed)):
        planned, active = plan.steps[timed.step.index], timed.step.active
        assert active >= planned.active or (active == 0 and ras.gate and not planned.dense)
        assert timed.evaluations == (CALLS[solver] if active else 0)
        assert timed.step.dense == (active == LAYOUT.tokens)
        assert timed.step.dense or active == 0 or (active - LAYOUT.pinned) % ras.bucket == 0
        assert all(sorted(tokens) == list(range(LAYOUT.tokens)) for tokens in state.token.T)
        ages = state.ages().reshape(samples, -1)
        assert ages.max() <= plan.max_age
        for b, head in enumerate(heads):
            assert len(head) == max(active - LAYOUT.pinned, 0)
            assert head == set(np.flatnonzero(ages[b] == 0))
        assert np.isfinite(state.images()).all()
