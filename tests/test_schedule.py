"""How many patches each step caches: golden traces, the published arithmetic, and what is refused."""

from __future__ import annotations

import math
from typing import Literal, cast

import numpy as np
import published
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import Settings

from flagdit.cpp_ext import Step, flow_times, plan_steps
from flagdit.engine.errors import RequestError
from flagdit.engine.plan import make_plan
from flagdit.engine.ras import RasConfig

ModeName = Literal["corrected", "paper"]
MODES = pytest.mark.parametrize("mode", ["corrected", "paper"])

# 30 steps of 4096 patches, warm-up 4, resets 12 and 22: (steps, patches cached in each).
STATIC = {
    0.5: [(4, 0), (8, 2048), (1, 0), (9, 2048), (1, 0), (7, 2048)],
    0.25: [(4, 0), (8, 3072), (1, 0), (9, 3072), (1, 0), (7, 3072)],
    0.125: [(4, 0), (8, 3584), (1, 0), (9, 3584), (1, 0), (7, 3584)],
}
LINEAR = [  # ratio 0.5, 256 more every 4 steps
    *[(4, 0), (4, 1280), (4, 1536), (1, 0), (3, 1792), (4, 2048), (2, 2304)],
    *[(1, 0), (1, 2304), (4, 2560), (2, 2816)],
]


def trace(steps: list[Step], tokens: int) -> list[int]:
    return [tokens - step.active for step in steps]


def expand(runs: list[tuple[int, int]]) -> list[int]:
    return [cached for count, cached in runs for _ in range(count)]


@MODES
@pytest.mark.parametrize("pinned", [0, 64])
@pytest.mark.parametrize("ratio", STATIC)
def test_golden_static_traces(ratio: float, pinned: int, mode: ModeName) -> None:
    plan = make_plan(RasConfig(ratio, mode=mode), 30, 4096 + pinned, pinned=pinned)
    assert trace(plan.steps, plan.tokens) == expand(STATIC[ratio])


@MODES
@pytest.mark.parametrize("pinned", [0, 64])
def test_golden_linear_trace(pinned: int, mode: ModeName) -> None:
    """README of the published code: 51.6 % of the patches active in RAS steps, 61.25 % in all."""
    plan = make_plan(RasConfig(0.5, mode=mode, skip_step=256, skip_every=4), 30, 4096 + pinned, pinned=pinned)
    assert trace(plan.steps, plan.tokens) == expand(LINEAR)
    active = [(step.active - pinned) / 4096 for step in plan.steps]
    assert sum(active) / 30 == pytest.approx(0.6125)
    sparse = [share for share, step in zip(active, plan.steps, strict=True) if not step.dense]
    assert sum(sparse) / len(sparse) == pytest.approx(0.516, abs=5e-4)


@st.composite
def published_settings(draw: st.DrawFn) -> tuple[Settings, int, int]:
    """And the lines and columns of the picture's patches."""
    steps = draw(st.integers(1, 40))
    every = draw(st.integers(0, 9))
    resets = draw(st.lists(st.integers(0, steps - 1), max_size=3))
    s = Settings(
        ratio=draw(st.one_of(st.floats(0.01, 1.0), st.integers(1, 100).map(lambda percent: percent / 100))),
        steps=steps,
        high_ratio=draw(st.one_of(st.floats(0, 1), st.integers(0, 10).map(lambda tenth: tenth / 10))),
        warmup=draw(st.integers(1, 6)),
        resets=tuple(resets),
        skip_step=draw(st.integers(-300, 300).filter(bool)) if every else 0,
        skip_every=every,
    )
    return s, draw(st.integers(1, 70)), draw(st.integers(1, 70))


def planned(s: Settings, lines: int, columns: int, pinned: int) -> list[Step]:
    schedule = {"skip_step": s.skip_step, "skip_every": s.skip_every, "high_ratio": s.high_ratio}
    resets, shape = list(s.resets), {"mode": "paper", "lines": lines}
    return plan_steps(
        flow_times(s.steps), lines * columns + pinned, pinned, s.ratio, s.warmup, resets, **schedule, **shape
    )


@given(case=published_settings(), pinned=st.integers(0, 70))
@settings(max_examples=300, deadline=None)
def test_paper_plans_are_the_published_arithmetic(case: tuple[Settings, int, int], pinned: int) -> None:
    s, lines, columns = case
    patches, skips = lines * columns, published.skip_list(s, lines, columns)
    if not all(0 <= skip < patches or skip == 0 for skip in skips):
        with pytest.raises(ValueError, match="patches to cache in step"):
            planned(s, lines, columns, pinned)
        return
    for step, skip in zip(planned(s, lines, columns, pinned), skips, strict=True):
        low, high = published.halves(skip, s.high_ratio)
        assert (step.active, step.high) == (patches + pinned - low - high, high)
        assert step.dense == (low + high == 0)


