"""Presets of a bundle: what a manifest says of them, what becomes of it, and how it is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from presets import SHARP, SPEC, TIMES

from flagdit.engine import PRESETS, Bundle, BundleError, Coarse, Pipeline, RequestError, make_plan
from flagdit.engine.bundle import Manifest, ModelSpec, Preset
from flagdit.engine.bundle.reader import DEMO, MANIFEST, MODEL, read_spec
from flagdit.engine.coarse import full_span
from flagdit.engine.presets import of_spec, presets_of
from flagdit.engine.resolve import Options, resolve


def test_a_preset_of_a_manifest() -> None:
    assert (SHARP.steps, SHARP.count, SHARP.weights, SHARP.solver, SHARP.shift) == (TIMES, 5, SPEC.weights, "ab2", None)
    assert (SHARP.ras.ratio, SHARP.ras.warmup, SHARP.ras.resets) == ([1, 1, 0.5, 1, 0.25], 2, ())
    assert SHARP.ras.forecast_kv == [0, 0, 0.5, 0, 0.4]
    plan = make_plan(SHARP.ras, SHARP.steps, 64, weights=SHARP.weights)
    assert [step.active for step in plan.steps] == [64, 64, 32, 64, 16]
    assert [step.t for step in plan.steps] == list(TIMES[:-1]) and plan.damping == [0, 0, 0.5, 0, 0.4]
    full = of_spec(SPEC.model_copy(update={"ratios": (1.0,) * 5, "forecast_kv": (), "weights": ()}))
    assert (full.ras.ratio, full.ras.warmup, full.ras.forecast_kv, full.weights) == (1.0, 5, 0.0, ())
    assert Preset.model_validate_json(SPEC.model_dump_json()) == SPEC


COARSE: dict[str, Any] = {"factor": 2, "times": [0, 0.5, 1]}
LATE = [0.05, *TIMES[1:]]


def preset_json(**changes: Any) -> dict[str, Any]:
    return {**json.loads(SPEC.model_dump_json()), **changes}


@pytest.fixture(scope="module")
def calibrated(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a preset of its own, and one in place of flagdit's."""
    directory = Path(shutil.copytree(model_dir, tmp_path_factory.mktemp("calibrated") / "model"))
    return with_presets(directory, preset_json(), preset_json(name="fast", psnr={}))


def with_presets(directory: Path, *presets: dict[str, Any]) -> Path:
    spec = json.loads((directory / MODEL).read_text())
    (directory / MODEL).write_text(json.dumps({**spec, "presets": presets}))
    return directory


