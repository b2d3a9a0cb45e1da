"""All of RasConfig on the command line: `--ras KEY=VALUE`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from presets import SHARP

from flagdit.engine import DENSE, PRESETS, RasConfig, RequestError, make_plan
from flagdit.engine.commands.common import Mode
from flagdit.engine.commands.ras import format_value, groups, meanings, parse_ras
from flagdit.engine.commands.sampling import sampling
from flagdit.engine.presets import Preset, falling
from flagdit.engine.resolve import Options, resolve

PROMPT = "a red apple on a blue background"
PLAIN = (None, None, None, None, Mode.corrected, None)
EVERY: dict[str, list[Any]] = {
    "ratio": [0.5, 1e-5, [0.5, 0.25, 1.0]],
    "ratio_end": [0.125, None],
    "warmup": [3],
    "resets": [(-1,), (12, 22), (), None],
    "metric": ["std", "l2", "change", None],
    "high_ratio": [0.5, None],
    "starvation": [0.2],
    "max_age": [9, None],
    "bucket": [8],
    "mode": ["paper", "corrected"],
    "skip_step": [-16],
    "skip_every": [4],
    "end": [20, None],
    "forecast": [0, 1, 2],
    "forecast_clamp": [0.25],
    "forecast_norm": [True, False],
    "forecast_kv": [0.5, [0.0, 0.5]],
    "dilation": [0.5],
    "error_budget": [0.05],
    "gate": [0.01],
    "guidance_every": [2],
    "guidance_warmup": [3, None],
    "rest_text": [True, False],
}


def test_every_field_is_read_as_what_it_is() -> None:
    """And from what `format_value` makes of it, in the type that Python would have."""
    assert EVERY.keys() == asdict(RasConfig()).keys()
    for name, values in EVERY.items():
        for value in values:
            (said,) = parse_ras([f"{name}={format_value(value)}"])[0].values()
            assert said == value and type(said) is type(value)


def test_keys_may_be_written_as_options_are() -> None:
    assert parse_ras(["forecast-kv= .5", " max_age =7"]) == ({"forecast_kv": 0.5, "max_age": 7}, False)
    assert parse_ras(["forecast-norm=On", "defaults"]) == ({"forecast_norm": True}, True)


def test_every_field_has_a_meaning_and_a_meaning_a_field() -> None:
    """The docstring of RasConfig is where they come from."""
    named = [name for names in meanings() for name in names.split(", ")]
    assert sorted(named) == sorted(field.name for field in fields(RasConfig))
    assert meanings()["max_age"].endswith("Paper mode has no such bound.")


def test_documents_group_the_fields_as_the_help_does() -> None:
    text = (Path(__file__).parents[1] / "docs" / "ras.md").read_text()
    table = text[text.index("| question |") : text.index("`--ras help`")].splitlines()[2:]
    written = [re.findall(r"`(\w+)`", line.split(" | ")[1]) for line in table if line]
    assert written == [[name for names in group for name in names.split(", ")] for group in groups().values()]


def test_help_lists_all(flagdit) -> None:  # type: ignore[no-untyped-def]
    for command in ("generate", "plan"):
        code, out, err = flagdit(command, "--ras", "help")
        text = " ".join(out.split())
        assert code == 0 and err == ""
        assert all(f"{field.name}=" in text for field in fields(RasConfig))
        assert "dense steps at the start" in text and "true or false" in text and "one of std, l2, change" in text


BAD = {
    "warmpu=3": "ras has no 'warmpu'; did you mean warmup? flagdit generate --ras help lists the fields",
    "colour=3": "ras has no 'colour'; flagdit generate --ras help",
    "warmup": "ras 'warmup' is not KEY=VALUE; for instance --ras warmup=3",
    "warmup=three": "ras warmup is 'three'; allowed: a whole number;",
    "warmup=3.5": "ras warmup is '3.5'; allowed: a whole number;",
    "warmup=none": "ras warmup is 'none'; allowed: a whole number;",
    "ratio=half": "ras ratio is 'half'; allowed: a number, or numbers with commas, one for every step, or none;",
    "ratio=nan": "ras ratio is 'nan'",
    "ratio=.5,": "ras ratio is '.5,'",
    "gate=inf": "ras gate is 'inf'",
    "resets=1.5": "ras resets is '1.5'; allowed: whole numbers with commas",
    "metric=std2": "ras metric is 'std2'; allowed: one of std, l2, change, or none;",
    "forecast=3": "ras forecast is '3'; allowed: one of 0, 1, 2;",
    "forecast_norm=2": "ras forecast_norm is '2'; allowed: true or false;",
}


@pytest.mark.parametrize("text", BAD)
def test_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_ras([text])
    assert str(error.value).startswith(BAD[text]) and "\n" not in str(error.value)


TWICE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ras says warmup twice": ({}, ["warmup=3", "warmup=4"]),
    "error_budget is said twice, by --error-budget and --ras": ({"error_budget": 0.1}, ["error_budget=0.2"]),
    "guidance_every is said twice": ({"guidance_every": 2}, ["guidance_every=3"]),
    "ratio is said twice": ({"ratio": "0.5"}, ["ratio=0.25"]),
    "ratio is said twice, by an option of its own": ({"ratio": "0.5"}, ["ratio=0.25,0.5"]),
    "ratio_end is said twice": ({"ratio": "0.5:0.25"}, ["ratio_end=0.2"]),
    "schedule is said twice": ({"schedule": "8/4"}, ["skip_step=8"]),
    "mode is said twice": ({"mode": Mode.paper}, ["mode=corrected"]),
    "dense and ratio contradict": ({"dense": True}, ["ratio=0.5"]),
    "dense and warmup contradict": ({"dense": True}, ["warmup=2"]),
    "paper mode and a preset contradict": ({"preset": "fast"}, ["mode=paper"]),
    "ras and ratio contradict each other: all of ras": ({"ratio": "0.5"}, ["defaults", "warmup=2"]),
    "dilation is of steps that leave patches out, and here all are dense": ({"preset": "fast"}, ["dilation=0.5"]),
    "warmup is of steps that leave patches out": ({"preset": "fast"}, ["warmup=2"]),
}


def how(ras: list[str], presets: dict[str, Preset] | None = None, **options: Any) -> Preset:
    named = dict(zip(("preset", "steps", "solver", "ratio", "mode", "schedule"), PLAIN, strict=True))
    return resolve(sampling(**(named | options), ras=ras), presets or dict(PRESETS))  # type: ignore[arg-type]


@pytest.mark.parametrize("message", TWICE)
def test_what_is_said_twice_or_against_each_other_is_refused(message: str) -> None:
    options, ras = TWICE[message]
    with pytest.raises(RequestError) as error:
        how(ras, **options)
    assert str(error.value).startswith(message)


def test_options_of_the_same_thing_are_the_same() -> None:
    """Whether by an option of their own or by name, on every preset."""
    presets = {**PRESETS, "sharp": SHARP}
    for preset in presets:
        assert how(["ratio=0.5"], presets, preset=preset) == how([], presets, preset=preset, ratio="0.5")
        falling = how(["ratio_end=.2", "ratio=0.5"], presets, preset=preset)
        assert falling == how([], presets, preset=preset, ratio="0.5:0.2")
        assert falling == how(["ratio-end=.2"], presets, preset=preset, ratio="0.5")
        assert how(["skip_step=8", "skip_every=2"], presets, preset=preset) == how(
            [], presets, preset=preset, schedule="8/2"
        )
    assert how(["mode=paper", "ratio=0.5"]) == how([], mode=Mode.paper, ratio="0.5")
    assert how(["mode=paper", "warmup=2"]).ras == replace(how([], mode=Mode.paper).ras, warmup=2)  # no ratio is said


def test_defaults_are_pythons() -> None:
    """`--ras defaults` and fields are RasConfig of those fields, whatever the preset."""
    assert how(["defaults", "ratio=0.5", "resets=-1"]).ras == RasConfig(0.5, resets=(-1,))
    assert how(["defaults"]).ras == resolve(Options(ras=RasConfig())).ras == RasConfig()
    assert how(["defaults", "ratio=1"], preset="quality") == replace(PRESETS["quality"], ras=DENSE, shift=1.0)


def test_other_fields_change_themselves_alone() -> None:
    """A preset's weights hold as long as its steps compute what they did."""
    base = how([], {"balanced": SHARP})
    assert base.weights and base.ras == SHARP.ras
    for ras, kept in ((["dilation=0.5"], True), (["bucket=4"], True), (["end=3"], False), (["resets="], False)):
        changed = how(ras, {"balanced": SHARP})
        assert bool(changed.weights) is kept
        assert changed.steps == base.steps and changed.solver == base.solver