@given(ratio=st.floats(0.01, 1.0), patches=st.integers(1, 5000), high_ratio=st.floats(0, 1), bucket=st.integers(1, 128))
@settings(max_examples=200, deadline=None)
def test_corrected_loses_no_patch_between_the_sides(ratio: float, patches: int, high_ratio: float, bucket: int) -> None:
    """Active patches are a multiple of the bucket, or all of them; high takes its share to within half a patch."""
    _, step = plan_steps(flow_times(2), patches, 0, ratio, 1, [], bucket, high_ratio=high_ratio)
    assert step.active == patches or step.active % bucket == 0
    assert ratio * patches - 1e-6 <= step.active < ratio * patches + bucket
    assert abs(step.high - high_ratio * (patches - step.active)) <= 0.5


@pytest.mark.parametrize(("mode", "active", "high"), [("corrected", 2048, 614), ("paper", 2049, 614)])
def test_the_two_truncations(mode: str, active: int, high: int) -> None:
    _, step = plan_steps(flow_times(2), 4096, 0, 0.5, 1, [], high_ratio=0.3, mode=mode)
    assert (step.active, step.high) == (active, high)


@MODES
@pytest.mark.parametrize(("high_ratio", "high"), [(0.0, 0), (1e-5, 0), (1.0, 2048)])
def test_one_side_may_give_nothing(mode: str, high_ratio: float, high: int) -> None:
    """The published slice [-0:] would take all of them."""
    _, step = plan_steps(flow_times(2), 4096, 64, 0.49, 1, [], high_ratio=high_ratio, mode=mode)
    assert 0 < step.active < 4096
    assert step.high == (high if high == 0 else 4096 - step.active)


def test_nothing_to_cache_is_a_dense_step() -> None:
    """The published code fails when it skips 0 patches in a RAS step."""
    _, step = plan_steps(flow_times(2), 64, 0, 0.999, 1, [], mode="paper")
    assert step == Step(1, 0.5, 1.0, 64, True, 0)


@MODES
@pytest.mark.parametrize("end", [4, 17, 22, 30])
def test_steps_after_the_end_are_dense(mode: ModeName, end: int) -> None:
    """The end itself still caches, and chooses its own patches: the published code repeats those before."""
    plan = make_plan(RasConfig(0.5, mode=mode, end=end), 30, 256)
    sparse = [step.index for step in plan.steps if not step.dense]
    assert sparse == [i for i in range(4, min(end, 29) + 1) if i not in (12, 22)]


@MODES
def test_a_ratio_for_each_step(mode: ModeName) -> None:
    ratios = [1.0, 1.0, 0.5, 0.25, 0.75, 1.0]
    plan = make_plan(RasConfig(ratios, warmup=1, resets=(), mode=mode), 6, 72, pinned=8)
    assert [step.active - 8 for step in plan.steps] == [64, 64, 32, 16, 48, 64]


@pytest.mark.parametrize(
    ("ratio", "end", "active"),
    [(0.5, 0.1, [32, 27, 22, 17, 12, 7]), (0.25, 1.0, [16, 26, 36, 45, 55, 64]), (0.5, 0.5, [32] * 6)],
)
def test_a_ratio_that_ends_elsewhere(ratio: float, end: float, active: list[int]) -> None:
    """A line from the first step after the warm-up to the last one."""
    plan = make_plan(RasConfig(ratio, ratio_end=end, warmup=2, resets=()), 8, 72, pinned=8)
    assert [step.active - 8 for step in plan.steps] == [64, 64, *active]
    assert [step.dense for step in plan.steps[2:]] == [patches == 64 for patches in active]


@pytest.mark.parametrize("steps", [9, 11, 12, 30, 100])
def test_a_falling_ratio_has_few_levels(steps: int) -> None:
    """From the first ratio to the last, never back up, in stairs of nearly the same length."""
    ratios = RasConfig(0.5, ratio_end=0.1, warmup=3).ratios(steps)
    assert isinstance(ratios, list) and ratios[3] == 0.5 and ratios[-1] == pytest.approx(0.1)
    levels = sorted(set(ratios[3:]), reverse=True)
    assert len(levels) == min(8, steps - 3) and ratios == sorted(ratios, reverse=True)
    np.testing.assert_allclose(np.diff(levels), (0.1 - 0.5) / (len(levels) - 1))
    assert np.mean(ratios[3:]) == pytest.approx(0.3, abs=0.01)


@MODES
def test_the_default_resets_suit_every_number_of_steps(mode: ModeName) -> None:
    for steps in range(1, 60):
        resets = RasConfig(mode=mode).resets_of(steps)
        assert all(4 <= reset < steps for reset in resets) and len(resets) <= 2
        assert len(make_plan(RasConfig(mode=mode), steps, 256).steps) == steps
    assert RasConfig(mode="paper").resets_of(23) == RasConfig(mode="paper").resets_of(50) == [12, 22]
    assert RasConfig(mode="paper").resets_of(22) == RasConfig().resets_of(22)


@MODES
def test_a_plan_does_not_depend_on_earlier_ones(mode: ModeName) -> None:
    first, again = (RasConfig(0.5, mode=mode, skip_step=16, skip_every=4) for _ in range(2))
    assert make_plan(first, 30, 1024).steps == make_plan(again, 30, 1024).steps
    assert len(make_plan(again, 30, 1024).steps) == 30


