"""`flagdit plan`: what it says of a run, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flagdit.cpp_ext import least_max_age
from flagdit.engine import RasConfig
from flagdit.engine.commands.outlook import Outlook
from flagdit.engine.commands.plan import quantity
from flagdit.engine.plan import make_plan
from flagdit.engine.resolve import Options, resolve

PROMPT = "a red apple on a blue background"


def test_plan_as_json(flagdit) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--mode", "paper", "--tokens", 4096, "--ratio", 0.25, "--json")
    plan = json.loads(out)
    assert code == 0
    assert [s["index"] for s in plan["steps"] if s["dense"]] == [0, 1, 2, 3, 12, 22]
    assert {s["active"] for s in plan["steps"]} == {4096, 1024}
    assert plan["expected_speedup"] == pytest.approx(2.5)
    assert (plan["solver"], plan["evaluations"], plan["weighted"]) == ("euler", 30, False)


def test_a_ratio_keeps_the_dense_steps_of_the_preset(flagdit) -> None:  # type: ignore[no-untyped-def]
    plans = [json.loads(flagdit("plan", "--tokens", 4096, *ratio, "--json")[1]) for ratio in ((), ("--ratio", 0.125))]
    plain, sparse = ([step["dense"] for step in plan["steps"]] for plan in plans)
    assert plain == sparse and not all(sparse)
    assert {step["active"] for step in plans[1]["steps"]} == {4096, 512}


def test_a_falling_ratio(flagdit) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--steps", 14, "--tokens", 4096, "--ratio", "0.5:0.25", "--json")
    active = [step["active"] for step in json.loads(out)["steps"] if not step["dense"]]
    assert code == 0 and active[0] == 2048 and active == sorted(active, reverse=True)
    _, out, _ = flagdit("plan", "--times", "0,.1,.2,.3,.5,.7,1", "--tokens", 4096, "--ratio", "0.5:0.25", "--json")
    steps = json.loads(out)["steps"]
    assert [(step["t"], step["t_next"]) for step in steps][3:] == [(0.3, 0.5), (0.5, 0.7), (0.7, 1.0)]


def test_a_shift_moves_the_times(flagdit) -> None:  # type: ignore[no-untyped-def]
    options = ("--steps", 4, "--tokens", 64, "--json")
    code, out, _ = flagdit("plan", *options, "--shift", 3)
    assert code == 0
    assert [step["t"] for step in json.loads(out)["steps"]] == pytest.approx([0, 1 / 10, 1 / 4, 1 / 2])  # t/(t+3(1-t))
    code, _, err = flagdit("plan", *options[2:], "--shift", 3, "--times", "0,.5,1")
    assert code == 2 and "shift and times contradict each other" in err
    code, _, err = flagdit("plan", *options, "--times", "0,.5,1")
    assert code == 2 and "--steps 4 and --times contradict each other" in err
    code, _, err = flagdit("plan", *options[2:], "--times", "0;1")
    assert code == 2 and "times '0;1' are not numbers with commas; for instance 0,0.05" in err
    code, _, err = flagdit("plan", *options, "--shift", 0)
    assert code == 2 and "shift is 0.0; allowed are 0.1 to 100" in err


def test_plan_of_the_paper(flagdit) -> None:  # type: ignore[no-untyped-def]
    """The example of the published README: 61.25 % of the work."""
    options = ("--tokens", 4096, "--ratio", 0.5, "--mode", "paper", "--schedule", "256/4")
    code, out, _ = flagdit("plan", *options, "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["mode"], plan["max_age"], plan["flop_ratio"]) == ("paper", -1, pytest.approx(0.6125))
    code, unsaid, _ = flagdit("plan", *options[:2], *options[4:], "--json")  # the published ratio is .5
    assert code == 0 and unsaid == out
    code, out, _ = flagdit("plan", *options)
    assert code == 0 and "no bound on their age" in out


def test_plan_as_a_table(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, "--ratio", 0.125)
    how = resolve(Options(ratio=(0.125, None)))
    planned = make_plan(how.ras, how.steps, 72, pinned=8)
    dense = sum(step.dense for step in planned.steps)
    least = least_max_age(planned.steps, 72, 8)
    assert code == 0 and f"{dense} dense and {how.count - dense} RAS steps over 72 tokens" in out
    assert f"none older than {planned.max_age} steps; the plan has the capacity for {least}" in out
    assert out.count("dense: warm-up") == how.ras.warmup
    assert out.count("dense: reset") == len(how.ras.resets_of(how.count))
    assert max(len(line) for line in out.splitlines()[:31]) <= 80 and "…" not in out
    code, _, err = flagdit("plan", "--tokens", 0)
    assert code == 2 and "tokens is 0" in err
    code, _, err = flagdit("plan")
    assert code == 2 and "give either --tokens or --bundle" in err
    code, _, err = flagdit("plan", "--tokens", 64, "--size", "32x32")
    assert code == 2 and "--size 32x32 needs --bundle" in err


def test_a_long_plan_groups_equal_steps(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, "--steps", 1000, "--mode", "paper", "--size", "64x64")
    first, *lines = (line.split() for line in out.split("\n\n")[0].splitlines())
    assert code == 0 and first == ["step", "t", "tokens", "computed", "why", "FLOPs"]
    assert [line[0] for line in lines] == ["0-3", "4-11", "12", "13-21", "22", "23-999"]


def test_plan_prices_steps_and_caches(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    """FLOPs of every step, over all of its evaluations, and bytes, as in the report of a run."""
    options = ("--bundle", bundle_dir, "--steps", 9, "--ratio", 0.25, "--solver", "heun")
    flagdit("generate", PROMPT, *options, "--report", "r.json")
    report = json.loads(Path("r.json").read_text())
    code, out, _ = flagdit("plan", *options, "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["cache_bytes"], plan["max_age"]) == (report["cache_bytes"], report["max_age"])
    assert plan["flop_ratio"] == pytest.approx(report["flop_ratio"], rel=1e-3)  # of 32 text tokens, and of the prompt's
    assert sum(step["flops"] for step in plan["steps"]) == pytest.approx(plan["flops"])
    shares = [step["flops"] / plan["steps"][0]["flops"] for step in plan["steps"]]
    assert shares == pytest.approx([step["active"] / plan["tokens"] for step in plan["steps"]])
    assert [bool(step["why"]) for step in plan["steps"]] == [step["dense"] for step in report["steps"]]
    assert {"", "warm-up"} <= {step["why"] for step in plan["steps"]}
    code, out, _ = flagdit("plan", "--tokens", 64, "--json")
    assert code == 0 and json.loads(out)["flops"] is None


def test_forecast_keys_and_values(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    """The option reaches the run, and plan says what it keeps."""
    options = ("--bundle", bundle_dir, "--steps", 6, "--ratio", 0.25, "--forecast-kv", 0.5)
    code, out, _ = flagdit("plan", *options)
    assert code == 0 and "caches   keys and values forecast by 0.5 of the way" in out
    flagdit("generate", PROMPT, *options, "--report", "r.json")
    report = json.loads(Path("r.json").read_text())
    _, out, _ = flagdit("plan", *options, "--json")
    assert report["ras"]["forecast_kv"] == 0.5 and report["cache_bytes"] == json.loads(out)["cache_bytes"]
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--dense", "--forecast-kv", 0.5)
    assert code == 2 and "dense and forecast_kv contradict each other; give one of them" in err


def test_plan_says_why_a_step_is_dense() -> None:
    ras = RasConfig(ratio=[1.0] * 3 + [0.5] * 3 + [1.0] + [0.5] * 3, warmup=1, resets=(4,), end=8)
    outlook = Outlook(make_plan(ras, 10, 72, pinned=8), ras, "euler", None)
    whys = ["warm-up", "planned", "planned", "", "reset", "", "planned", "", "", "after the end"]
    assert [outlook.why(step) for step in outlook.plan.steps] == whys
    for ratio, why in ((1.0, "planned"), (0.99, "nothing to cache")):
        ras = RasConfig(ratio=ratio, warmup=0, resets=())
        outlook = Outlook(make_plan(ras, 4, 8), ras, "euler", None)
        assert {outlook.why(step) for step in outlook.plan.steps} == {why}


@pytest.mark.parametrize(("value", "text"), [(8.8e9, "8.80 G"), (115e9, "115 G"), (2.5e13, "25.0 T"), (17, "17 ")])
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text
