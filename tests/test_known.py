"""advance with tokens whose velocity is given: they follow it exactly, and others are as without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from backends import BACKENDS, CPU, DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st
from test_advance import on_backend, state

from flagdit.cpp_ext import SlotBuffers, Step, advance, flow_times, least_max_age, plan_steps, refresh_capacity, select

CHANNELS = 3


def with_history(arrays: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    rng, (slots, samples, values) = np.random.default_rng(seed), arrays["velocity"].shape
    named = {name: rng.standard_normal((slots, samples, values)).astype(np.float32) for name in ("slope", "curve")}
    times = {
        "time": rng.random((slots, samples), np.float32) / 2,
        "rate": np.full((slots, samples), np.inf, np.float32),
    }
    return arrays | named | times | {"span": rng.random((slots, samples), np.float32) + 0.1}


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(
    slots=st.integers(1, 30),
    samples=st.integers(1, 3),
    branches=st.integers(1, 2),
    metric=st.sampled_from(["std", "l2", "change"]),
    past=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_known_tokens_follow_their_velocity(
    backend: Backend, slots: int, samples: int, branches: int, metric: str, past: bool, data: st.DataObject
) -> None:
    active = data.draw(st.integers(0, slots))
    pinned = data.draw(st.integers(0, active))
    arrays = state(slots, samples, branches, active, CHANNELS, 4)
    options: dict[str, Any] = {"dt": 0.25, "pinned": pinned, "channels": CHANNELS, "metric": metric}
    if past or metric == "change":
        arrays = with_history(arrays, 1)
        options |= {"t": 0.6, "next": 0.9, "bend": 0.1, "arc": 0.01, "forecast": 1.5, "keep_norm": True}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    known = rng.random((slots, samples)) < 0.5
    given_velocity = rng.standard_normal(arrays["velocity"].shape).astype(np.float32)
    plain, old = on_backend(backend, arrays)
    advance(**plain, **options)
    put, _ = on_backend(backend, arrays)
    advance(**put, **options, known=backend.put(known), known_velocity=backend.put(given_velocity))
    new, others = ({name: backend.get(a) for name, a in some.items()} for some in (put, plain))
    inside = np.arange(slots)[:, None] >= pinned
    at = known & inside
    for name in set(new) - {"output", "guidance", "tokens"}:
        np.testing.assert_array_equal(new[name][~at], others[name][~at], name)
    for name in ("age", "drops", *(("time", "span") if "time" in new else ())):
        np.testing.assert_array_equal(new[name], others[name], name)
    latent = old["latent"] + np.float32(0.25) * given_velocity
    np.testing.assert_array_equal(new["velocity"][at], given_velocity[at])
    np.testing.assert_allclose(new["latent"][at], latent[at], 1e-5, 1e-6)
    for branch in range(branches):
        rows = new["tokens"][:, branch * samples : (branch + 1) * samples]
        np.testing.assert_allclose(rows[at], latent[at], backend.rtol, 1e-5)
    if "rate" in new:
        assert not new["rate"][at].any() and not new["slope"][at].any() and not new["curve"][at].any()
    expected = 0 if metric == "change" else oracle.patch_score(given_velocity, CHANNELS, metric)[at]
    np.testing.assert_allclose(new["score"][at], expected, 1e-4, 1e-5)


class Painting:
    """A run with a mask: its arrays, by slot, and what moves them."""

    def __init__(self, backend: Backend, tokens: int, known: np.ndarray, velocity: np.ndarray) -> None:
        self.backend, self.tokens = backend, tokens
        shape, scalar = velocity.shape, velocity.shape[:2]
        zeros = {"velocity": shape, "tokens": shape, "slope": shape, "score": scalar, "latent": shape}
        arrays: dict[str, np.ndarray] = {name: np.zeros(s, np.float32) for name, s in zeros.items()}
        arrays |= {name: np.zeros(scalar, np.int32) for name in ("age", "drops")}
        arrays |= {"time": np.full(scalar, -np.inf, np.float32), "rate": np.full(scalar, np.inf, np.float32)}
        arrays |= {"known": known, "known_velocity": velocity}
        arrays["token"] = np.repeat(np.arange(tokens, dtype=np.int32)[:, None], scalar[1], 1)
        self.arrays = {name: backend.put(array) for name, array in arrays.items()}
        self.slots = SlotBuffers([a for name, a in self.arrays.items() if name != "score"], scalar[1])

    def by_token(self, name: str) -> np.ndarray:
        order = np.argsort(self.backend.get(self.arrays["token"]), axis=0)
        array = self.backend.get(self.arrays[name])
        return np.take_along_axis(array, order.reshape(order.shape + (1,) * (array.ndim - 2)), 0)

    def step(self, step: Step, future: list[int], max_age: int, target: np.ndarray) -> None:
        put, samples = self.backend.put, target.shape[1]
        if not step.dense:
            scratch = [np.zeros((samples, self.tokens, 2), np.int32), np.zeros(samples, np.int32)]
            swaps, counts, codes = map(put, [*scratch, np.zeros((samples, self.tokens), np.uint64)])
            ranks = [self.arrays[name] for name in ("score", "age", "drops", "token")]
            entry = put(np.array(future, np.int32))
            select(*ranks, step.active, 0, 0.1, 0, max_age, entry, swaps, counts, codes)
            self.slots.swap(swaps, counts)
        head = self.backend.get(self.arrays["token"])[: step.active]
        output = np.take_along_axis(target, head[:, :, None], 0) * np.float32(1 + step.t)
        arrays = {name: array for name, array in self.arrays.items() if name != "token"}
        guidance, times = put(np.ones(target.shape[2], np.float32)), {"t": step.t, "next": step.t_next}
        dt = step.t_next - step.t
        advance(put(output), guidance, **arrays, dt=dt, pinned=0, channels=CHANNELS, metric="change", **times)


@pytest.mark.parametrize("ratio", [1.0, 0.4], ids=["dense", "ras"])
@pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
def test_a_run_arrives_at_what_is_known(backend: Backend, ratio: float) -> None:
    """Known tokens end at the data, are cached before others, and are computed by their age all the same."""
    tokens, samples, values, rng = 36, 2, 12, np.random.default_rng(0)
    noise, data, target = (rng.standard_normal((tokens, samples, values)).astype(np.float32) for _ in range(3))
    known = rng.random((tokens, samples)) < 0.5
    run = Painting(backend, tokens, known, data - noise)
    run.arrays["latent"] = backend.put(noise)
    run.slots = SlotBuffers([a for name, a in run.arrays.items() if name != "score"], samples)
    steps = plan_steps(flow_times(12), tokens=tokens, ratio=ratio, warmup=2, resets=[], high_ratio=0.0)
    max_age = least_max_age(steps, tokens, 0)
    capacity = refresh_capacity(steps, tokens, 0, max_age)
    for step in steps:
        run.step(step, list(capacity[step.index]), max_age, target)
        assert run.by_token("age").max() <= max(max_age, 0)
        np.testing.assert_array_equal(run.by_token("known_velocity"), data - noise)
        moved = noise + np.float32(step.t_next) * (data - noise)
        np.testing.assert_allclose(run.by_token("latent")[known], moved[known], 1e-4, 1e-5)
    drops = run.by_token("drops")
    np.testing.assert_allclose(run.by_token("latent")[known], data[known], 1e-4, 1e-5)
    assert (drops[known].mean() > drops[~known].mean() + 1) == (ratio < 1)
    assert drops[known].max() < len(steps) - 2


@pytest.mark.parametrize(
    ("known", "velocity", "message"),
    [
        (np.zeros((8, 2), bool), None, "known, known_velocity: got one of them, allowed both or none"),
        (np.zeros((8, 2), np.uint8), np.zeros((8, 2, 8), np.float32), "allowed bool (8, 2) on cpu"),
        (np.zeros((8, 2), bool), np.zeros((8, 2, 7), np.float32), "allowed float32 (8, 2, 8) on cpu"),
    ],
)
def test_refuses(known: np.ndarray, velocity: np.ndarray | None, message: str) -> None:
    put, _ = on_backend(CPU, state(8, 2, 2, 4, 2, 4))
    with pytest.raises(ValueError, match="advance: known") as error:
        advance(**put, dt=0.1, pinned=1, channels=2, known=known, known_velocity=velocity)
    assert message in str(error.value)