def shares(how: Preset) -> list[float]:
    plan = make_plan(how.ras, how.steps, 1000, pinned=0, shift=how.shift or 1.0, solver=how.solver, weights=how.weights)
    return [step.active / 1000 for step in plan.steps]


LISTED = Preset(8, "ab2", RasConfig(ratio=[1, 1, 1, 0.5, 0.4, 1, 0.25, 1], warmup=3, resets=()))


@pytest.mark.parametrize(
    ("ras", "expected"),
    [
        ([], [1, 1, 1, 0.5, 0.4, 1, 0.25, 1]),
        (["warmup=1"], [1, 0.5, 0.5, 0.5, 0.4, 1, 0.25, 1]),
        (["warmup=5"], [1, 1, 1, 1, 1, 1, 0.25, 1]),
        (["resets=4"], [1, 1, 1, 0.5, 1, 0.4, 0.25, 0.25]),
        (["resets="], [1, 1, 1, 0.5, 0.4, 0.4, 0.25, 0.25]),
        (["warmup=1", "resets=-1"], [1, 0.5, 0.5, 0.5, 0.4, 0.4, 0.25, 1]),
        (["end=5"], [1, 1, 1, 0.5, 0.4, 1, 1, 1]),
        (["ratio=1,.5,.5,.5,1,1,.2,.2"], [1, 0.5, 0.5, 0.5, 1, 1, 0.2, 0.2]),
        (["ratio=1,.5,.5,.5,1,1,.2,.2", "warmup=3"], [1, 1, 1, 0.5, 1, 1, 0.2, 0.2]),
        (["ratio=.3", "warmup=2"], [1, 1, 0.3, 0.3, 0.3, 1, 0.3, 1]),
    ],
)
def test_dense_steps_are_those_that_are_said(ras: list[str], expected: list[float]) -> None:
    """In a preset that has a ratio for each of its steps too, where a smaller warm-up would else do nothing."""
    assert shares(how(ras, {"balanced": LISTED})) == pytest.approx(expected)


def test_a_scalar_preset_takes_them_as_they_are() -> None:
    base = {"balanced": Preset(10, "ab2", falling(4, 0.6, 0.3))}
    changed = how(["warmup=2", "ratio_end=0.1", "max-age=9"], base).ras
    assert changed == replace(base["balanced"].ras, warmup=2, ratio_end=0.1, max_age=9)


def test_it_arrives_in_runs_and_plans(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ras = ("--ras", "warmup=2", "--ras", "resets=", "--ras", "ratio=0.25", "--ras", "metric=l2")
    options = ("--bundle", bundle_dir, "--steps", 5, *ras)
    code, _, err = flagdit("generate", PROMPT, *options, "--report", "r.json")
    assert code == 0, err
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["ras"]["metric"], report["ras"]["ratio"]) == ("l2", 0.25)
    assert [step["dense"] for step in report["steps"]] == [True, True, False, False, False]
    code, out, _ = flagdit("plan", *options, "--json")
    assert code == 0
    assert [step["active"] for step in json.loads(out)["steps"]] == [step["active"] for step in report["steps"]]
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--ras", "warmpu=2")
    assert code == 2 and "did you mean warmup?" in err and err.count("\n") == 1
