"""decide_active: how many slots a step computes, decided where the scores are; against the definition."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import decide_active, decide_scratch, errors_left, forced, patches_needed

every_device = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)


@dataclass
class Case:
    """A step that is to be decided on."""

    score: np.ndarray
    velocity: np.ndarray
    age: np.ndarray
    future: np.ndarray
    options: dict[str, Any]

    def decided(self, backend: Backend, **more: Any) -> int:
        slots, samples = self.score.shape
        arrays = [backend.put(a) for a in (self.score, self.velocity, self.age, self.future)]
        scratch = backend.put(np.full(decide_scratch(slots - self.options["pinned"], samples), -9, np.int32))
        active = backend.put(np.array([-1], np.int32))
        decide_active(*arrays, scratch, active, **self.options | more)
        return int(backend.get(active)[0])

    def expected(self) -> int:
        """By the functions that plan runs on the host, which test_adapt.py holds to their definitions."""
        o = self.options
        score, velocity, age = (np.ascontiguousarray(a[o["pinned"] :]) for a in (self.score, self.velocity, self.age))
        errors = errors_left(score, velocity)
        if errors[0] < o["gate"] and not forced(age, self.future, o["max_age"]):
            return 0
        if o["error_budget"] == 0:
            return int(o["planned"])
        return max(o["planned"], o["pinned"] + patches_needed(errors, o["error_budget"], o["bucket"]))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    slots = draw(st.one_of(st.integers(2, 60), st.sampled_from([1023, 1024, 1025, 4097, 4100, 5000])))
    samples, values, pinned = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(0, 1))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    score = rng.random((slots, samples), np.float32) ** draw(st.integers(1, 4))
    score[rng.random(score.shape) < draw(st.sampled_from([0, 0.3]))] = draw(st.sampled_from([0.5, 0.0, -0.0, -1.0]))
    score[rng.random(score.shape) < draw(st.sampled_from([0, 0, 0.2]))] = draw(st.sampled_from([np.inf, np.nan]))
    max_age = draw(st.integers(-1, 6))
    options = {
        "pinned": pinned,
        "planned": draw(st.integers(pinned, slots)),
        "bucket": draw(st.integers(1, min(slots, 9))),
        "max_age": max_age,
        "error_budget": draw(st.sampled_from([0.0, 1e-6, 0.05, 0.3, 2.0])),
        "gate": draw(st.sampled_from([0.0, 0.2, 0.6, 3.0])),
    }
    velocity = rng.standard_normal((slots, samples, values)).astype(np.float32)
    age = rng.integers(0, max(max_age, 0) + 2, (slots, samples)).astype(np.int32)
    most = draw(st.sampled_from([0, slots // 2, 2**31 - 1]))
    future = np.sort(rng.integers(0, most + 1, max_age + 1)).astype(np.int32)
    return Case(score, velocity, age, future, options)


@every_device
@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_decides_as_the_host(backend: Backend, case: Case) -> None:
    assert case.decided(backend) == case.expected()


def exactly(case: Case) -> list[float]:
    """Errors left, in rational numbers: of the worst sample."""
    worst = [0.0] * (len(case.score) + 1)
    for score, velocity in zip(case.score.T, case.velocity.transpose(1, 0, 2), strict=True):
        rms = float(np.sqrt(np.mean(velocity.astype(np.float64) ** 2)))
        left = Fraction(0)
        for k, cost in zip(reversed(range(len(score))), sorted(map(float, score)), strict=True):
            left += Fraction(cost)
            worst[k] = max(worst[k], float(left) / len(score) / rms)
    return worst


@pytest.mark.parametrize("patches", [1, 7, 1024, 3000])
def test_sums_in_lanes_are_sums(patches: int) -> None:
    rng = np.random.default_rng(patches)
    score, velocity = rng.random((patches, 2), np.float32), rng.standard_normal((patches, 2, 3)).astype(np.float32)
    case = Case(score, velocity, np.zeros((patches, 2), np.int32), np.zeros(0, np.int32), {})
    np.testing.assert_allclose(errors_left(score, velocity), exactly(case), 1e-13)


@every_device
def test_a_velocity_that_is_no_number_leaves_nothing_out(backend: Backend) -> None:
    score, age, future = np.zeros((8, 1), np.float32), np.zeros((8, 1), np.int32), np.zeros(0, np.int32)
    options = {"pinned": 0, "planned": 3, "bucket": 1, "max_age": -1, "error_budget": 0.5, "gate": 1.0}
    velocity = np.full((8, 1, 2), np.nan, np.float32)
    assert Case(score, velocity, age, future, options).decided(backend) == 8
    assert Case(score, np.ones_like(velocity), age, future, options).decided(backend) == 0


@every_device
def test_reads_the_entry_of_its_step(backend: Backend) -> None:
    """The promise of the second entry forces a token; that of the first does not."""
    score, velocity = np.zeros((8, 1), np.float32), np.ones((8, 1, 2), np.float32)
    future = np.array([[8, 8, 8], [0, 8, 8]], np.int32)
    options = {"pinned": 1, "planned": 4, "bucket": 1, "max_age": 2, "error_budget": 0.0, "gate": 0.1}
    case = Case(score, velocity, np.full((8, 1), 2, np.int32), future, options)
    entries = [case.decided(backend, entry=backend.put(np.array([n], np.int32))) for n in (-1, 0, 1, 5)]
    assert entries == [0, 0, 4, 4]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score", np.zeros((7, 2), np.float32), "score: got float32 (7, 2) on cpu, allowed float32 (8, 2) on cpu"),
        ("velocity", np.zeros((8, 2), np.float32), "velocity: got float32 (8, 2) on cpu, allowed 3 dimensions"),
        ("age", np.zeros((8, 2), np.int64), "age: got int64 (8, 2) on cpu, allowed int32 (8, 2) on cpu"),
        ("future", np.zeros(3, np.int32), "future: got int32 (3,) on cpu, allowed int32 (4,) on cpu"),
        ("scratch", np.zeros(3, np.int32), "scratch: got int32 (3,) on cpu, allowed int32 (4,) on cpu"),
        ("active", np.zeros(2, np.int32), "active: got int32 (2,) on cpu, allowed int32 (1,) on cpu"),
        ("pinned", 8, "pinned: got 8, allowed 0..7"),
        ("planned", 0, "planned: got 0, allowed 1..8"),
        ("bucket", 0, "bucket: got 0, allowed 1..8"),
        ("max_age", 1024, "max_age: got 1024, allowed -1..1023"),
        ("gate", -0.5, "error_budget, gate: got -0.5"),
        ("error_budget", float("nan"), "error_budget, gate: got nan, allowed 0 or more"),
    ],
)
def test_refuses(name: str, value: object, message: str) -> None:
    good: dict[str, Any] = {
        "score": np.zeros((8, 2), np.float32),
        "velocity": np.zeros((8, 2, 4), np.float32),
        "age": np.zeros((8, 2), np.int32),
        "future": np.zeros(4, np.int32),
        "scratch": np.zeros(4, np.int32),
        "active": np.zeros(1, np.int32),
        "pinned": 1,
        "planned": 4,
        "bucket": 1,
        "max_age": 3,
        "error_budget": 0.1,
        "gate": 0.1,
    }
    with pytest.raises(ValueError, match="decide_active: ") as error:
        decide_active(**good | {name: value})
    assert message in str(error.value)