def test_a_bundle_keeps_its_presets(flagdit, calibrated: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for source, target in ((calibrated, "one"), ("one", "two")):
        code, _, err = flagdit("build", source, "-o", target)
        assert code == 0, err
    spec = Bundle.load("two").model
    assert [preset.name for preset in spec.presets] == ["sharp", "fast"] and spec.presets[0] == SPEC
    found = presets_of(spec)
    assert set(found) == {*PRESETS, "sharp"}
    assert found["sharp"] == found["fast"] == SHARP and found["quality"] == PRESETS["quality"]
    code, out, _ = flagdit("inspect", "two")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0 and "preset size steps cost chosen others dense" in lines
    assert any(line.startswith("sharp 32x32 5") and line.endswith("0.125 31.2 dB - 29.5 dB") for line in lines), lines
    assert any(line.startswith("fast 32x32 5") and line.endswith("0.125 - - -") for line in lines), lines
    code, out, _ = flagdit("plan", "--bundle", "two", "--preset", "sharp")
    whys = [line.split("dense: ")[1].split()[0] if "dense: " in line else "RAS" for line in out.splitlines()[1:6]]
    assert code == 0 and whys == ["warm-up", "warm-up", "RAS", "planned", "RAS"]
    assert "weights  every step has its own, in place of those of ab2" in out
    assert "caches   keys and values forecast by 0.4 to 0.5 of the way to the step's time" in out
    code, _, err = flagdit("generate", "a red apple", "--bundle", "two", "--preset", "sharp", "--report", "r.json")
    assert code == 0, err
    assert [step["t"] for step in json.loads((tmp_path / "r.json").read_text())["steps"]] == list(TIMES[:-1])
    code, _, err = flagdit("generate", "a red apple", "--bundle", "two", "--preset", "best")
    assert code == 2 and "preset is 'best'; allowed are sharp, fast, quality, balanced" in err


def test_a_pipeline_samples_as_its_bundle_says(flagdit, calibrated: Path) -> None:  # type: ignore[no-untyped-def]
    flagdit("build", calibrated, "-o", "bundle")
    pipeline = Pipeline.load("bundle", threads=1)
    whole = pipeline("a red apple", preset="sharp")
    plain = pipeline("a red apple", preset="sharp", solver="ab2")  # what is said leaves the weights out
    assert whole.report.flop_ratio == plain.report.flop_ratio
    assert (whole.latents != plain.latents).any()


def test_a_bundle_without_presets_lists_none(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("inspect", bundle_dir)
    assert code == 0 and "preset" not in out


@pytest.mark.parametrize("size", [(0, 32), (-32, 32), (33, 32)])
def test_presets_of_a_size_that_cannot_be(calibrated: Path, size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=r"is not made of 4x4 patches"):
        presets_of(read_spec(calibrated / MODEL, ModelSpec), size)


@pytest.mark.parametrize("changes", [{"steps": 1}, {"steps": 20}, {"shift": 2.0}, {"coarse": Coarse(2)}])
def test_options_change_each_preset_of_the_demo(changes: dict[str, Any]) -> None:
    spec = read_spec(DEMO / MANIFEST, Manifest).model
    presets = presets_of(spec)
    for name in presets:
        how = resolve(Options(preset=name, **changes), presets, spec.flow.shift)
        plan = make_plan(
            how.ras, how.steps, 264, pinned=8, shift=how.shift or spec.flow.shift, span=full_span(how.coarse)
        )
        assert plan.steps[0].dense and not how.weights


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"ratios": [1, 0.5]}, "presets.0", "ratios are 2, and there are 5 steps"),
        ({"weights": [[1, 0, 0]]}, "presets.0", "weights are 1, and there are 5 steps"),
        ({"forecast_kv": [0.5] * 6}, "presets.0", "forecast_kv are 6, and there are 5 steps"),
        ({"ratios": [1, 1, 0.5, 1, 1.5]}, "presets.0.ratios.4", "is 1.5; allowed are numbers above 0.0 to 1.0"),
        ({"times": [0]}, "presets.0.times", "has 1 entries; allowed are 2 to 1001"),
        ({"times": [0, 0.1, 0.2, 0.2, 0.6, 1]}, "presets.0.times", "the times are not in order: 0.2 is after 0.2"),
        ({"times": [0, 0.1, 0.5, 0.35, 0.6, 1]}, "presets.0.times", "the times are not in order: 0.35 is after 0.5"),
        ({"times": [0, 0.1, 0.2, 0.35, 0.6, 0.9]}, "presets.0", "the times end at 0.9; allowed is 1"),
        ({"times": [0, 0.1, 0.2, 0.35, 0.6, "soon"]}, "presets.0.times.5", "is no number"),
        ({"ratios": [0.5, 1, 0.5, 1, 0.25]}, "presets.0", "the first ratio is 0.5; allowed is 1"),
        (
            {"weights": [[1, 0, 0]] * 4 + [[1, 0, 101]]},
            "presets.0.weights.4.2",
            "allowed are numbers from -100.0",
        ),
        ({"cost": 0}, "presets.0.cost", "is 0.0; allowed are numbers above 0.0"),
        (
            {"times": [2, 3, 4, 5, 6, 1], "coarse": COARSE},
            "presets.0.times.0",
            "is 2.0; allowed are numbers from 0.0",
        ),
        (
            {"times": LATE, "coarse": {**COARSE, "times": [0.1, 1]}},
            "presets.0.coarse",
            "the times begin at 0.1; allowed",
        ),
        (
            {"times": LATE, "coarse": {**COARSE, "times": [0, 0]}},
            "presets.0.coarse.times",
            "not in order: 0 is after 0",
        ),
        ({"name": "Sharp!"}, "presets.0.name", "is no name of a preset: a-z, 0-9"),
        ({"psnr": {"seen": 30}}, "presets.0.psnr.seen", "allowed are chosen, held_out, dense"),
        ({"solver": "ab2"}, "presets.0.solver", "is not known"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused(  # type: ignore[no-untyped-def]
    flagdit, bundle_dir: Path, tmp_path: Path, changes: dict[str, Any], place: str, message: str
) -> None:
    directory = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["model"]["presets"] = [preset_json(**changes)]
    (directory / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as error:
        Bundle.load(directory)
    assert f"model.{place}" in str(error.value) and message in str(error.value)
    assert flagdit("inspect", directory)[0] == 2


def test_a_preset_that_is_there_twice_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    """Or the last of them would be taken, and nobody told."""
    directory = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["model"]["presets"] = [preset_json(), preset_json(size=[64, 32]), preset_json(cost=0.2)]
    (directory / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"model.presets: .*'sharp' for 32x32 is there twice or more"):
        Bundle.load(directory)
