"""`flagdit calibrate`: what it chooses from, how it fits, and that its plans are what the bundle then samples with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from presets import SPEC

from flagdit.engine import Bundle, OutputError, Pipeline
from flagdit.engine.bundle import Preset as PresetSpec
from flagdit.engine.calibrate import fit as fitting
from flagdit.engine.calibrate import merged, plans, split
from flagdit.engine.calibrate.search import SLACK, cost, shapes
from flagdit.engine.calibrate.space import NUMBERS, Shape, bounded, plain, preset_of, start
from flagdit.engine.commands import calibrate as calibrating
from flagdit.engine.commands.common import read_prompts
from flagdit.engine.plan import Plan
from flagdit.engine.presets import Preset, of_spec
from flagdit.export.cli import read_examples
from flagdit.files import check

SOUGHT = {"effort": 0, "regions": True}
PROMPTS = ["a red apple", "a book", "a house", "a red book", "a blue house", "an apple"]


def plan_of(how: Preset) -> Plan:
    return how.plan(72, 8)


@pytest.mark.parametrize("shape", [Shape(1, 1), Shape(2, 2), Shape(9, 9), Shape(12, 4, 0.5, 0.25)], ids=str)
def test_what_it_begins_with_is_ab2_on_a_shifted_grid(shape: Shape) -> None:
    fitted, own = plan_of(preset_of(shape, start(shape))), plan_of(plain(shape, 4.0))
    assert [step.active for step in fitted.steps] == [step.active for step in own.steps]
    for mine, known in zip(fitted.evaluations, own.evaluations, strict=True):
        assert (mine.t, mine.dt) == pytest.approx((known.t, known.dt))
        if mine.step > 0:  # the first step has no slope to go along
            assert mine.bend == pytest.approx(known.bend)


def test_a_slope_of_0_is_euler() -> None:
    shape = Shape(6, 6)
    fitted, own = plan_of(preset_of(shape, start(shape, 3.0, 0.0))), plan_of(plain(shape, 3.0, "euler"))
    assert not any(e.bend for e in fitted.evaluations)
    for mine, known in zip(fitted.evaluations, own.evaluations, strict=True):
        assert (mine.t, mine.dt) == pytest.approx((known.t, known.dt))


@given(
    steps=st.integers(1, 40),
    warmup=st.integers(1, 40),
    ratio=st.floats(0.1, 1),
    last=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_numbers_make_a_plan(steps: int, warmup: int, ratio: float, last: bool, data: st.DataObject) -> None:
    shape = Shape(steps, warmup, ratio, ratio / 2, last)
    numbers = np.array([data.draw(st.floats(-9, 9)) for _ in start(shape)])
    plan = plan_of(preset_of(shape, numbers))
    assert len(plan.steps) == steps
    assert sum(step.dense for step in plan.steps) >= min(warmup, steps)
    assert np.array_equal(bounded(bounded(numbers)), bounded(numbers))


def test_numbers_are_fewer_than_pictures() -> None:
    """What guards against fitting the pictures instead of the model."""
    assert len(NUMBERS) < plans.BETTER // 2


def test_a_fit_finds_what_pictures_were_made_with() -> None:
    """Pictures that bend with the numbers: from its start it comes back to those that the exact ones have."""
    rng = np.random.default_rng(0)
    first = start(Shape(4, 4))
    maps = rng.standard_normal((2, 3, 4, 4, len(first)))

    def paint(numbers: np.ndarray) -> np.ndarray:
        return np.tanh(0.3 * maps @ (numbers - first) + 0.2).astype(np.float32)

    truth = bounded(first + 0.1 * rng.standard_normal(len(first)))
    calls = []
    found = fitting.fit(first, paint, paint(truth), rounds=12, progress=lambda: calls.append(1))
    assert found.psnr > fitting.mean_psnr(paint(first), paint(truth)) + 20
    np.testing.assert_allclose(found.numbers, truth, atol=0.02)
    assert 1 <= len(calls) <= 12


def test_a_fit_never_loses_and_survives_plans_that_run_off() -> None:
    first = start(Shape(4, 4))
    exact = np.zeros((1, 3, 4, 4), np.float32)

    def paint(numbers: np.ndarray) -> np.ndarray:
        return np.full_like(exact, 0.5 if np.array_equal(numbers, first) else np.nan)

    found = fitting.fit(first, paint, exact, rounds=3)
    assert np.array_equal(found.numbers, first) and found.psnr == pytest.approx(10 * np.log10(4 / 0.25))


@pytest.mark.parametrize("budget", [0.03, 0.13, 0.33, 0.65, 1.5])
def test_shapes_keep_to_the_budget(pipeline: Pipeline, budget: float) -> None:
    def cost_of(shape: Shape) -> float:
        return cost(pipeline.spec, preset_of(shape, start(shape)))

    found = shapes(budget, cost_of)
    assert found[0] == Shape(max(int(30 * (budget + SLACK)), 1), found[0].steps) and found[0].dense
    assert len(set(found)) == len(found)
    for shape in found[1:]:
        assert not shape.dense and cost_of(shape) <= budget + SLACK


def test_prompts_are_split() -> None:
    chosen, held = split([str(i) for i in range(130)])
    assert len(chosen) == len(held) == 48 and not set(chosen) & set(held)
    assert split("abcde") == (["a", "b"], ["c", "d", "e"])


def test_prompts_of_an_editor_that_marks_utf_8(tmp_path: Path) -> None:
    """Its mark is no part of the first of them."""
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfa red apple\r\n\r\n# those:\r\na book\r\n")
    assert read_prompts(tmp_path / "prompts.txt") == ["a red apple", "a book"]
    assert read_examples(tmp_path / "prompts.txt") == ("a red apple", "a book")


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy to write into, and prompts beside it."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_command(flagdit, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Plans are written, work, cost what they say, and a run that was stopped goes on where it was."""
    options = (bundle, "--prompts", "prompts.txt", "--effort", 1, "--threads", 1)
    search, searched = plans.search, []

    def watched(budget: float, *arguments: object, **named: object):  # type: ignore[no-untyped-def]
        searched.append(budget)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return search(budget, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(plans, "search", watched)
    assert flagdit("calibrate", *options, "--budget", ".13,.2")[0] != 0
    assert Bundle.load(bundle).model.presets == ()
    code, out, err = flagdit("calibrate", *options, "--budget", ".13,.2")
    assert code == 0, err
    assert searched == [0.13, 0.2, 0.2] and "draft" in out and "fast" in out
    assert not (bundle / ".calibration").exists()

    pipeline = Pipeline.load(bundle, threads=1)
    draft, fast = pipeline.spec.presets
    assert (draft.name, fast.name, draft.size) == ("draft", "fast", (32, 32))
    assert draft.psnr.keys() == {"chosen", "held_out", "dense"}
    assert draft.psnr["held_out"] >= draft.psnr["dense"] - 0.01
    report = pipeline("a book", preset="draft").report
    assert [step.t for step in report.steps] == pytest.approx(list(draft.times[:-1]))
    assert report.flop_ratio * len(report.steps) / 30 == pytest.approx(draft.cost, abs=0.002)
    code, _, err = flagdit("generate", "a book", "--bundle", bundle, "--preset", "fast")
    assert code == 0, err


def test_presets_of_other_names_and_sizes_stay(flagdit, bundle: Path) -> None:  # type: ignore[no-untyped-def]
    options = (bundle, "--prompts", "prompts.txt", "--effort", 0, "--threads", 1)
    for more in (("--budget", ".13"), ("--budget", ".1"), ("--budget", ".1", "--size", "48x16")):
        code, _, err = flagdit("calibrate", *options, *more)
        assert code == 0, err
    pipeline = Pipeline.load(bundle, threads=1)
    assert [(p.name, p.size) for p in pipeline.spec.presets] == [
        ("cost-0.1", (48, 16)),
        ("cost-0.1", (32, 32)),
        ("draft", (32, 32)),
    ]
    wide, square, _ = pipeline.spec.presets
    assert pipeline.presets((48, 16))["cost-0.1"] == of_spec(wide)
    assert pipeline.presets()["cost-0.1"] == of_spec(square)
    assert merged(pipeline.spec.presets, [wide]) == pipeline.spec.presets


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "the bundle has no examples; give prompts of its kind with --prompts FILE"),
        (("--prompts", "no.txt"), "no.txt: there is no such file"),
        (("--prompts", "few.txt"), "there are 2 prompts; give at least 4"),
        (("--prompts", "prompts.txt", "--budget", "much"), "budget 'much' is not a list of costs"),
        (("--prompts", "prompts.txt", "--budget", "0"), "budget is 0; allowed are .03"),
        (("--prompts", "prompts.txt", "--size", "33x32"), "33x32 is not made of 4x4 patches"),
        (("--prompts", "long.txt"), "the prompt has 52 tokens; allowed are 12"),
    ],
)
def test_refuses(flagdit, bundle: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "few.txt").write_text("a book\na house\n")
    (tmp_path / "long.txt").write_text("\n".join([*PROMPTS, "a " * 50]))
    before = (bundle / "manifest.json").read_bytes()
    code, _, err = flagdit("calibrate", bundle, *options)
    assert code == 2 and message in " ".join(err.split())
    assert (bundle / "manifest.json").read_bytes() == before and not (bundle / ".calibration").exists()


