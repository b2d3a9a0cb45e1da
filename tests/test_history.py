"""advance with history: slopes, bends and forecasts of one call, against the oracle."""

from typing import Any

import numpy as np
import oracle
import pytest
from backends import BACKENDS, CPU, Backend, assert_slots
from hypothesis import given, settings
from hypothesis import strategies as st
from test_advance import on_backend, state

from flagdit.cpp_ext import advance

NEVER = -np.inf
T, NEXT = 0.75, 0.875


def with_history(
    slots: int, samples: int, branches: int, active: int, pixels: int, order: int = 1
) -> dict[str, np.ndarray]:
    """Three channels; times at and before T, and never for a third of the head; order 0 keeps no differences."""
    rng = np.random.default_rng(1)
    arrays = state(slots, samples, branches, active, 3, pixels)
    time = rng.choice(np.array([0.25, 0.5, T], np.float32), (slots, samples))
    time[:active][rng.random((active, samples)) < 1 / 3] = NEVER
    rate = rng.random((slots, samples), np.float32)
    slope, curve = (rng.standard_normal(arrays["velocity"].shape).astype(np.float32) for _ in range(2))
    span = rng.choice(np.array([0, 0.125, 0.25], np.float32), (slots, samples))
    slope[time == NEVER] = 0
    curve[(time == NEVER) | (span == 0)] = 0
    span[time == NEVER] = 0
    kept = {"time": time, "rate": rate}
    kept |= {"slope": slope} if order > 0 else {}
    kept |= {"curve": curve, "span": span} if order > 1 else {}
    return {**arrays, **kept}


