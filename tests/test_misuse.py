"""Samplers made by hand of parts that do not fit, and sessions in Python that misbehave: refused, never a crash."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flagdit.cpp_ext import (
    Budget,
    Evaluation,
    Forecast,
    Keeps,
    Layout,
    Plan,
    Port,
    Ranking,
    Sampler,
    Step,
    flow_times,
    plan_steps,
)
from flagdit.engine import BundleError

LAYOUT = Layout(8, 8, 3, (1, 2, 2))
N, P = LAYOUT.tokens, LAYOUT.patch_values
STEPS = plan_steps(flow_times(4), N, 0, 0.5, 1, [])
EVALUATIONS = [Evaluation(s.index, s.t, s.t_next - s.t, 0.0, True) for s in STEPS]
TOKENS, VELOCITY = Port("tokens", "float32", ["A", "R", P]), Port("velocity", "float32", ["A", "R", P], output=True)
TAIL, HEAD = Port("key_tail", "float32", ["M", "R", 6]), Port("key_head", "float32", ["A", "R", 6], output=True)
ID, BIAS, TIME = (
    Port("id", "int32", ["A", "R", 1]),
    Port("bias", "float32", ["R", 4]),
    Port("time", "float32", ["R", 2]),
)


class Ones:
    """A session whose velocity is one; `during` is called in every run with the arrays."""

    def __init__(self, *ports: Port) -> None:
        self.ports = list(ports or (TOKENS, ID, BIAS, TIME, TAIL, VELOCITY, HEAD))
        self.during: Callable[[Mapping[str, np.ndarray]], object] = lambda arrays: None
        self.kept: list[Mapping[str, np.ndarray]] = []

    def bind(self, arrays: Mapping[str, np.ndarray]) -> SimpleNamespace:
        self.kept.append(arrays)

        def run() -> None:
            self.during(arrays)
            arrays["velocity"][...] = 1

        return SimpleNamespace(run=run)


def plan(**changed: Any) -> Plan:
    own: dict[str, Any] = {"steps": STEPS, "evaluations": EVALUATIONS, "tokens": N, "ranking": Ranking(metric="std")}
    return Plan(**(own | changed))


def made(session: Ones | None = None, chosen: Plan | None = None, **changed: Any) -> Sampler:
    own: dict[str, Any] = {
        "constant": {"bias": np.zeros((1, 4), np.float32)},
        "timed": {"time": np.zeros((4, 1, 2), np.float32)},
        "placed": {"id": np.arange(N, dtype=np.int32)[:, None]},
        "guidance": np.ones(P, np.float32),
        "start": np.zeros((1, 3, 1, 8, 8), np.float32),
    }
    return Sampler(session or Ones(), LAYOUT, chosen or plan(), **(own | changed))


def capacity(columns: int = 1) -> np.ndarray:
    return np.zeros((2, columns), np.int32)


FAR = 10**7
PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "pinned": ({"steps": plan_steps(flow_times(4), N, 5, 0.5, 1, []), "pinned": 5}, "pinned: got 5"),
    "index": ({"steps": [STEPS[0], Step(FAR, 0.2, 0.5, 8, False)], "capacity": capacity()}, "index: got 10000000"),
    "active": ({"steps": [Step(0, 0, 1, FAR, True)] * 2, "capacity": capacity()}, "active: got 10000000"),
    "dense": ({"steps": [Step(0, 0, 1, 8, True)] * 2, "capacity": capacity()}, "dense: got true"),
    "high": ({"steps": [STEPS[0], Step(1, 0.2, 0.5, 8, False, 9)], "capacity": capacity()}, "high: got 9"),
    "no evaluations": ({"evaluations": []}, "evaluations: got none of step 0"),
    "of no step": ({"evaluations": [*EVALUATIONS, Evaluation(9, 0, 0.1, 0, True)]}, "one of step 9 out of place"),
    "backwards": ({"evaluations": EVALUATIONS[::-1]}, "evaluations: got none of step 0"),
    "never the last": ({"evaluations": [Evaluation(s.index, s.t, 0.1, 0, False) for s in STEPS]}, "last: got false"),
    "not finite": ({"evaluations": [Evaluation(s.index, np.nan, 0.1, 0, True) for s in STEPS]}, "finite numbers"),
    "no bucket": ({"budget": Budget(error_budget=0.1, bucket=0)}, "bucket: got 0"),
    "no damping": ({"damping": [0, np.nan, 0, 0]}, "damping: got nan"),
    "too much damping": ({"damping": [0, 1.5, 0, 0]}, "damping: got 1.500000, allowed 0 to 1"),
    "a curve alone": ({"keeps": Keeps(rate=True, curve=True)}, "keeps: got a curve without slope"),
    "a slope alone": ({"keeps": Keeps(slope=True)}, "keeps: got a curve without slope, or a slope without rate"),
    "a forecast of nothing": ({"forecast": Forecast(order=1)}, "forecast: got 1, allowed 0 without slope"),
    "no clamp": ({"forecast": Forecast(clamp=np.nan)}, "clamp: got nan"),
    "a bend of nothing": ({"evaluations": [Evaluation(s.index, s.t, 0.1, 1, True) for s in STEPS]}, "bend: got 1"),
    "an arc of nothing": ({"evaluations": [Evaluation(s.index, s.t, 0.1, 0, True, 1) for s in STEPS]}, "arc: got 1"),
    "no gate": ({"budget": Budget(gate=np.nan)}, "gate: got 0.000000, nan"),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_that_does_not_fit(case: str) -> None:
    changed, message = PLANS[case]
    with pytest.raises(ValueError, match=message):
        made(chosen=plan(**changed))


def test_a_plan_of_another_layout() -> None:
    with pytest.raises(ValueError, match="tokens: got 17, allowed 16"):
        made(chosen=Plan(steps=[Step(0, 0, 1, 17, True)], evaluations=EVALUATIONS[:1], tokens=17))


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "entries": ({"timed": {"time": zeros(1, 1, 2)}}, "entries: got 1"),
    "rank": ({"timed": {"time": zeros(4)}}, "time is float32 (4,)"),
    "no rank": ({"timed": {"time": zeros()}}, "time is float32 ()"),
    "width": ({"timed": {"time": zeros(4, 1, 200)}}, "denoise takes float32 (4, 1, 2)"),
    "type": ({"constant": {"bias": zeros(1, 4, dtype=np.float64)}}, "bias is float64 (1, 4)"),
    "rows": ({"constant": {"bias": zeros(7, 4)}}, "bias is float32 (7, 4)"),
    "none": ({"constant": {}}, "nothing gives bias"),
    "unknown": ({"constant": {"bias": zeros(1, 4), "x": zeros(3)}}, "'x' is no condition"),
    "the tokens": ({"constant": {"bias": zeros(1, 4), "tokens": zeros(N, 1, P)}}, "'tokens' is no condition"),
    "twice": ({"constant": {"bias": zeros(1, 4), "time": zeros(1, 2)}}, "'time' is given twice"),
    "turned": ({"placed": {"id": zeros(1, N, dtype=np.int32)}}, "id is int32 (1, 16)"),
    "branches": ({"timed": {"time": zeros(4, 3, 2)}}, "branches: got 3"),
    "no array": ({"constant": {"bias": "hello"}}, "bias: got no array"),
    "no name": ({"constant": {3: zeros(3)}}, "got a name that is no text"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_do_not_fit(case: str) -> None:
    changed, message = ARRAYS[case]
    with pytest.raises((ValueError, BundleError)) as caught:
        made(**changed)
    assert message in str(caught.value)


PORTS: dict[str, tuple[list[Port], str]] = {
    "no tokens": ([VELOCITY], "'tokens' is missing"),
    "narrow tokens": ([Port("tokens", "float32", ["A", "R", 2]), VELOCITY], "tokens is float32 (A, R, 2)"),
    "half": ([TOKENS, Port("velocity", "float16", ["A", "R", P], output=True)], "velocity is float16"),
    "no head": ([TOKENS, VELOCITY, TAIL], "'key_head' is missing"),
    "another head": ([TOKENS, VELOCITY, TAIL, Port("key_head", "float32", ["A", "R", 7], output=True)], "key_head is"),
    "tail of no rows": ([TOKENS, VELOCITY, Port("key_tail", "float32", ["M"]), HEAD], "allowed is (M, R, ...)"),
    "twice": ([TOKENS, TOKENS, VELOCITY], "'tokens' is there twice"),
}


@pytest.mark.parametrize("case", PORTS)
def test_ports_that_a_run_has_no_arrays_for(case: str) -> None:
    ports, message = PORTS[case]
    with pytest.raises(BundleError) as caught:
        made(Ones(*ports), constant={}, timed={}, placed={})
    assert message in str(caught.value)


def test_arrays_live_as_long_as_somebody_keeps_them() -> None:
    """Those of a session outlive the run, and what a run reads outlives the dict that it came in."""
    session, given = Ones(), {"bias": np.full((1, 4), 3, np.float32)}
    sampler = made(session, constant=given)
    seen: list[np.ndarray] = []
    session.during = lambda arrays: seen.append(arrays["bias"].copy())
    sampler.step()
    given.clear()
    gc.collect()
    other = [np.full((1, 4), 9, np.float32) for _ in range(100)]
    sampler.step()
    np.testing.assert_array_equal(seen[1], np.full_like(other[0], 3))
    token = sampler.state["token"]
    with pytest.raises(ValueError, match="read-only"):
        token[:] = FAR
    del sampler
    gc.collect()
    velocity = session.kept[0]["velocity"]
    assert velocity.base is not None and (velocity == 1).all()


def test_nothing_goes_on_after_a_failure() -> None:
    session = Ones()
    sampler = made(session)

    def fail(_: object) -> None:
        raise KeyboardInterrupt

    session.during = fail
    with pytest.raises(KeyboardInterrupt):
        sampler.step()
    session.during = lambda _: None
    with pytest.raises(ValueError, match="after one that failed"):
        sampler.step()


def test_a_step_within_a_step() -> None:
    session = Ones()
    sampler = made(session)
    session.during = lambda _: sampler.step()
    with pytest.raises(ValueError, match="while one is under way"):
        sampler.step()