def test_dense_plans_alone_compete_when_asked_to(flagdit, bundle: Path) -> None:  # type: ignore[no-untyped-def]
    """The strongest rival of a plan with regions: dense steps whose numbers are fitted as well."""
    options = (bundle, "--prompts", "prompts.txt", "--effort", 0, "--threads", 1, "--budget", ".4", "--no-regions")
    code, _, err = flagdit("calibrate", *options)
    assert code == 0, err
    (preset,) = Bundle.load(bundle).model.presets
    assert len(preset.times) == 1 + 12 and set(preset.ratios) <= {1.0} and not preset.forecast_kv


def test_a_journal_that_says_nothing_is_passed_over(pipeline: Pipeline, tmp_path: Path) -> None:
    """Cut short, of another calibration, or of another version."""
    calibration = plans.Calibration(pipeline, PROMPTS, None, guidance=4.0, folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    preset, about = json.loads(SPEC.model_dump_json()), calibration._about
    kept = {"about": about, "done": {"draft": {**SOUGHT, "preset": preset}}}

    def known(content: str) -> PresetSpec | None:
        (folder / "journal.json").write_text(content)
        return calibration.known("draft", SOUGHT)

    assert known(json.dumps(kept)) == SPEC
    assert calibration.known("draft", {**SOUGHT, "effort": 1}) is None
    assert calibration.known("draft", {**SOUGHT, "regions": False}) is None
    assert known("{") is None
    assert known(json.dumps({**kept, "about": ["other"]})) is None
    for done in ({"preset": preset}, {**SOUGHT, "preset": {**preset, "noise": "numpy"}}, SOUGHT, 3, None):
        assert known(json.dumps({**kept, "done": {"draft": done}})) is None


def test_each_calibration_keeps_its_own(pipeline: Pipeline, tmp_path: Path) -> None:
    """One that ends takes nothing of another that goes on beside it, or was stopped."""
    one = plans.Calibration(pipeline, PROMPTS, None, guidance=4.0, folder=tmp_path / "kept")
    one.remember("draft", {**SOUGHT, "preset": json.loads(SPEC.model_dump_json())})
    other = plans.Calibration(pipeline, PROMPTS, (48, 16), guidance=4.0, folder=tmp_path / "kept")
    other.remember("fast", {**SOUGHT, "preset": {}})
    other.forget()
    assert one.known("draft", SOUGHT) == SPEC and other.known("fast", SOUGHT) is None
    one.forget()
    assert not (tmp_path / "kept").exists()


def test_presets_go_into_the_manifest_as_it_is_by_then(bundle: Path) -> None:
    """What others wrote meanwhile stays, and another model gets none of them."""
    before = Bundle.load(bundle)
    calibrating.write_presets(before, [SPEC.model_copy(update={"name": "meanwhile"})])
    calibrating.write_presets(before, [SPEC])
    assert [preset.name for preset in Bundle.load(bundle).model.presets] == ["meanwhile", "sharp"]
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["model"]["weights"]["sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OutputError, match="holds another model by now than the presets are of; calibrate it anew"):
        calibrating.write_presets(before, [SPEC])


def test_a_bundle_that_cannot_be_written_is_refused_first(  # type: ignore[no-untyped-def]
    flagdit, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the hours that a calibration may take; the folder of an earlier one may be there."""

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    (bundle / ".calibration").mkdir()
    monkeypatch.setattr(check, "create", refuse)
    monkeypatch.setattr(plans, "Painter", None)
    code, _, err = flagdit("calibrate", bundle, "--prompts", "prompts.txt", "--budget", ".1", "--effort", 0)
    assert code == 2 and "cannot be written (Permission denied)" in err and "a copy of the bundle" in err
