"""advance: guidance, the update, the score, ages; against the oracle."""

from typing import Any

import numpy as np
import oracle
import pytest
from backends import BACKENDS, CPU, Backend, assert_slots
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import advance

Arrays = dict[str, np.ndarray]

NO_HISTORY = "history: got some of its arrays or options, allowed only with time and rate"


def state(slots: int, samples: int, branches: int, active: int, channels: int, pixels: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    values, rows = channels * pixels, branches * samples

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "output": normal(active, rows, values),
        "guidance": np.where(np.arange(values) % 3 == 0, 1.0, 4.0).astype(np.float32),
        "velocity": normal(slots, samples, values),
        "latent": normal(slots, samples, values),
        "tokens": normal(slots, rows, values),
        "score": np.full((slots, samples), -1, np.float32),
        "age": rng.integers(0, 5, (slots, samples), np.int32),
        "drops": rng.integers(0, 5, (slots, samples), np.int32),
    }


def on_backend(backend: Backend, arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """On the device, and what is there after rounding to its dtype."""
    halves = ("output", "tokens")
    put = {name: backend.put(a, backend.dtype if name in halves else None) for name, a in arrays.items()}
    return put, {name: backend.get(a) for name, a in put.items()}


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(
    slots=st.integers(1, 40),
    samples=st.integers(1, 3),
    branches=st.integers(1, 2),
    channels=st.integers(1, 5),
    pixels=st.sampled_from([1, 2, 3, 4, 16, 40]),
    metric=st.sampled_from(["std", "l2"]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_matches_the_oracle(
    backend: Backend,
    slots: int,
    samples: int,
    branches: int,
    channels: int,
    pixels: int,
    metric: str,
    data: st.DataObject,
) -> None:
    active = data.draw(st.integers(0, slots))
    pinned = data.draw(st.integers(0, active))
    put, old = on_backend(backend, state(slots, samples, branches, active, channels, pixels))
    advance(**put, dt=0.25, pinned=pinned, channels=channels, metric=metric)
    new = {name: backend.get(array) for name, array in put.items()}

    velocity = old["velocity"].copy()
    velocity[:active] = oracle.guided(old["output"], old["guidance"], samples)
    latent = old["latent"] + np.float32(0.25) * velocity
    tail = (np.arange(slots) >= active)[:, None]
    expected = {
        "velocity": velocity,
        "latent": latent,
        "tokens": np.tile(latent, (1, branches, 1)),
        "score": oracle.patch_score(velocity, channels, metric),
        "age": np.where(tail, old["age"] + 1, 0),
        "drops": old["drops"] + tail,
    }
    assert_slots(backend, new, old, expected, pinned, 1e-5)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_unguided_values_are_exactly_the_conditional_branch(backend: Backend) -> None:
    put, old = on_backend(backend, state(8, 2, 2, 8, 3, 4))
    advance(**put, dt=0.1, pinned=0, channels=3)
    unguided = old["guidance"] == 1
    np.testing.assert_array_equal(backend.get(put["velocity"])[..., unguided], old["output"][:, :2][..., unguided])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_batch_is_each_sample_alone(backend: Backend) -> None:
    whole = state(12, 3, 2, 5, 4, 4)
    put, _ = on_backend(backend, whole)
    advance(**put, dt=0.1, pinned=1, channels=4)
    for b in range(3):
        rows = {"output": [b, b + 3], "tokens": [b, b + 3]}
        alone = {n: a if n == "guidance" else a[:, rows.get(n, [b])] for n, a in whole.items()}
        single, _ = on_backend(backend, alone)
        advance(**single, dt=0.1, pinned=1, channels=4)
        for name in set(whole) - {"guidance"}:
            np.testing.assert_array_equal(
                backend.get(single[name]), backend.get(put[name])[:, rows.get(name, [b])], name
            )


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("output", np.zeros((9, 4, 8), np.float32), "slots of the output: got 9, allowed 0..8"),
        ("output", np.zeros((4, 3, 8), np.float32), "got 3 for 2 samples, allowed one or two branches"),
        ("output", np.zeros((4, 4, 8), np.float16), "output: got float16 (4, 4, 8) on cpu, allowed float32"),
        ("output", np.zeros((4, 8), np.float32), "output: got float32 (4, 8) on cpu, allowed 3 dimensions"),
        ("guidance", np.zeros(7, np.float32), "guidance: got float32 (7,) on cpu, allowed float32 (8,) on cpu"),
        ("latent", np.zeros((8, 2, 9), np.float32), "latent: got float32 (8, 2, 9) on cpu, allowed float32 (8, 2, 8)"),
        ("latent", np.zeros((8, 2, 16), np.float32)[..., ::2], "latent: got stride 2 on axis 2, allowed 1"),
        ("tokens", np.zeros((8, 2, 8), np.float32), "tokens: got float32 (8, 2, 8) on cpu, allowed float32 (8, 4, 8)"),
        ("score", np.zeros((8, 2), np.float64), "score: got float64 (8, 2) on cpu, allowed float32 (8, 2)"),
        ("age", np.zeros((8, 1), np.int32), "age: got int32 (8, 1) on cpu, allowed int32 (8, 2) on cpu"),
        ("drops", np.zeros((1,) * 9, np.int32), "drops: got 9 dimensions, allowed at most 8"),
        ("channels", 3, "channels: got 3, allowed a divisor of the 8 values"),
        ("pinned", 5, "pinned: got 5, allowed 0..4"),
        (
            "slope",
            np.zeros((8, 2, 8), np.float32),
            "history: got some of its arrays or options, allowed only with time and rate",
        ),
        ("bend", 0.5, "history: got some of its arrays or options, allowed only with time and rate"),
        ("metric", "l1", "metric: got 'l1', allowed 'std', 'l2'"),
    ],
)
def test_refuses(name: str, array: object, message: str) -> None:
    put, _ = on_backend(CPU, state(8, 2, 2, 4, 2, 4))
    good = {**put, "dt": 0.1, "pinned": 1, "channels": 2, "metric": "std"}
    with pytest.raises(ValueError, match="advance: ") as error:
        advance(**{**good, name: array})
    assert message in str(error.value)
