"""Solvers: their evaluations, their order, and whole region-adaptive runs against the textbook's formulas."""

import itertools
from collections.abc import Callable

import numpy as np
import oracle
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Evaluation, SlotBuffers, Step, advance, flow_times, plan_evaluations, plan_steps, select

SOLVERS = ["euler", "midpoint", "heun", "ab2"]
CHANNELS, VALUES = 3, 6
Model = Callable[[float, np.ndarray], np.ndarray]  # time, (N, B, P) by token -> velocities

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
every_solver = pytest.mark.parametrize("solver", SOLVERS)


class Sampler:
    """The sampler's loop around a model in NumPy; heads are drawn at random."""

    def __init__(self, backend: Backend, latent: np.ndarray, order: int = 0) -> None:
        slots, samples, values = latent.shape

        def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
            return backend.put(np.zeros(shape, dtype))

        self.backend, self.forecast = backend, 1e9 if order else 0.0
        kept = ("slope", "curve") if order == 2 else ("slope",)
        self.state = {name: zeros(slots, samples, values) for name in ("velocity", "tokens", *kept)}
        self.state |= {name: zeros(slots, samples) for name in ("rate", *(["span"] if order == 2 else []))}
        self.state |= {"latent": backend.put(latent), "time": backend.put(np.full((slots, samples), -np.inf, "f"))}
        self.state |= {name: zeros(slots, samples, dtype="int32") for name in ("age", "drops")}
        self.token = backend.put(np.repeat(np.arange(slots, dtype=np.int32)[:, None], samples, 1))
        self.buffers = SlotBuffers([*self.state.values(), self.token], samples)
        self.score = zeros(slots, samples)
        self.swaps, self.counts = zeros(samples, slots, 2, dtype="int32"), zeros(samples, dtype="int32")
        self.codes, self.ones = zeros(samples, slots, dtype="uint64"), backend.put(np.ones(values, np.float32))
        self.random = np.random.default_rng(0)

    def by_token(self, name: str) -> np.ndarray:
        array, order = self.backend.get(self.state[name]), np.argsort(self.backend.get(self.token), axis=0)
        return np.take_along_axis(array, order.reshape(order.shape + (1,) * (array.ndim - 2)), axis=0)

    def choose(self, active: int) -> list[set[int]]:
        """Fill the head with random tokens; returns those of each sample."""
        score = self.backend.put(self.random.random(self.token.shape).astype(np.float32))
        cached = len(self.token) - active
        rule = {"active": active, "pinned": 0, "high": cached, "starvation": 0.0, "max_age": -1, "future": None}
        out = {"swaps": self.swaps, "counts": self.counts, "codes": self.codes}
        select(score, self.state["age"], self.state["drops"], self.token, **rule, **out)
        self.buffers.swap(self.swaps, self.counts)
        return [set(tokens.tolist()) for tokens in self.backend.get(self.token)[:active].T]

    def evaluate(self, evaluation: Evaluation, active: int, model: Model) -> None:
        head = self.backend.get(self.token)[:active]
        output = np.take_along_axis(model(evaluation.t, self.by_token("latent")), head[..., None], 0)
        numbers = {"dt": evaluation.dt, "bend": evaluation.bend, "t": evaluation.t, "last": evaluation.last}
        numbers |= {"arc": evaluation.arc} if "curve" in self.state else {}
        options = {"pinned": 0, "channels": CHANNELS, "forecast": self.forecast, "score": self.score}
        advance(self.backend.put(output.astype(np.float32)), self.ones, **self.state, **numbers, **options)


Weights = list[tuple[float, float, float]]


def run(
    sampler: Sampler, steps: list[Step], solver: str, model: Model, weights: Weights | None = None
) -> tuple[list[list[set[int]]], np.ndarray]:
    """Heads by step and sample, and latents (S, N, B, P) after every step."""
    heads, latents = [], []
    for evaluation in plan_evaluations(steps, solver, weights or []):
        step = steps[evaluation.step]
        if len(heads) == step.index:
            heads.append(sampler.choose(step.active))
        sampler.evaluate(evaluation, step.active, model)
        if evaluation.last:
            latents.append(sampler.by_token("latent"))
    return heads, np.stack(latents)


def noise(slots: int, samples: int = 1) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((slots, samples, VALUES)).astype(np.float32)


