"""The plan: times, steps, and what they promise about the age of a token."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Step, flow_times, least_max_age, plan_steps, refresh_capacity


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Step], int, int]:
    count = draw(st.integers(1, 16))
    tokens = draw(st.integers(1, 40))
    pinned = draw(st.integers(0, tokens))
    ratio = draw(st.lists(st.floats(0.05, 1.0), min_size=count, max_size=count))
    resets = draw(st.lists(st.integers(0, count - 1), max_size=2))
    steps = plan_steps(
        flow_times(count), tokens, pinned, ratio, draw(st.integers(1, 4)), resets, draw(st.integers(1, 9))
    )
    return steps, tokens, pinned


@pytest.mark.parametrize("shift", [0.5, 1.0, 4.0, 6.0])
def test_times_are_the_shifted_line(shift: float) -> None:
    line = np.linspace(0, 1, 31)
    times = flow_times(30, shift)
    np.testing.assert_allclose(times, line / (line + shift - shift * line), rtol=1e-12)
    assert (times[0], times[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(("ratio", "active"), [(0.5, 2048), (0.25, 1024), (0.125, 512)])
def test_golden_plan(ratio: float, active: int) -> None:
    steps = plan_steps(flow_times(30, 4.0), tokens=4096, ratio=ratio)
    assert [step.index for step in steps if step.dense] == [0, 1, 2, 3, 12, 22]
    assert [step.active for step in steps] == [4096 if step.dense else active for step in steps]
    assert sum(not step.dense for step in steps) == 24


def test_step_is_a_value() -> None:
    (step,) = plan_steps([0.0, 1.0], tokens=3, resets=[])
    assert step == Step(0, 0.0, 1.0, 3, True) != Step(0, 0.0, 1.0, 2, False)
    assert Step(0, 0.0, 1.0, 2, False, 1) != Step(0, 0.0, 1.0, 2, False, 0)
    assert repr(step) == "Step(index=0, t=0, t_next=1, active=3, dense=True, high=0)"
    assert len({step, Step(0, 0.0, 1.0, 3, True)}) == 1
    with pytest.raises(AttributeError):
        step.active = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("ratio", "pinned", "bucket", "active"),
    [(0.55, 0, 1, 55), (0.55, 0, 8, 56), (0.551, 0, 1, 56), (0.5, 10, 1, 55), (0.5, 10, 8, 58), (0.99, 0, 64, 100)],
)
def test_active_rounds_up_to_buckets(ratio: float, pinned: int, bucket: int, active: int) -> None:
    steps = plan_steps(flow_times(2), 100, pinned, ratio, warmup=1, resets=[], bucket=bucket)
    assert (steps[1].active, steps[1].dense) == (active, active == 100)


def test_ratio_one_is_dense() -> None:
    assert all(step.dense for step in plan_steps(flow_times(30), tokens=64, warmup=0))


@given(plans())
@settings(max_examples=200, deadline=None)
def test_capacity_matches_the_definition(plan: tuple[list[Step], int, int]) -> None:
    steps, tokens, pinned = plan
    least = least_max_age(steps, tokens, pinned)
    assert least == oracle.least_max_age(steps, tokens, pinned)
    for max_age in (least, least + 2):
        table = refresh_capacity(steps, tokens, pinned, max_age)
        assert table.dtype == np.int32
        expected = [oracle.future_capacity(steps, s, pinned, max_age) for s in range(len(steps))]
        assert table.tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [0.0]}, "times: got 1 times, allowed 2 or more"),
        ({"times": [0.0, 0.5, 0.5]}, "times: got 0.500000 after 0.500000, allowed strictly increasing"),
        ({"times": [0.0, float("nan")]}, "strictly increasing"),
        ({"tokens": 0}, "tokens: got 0, allowed 1.."),
        ({"pinned": 65}, "pinned: got 65, allowed 0..64"),
        ({"ratio": 0.0}, "ratio: got 0.000000, allowed above 0"),
        ({"ratio": 1.5}, "ratio: got 1.500000, allowed above 0, at most 1"),
        ({"ratio": [0.5]}, "ratio: got 1 ratios, allowed one number, or 8"),
        ({"warmup": 0, "ratio": 0.5}, "warmup: got 0 with a first ratio below 1, allowed 1 or more"),
        ({"warmup": -1}, "warmup: got -1, allowed 0.."),
        ({"resets": [8]}, "resets of a plan with 8 steps: got 8, allowed 0..7"),
        ({"bucket": 0}, "bucket: got 0, allowed 1.."),
        ({"lines": 0}, "lines: got 0, allowed 1..64"),
        ({"lines": 5}, "lines: got 5, allowed a divisor of 64 patches"),
    ],
)
def test_refuses(arguments: dict[str, object], message: str) -> None:
    good = {"times": flow_times(8), "tokens": 64, "resets": [5]}
    with pytest.raises(ValueError, match="plan_steps: ") as error:
        plan_steps(**(good | arguments))
    assert message in str(error.value)


def test_refuses_bad_times_and_ages() -> None:
    with pytest.raises(ValueError, match=r"flow_times: steps: got 0, allowed 1\.\."):
        flow_times(0)
    with pytest.raises(ValueError, match=r"flow_times: shift: got .*, allowed above 0"):
        flow_times(3, 0.0)
    steps = plan_steps(flow_times(30), tokens=64, ratio=0.25)
    with pytest.raises(ValueError, match=r"max_age of this plan: got 2, allowed 3\.\.1023"):
        refresh_capacity(steps, 64, 0, 2)
    with pytest.raises(ValueError, match="active of step 0: got 64, allowed 65"):
        least_max_age(steps, 65, 0)
