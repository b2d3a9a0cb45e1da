"""Tokens that are placed anew on the way: which steps that makes dense, and what a run then binds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import plans
import pytest
from backends import EMULATED
from device_engine import DeviceEngine

from flagdit.cpp_ext import Plan, Port, Sampler, Session
from flagdit.engine import DENSE, RasConfig, Solver, make_plan
from flagdit.engine.errors import BundleError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.session import Array

LAYOUT = TokenLayout(16, 24, 4, channels=3, closes_lines=True)
VALUES, PHASES = LAYOUT.patch_values, (0.0, 0.3, 0.65)
SAMPLES, ROWS = 2, 4


def plan_of(ras: RasConfig, solver: Solver = "euler", phases: tuple[float, ...] = PHASES, steps: int = 12) -> Plan:
    return make_plan(ras, steps, LAYOUT.tokens, pinned=LAYOUT.pinned, solver=solver, shift=2.0, phases=phases)


RAS = RasConfig(0.4, warmup=2, resets=(-1,))
SPARSE: dict[str, tuple[RasConfig, Solver]] = {
    "euler": (RAS, "euler"),
    "ab2": (RAS, "ab2"),
    "midpoint": (RAS, "midpoint"),
    "heun": (RAS, "heun"),
    "paper": (RasConfig(0.5, warmup=2, resets=(), mode="paper"), "euler"),
    "a list": (RasConfig([1.0, 1.0, *[0.4] * 10], warmup=2, resets=()), "ab2"),
    "branches apart": (RasConfig(0.4, warmup=2, resets=(), guidance_every=3, guidance_warmup=3), "euler"),
    "keys": (RasConfig(0.4, warmup=2, resets=(), forecast_kv=0.5), "ab2"),
    "keys, twice": (RasConfig(0.4, warmup=2, resets=(), forecast_kv=1.0), "heun"),
    "budget": (RasConfig(0.3, warmup=2, resets=(), error_budget=0.5, gate=0.01, forecast_kv=0.5), "euler"),
}


@pytest.mark.parametrize("case", SPARSE)
def test_the_first_step_of_a_phase_is_dense(case: str) -> None:
    """And no other step is another one: a phase is that of a step's begin, for both of its evaluations."""
    ras, solver = SPARSE[case]
    plan, plain = plan_of(ras, solver), plan_of(ras, solver, ())
    wanted = [max(k for k, time in enumerate(PHASES) if time <= step.t) for step in plan.steps]
    assert plan.phase == wanted and set(wanted) == {0, 1, 2} and plain.phase == [0] * 12
    first = {wanted.index(1), wanted.index(2)}
    for step, other in zip(plan.steps, plain.steps, strict=True):
        assert plan.places_anew(step.index) == (step.index in first)
        assert step.active == (plan.tokens if step.index in first else other.active)
        assert plan.unconditional[step.index] >= (step.index in first)
    assert any(not plain.steps[index].dense for index in first)


def test_what_is_a_phase() -> None:
    """The last one that has begun, to the last bits of a grid; without one but the first nothing changes."""
    even = make_plan(RAS, 10, LAYOUT.tokens, pinned=LAYOUT.pinned, phases=(0.0, 0.3))
    assert even.phase == [0] * 3 + [1] * 7
    assert plan_of(DENSE, phases=(0.0, 0.0)).phase == [1] * 12
    assert not any(plan_of(RAS, phases=(0.0, 0.0)).places_anew(step) for step in range(12))
    assert plan_of(RAS, phases=(0.0, 0.3, 0.31)).phase.count(1) <= 1
    assert plan_of(RAS, phases=(0.0,)).steps == plan_of(RAS, phases=()).steps
    late = make_plan(RAS, 6, LAYOUT.tokens, pinned=LAYOUT.pinned, span=(0.4, 1.0), phases=(0.0, 0.3))
    assert late.phase == [1] * 6