def test_golden_evaluations() -> None:
    steps = plan_steps([0.0, 0.5, 1.0], tokens=4, resets=[])
    assert plan_evaluations(steps) == [Evaluation(0, 0.0, 0.5, 0.0, True), Evaluation(1, 0.5, 0.5, 0.0, True)]
    assert plan_evaluations(steps[:1], "midpoint") == [
        Evaluation(0, 0.0, 0.25, 0.0, False),
        Evaluation(0, 0.25, 0.25, 0.0625, True),
    ]
    assert plan_evaluations(steps[1:], "heun") == [
        Evaluation(1, 0.5, 0.5, 0.0, False),
        Evaluation(1, 1.0, 0.0, 0.125, True),
    ]
    assert plan_evaluations(steps, "ab2")[1] == Evaluation(1, 0.5, 0.5, 0.125, True)
    assert repr(plan_evaluations(steps)[1]) == "Evaluation(step=1, t=0.5, dt=0.5, bend=0, last=True, arc=0)"
    with pytest.raises(ValueError, match="solver: got 'rk4', allowed 'euler', 'midpoint', 'heun', 'ab2'"):
        plan_evaluations(steps, "rk4")


@every_solver
@given(count=st.integers(1, 40), shift=st.floats(0.2, 10))
@settings(max_examples=30, deadline=None)
def test_evaluations_cover_the_flow(solver: str, count: int, shift: float) -> None:
    """Cached tokens move by dt alone, so these add up to every step; a step ends once."""
    steps = plan_steps(flow_times(count, shift), tokens=8, ratio=0.5, warmup=1, resets=[])
    evaluations = plan_evaluations(steps, solver)
    for step in steps:
        own = [e for e in evaluations if e.step == step.index]
        assert [e.last for e in own] == [False] * (len(own) - 1) + [True]
        assert sum(e.dt for e in own) == pytest.approx(step.t_next - step.t)
        assert all(step.t <= e.t <= step.t_next for e in own)


@on_devices
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("ab2", 2)])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_order_of_convergence(backend: Backend, solver: str, order: int, shift: float) -> None:
    """x' = (1 + t) x has the solution x(0) exp(t + t^2 / 2); halving the steps divides the error by 2^order."""
    start = noise(2)
    errors = []
    for count in (64, 128, 256):
        steps = plan_steps(flow_times(count, shift), tokens=2, resets=[])
        _, latents = run(Sampler(backend, start), steps, solver, lambda t, x: (1 + t) * x)
        errors.append(np.abs(latents[-1] - start * np.exp(1.5)).max())
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(observed - order).max() < 0.2, errors


def third_order(steps: list[Step]) -> Weights:
    """Adams-Bashforth of third order for steps of any length: the integral of Newton's parabola over the step."""
    lengths = [step.t_next - step.t for step in steps]
    return [(1, 1 / 2, 1 / 3 + before / h / 2) for before, h in zip([0.0, *lengths], lengths, strict=False)]


@on_devices
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_weights_of_third_order_integrate_a_parabola(backend: Backend, shift: float) -> None:
    """Velocities 1 + t + t^2: exact from the third step on, and so in all if the first two get what they lack."""
    steps, start = plan_steps(flow_times(8, shift), tokens=2, resets=[], warmup=8), noise(2)
    weights, (h0, h1) = third_order(steps), (step.t_next - step.t for step in steps[:2])
    weights[0] = (1 + h0 / 2 + h0**2 / 3, 0, 0)
    weights[1] = (1, (0.5 + h0 + h1 / 3) / (1 + h0), 0)
    _, latents = run(Sampler(backend, start, 2), steps, "ab2", lambda t, x: start * (1 + t + t * t), weights)
    np.testing.assert_allclose(latents[-1], start * (1 + 1 + 1 / 2 + 1 / 3), 1e-5, 1e-5)


