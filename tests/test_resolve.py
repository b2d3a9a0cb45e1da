"""Where options meet a preset: each changes its own thing, and what contradicts another is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from presets import SHARP

from flagdit.cpp_ext import resized_fields, with_ratio_fields
from flagdit.engine import DENSE, PRESETS, Coarse, Preset, RasConfig, RequestError, make_plan
from flagdit.engine.coarse import full_span
from flagdit.engine.presets import DEFAULT, falling
from flagdit.engine.resolve import Options, resolve

ALL: dict[str, Preset] = {**PRESETS, "sharp": SHARP}


def dense_steps(preset: Preset) -> list[int]:
    """Of the plan that a preset makes for 64 patches, enough for every ratio here to leave one out."""
    shift = 1.0 if preset.shift is None else preset.shift
    plan = make_plan(preset.ras, preset.steps, 64, pinned=0, shift=shift, solver=preset.solver, weights=preset.weights)
    return [step.index for step in plan.steps if step.dense]


def said(**options: Any) -> Preset:
    return resolve(Options(preset="sharp", **options), ALL, shift=2.0)


@pytest.mark.parametrize("name", ALL)
def test_a_preset_alone_is_returned_whole(name: str) -> None:
    whole = ALL[name]
    assert resolve(Options(preset=name), ALL, shift=2.5) == replace(whole, shift=whole.shift or 2.5)
    own = replace(whole, shift=4.0)
    assert resolve(Options(preset=name), {name: own}, shift=2.5) == own


def test_nothing_said_is_the_default() -> None:
    assert resolve(Options()) == replace(PRESETS[DEFAULT], shift=1.0)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"steps": 5}, {"solver", "ras", "shift"}),
        ({"steps": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}, {"solver", "ras", "shift"}),
        ({"shift": 3.0}, {"solver", "ras"}),  # and times make way for as many steps
        ({"solver": "euler"}, {"steps", "ras", "shift"}),
        ({"ras": DENSE}, {"steps", "solver", "shift"}),
        ({"dense": True}, {"steps", "solver", "shift"}),
        ({"ratio": (0.75, None)}, {"steps", "solver", "shift"}),
        ({"schedule": (8, 2)}, {"steps", "solver", "shift"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_changes_its_own_thing_and_drops_the_weights(options: dict[str, Any], kept: set[str]) -> None:
    plain, changed = said(), said(**options)
    assert plain.weights and changed.weights == ()
    same = {name for name in ("steps", "solver", "ras", "shift") if getattr(plain, name) == getattr(changed, name)}
    assert same == kept
    make_plan(changed.ras, changed.steps, 64, pinned=0, shift=1.0, solver=changed.solver)


def test_what_the_options_say_arrives() -> None:
    assert (said(steps=7).steps, said(steps=[0, 0.5, 1]).steps) == (7, (0.0, 0.5, 1.0))
    assert (said(shift=3.0).steps, said(shift=3.0).shift) == (5, 3.0)  # times of its own have no shift: as many steps
    assert said(dense=True).ras == said(ras=DENSE).ras == DENSE
    assert (said(schedule=(8, 2)).ras.skip_step, said(schedule=(8, 2)).ras.skip_every) == (8, 2)


def test_other_fields_leave_the_plan_and_its_weights() -> None:
    changed = said(changes={"forecast_kv": 0.25, "error_budget": 0.1})
    assert changed == replace(said(), ras=replace(SHARP.ras, forecast_kv=0.25, error_budget=0.1))


@pytest.mark.parametrize("name", ALL)
@given(ratio=st.sampled_from([0.1, 0.3, 0.5, 0.8]), ratio_end=st.sampled_from([None, 0.2, 0.6]))
def test_a_ratio_keeps_which_steps_are_dense(name: str, ratio: float, ratio_end: float | None) -> None:
    """Of a preset with a warm-up and of one with a list; the rest goes from the one ratio to the other."""
    base = resolve(Options(preset=name), ALL)
    changed = resolve(Options(preset=name, ratio=(ratio, ratio_end)), ALL)
    sparse = [i for i in range(base.count) if i not in dense_steps(base)]
    if not sparse:
        assert dense_steps(changed) and len(dense_steps(changed)) < base.count  # or there would be nothing to say
        return
    assert dense_steps(changed) == dense_steps(base)
    steps = make_plan(changed.ras, changed.steps, 1000).steps
    shares = [steps[i].active / 1000 for i in sparse]
    assert shares[0] == pytest.approx(ratio, abs=1e-2)
    if ratio_end is None:
        assert len(set(shares)) == 1
    elif len(sparse) > 1:
        assert shares in (sorted(shares), sorted(shares, reverse=True))
        assert min(ratio, ratio_end) - 1e-2 <= shares[-1] <= max(ratio, ratio_end) + 1e-2


@given(ratios=st.lists(st.sampled_from([1.0, 0.5, 0.25]), min_size=2, max_size=12))
def test_a_ratio_keeps_the_dense_steps_of_any_list(ratios: list[float]) -> None:
    warmup = next((i for i, ratio in enumerate(ratios) if ratio < 1), 0)
    if warmup == 0:
        return  # a first step that caches nothing yet, or nothing but dense steps
    base = RasConfig(ratio=ratios, warmup=warmup, resets=())
    changed = RasConfig(**with_ratio_fields(base, 0.3, None, len(ratios)))
    dense = [step.dense for step in make_plan(changed, len(ratios), 64).steps]
    assert dense == [ratio == 1 for ratio in ratios]


@given(warmup=st.integers(1, 10), rest=st.integers(2, 10), count=st.integers(2, 60))
def test_another_number_of_steps_has_as_large_a_dense_start(warmup: int, rest: int, count: int) -> None:
    steps = warmup + rest
    kinds = (
        falling(warmup, 0.5, 0.25),
        RasConfig(ratio=[1.0] * warmup + [0.5] * rest, warmup=warmup, resets=()),
    )
    for ras in kinds:
        changed = RasConfig(**resized_fields(ras, steps, count))
        assert changed.warmup == pytest.approx(warmup / steps * count, abs=1)
        plan = make_plan(changed, count, 64).steps
        assert plan[0].dense
        assert plan[-1].dense == make_plan(ras, steps, 64).steps[-1].dense or changed.warmup >= count
    assert RasConfig(**resized_fields(kinds[1], steps, steps)) == kinds[1]


@given(count=st.integers(1, 40))
def test_what_each_step_forecasts_is_stretched_with_its_ratio(count: int) -> None:
    """A single step, where nothing is cached yet, is dense."""
    changed = said(steps=count)
    plan = make_plan(changed.ras, count, 64)
    assert plan.steps[0].dense
    known = {1.0: 0.0, 0.5: 0.5, 0.25: 0.4}
    assert all(share == known[step.active / 64] for step, share in zip(plan.steps, plan.damping, strict=True))
    assert count < 3 or 0.4 in plan.damping
    full = replace(SHARP, ras=RasConfig(ratio=1.0, forecast_kv=[0.5] * 5))
    make_plan(resolve(Options(preset="full", steps=count), {"full": full}).ras, count, 64)


def test_dense_and_paper_runs_have_no_start_to_stretch() -> None:
    assert resolve(Options(preset="fast", steps=50), {"fast": Preset(10, "ab2", DENSE)}).ras == DENSE
    assert resolve(Options(mode="paper", steps=60)).ras == RasConfig(mode="paper")


@pytest.mark.parametrize("default", [SHARP, Preset(7, "heun", DENSE, 3.0)])
def test_paper_mode_begins_with_30_euler_steps(default: Preset) -> None:
    """Whatever the preset that stands for the default."""
    paper = RasConfig(mode="paper")
    presets = {DEFAULT: default}
    for options in (Options(mode="paper"), Options(ras=paper)):
        assert resolve(options, presets, 1.5) == Preset(30, "euler", paper, 1.5)
    changed = resolve(Options(mode="paper", steps=12, ratio=(0.125, None)), presets)
    assert changed == Preset(12, "euler", replace(paper, ratio=0.125), 1.0)


CONTRADICTIONS: dict[str, Options] = {
    "dense and ratio contradict each other; give one of them": Options(dense=True, ratio=(0.5, None)),
    "dense and schedule contradict each other": Options(dense=True, schedule=(8, 4)),
    "dense and error_budget contradict each other": Options(dense=True, changes={"error_budget": 0.1}),
    "dense and forecast_kv contradict each other": Options(dense=True, changes={"forecast_kv": 0.5}),
    "shift and times contradict each other: times are taken as they are": Options(steps=[0, 1], shift=2.0),
    "paper mode and a preset contradict each other": Options(preset="fast", mode="paper"),
    "paper mode and a preset contradict each other; give": Options(preset="fast", ras=RasConfig(mode="paper")),
    "ras and ratio contradict each other: all of ras is taken": Options(ras=DENSE, ratio=(0.5, None)),
    "ras and schedule contradict each other": Options(ras=DENSE, schedule=(8, 4)),
    "ras and dense contradict each other": Options(ras=RasConfig(), dense=True),
    "ras and paper mode contradict each other": Options(ras=RasConfig(), mode="paper"),
    "preset is 'sharp'; allowed are quality, balanced, fast": Options(preset="sharp"),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradictions_are_refused(message: str) -> None:
    with pytest.raises(RequestError) as error:
        resolve(CONTRADICTIONS[message])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; allowed are 1 to 1000"),
        ({"steps": -3}, "steps is -3; allowed"),
        ({"steps": 10**12}, "steps is 1000000000000; allowed"),  # before a list of as many is made
        ({"steps": ()}, "steps is 0; allowed"),
        ({"steps": 2.5}, "steps is 2.5; allowed are 1 to 1000, or the times that they lie between"),
        ({"steps": True}, "steps is True; allowed"),
        *(({"shift": shift}, f"shift is {shift}; allowed") for shift in (float("nan"), float("inf"), 0.0, -1.5)),
    ],
)
@pytest.mark.parametrize("coarse", [None, Coarse(2)])
@pytest.mark.parametrize("name", ["sharp", "quality"])
def test_steps_and_shifts_out_of_bounds_are_refused(
    name: str, coarse: Coarse | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as error:
        how = resolve(Options(preset=name, coarse=coarse, **options), ALL)
        make_plan(
            how.ras, how.steps, 64, pinned=0, shift=1.0 if how.shift is None else how.shift, span=full_span(how.coarse)
        )
    assert str(error.value).startswith(message)


def test_steps_may_come_from_numpy() -> None:
    assert said(steps=np.int64(4)) == said(steps=4) == said(steps=np.int64(4), shift=2.0)
    assert said(steps=np.array([0, 0.5, 1])).steps == (0.0, 0.5, 1.0)


@pytest.mark.parametrize("name", ["error_budget", "forecast_kv"])
@pytest.mark.parametrize("more", [{}, {"steps": 12}, {"preset": "sharp", "ratio": (1.0, None)}])
def test_options_of_cached_patches_need_some(name: str, more: dict[str, Any]) -> None:
    """Not only with --dense: a preset may be dense too, and would not say that it passes them over."""
    options = {"preset": "fast", "changes": {name: 0.1}, **more}
    with pytest.raises(RequestError, match=f"^{name} is of steps that leave patches out, and here all are dense; give"):
        resolve(Options(**options), ALL)
    resolve(Options(**options | {"ratio": (0.5, None)}), ALL)
    resolve(Options(**options | {"changes": {name: 0.0}}), ALL)


def test_options_that_do_nothing_contradict_nothing() -> None:
    off = {"error_budget": 0.0, "forecast_kv": 0.0}
    assert resolve(Options(dense=True, changes=off)).ras == DENSE


@pytest.mark.parametrize(("forecast", "fine"), [(0, True), (1, False), (2, True)])
def test_a_line_is_no_forecast_beside_weights_of_a_curve(forecast: int, fine: bool) -> None:
    """Kept curves would bend the line: the tail would not be what forecast=1 promises."""
    how = said(changes={"forecast": forecast})
    straight = [(velocity, slope, 0.0) for velocity, slope, _ in how.weights]
    assert make_plan(how.ras, how.steps, 64, weights=straight).keeps.curve == (forecast == 2)
    if fine:
        assert make_plan(how.ras, how.steps, 64, weights=how.weights).keeps.curve
        return
    with pytest.raises(RequestError, match=r"forecast is 1, a line, and the weights .* allowed are 0 and 2"):
        make_plan(how.ras, how.steps, 64, weights=how.weights)