def advanced(backend: Backend, arrays: dict[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
    put, _ = on_backend(backend, arrays)
    advance(**put, **({"dt": 0.25, "pinned": 0, "channels": 3, "t": T} | options))
    return {name: backend.get(array) for name, array in put.items()}


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(
    slots=st.integers(1, 40),
    samples=st.integers(1, 3),
    branches=st.integers(1, 2),
    pixels=st.sampled_from([1, 2, 3, 16, 40]),
    order=st.integers(0, 2),
    bend=st.sampled_from([0.0, 0.03]),
    forecast=st.sampled_from([0.0, 0.1, 0.5, 1e6]),
    keep_norm=st.booleans(),
    metric=st.sampled_from(["std", "change"]),
    last=st.booleans(),
    data=st.data(),
)
@settings(max_examples=120, deadline=None)
def test_matches_the_oracle(
    backend: Backend,
    slots: int,
    samples: int,
    branches: int,
    pixels: int,
    order: int,
    bend: float,
    forecast: float,
    keep_norm: bool,
    metric: str,
    last: bool,
    data: st.DataObject,
) -> None:
    active = data.draw(st.integers(0, slots))
    pinned = data.draw(st.integers(0, active))
    options = {"bend": bend, "forecast": forecast, "keep_norm": keep_norm} if order else {}
    _, old = on_backend(backend, with_history(slots, samples, branches, active, pixels, order))
    new = advanced(backend, old, pinned=pinned, metric=metric, last=last, next=NEXT, **options)
    expected = expectation(old, active, branches, metric, last, **options)
    assert_slots(backend, new, old, expected, pinned, 1e-4 if keep_norm else 3e-5)


def expectation(
    old: dict[str, np.ndarray],
    active: int,
    branches: int,
    metric: str,
    last: bool,
    bend: float = 0,
    forecast: float = 0,
    keep_norm: bool = False,
) -> dict[str, np.ndarray]:
    """Every array after one call, from the definitions."""
    head, samples = np.s_[:active], old["velocity"].shape[1]
    zeros = np.zeros_like(old["velocity"])
    past = oracle.Past(
        old["velocity"], old["time"], old.get("slope", zeros), old.get("curve", zeros), old.get("span", zeros[..., 0])
    )
    ahead, bent = oracle.extrapolated(past, T, forecast, keep_norm) if forecast else (past.velocity, zeros)
    velocity, slope, curve, rate, span = (x.astype(np.float64) for x in (
        past.velocity, past.slope, past.curve, old["rate"], past.span
    ))  # fmt: skip
    velocity[head] = oracle.guided(old["output"], old["guidance"], samples)
    gap = (T - old["time"])[head]
    for at in zip(*np.nonzero((gap > 0) & np.isfinite(gap)), strict=True):
        slope[at] = (velocity[at] - past.velocity[at]) / gap[at]
        curve[at] = (slope[at] - past.slope[at]) / (gap[at] + past.span[at]) if past.span[at] > 0 else 0
        rate[at] = np.sqrt(np.square(velocity[at] - ahead[at]).mean()) / gap[at]
        span[at] = gap[at]
    applied, bent = np.array(ahead, np.float64), np.array(bent, np.float64)
    applied[head], bent[head] = velocity[head], slope[head]
    computed = (np.arange(len(velocity)) < active)[:, None]
    time = np.where(computed, T, old["time"])
    aging = ~computed & last
    latent = old["latent"] + 0.25 * applied + bend * bent
    expected = {
        "velocity": velocity,
        "time": time,
        "rate": rate,
        "slope": slope,
        "curve": curve,
        "span": span,
        "latent": latent,
        "tokens": np.tile(latent, (1, branches, 1)),
        "score": rate * (NEXT - time) if metric == "change" else oracle.patch_score(applied, 3, metric),
        "age": np.where(computed, 0, old["age"] + aging),
        "drops": old["drops"] + aging,
    }
    return {name: array for name, array in expected.items() if name in old or name == "score"}


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_a_forecast_leaves_computed_tokens_and_the_cache_alone(backend: Backend) -> None:
    _, old = on_backend(backend, with_history(12, 2, 2, 5, 4))
    held, ahead = (advanced(backend, old, forecast=forecast, bend=0.03) for forecast in (0.0, 1.0))
    for name, array in held.items():
        if name != "rate":  # what was missed depends on what was forecast
            np.testing.assert_array_equal(ahead[name][:5], array[:5], name)
    for name in ("velocity", "slope", "time", "rate"):
        np.testing.assert_array_equal(ahead[name][5:], old[name][5:], name)
    assert not np.array_equal(ahead["latent"][5:], held["latent"][5:])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(clamp=st.floats(1e-3, 2), steepness=st.sampled_from([1e-6, 1, 1e6]))
@settings(max_examples=30, deadline=None)
def test_the_clamp_holds(backend: Backend, clamp: float, steepness: float) -> None:
    _, old = on_backend(backend, with_history(9, 2, 1, 3, 4))
    old["slope"] *= np.float32(steepness)
    old["latent"][:] = 0
    moved = advanced(backend, old, dt=1.0, forecast=clamp)["latent"][3:]
    norm = np.linalg.norm(old["velocity"][3:], axis=-1)
    change = np.linalg.norm(moved - old["velocity"][3:], axis=-1)
    assert (change <= clamp * norm * (1 + 1e-5) + 1e-5).all()
    if steepness == 1e6:  # it holds by reaching its bound, where time has passed
        late = old["time"][3:] < T
        np.testing.assert_allclose(change[late], (clamp * norm)[late], 1e-3)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_history_without_effect_is_no_history(backend: Backend) -> None:
    """Keeping slopes does not change a run that uses none, by a bit."""
    _, old = on_backend(backend, with_history(12, 2, 2, 5, 4))
    plain = {name: array for name, array in old.items() if name not in ("slope", "time", "rate")}
    without, kept = advanced(backend, plain), advanced(backend, old)
    for name, array in without.items():
        np.testing.assert_array_equal(kept[name], array, name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slope", np.zeros((8, 2, 4), np.float32), "slope: got float32 (8, 2, 4) on cpu, allowed float32 (8, 2, 12)"),
        ("time", np.zeros((8, 1), np.float32), "time: got float32 (8, 1) on cpu, allowed float32 (8, 2) on cpu"),
        ("time", None, "history: got some of its arrays or options, allowed only with time and rate"),
        ("slope", None, "bend, forecast: got 0.000000, 0.250000, allowed 0 without slope"),
        ("span", np.zeros((8, 2), np.float32), "curve, span: got one without the other"),
        ("forecast", -0.5, "forecast: got -0.500000, allowed 0 or above"),
        ("forecast", float("nan"), "forecast: got nan, allowed 0 or above"),
    ],
)
def test_refuses(name: str, value: object, message: str) -> None:
    put, _ = on_backend(CPU, with_history(8, 2, 2, 4, 4))
    with pytest.raises(ValueError, match="advance: ") as error:
        advance(**{**put, "dt": 0.1, "pinned": 1, "channels": 3, "t": T, "forecast": 0.25, name: value})
    assert message in str(error.value)
