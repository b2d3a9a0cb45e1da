"""Whole runs: slots, swaps and guarantees against the oracle, which knows tokens only."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import oracle
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import (
    SlotBuffers,
    Step,
    advance,
    flow_times,
    least_max_age,
    plan_steps,
    refresh_capacity,
    select,
)

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
CHANNELS, VALUES = 3, 6


def run(
    backend: Backend,
    steps: list[Step],
    latent: np.ndarray,
    outputs: np.ndarray,
    options: dict[str, Any],
    max_age: int,
) -> Iterator[dict[str, np.ndarray]]:
    """The sampler's loop; outputs (steps, N, B, P) are what the model says of every token."""
    slots, samples, values = latent.shape
    pinned = options["pinned"]
    future = refresh_capacity(steps, slots, pinned, max_age)

    def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
        return backend.put(np.zeros(shape, dtype))

    state = {
        "velocity": zeros(slots, samples, values),
        "latent": backend.put(latent),
        "tokens": zeros(slots, samples, values),
        "score": zeros(slots, samples),
        "age": zeros(slots, samples, dtype="int32"),
        "drops": zeros(slots, samples, dtype="int32"),
    }
    token = backend.put(np.repeat(np.arange(slots, dtype=np.int32)[:, None], samples, 1))
    moved = [array for name, array in state.items() if name != "score"]
    buffers = SlotBuffers([*moved, token], samples)
    swaps, counts = zeros(samples, slots, 2, dtype="int32"), zeros(samples, dtype="int32")
    codes, ones = zeros(samples, slots, dtype="uint64"), backend.put(np.ones(values, np.float32))
    chosen = {name: state[name] for name in ("score", "age", "drops")}
    rule = {name: options[name] for name in ("pinned", "starvation", "mode")}

    for step in steps:
        if not step.dense:
            entry = backend.put(future[step.index])
            out = {"swaps": swaps, "counts": counts, "codes": codes}
            select(
                **chosen, token=token, active=step.active, high=step.high, max_age=max_age, future=entry, **rule, **out
            )
            buffers.swap(swaps, counts)
        head = backend.get(token)[: step.active]  # (A, B)
        output = backend.put(np.take_along_axis(outputs[step.index], head[..., None], 0))
        advance(output, ones, **state, dt=step.t_next - step.t, pinned=pinned, channels=CHANNELS)
        yield {name: backend.get(array) for name, array in {**state, "token": token}.items()}


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Step], int, dict[str, Any]]:
    tokens, count = draw(st.integers(1, 30)), draw(st.integers(1, 14))
    pinned = draw(st.integers(0, tokens))
    ratio = draw(st.lists(st.sampled_from([0.05, 0.125, 0.25, 0.5, 1.0]), min_size=count, max_size=count))
    resets = draw(st.lists(st.integers(0, count - 1), max_size=2))
    mode, high_ratio = draw(st.sampled_from(["corrected", "paper"])), draw(st.sampled_from([0.0, 0.3, 1.0]))
    sides = {"high_ratio": high_ratio, "mode": mode}
    steps = plan_steps(flow_times(count, 4.0), tokens, pinned, ratio, draw(st.integers(1, 3)), resets, **sides)
    options = {"pinned": pinned, "starvation": draw(st.sampled_from([0.0, 0.1])), "mode": mode}
    return steps, tokens, options


def random_model(tokens: int, samples: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((tokens, samples, VALUES)).astype(np.float32)
    return latent, rng.standard_normal((steps, tokens, samples, VALUES)).astype(np.float32)


@on_devices
@given(case=runs(), slack=st.integers(0, 2), samples=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_run_matches_the_oracle(
    backend: Backend, case: tuple[list[Step], int, dict[str, Any]], slack: int, samples: int, seed: int
) -> None:
    steps, tokens, options = case
    pinned = options["pinned"]
    max_age = least_max_age(steps, tokens, pinned) + slack
    latent, outputs = random_model(tokens, samples, len(steps), seed)
    traces = [
        oracle.run(steps, latent[:, b], outputs[:, :, b], {**options, "channels": CHANNELS}, max_age)
        for b in range(samples)
    ]
    slots = run(backend, steps, latent, outputs, options, max_age)
    for step, state, *expected in zip(steps, slots, *traces, strict=True):
        for b, trace in enumerate(expected):
            token = state["token"][:, b]
            assert sorted(token) == list(range(tokens))
            assert (token[:pinned] == np.arange(pinned)).all()
            assert set(token[pinned : step.active].tolist()) == trace.active
            np.testing.assert_array_equal(state["age"][:, b], trace.age[token])
            assert state["age"].max() <= max_age
            np.testing.assert_allclose(state["latent"][:, b], trace.latent[token], 1e-5, 1e-5)
            np.testing.assert_array_equal(state["tokens"][pinned:], state["latent"][pinned:])


@on_devices
@pytest.mark.parametrize(("ratio", "least"), [(0.5, 1), (0.25, 3), (0.125, 7)])
def test_golden_run(backend: Backend, ratio: float, least: int) -> None:
    """30 steps, warm-up 4, resets 12 and 22: no token older than the least age, which is reached."""
    tokens = 256
    steps = plan_steps(flow_times(30, 4.0), tokens, ratio=ratio)
    assert least_max_age(steps, tokens, 0) == least
    options = {"pinned": 0, "starvation": 0.1, "mode": "corrected"}
    states = list(run(backend, steps, *random_model(tokens, 1, 30, 0), options, least))
    assert max(state["age"].max() for state in states) == least
    assert [int((state["age"] == 0).sum()) for state in states] == [step.active for step in steps]