def test_paper_mode_promises_no_age() -> None:
    assert make_plan(RasConfig(mode="paper"), 30, 256).max_age == -1


BAD = {
    "too much": ({"ratio": 0.125, "skip_step": 256}, "patches to cache in step 24: got 4096, allowed 0..4095"),
    "too little": ({"ratio": 0.9, "skip_step": 256}, "patches to cache in step 4: got -3"),
    "falling": ({"ratio": 0.9, "skip_step": -256}, "patches to cache in step 24: got -103, allowed"),
    "no length": ({"skip_step": 256, "skip_every": 0}, "skip_step and skip_every: got 256 and 0, allowed both"),
    "no step": ({"skip_every": 4}, "skip_step and skip_every: got 0 and 4, allowed both"),
    "negative length": ({"skip_step": 1, "skip_every": -1}, "skip_every: got -1, allowed 0.."),
    "two schedules": ({"ratio": [0.5] * 30, "skip_step": 1}, "skip_step: got a ratio for each step, allowed one ratio"),
    "end": ({"end": 3}, "end: got 3, allowed 4..30"),
    "late end": ({"end": 31}, "end: got 31, allowed 4..30"),
    "reset": ({"resets": (30,)}, "resets of a plan with 30 steps: got 30, allowed 0..29"),
    "no warm-up": ({"warmup": 0}, "warmup: got 0 with a first ratio below 1"),
    "high_ratio": ({"high_ratio": 1.5}, "high_ratio: got 1.500000, allowed 0..1"),
    "starvation": ({"starvation": math.nan}, "starvation is nan; allowed are 0 to 10"),
    "tiny ratio": ({"ratio": 1e-17}, "patches to cache in step 4: got 4096, allowed 0..4095"),
}
BAD_CORRECTED = {
    "end of a list": ({"ratio": [0.5] * 30, "ratio_end": 0.1}, "ratio is a list and there is a ratio_end; give one"),
    "end of a schedule": ({"ratio_end": 0.1, "skip_step": 1}, "skip_step: got a ratio for each step, allowed one"),
    "ratio_end": ({"ratio_end": 1.5}, "ratio_end is 1.5; allowed are above 0 to 1"),
    "zero ratio_end": ({"ratio_end": 0.0, "warmup": 30}, "ratio_end is 0.0; allowed are above 0 to 1"),
    "ratio_end nan": ({"ratio_end": math.nan}, "ratio_end is nan"),
    "metric": ({"metric": "l1"}, "metric is 'l1'; allowed are std, l2, change"),
    "dilation": ({"dilation": 1.5}, "dilation is 1.5; allowed are 0 to 1"),
    "dilation of std": ({"dilation": 0.5, "metric": "std"}, "dilation is 0.5, which needs the metric 'change' and no"),
    "error_budget": ({"error_budget": math.nan}, "error_budget is nan; allowed are 0 to 10"),
    "budget of l2": ({"error_budget": 0.5, "metric": "l2"}, "no high_ratio; got 'l2', None"),
    "gate": ({"gate": -0.1}, "gate is -0.1; allowed are 0 to 10"),
    "gate of the high": ({"gate": 0.1, "high_ratio": 0.5}, "no high_ratio; got 'change', 0.5"),
}
BAD_PAPER = {
    "change": ({"metric": "change"}, "paper mode ranks by std or l2, at one ratio; got change, ratio_end None"),
    "ratio_end": ({"ratio_end": 0.1}, "paper mode ranks by std or l2, at one ratio; got std, ratio_end 0.1"),
    "error_budget": ({"error_budget": 0.5}, "error_budget is 0.5, which needs the metric 'change' and no"),
    "gate": ({"gate": 0.5}, "gate is 0.5, which needs the metric 'change'"),
    "bucket": ({"bucket": 64}, "bucket in paper mode: got 64, allowed 1..1"),
    "max_age": ({"max_age": 9}, "max_age is 9; paper mode promises no bound"),
}
OF_MODE: dict[ModeName, dict[str, tuple[dict[str, object], str]]] = {"corrected": BAD_CORRECTED, "paper": BAD_PAPER}


@pytest.mark.parametrize(
    ("mode", "case"),
    [(mode, case) for mode, own in OF_MODE.items() for case in BAD | own],
)
def test_refuses(mode: ModeName, case: str) -> None:
    options, message = (BAD | OF_MODE[mode])[case]
    every = {"skip_every": 4} if "skip_step" in options and "skip_every" not in options else {}
    with pytest.raises(RequestError) as error:
        make_plan(RasConfig(mode=mode, **(options | every)), 30, 4160, pinned=64)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_a_mode_that_is_not_there() -> None:
    with pytest.raises(RequestError, match="mode: got 'published', allowed 'corrected', 'paper'"):
        make_plan(RasConfig(mode=cast(ModeName, "published")), 30, 256)
