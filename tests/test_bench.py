"""`flagdit bench`: what it measures, on a tiny model; and the presets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flagdit.engine import PRESETS, Pipeline, RasConfig, RequestError
from flagdit.engine.bench import FAMILIES, Entry, Setting, measure, settings
from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.grids import SHIFTS, climb
from flagdit.engine.bench.measure import psnr, ssim
from flagdit.engine.bench.plot import front
from flagdit.engine.bench.settings import dense, dense_runs
from flagdit.engine.commands.bench import PROMPTS, QUICK, show
from flagdit.engine.plan import make_plan
from flagdit.engine.presets import Preset
from flagdit.engine.ras import DENSE

PROMPT = "a red apple"


def test_psnr_is_of_pixels_in_their_range() -> None:
    """An error of .02 everywhere, of a range of 2, is 40 dB; values out of the range are clipped first."""
    exact = np.full((2, 3, 16, 16), 0.5, np.float32)
    np.testing.assert_allclose(psnr(exact + np.float32(0.02), exact), 40, atol=1e-3)
    np.testing.assert_allclose(psnr(np.full_like(exact, 3), np.ones_like(exact)), 100)


def test_ssim_is_one_for_the_same_picture_only() -> None:
    exact = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(ssim(exact, exact), 1)
    assert (ssim(exact[::-1], exact) < 0.5).all()


def test_the_first_setting_is_the_measure_of_the_others() -> None:
    chosen = settings()
    assert chosen[0].how == Preset(30, "euler", DENSE)
    assert {setting.family for setting in chosen} == set(FAMILIES)
    assert len({setting.name for setting in chosen}) == len(chosen)


def test_rows_compare_with_dense(pipeline: Pipeline) -> None:
    """A setting that is the dense one again costs the same and paints the same picture."""
    ras = RasConfig(ratio=0.25)
    chosen = [settings()[0], Setting("again", "dense", dense(30)), Setting("ras", "flagdit", Preset(15, "heun", ras))]
    *_, entries = measure(pipeline, chosen, [PROMPT] * 3, batch=2)
    first, again, sparse = entries
    assert (first.cost, first.time, first.denoise) == (1, 1, 1)
    assert (again.cost, again.psnr, again.ssim) == (1, first.psnr, first.ssim)
    plan = make_plan(ras, 15, 72, pinned=8, solver="heun")
    evaluated = sum(plan.steps[e.step].active for e in plan.evaluations) / (72 * 30)
    assert sparse.cost == pytest.approx(evaluated, rel=1e-6)
    assert 0 < sparse.host < 1 and sparse.cache_bytes > first.cache_bytes / 2


def test_more_measures_are_averaged_over_pictures(pipeline: Pipeline) -> None:
    chosen = [settings()[0]]

    def count(pictures: np.ndarray, exact: np.ndarray, first: int) -> dict[str, np.ndarray]:
        assert pictures.shape == exact.shape
        return {"count": np.full(len(pictures), len(pictures)), "first": np.full(len(pictures), first)}

    *_, [entry] = measure(pipeline, chosen, [PROMPT] * 3, batch=2, extra=count)
    assert entry.extra == {"count": pytest.approx((2 + 2 + 1) / 3), "first": pytest.approx((0 + 0 + 2) / 3)}


def test_exact_pictures_are_kept(pipeline: Pipeline, tmp_path: Path) -> None:
    """Each under what it was made of: another prompt, seed, size or guidance scale makes another."""
    folder = tmp_path / "made" / "here"
    made = ExactPictures(pipeline, None, 4.0, folder=folder)([PROMPT] * 2, 5)
    assert made.shape[0] == 2 and not np.array_equal(made[0], made[1])
    files = sorted(folder.iterdir())
    assert len(files) == 2
    again = ExactPictures(pipeline, pipeline.spec.latent.size, 4.0, folder=folder)
    np.testing.assert_array_equal(again([PROMPT], 6)[0], made[1])
    marked = np.zeros_like(made[0])
    for file in files:
        np.save(file, marked)
    np.testing.assert_array_equal(again([PROMPT] * 2, 5), np.stack([marked] * 2))  # nothing is made again
    files[0].write_bytes(files[0].read_bytes()[:200])
    np.save(files[1], made[:, 0])
    np.testing.assert_array_equal(again([PROMPT] * 2, 5), made)  # what is no picture is
    for other in (([PROMPT], 7), (["a rocket"], 5)):
        again(*other)
    ExactPictures(pipeline, None, 3.0, folder=folder)([PROMPT], 5)
    ExactPictures(pipeline, (32, 64), 4.0, folder=folder)([PROMPT], 5)
    assert len(list(folder.iterdir())) == 6


def entry(time: float, quality: float) -> Entry:
    return Entry("", "dense", 1, "euler", time, time, time, 0, 1, quality, 0, 1, 0)


@pytest.mark.parametrize("start", range(8))
def test_the_best_shift_is_climbed_to(start: int) -> None:
    """From anywhere, asking no place twice; where it is level, it stays."""
    for top in range(8):
        asked: list[int] = []

        def height(place: int, top: int = top, asked: list[int] = asked) -> float:
            asked.append(place)
            return -abs(place - top)

        assert climb(height, start, 8) == top
        assert len(asked) == len(set(asked)) and set(asked) <= set(range(8))
    assert climb(lambda place: 0.0, start, 8) == start


def test_the_front_leaves_out_what_is_beaten() -> None:
    good = [entry(0.1, 10), entry(0.5, 20), entry(0.9, 21)]
    assert front([*good, entry(0.6, 19), entry(0.5, 15), entry(1.0, 21)]) == good


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_plans_of_any_size(name: str) -> None:
    """... that compute less than dense runs of as many steps, and keep the promise about ages."""
    preset = PRESETS[name]
    for tokens, pinned in ((72, 8), (272, 16), (4160, 64)):
        plan = make_plan(preset.ras, preset.steps, tokens, pinned=pinned, solver=preset.solver)
        assert sum(step.active for step in plan.steps) <= tokens * len(plan.steps)
        assert 0 <= plan.max_age < preset.count


def test_presets_yield_to_what_is_said(pipeline: Pipeline) -> None:
    plain = pipeline(PROMPT).report
    assert (len(plain.steps), plain.solver) == (PRESETS["balanced"].steps, "ab2")
    assert len(pipeline(PROMPT, preset="fast").report.steps) == PRESETS["fast"].steps
    said = pipeline(PROMPT, preset="fast", steps=5, solver="euler", ras=DENSE).report
    assert (len(said.steps), said.solver, said.flop_ratio) == (5, "euler", 1)
    assert pipeline(PROMPT, ras=RasConfig(mode="paper"), steps=5).report.solver == "euler"
    with pytest.raises(RequestError, match="preset is 'best'; allowed are quality, balanced, fast"):
        pipeline(PROMPT, preset="best")


def test_command(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outputs = ("--json", "bench.json", "--plot", "pareto.png", "--keep", "exact")
    code, out, err = flagdit("bench", bundle_dir, "--quick", "--first", 2, *outputs)
    assert code == 0, err
    assert "  balanced " in out and "\nRAS as published\n" in out
    assert max(len(line) for line in out.splitlines()) < 80 and "…" not in out
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert len(list((tmp_path / "exact").iterdir())) == 2
    assert facts["prompts"] == 2 and facts["rows"][0]["name"] == "dense 30"
    assert set(facts["shifts"]) == {f"{n} {solver}" for solver, n in dense_runs(QUICK)}
    assert set(facts["shifts"].values()) <= set(SHIFTS)
    assert {"device", "onnxruntime", "weights", "peak_memory_bytes"} <= facts.keys()
    with Image.open(tmp_path / "pareto.png") as picture:
        assert picture.width > 600


def test_a_grid_of_ones_own(flagdit, bundle_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """--shift is that of all dense steps; --times are more of them, beside their family."""
    options = ("--shift", 3, "--times", "0,.1,.3,.6,1", "--json", "bench.json")
    code, out, err = flagdit("bench", bundle_dir, "--quick", "--first", 1, *options)
    assert code == 0, err
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert set(facts["shifts"].values()) == {3}
    entries = {entry["name"]: entry for entry in facts["rows"]}
    assert list(entries)[2:6] == ["dense 30, ab2", "dense 14, ab2", "dense 6, ab2", "dense, own times"]
    assert out.count("dense, fewer ab2 steps") == 1 and "  dense, own times " in out
    exact = ExactPictures(pipeline, None, 4.0)(PROMPTS[:1], 0)
    for name, options in (
        ("dense 6", {"steps": 6, "shift": 3.0, "solver": "euler"}),
        ("dense 6, ab2", {"steps": 6, "shift": 3.0}),
        ("dense, own times", {"steps": (0, 0.1, 0.3, 0.6, 1)}),
    ):
        made = pipeline(PROMPTS[0], ras=DENSE, **options).latents
        assert entries[name]["psnr"] == pytest.approx(float(psnr(made, exact)[0]))


@pytest.mark.parametrize("near", [9.5, 100.0])
def test_names_of_presets_fit_into_the_table(capsys: pytest.CaptureFixture[str], near: float) -> None:
    """The longest that a manifest may hold, and figures in all their digits."""
    name = "n" * 32
    show([Entry(name, "flagdit", 9, "ab2", 0.123, 0.987, 1, 1, 1.01, near, 0.25, 0.5, 10**9)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    figures = ["0.12", "0.99", "1.01", "100%", f"{near:.1f}", "±", "0.2", "0.500", "953.7"]
    assert lines[2].split() == [name, *figures]


def test_nothing_is_painted_for_a_prompt_that_comes_too_late(pipeline: Pipeline) -> None:
    """... and too long, or for a setting that is the last and cannot be."""
    painted: list[str] = []

    class Watched(ExactPictures):
        def __call__(self, prompts: Sequence[str], first: int) -> np.ndarray:
            painted.extend(prompts)
            return super().__call__(prompts, first)

    exactly, chosen = Watched(pipeline, None, 4.0), [settings()[0]]
    with pytest.raises(RequestError, match=r"the prompt has \d+ tokens; allowed are 12"):
        next(measure(pipeline, chosen, [PROMPT, PROMPT, "a " * 50], batch=1, exactly=exactly))
    broken = Setting("half", "ab2", Preset((0.0, 0.5), "ab2", DENSE))
    with pytest.raises(RequestError, match=r"the times run from 0 to 0\.5"):
        next(measure(pipeline, [*chosen, broken], [PROMPT], batch=1, exactly=exactly))
    assert painted == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shift", "0"), "shift is 0.0; allowed are 0.1 to 100"),
        (("--times", "0,0.5"), "the times run from 0 to 0.5"),
        (("--prompts", "late.txt", "--keep", "exact"), "the prompt has 202 tokens; allowed are 12"),
        (("--prompts", "no.txt"), "no.txt: there is no such file"),
        (("--plot", "pareto.jpg"), "pareto.jpg: the name ends in '.jpg'; allowed are .png, .svg"),
        (("--size", "65x64"), "size 65x64 is not made of"),
        (("--size", "65x64", "--keep", "exact"), "size 65x64 is not made of"),
        (("--resume", "/dev/null/kept"), "/dev/null/kept: cannot be written (Not a directory)"),
        (("--keep", "/dev/null/exact"), "/dev/null/exact: cannot be written (Not a directory)"),
    ],
)
def test_refuses(flagdit, bundle_dir: Path, tmp_path: Path, options: tuple[str, str], message: str) -> None:  # type: ignore[no-untyped-def]
    late = tmp_path / "late.txt"
    late.write_text(f"{PROMPT}\n" * 8 + "a " * 200)  # behind those that the best grids are found by
    code, _, err = flagdit("bench", bundle_dir, "--quick", *options)
    assert code == 2 and message in " ".join(err.split())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [late]