@dataclass
class Engine:
    """A session that looks at what it is given. Velocities are random, keys are where their tokens are placed."""

    velocities: np.ndarray  # (E, N, R, P)
    name: str = "denoise"
    precision: str = "float32"
    seen: list[tuple[int, float]] = field(default_factory=list)  # of each call: the evaluation, and what is `whole`
    faults: list[str] = field(default_factory=list)
    ports: list[Port] = field(
        default_factory=lambda: [
            Port("tokens", "float32", ["A", "R", VALUES]),
            Port("id", "int32", ["A", "R", 1]),
            Port("mark", "float32", ["A", "R", 2]),
            Port("whole", "float32", [1]),
            Port("step", "int64", ["R", 2]),  # evaluation and row
            Port("key_tail", "float32", ["M", "R", 2]),
            Port("velocity", "float32", ["A", "R", VALUES], output=True),
            Port("key_head", "float32", ["A", "R", 2], output=True),
        ]
    )

    def bind(self, tensors: Mapping[str, Array]) -> Call:
        return Call(self, tensors)

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        raise AssertionError


@dataclass
class Call:
    engine: Engine
    of: Mapping[str, Array]

    def run(self) -> None:
        evaluation, rows = int(self.of["step"][0, 0]), self.of["step"][:, 1]
        whole, ids, mark, tail = float(self.of["whole"][0]), self.of["id"], self.of["mark"], self.of["key_tail"]
        self.engine.seen.append((evaluation, whole))
        if (mark != marks(int(whole), ids[:, :, 0])).any():
            self.engine.faults.append(f"evaluation {evaluation}: other places")
        if tail.size and (tail[:, :, 0] // 1000 != whole).any():
            self.engine.faults.append(f"evaluation {evaluation}: keys of other places")
        self.of["velocity"][:] = self.engine.velocities[evaluation][ids[:, :, 0], rows]
        self.of["key_head"][:] = mark


def marks(phase: int, ids: Array) -> Array:
    """(..., 2) of tokens' ids."""
    return np.stack([1000 * phase + ids, ids], -1).astype(np.float32)


def begun(plan: Plan, *, device: bool = False) -> tuple[Engine, Sampler, dict[int, dict[str, Array]]]:
    """An engine, a sampler of it, and what that was given by phase."""
    rng = np.random.default_rng(3)
    count = len(plan.evaluations)
    phase = np.array([plan.phase[evaluation.step] for evaluation in plan.evaluations])
    steady = rng.standard_normal((1, LAYOUT.tokens, ROWS, VALUES))
    moving = rng.standard_normal((count, LAYOUT.tokens, ROWS, 1)) * rng.random((1, LAYOUT.tokens, ROWS, 1))
    engine = Engine((steady + moving + 5 * phase[:, None, None, None]).astype(np.float32))
    ids = np.arange(LAYOUT.tokens, dtype=np.int32)
    given: dict[int, dict[str, Array]] = {
        k: {"id": ids[:, None], "mark": marks(k, ids), "whole": np.array([k], np.float32)} for k in range(len(PHASES))
    }
    placed = dict(given[0])
    session = DeviceEngine(cast(Session, engine)) if device else engine
    sampler = Sampler(
        session,
        LAYOUT,
        plan,
        constant={"whole": placed.pop("whole")},
        timed={"step": np.stack(np.meshgrid(np.arange(count), np.arange(ROWS), indexing="ij"), -1)},
        placed=placed,
        guidance=np.full(VALUES, 2.0, np.float32),
        start=rng.standard_normal((SAMPLES, 3, 1, 16, 24)).astype(np.float32),
        later={k: given[k] for k in (1, 2)},
    )
    return engine, sampler, given


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not EMULATED, reason=""))])
@pytest.mark.parametrize("case", SPARSE)
def test_tokens_are_placed_anew_where_they_are(case: str, device: str) -> None:
    """In the order of slots as each sample has it then; constants too; and no key of other places is read again."""
    ras, solver = SPARSE[case]
    plan = plan_of(ras, solver)
    engine, sampler, given = begun(plan, device=device == "cuda")
    apart = False
    for step in plan.steps:
        sampler.step()
        if device == "cpu":
            state, phase = sampler.state, plan.phase[step.index]
            rows = state["mark"].shape[1]
            token = np.tile(state["token"], (1, rows // SAMPLES))
            np.testing.assert_array_equal(state["mark"], marks(phase, token))
            apart |= phase > 0 and bool((token[:, 0] != token[:, 1]).any())
    sampler.latents()  # waits
    assert engine.faults == []
    assert [whole for _, whole in engine.seen] == [plan.phase[plan.evaluations[e].step] for e, _ in engine.seen]
    assert apart or device == "cuda"
    assert given[0]["whole"][0] == 0 and (given[0]["mark"] == marks(0, np.arange(LAYOUT.tokens))).all()


def test_velocities_of_two_phases_make_no_slope() -> None:
    """Nor a rate: what is known of changes stays as it was until there are two of the new phase."""
    plan = plan_of(RasConfig(0.4, warmup=2, resets=(), forecast=2), "ab2")
    _, sampler, _ = begun(plan)
    after, kept = np.take_along_axis, {}
    patches = LAYOUT.patch_index(np.arange(LAYOUT.tokens, dtype=np.int32)) >= 0
    for step in plan.steps:
        sampler.step()
        state = sampler.state
        by_token = np.argsort(state["token"], 0)[patches]
        now = {name: after(state[name], by_token, 0) for name in ("rate", "time")}
        now["slope"] = after(state["slope"], by_token[..., None], 0)
        if plan.places_anew(step.index):
            assert (now["time"] == np.float32(step.t)).all()
            np.testing.assert_array_equal(now["slope"], kept["slope"])
            np.testing.assert_array_equal(now["rate"], kept["rate"])
        elif step.dense and step.index > 0:
            assert (now["slope"] != kept["slope"]).any()
        kept = {name: values.copy() for name, values in now.items()}
    assert np.isfinite(kept["slope"]).all()


def test_the_places_of_every_phase_are_asked_for() -> None:
    plan = plan_of(RAS)
    refused: list[tuple[Any, str]] = [
        ({}, "nothing places tokens for step 6"),
        ({1: {"id": 0, "whole": 0}}, "mark is not given to a later phase as to the first"),
        ({1: {"id": 0, "mark": 1}}, "nothing places tokens for step 10"),
    ]
    ids = np.arange(LAYOUT.tokens, dtype=np.int32)
    arrays = {"id": ids[:, None], "mark": marks(0, ids), "whole": np.zeros(1, np.float32)}
    for later, message in refused:
        with pytest.raises(BundleError, match=message):
            Sampler(
                Engine(np.zeros((1, 1, 1, 1), np.float32)),
                LAYOUT,
                plan,
                constant={"whole": arrays["whole"]},
                timed={"step": np.zeros((len(plan.evaluations), 1, 2), np.int64)},
                placed={"id": arrays["id"], "mark": arrays["mark"]},
                guidance=np.ones(VALUES, np.float32),
                start=np.zeros((1, 3, 1, 16, 24), np.float32),
                later={phase: {name: arrays[name] for name in names} for phase, names in later.items()},
            )


@pytest.mark.parametrize("phase", [[0] * 11, [1] * 6 + [0] * 6, [0] * 6 + [1] * 6, [-1] * 12])
def test_a_plan_that_places_anew_without_computing_all_is_refused(phase: list[int]) -> None:
    plan = plan_of(RasConfig(0.4, warmup=2, resets=()), phases=())
    assert not plan.steps[6].dense
    with pytest.raises(ValueError, match="phase"):
        begun(plans.changed(plan, phase=phase))
