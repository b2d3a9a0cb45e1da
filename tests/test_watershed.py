"""Lumina-Next beyond its training size: placed by a linear scale, then by theta, as diffusers' own pipeline does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise import noise_of
from pipelines import CASES, flagdit, write_bundle
from test_whole_pipelines import PROMPTS, expected

from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.model import model_of

TIMES = [0.0, 0.12, 0.2, 0.31, 0.45, 0.6, 0.8, 1.0]
SIZES = [(32, 32), (28, 16), (16, 48)]  # of latents, where the training's is 16x16: factors of 2, 1.32 and 1.73
CASE = CASES["next-dit"]
Made = tuple[Any, Path, Pipeline]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """diffusers' pipeline, the folder with `model` and `bundle`, and that loaded."""
    folder = tmp_path_factory.mktemp("watershed")
    theirs = write_bundle(CASE, folder)
    return theirs, folder, Pipeline.load(folder / "bundle", threads=1)


def size_of(width: int, height: int) -> tuple[int, int]:
    return width * CASE.downscale, height * CASE.downscale


def close(found: Any, wanted: Any) -> bool:
    return bool(np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("proportional", "guidance"), [(True, 2.5), (False, 2.5), (True, 1.0)])
def test_larger_pictures_are_diffusers(made: Made, size: tuple[int, int], proportional: bool, guidance: float) -> None:
    """Two of unequal captions at once. Without a switch, or a factor, they would be others."""
    theirs, _, ours = made
    noise = np.concatenate([noise_of(i, (1, 4, size[1], size[0])) for i in range(2)])
    options: dict[str, Any] = {"proportional_attn": proportional, "times": TIMES}
    wanted, linear, early = (
        expected(CASE, theirs, PROMPTS, noise, guidance, **options, scaling_watershed=time)[0]
        for time in (0.3, 1, 0.15)
    )
    result = ours(
        prompts=PROMPTS,
        size=size_of(*size),
        steps=TIMES,
        solver="euler",
        guidance=guidance,
        ras=DENSE,
        ntk="auto",
        proportional=proportional,
    )
    assert result.report.ntk == pytest.approx(np.sqrt(size[0] * size[1]) / 16)
    assert close(result.latents, wanted)
    assert not close(wanted, linear) and not close(wanted, early)


def other(folder: Path, into: Path, **fields: Any) -> Pipeline:
    """The same model with other fields in `model.json`."""
    shutil.copytree(folder / "model", into / "model")
    path = into / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    build_bundle(into / "model", into / "bundle")
    return Pipeline.load(into / "bundle", threads=1)


def test_regions_come_close_across_the_switch(made: Made, tmp_path: Path) -> None:
    """To dense steps, and not to those of a model that never switches, or switches elsewhere."""
    _, folder, ours = made
    options: dict[str, Any] = {"size": size_of(32, 24), "steps": 16, "guidance": 2.5, "ntk": "auto", "seed": 1}
    dense = ours(PROMPTS[0], ras=DENSE, **options)
    regions = ours(PROMPTS[0], ras=RasConfig(0.9, warmup=3, resets=(-1,)), **options)
    extra = [step.index for step in regions.report.steps if step.active == 192][3:-1]
    assert len(extra) == 1 and dense.report.times[extra[0]] >= 0.3 > dense.report.times[extra[0] - 1]
    away = np.std(regions.latents - dense.latents)
    for number, phases in enumerate(([0.0], [0.0, 0.0], [0.0, 0.7])):
        without = other(folder, tmp_path / str(number), phases=phases)(PROMPTS[0], ras=DENSE, **options)
        assert 0 < 1.5 * away < np.std(without.latents - dense.latents)


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_solvers_of_two_evaluations(made: Made, solver: str) -> None:
    """A step's two velocities are of one phase: the same as all computed by hand in two runs."""
    _, _, ours = made
    options: dict[str, Any] = {"size": size_of(24, 24), "steps": TIMES, "guidance": 2.5, "solver": solver}
    dense = ours(PROMPTS[0], ras=DENSE, ntk="auto", **options)
    regions = ours(PROMPTS[0], ras=RasConfig(0.999, warmup=1, resets=()), ntk="auto", **options)
    np.testing.assert_allclose(regions.latents, dense.latents, atol=0.02 * np.abs(dense.latents).max())


def test_at_the_training_size_nothing_changes(made: Made) -> None:
    """No step is dense for it, and there is no other picture."""
    _, _, ours = made
    options: dict[str, Any] = {"steps": 12, "ras": RasConfig(0.5, warmup=2, resets=())}
    plain, auto, one = (ours(PROMPTS[0], ntk=ntk, **options) for ntk in (None, "auto", 1))
    assert plain.report.steps[3].active < plain.report.steps[0].active
    for result in (auto, one):
        np.testing.assert_array_equal(result.latents, plain.latents)
        assert [step.active for step in result.report.steps] == [step.active for step in plain.report.steps]


def test_a_plan_shows_the_step(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`flagdit plan` as the run: what it is dense for, and what that costs."""
    _, folder, _ = made
    said = ["--bundle", folder / "bundle", "--size", "256x256", "--steps", 10, "--ratio", 0.5, "--ras", "warmup=2"]
    capsys.readouterr()
    shown = []
    for ntk in ("off", "auto"):
        flagdit("plan", *said, "--ntk", ntk, "--json")
        shown.append(json.loads(capsys.readouterr().out))
    why = [step["index"] for step in shown[1]["steps"] if step["why"] == "tokens placed anew"]
    assert len(why) == 1 and not shown[0]["steps"][why[0]]["dense"]
    report = tmp_path / "report.json"
    flagdit("generate", PROMPTS[0], *said, "--ntk", "auto", "-o", tmp_path / "a.png", "--report", report)
    told = json.loads(report.read_text())
    assert [step["active"] for step in told["steps"]] == [step["active"] for step in shown[1]["steps"]]
    assert told["expected_speedup"] == pytest.approx(shown[1]["expected_speedup"], rel=0.01)
    assert shown[1]["expected_speedup"] < shown[0]["expected_speedup"]
    with pytest.raises(
        RequestError, match=r"ntk is 0\.5; allowed are 'auto', a factor of 1 to 10000, and None \(off\)"
    ):
        model_of(Pipeline.load(folder / "bundle").spec).ntk(0.5)


@pytest.mark.parametrize(
    ("phases", "told"), [((), [0.0, 0.3]), (("--phases", "0"), None), (("--phases", "0,0.5"), [0.0, 0.5])]
)
def test_an_export_says_when(tmp_path: Path, made: Made, phases: tuple[str, ...], told: list[float] | None) -> None:
    """By default as the official code does."""
    flagdit("export", made[1] / "saved", "-o", tmp_path / "model", "--size", "16x16", "--alone", *phases)
    spec = json.loads((tmp_path / "model" / "model.json").read_text())
    assert spec.get("phases") == told and spec["ntk_power"] == 0.5
