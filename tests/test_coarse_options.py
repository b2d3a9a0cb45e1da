"""Beginning coarse as an option: presets, manifests and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from flagdit.cpp_ext import flow_times
from flagdit.engine import DENSE, PRESETS, Coarse, Preset, RasConfig, RequestError
from flagdit.engine.bundle import Preset as PresetSpec
from flagdit.engine.presets import of_spec
from flagdit.engine.resolve import Options, resolve

PROMPT = "a red apple on a blue background"
SPEC: dict[str, Any] = {
    "name": "swift",
    "size": (128, 128),
    "times": (0.4, 0.6, 1.0),
    "weights": ((1, 0, 0), (1, 0.4, 0)),
    "ratios": (1.0, 0.5),
    "coarse": {"factor": 2, "times": (0.0, 0.3, 0.9)},
    "cost": 0.1,
}
SWIFT = Coarse(2, (0.0, 0.3, 0.9), None, 0.4, 0.9)


def test_a_calibrated_preset_may_begin_coarse() -> None:
    preset = of_spec(PresetSpec.model_validate(SPEC))
    assert preset.coarse == SWIFT and preset.steps == (0.4, 0.6, 1.0)
    assert preset.weights == ((1, 0, 0), (1, 0.4, 0))
    assert resolve(Options(preset="swift"), {"swift": preset}).coarse == SWIFT
    more = resolve(Options(preset="swift", steps=4), {"swift": preset})
    assert (more.coarse, more.steps, more.weights) == (SWIFT, 4, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coarse": None}, "the times begin at 0.4; allowed is 0, or above it after coarse steps"),
        ({"times": (0.0, 0.6, 1.0)}, "the times begin at 0; allowed is 0, or above it after coarse steps"),
        ({"coarse": {"factor": 1, "times": (0.0, 1.0)}}, "greater than or equal to 2"),
        ({"coarse": {"factor": 2, "times": (0.0, 1.5)}}, "less than or equal to 1"),
        ({"coarse": {"factor": 2, "times": (0.0,)}}, "at least 2 items"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match="validation error") as error:
        PresetSpec.model_validate({**SPEC, **change})
    assert message in str(error.value)


def test_a_preset_keeps_what_it_has_after_the_coarse_steps() -> None:
    """Of 16 even steps 8 begin at or after .5; of a grid with shift 3, which is at .5 after three quarters of it, 4."""
    half = Coarse(2, 6, until=0.5)
    balanced = resolve(Options(coarse=half))
    assert (balanced.coarse, balanced.steps, balanced.solver) == (half, 8, "ab2")
    assert (balanced.ras.ratio, balanced.ras.ratio_end, balanced.ras.warmup) == (0.5, 0.25, 3)
    assert resolve(Options(coarse=half), shift=3.0).steps == 4 == sum(t >= 0.5 for t in flow_times(16, 3.0)[:-1])
    assert resolve(Options(coarse=Coarse(2, until=0.99))).steps == 1
    own = {"own": Preset((0.0, 0.2, 0.5, 0.7, 1.0), "ab2", DENSE, weights=((1, 0, 0),) * 4)}
    kept = resolve(Options(preset="own", coarse=half), own)
    assert (kept.steps, kept.weights) == (2, ())


def test_what_is_said_of_steps_is_of_the_full_size() -> None:
    half = Coarse(2, 6, until=0.5)
    assert resolve(Options(coarse=half, steps=3, dense=True)).steps == 3
    assert resolve(Options(coarse=half, steps=(0.5, 0.8, 1.0))).steps == (0.5, 0.8, 1.0)


def test_a_factor_of_one_is_none() -> None:
    own = {"own": Preset(2, "ab2", DENSE, coarse=SWIFT), "balanced": PRESETS["balanced"]}
    assert resolve(Options(coarse=Coarse(1)), own) == resolve(Options(), own)
    assert resolve(Options(preset="own", coarse=Coarse(1), steps=9), own).coarse is None
    with pytest.raises(RequestError, match="preset 'own' has no steps from noise of its own; give steps"):
        resolve(Options(preset="own", coarse=Coarse(1)), own)


@pytest.mark.parametrize("options", [Options(mode="paper"), Options(ras=RasConfig(mode="paper"))])
def test_paper_mode_has_one_size(options: Options) -> None:
    with pytest.raises(RequestError, match="paper mode and coarse contradict each other; give one of them"):
        resolve(Options(mode=options.mode, ras=options.ras, coarse=Coarse()))


def test_generate(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--bundle", bundle_dir, "--coarse", "2:4:.5", "--steps", 3, "--size", "48x32", "-o", "a.png")
    code, _, err = flagdit("generate", PROMPT, *options, "--report", "r.json", "--map", "m.gif")
    assert code == 0, err
    assert "48x32, 7 steps" in err
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (48, 32) and json.loads(image.text["flagdit"])["coarse"]["steps"] == 4
    with Image.open(tmp_path / "m.gif") as animation:
        assert animation.n_frames == 7
    steps = json.loads((tmp_path / "r.json").read_text())["steps"]
    assert [step["size"] for step in steps] == [[24, 16]] * 4 + [[48, 32]] * 3
    assert [step["tokens"] for step in steps] == [28] * 4 + [104] * 3


def test_plan_shows_and_prices_coarse_steps(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--bundle", bundle_dir, "--coarse", "2:4:.5", "--steps", 3, "--dense")
    code, out, err = flagdit("plan", *options)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[2] for line in lines[1:8]] == ["20"] * 4 + ["72"] * 3
    assert sum("dense: coarse" in line for line in lines) == 4
    assert "coarse   4 dense steps over 20 tokens, then larger with noise" in out
    plan = json.loads(flagdit("plan", *options, "--json")[1])
    prices = [step["flops"] for step in plan["steps"]]
    assert [step["index"] for step in plan["steps"]] == list(range(7)) and plan["evaluations"] == 7
    assert [step["why"] for step in plan["steps"]][:4] == ["coarse"] * 4
    assert plan["flops"] == pytest.approx(sum(prices))
    assert plan["flop_ratio"] == pytest.approx(sum(prices) / (7 * prices[-1]))
    plain = json.loads(flagdit("plan", "--bundle", bundle_dir, "--steps", 3, "--dense", "--json")[1])
    assert prices[4:] == [step["flops"] for step in plain["steps"]] and plan["cache_bytes"] == plain["cache_bytes"]


def test_plan_without_a_bundle_counts_tokens(flagdit) -> None:  # type: ignore[no-untyped-def]
    plan = json.loads(flagdit("plan", "--tokens", 64, "--coarse", "4:6", "--steps", 2, "--dense", "--json")[1])
    assert [step["active"] for step in plan["steps"]] == [4] * 6 + [64] * 2
    assert plan["flop_ratio"] == pytest.approx((6 * 4 + 2 * 64) / (8 * 64))
    code, _, err = flagdit("plan", "--tokens", 66, "--coarse", 2)
    assert code == 2 and "66 tokens are no picture of 2 times the size" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--coarse", "half"), "coarse 'half' is not FACTOR[:STEPS[:UNTIL[:SHIFT[:END]]]]; for instance 2, or 2:10"),
        (("--coarse", "2:4:1.5"), "coarse is until 1.5"),
        (("--coarse", "32"), "the factor of coarse is 32; allowed are 2 to 16"),
        (("--coarse", "2", "--mode", "paper"), "paper mode and coarse contradict each other"),
        (("--coarse", "2:4:.5", "--times", "0,.5,1"), "allowed is 0.5 (where the coarse picture is noised to)"),
    ],
)
def test_refuses(flagdit, bundle_dir: Path, options: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    for command in (("plan",), ("generate", PROMPT)):
        code, _, err = flagdit(*command, "--bundle", bundle_dir, *options)
        assert code == 2 and message in " ".join(err.split())