def test_weights_are_the_solvers_own() -> None:
    """Those that the header states, and only where they mean something."""
    steps = plan_steps(flow_times(5, 3.0), tokens=4, resets=[])
    assert plan_evaluations(steps, "ab2", [(1, 0, 0)] * 5) == plan_evaluations(steps, "euler")
    ab2 = plan_evaluations(steps, "ab2", [*[(1, 0.5, 0)] * 4, (1, 0, 0)])
    for weighted, own in zip(ab2, plan_evaluations(steps, "ab2"), strict=True):
        assert (weighted.t, weighted.dt, weighted.bend) == pytest.approx((own.t, own.dt, own.bend))
    (only,) = plan_evaluations(steps[1:2], "ab2", [(2, 3, 4)])
    h = steps[1].t_next - steps[1].t
    assert (only.dt, only.bend, only.arc) == pytest.approx((2 * h, 3 * h**2, 4 * h**3))
    for solver, weights, message in (
        ("heun", [(1, 0, 0)] * 5, "weights: got some, with a solver of two evaluations, allowed euler or ab2"),
        ("ab2", [(1, 0, 0)] * 4, "weights: got 4, allowed 5, one for each step"),
        ("ab2", [(1, 0, float("nan"))] * 5, "weights: got -?nan, allowed -100 to 100"),
        ("ab2", [(101, 0, 0)] * 5, "weights: got 101.000000, allowed -100 to 100"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_evaluations(steps, solver, weights)


@pytest.mark.parametrize(("shift", "bent"), [(1.0, True), (3.0, False), (0.4, True)])
def test_the_last_step_of_ab2_is_eulers_where_steps_grow(shift: float, bent: bool) -> None:
    evaluations = plan_evaluations(plan_steps(flow_times(6, shift), tokens=4, resets=[]), "ab2")
    assert [e.bend != 0 for e in evaluations] == [True] * 5 + [bent]


@on_devices
@pytest.mark.parametrize(("solver", "order"), [*itertools.product(SOLVERS, (0, 1)), ("euler", 2)])
@given(count=st.integers(1, 12), tokens=st.integers(1, 12), samples=st.integers(1, 2), data=st.data())
@settings(max_examples=15, deadline=None)
def test_run_matches_the_textbook(
    backend: Backend, solver: str, order: int, count: int, tokens: int, samples: int, data: st.DataObject
) -> None:
    """A cached token bends along its parabola, for which the textbook's formulas of second order have no term."""
    ratio = data.draw(st.lists(st.sampled_from([0.1, 0.3, 0.6, 1.0]), min_size=count, max_size=count))
    steps = plan_steps(flow_times(count, 3.0), tokens, 0, ratio, data.draw(st.integers(1, 3)), [])
    start = noise(tokens, samples)
    phase = np.arange(tokens)[:, None] + np.arange(VALUES)

    def model(t: float, x: np.ndarray) -> np.ndarray:
        return np.sin(4 * t + phase) - x

    heads, latents = run(Sampler(backend, start, order), steps, solver, lambda t, x: np.sin(4 * t + phase[:, None]) - x)
    for b in range(samples):
        expected = oracle.integrate(steps, solver, [head[b] for head in heads], start[:, b], model, order)
        np.testing.assert_allclose(latents[:, :, b], np.stack(list(expected)), 1e-4, 1e-4)


@on_devices
@pytest.mark.parametrize(("solver", "order"), [*((solver, 1) for solver in SOLVERS), ("euler", 2)])
def test_a_polynomial_is_forecast_exactly(backend: Backend, solver: str, order: int) -> None:
    """With velocities linear (quadratic) in time, a run that caches most of them ends where the dense one does."""
    start, slope = noise(16), noise(16)[::-1]
    curve = noise(16)[:, :, ::-1] * (order == 2)
    runs = []
    for ratio in (1.0, 0.2):
        steps = plan_steps(flow_times(12, 3.0), 16, ratio=ratio, warmup=order + 1, resets=[])
        sampler = Sampler(backend, start, order)
        runs.append(run(sampler, steps, solver, lambda t, x: start + slope * t + curve * t**2)[1])
    np.testing.assert_allclose(runs[1], runs[0], 1e-4, 1e-4)
    if solver in ("midpoint", "heun"):
        np.testing.assert_allclose(runs[1][-1], start + start + slope / 2, 1e-4, 1e-4)


@on_devices
@every_solver
def test_a_cached_token_goes_straight(backend: Backend, solver: str) -> None:
    """Without a forecast it moves along its cached velocity, whatever the solver."""
    steps = plan_steps(flow_times(6, 3.0), 8, ratio=0.25, warmup=2, resets=[])
    sampler = Sampler(backend, noise(8))
    for evaluation in plan_evaluations(steps, solver):
        step = steps[evaluation.step]
        if evaluation.t == step.t:
            (head,) = sampler.choose(step.active)
            tail = [token for token in range(8) if token not in head]
            before, cached = sampler.by_token("latent"), sampler.by_token("velocity")
        sampler.evaluate(evaluation, step.active, lambda t, x: np.cos(5 * t) - x)
        if evaluation.last:
            moved = sampler.by_token("latent") - before
            np.testing.assert_allclose(moved[tail], (step.t_next - step.t) * cached[tail], 1e-5, 1e-6)
            np.testing.assert_array_equal(sampler.by_token("velocity")[tail], cached[tail])
            assert (sampler.by_token("age")[list(head)] == 0).all()
