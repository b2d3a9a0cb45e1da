"""The whole path: against torch, and against what must not change a picture."""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import by_hand
import numpy as np
import pytest
import torch
from noise import noise_of
from reference import sample
from shuffled import Shuffled
from tiny import TINY, random_flag_dit

from flagdit.cpp_ext import Evaluation, Plan, Sampler, Session
from flagdit.engine import DENSE, Pipeline, RasConfig, RequestError
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.request import Request
from flagdit.engine.run import Run
from flagdit.export import ExportOptions, FlagDiT, export_model

PROMPT = "a red apple on a blue background"


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def features(pipeline: Pipeline, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    text, mask = pipeline.stages.text.encode(prompts)
    return torch.from_numpy(text), torch.from_numpy(mask)


def test_dense_run_is_torchs(pipeline: Pipeline, flag_dit: FlagDiT) -> None:
    """30 steps with guidance against the independent implementation in torch, same weights, same noise."""
    result = pipeline(PROMPT, seed=7, steps=30, solver="euler", ras=DENSE)
    noise = torch.from_numpy(noise_of(7, (1, 3, 32, 32)))
    text, mask = features(pipeline, [PROMPT, ""])
    with torch.no_grad():
        expected = sample(flag_dit.state_dict(), noise, text, mask, 4, np.linspace(0, 1, 31).tolist(), guidance=4.0)
    assert expected.abs().max() > 0.5
    assert difference(result.latents, expected.numpy()) < 1e-4


def test_ratio_one_is_dense(pipeline: Pipeline) -> None:
    dense, full = (pipeline(PROMPT, steps=12, ras=ras) for ras in (DENSE, RasConfig(ratio=1.0, warmup=0)))
    np.testing.assert_array_equal(dense.latents, full.latents)


def test_ras_changes_the_picture_but_little_when_it_caches_little(pipeline: Pipeline) -> None:
    """A run that caches a ninth is closer to dense than one that caches 75 %, and neither equals it."""
    dense = pipeline(PROMPT, ras=DENSE).latents
    little, much = (difference(pipeline(PROMPT, ras=RasConfig(ratio=r)).latents, dense) for r in (0.85, 0.25))
    assert 0 < little < much


@pytest.mark.parametrize("ratio", [0.5, 0.125])
def test_unchanged_input_is_a_fixed_point(pipeline: Pipeline, ratio: float) -> None:
    """With input and time unchanged, a RAS step after a dense one returns the dense velocities."""
    run = pipeline.start(Request([PROMPT], [3], 10, None, 4.0, 1.0, RasConfig(ratio=ratio, resets=())))
    layout, evaluations = run.layout, len(run.plan.evaluations)
    fixed, changing = by_hand.conditions(pipeline, [PROMPT, ""], [0.2])
    placed, shared = by_hand.places(pipeline, layout)
    stays = Plan(
        steps=run.plan.steps,
        evaluations=[Evaluation(e.step, e.t, 0.0, 0.0, e.last) for e in run.plan.evaluations],  # nothing moves
        tokens=run.plan.tokens,
        pinned=run.plan.pinned,
        max_age=run.plan.max_age,
        keeps=run.plan.keeps,
    )
    sampler = Sampler(
        pipeline.stages.denoise,
        layout,
        stays,
        constant=fixed | shared,
        timed={name: np.repeat(x, evaluations, axis=0) for name, x in changing.items()},
        placed=placed,
        guidance=np.full(layout.patch_values, 4, np.float32),
        start=noise_of(3, (1, 3, 32, 32)),
    )
    dense: dict[int, np.ndarray] = {}
    for step in run.plan.steps:
        assert sampler.step().step == step
        state = sampler.state
        seen = {int(state["token"][slot, 0]): state["output"][slot].copy() for slot in range(step.active)}
        dense = dense or seen
        assert len(seen) == (72 if step.dense else 8 + int(np.ceil(64 * ratio)))
        assert max(difference(v, dense[token]) for token, v in seen.items()) < 1e-5
        state["score"][:, 0] = np.random.default_rng(step.index).random(layout.tokens)


@pytest.mark.parametrize("options", [{}, {"solver": "ab2", "ras": RasConfig(forecast=1)}])
def test_the_order_of_slots_does_not_matter(pipeline: Pipeline, options: dict) -> None:
    """Nothing in a graph knows which slot a token is in; and a session may be written in Python."""
    expected = pipeline(PROMPT, seed=1, **options).latents
    shuffled = copy(pipeline)
    shuffled.stages = replace(pipeline.stages, denoise=cast(Session, Shuffled(pipeline.stages.denoise)))
    assert difference(shuffled(PROMPT, seed=1, **options).latents, expected) < 5e-5  # sums in another order


def test_a_batch_is_its_pictures(pipeline: Pipeline) -> None:
    prompts, seeds = [PROMPT, "green star", "a book"], [4, 0, 11]
    batch = pipeline(prompts=prompts, seeds=seeds)
    assert len(batch.images) == 3
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = pipeline(prompt, seed=seed)
        np.testing.assert_array_equal(batch.latents[i], alone.latents[0])
        np.testing.assert_array_equal(batch.refreshes[i], alone.refreshes[0])


@pytest.mark.parametrize("size", [(48, 16), (16, 48), (4, 4), (36, 20)])
def test_any_size_that_tiles(pipeline: Pipeline, flag_dit: FlagDiT, size: tuple[int, int]) -> None:
    width, height = size
    dense = pipeline(PROMPT, size=size, steps=4, solver="euler", ras=DENSE)
    assert dense.image.size == size
    noise = torch.from_numpy(noise_of(0, (1, 3, height, width)))
    with torch.no_grad():
        expected = sample(
            flag_dit.state_dict(), noise, *features(pipeline, [PROMPT, ""]), 4, [0, 0.25, 0.5, 0.75, 1], 4.0
        )
    assert difference(dense.latents, expected.numpy()) < 1e-4
    ras = pipeline(PROMPT, size=size, ras=RasConfig(ratio=0.5))
    assert ras.refreshes.shape == (1, height // 4, width // 4)
    assert ras.refreshes.min() >= 6  # the dense steps at least


@pytest.mark.slow
@pytest.mark.parametrize("patch", [1, 2, 8])
def test_any_patch_size(tmp_path: Path, text_encoder: Path, patch: int) -> None:
    config = replace(TINY, patch_size=patch, n_kv_heads=2, in_channels=4, learn_sigma=True)
    model = random_flag_dit(config)
    options = ExportOptions(size=(16, 8), dtype="float32", text_encoder=text_encoder, max_text_tokens=12)
    export_model(model, tmp_path / "model", options)
    build_bundle(tmp_path / "model", tmp_path / "bundle")
    pipeline = Pipeline.load(tmp_path / "bundle", threads=1)
    result = pipeline(PROMPT, steps=6, solver="euler", ras=DENSE)
    noise = torch.from_numpy(noise_of(0, (1, 4, 8, 16)))
    with torch.no_grad():
        times = np.linspace(0, 1, 7).tolist()
        expected = sample(model.state_dict(), noise, *features(pipeline, [PROMPT, ""]), patch, times, 4.0)
    assert difference(result.latents, expected.numpy()) < 1e-4
    pipeline(PROMPT, ras=RasConfig(ratio=0.5))


def test_guidance_is_the_models_unless_it_is_said(flag_dit: FlagDiT, text_encoder: Path, tmp_path: Path) -> None:
    options = ExportOptions(size=(32, 32), text_encoder=text_encoder, max_text_tokens=12, guidance=2.5)
    export_model(flag_dit, tmp_path / "model", options)
    build_bundle(tmp_path / "model", tmp_path / "bundle")
    pipeline = Pipeline.load(tmp_path / "bundle")
    own, same, other = (
        pipeline(PROMPT, steps=2, ras=DENSE, **said) for said in ({}, {"guidance": 2.5}, {"guidance": 4})
    )
    assert own.report.guidance == 2.5
    assert difference(own.latents, same.latents) == 0 < difference(own.latents, other.latents)


def test_without_guidance_one_row_is_enough(pipeline: Pipeline) -> None:
    """A guidance of 1 is the conditional prediction, so its other branch is not run at all."""
    single, nearly = (pipeline(PROMPT, steps=8, guidance=g, ras=DENSE) for g in (1.0, 1.0 + 1e-6))
    assert single.report.cache_bytes < nearly.report.cache_bytes
    assert difference(single.latents, nearly.latents) < 1e-4


EVERYTHING = RasConfig(
    0.2,
    ratio_end=0.1,
    forecast=2,
    forecast_norm=True,
    dilation=0.5,
    error_budget=0.1,
    gate=0.05,
    bucket=4,
    guidance_every=2,
)
every_option = pytest.mark.parametrize("ras", [RasConfig(), EVERYTHING], ids=["default", "everything"])


@every_option
def test_same_seed_same_bytes(pipeline: Pipeline, ras: RasConfig) -> None:
    first, again, other = (pipeline(PROMPT, seed=seed, ras=ras) for seed in (5, 5, 6))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_memory_of_the_run_before_leaves_nothing_behind(bundle_dir: Path) -> None:
    """A run takes up the last one's memory, whose size is another; what that one returned stays as it was."""
    forecasts, plain = RasConfig(ratio=0.5, warmup=2, forecast_kv=0.5), RasConfig(ratio=0.25, warmup=1)
    after = Pipeline.load(bundle_dir, threads=1)
    first = after("word2", steps=6, seed=5, size=(24, 32), ras=forecasts)
    kept = first.latents.copy(), first.ages.copy()
    for ras, size in ((plain, (16, 16)), (forecasts, (24, 32)), (plain, (24, 32))):
        fresh = Pipeline.load(bundle_dir, threads=1)("word1", steps=6, seed=3, size=size, ras=ras)
        again = after("word1", steps=6, seed=3, size=size, ras=ras)
        assert np.array_equal(again.latents, fresh.latents)
        assert np.array_equal(again.ages, fresh.ages)
    assert np.array_equal(first.latents, kept[0])
    assert np.array_equal(first.ages, kept[1])


@every_option
def test_threads_share_a_pipeline(pipeline: Pipeline, ras: RasConfig) -> None:
    seeds = range(4)
    expected = [pipeline(PROMPT, seed=seed, ras=ras).latents for seed in seeds]
    got: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        got[seed] = pipeline(PROMPT, seed=seed, ras=ras).latents

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in seeds:
        np.testing.assert_array_equal(got[seed], expected[seed])


def test_previews_end_in_the_picture(pipeline: Pipeline) -> None:
    seen = []
    result = pipeline(PROMPT, steps=9, on_step=lambda p: seen.append((p.timed.step.index, p.images[0])))
    assert [index for index, _ in seen] == list(range(9))
    assert seen[-1][1].tobytes() == result.image.tobytes()
    assert seen[0][1].tobytes() != result.image.tobytes()


def test_report_agrees_with_the_run(pipeline: Pipeline) -> None:
    result = pipeline(PROMPT, seed=2, steps=30, ras=RasConfig(ratio=0.25))
    report = result.report
    patches_computed = sum(step.active - report.pinned for step in report.steps)
    assert result.refreshes.sum() == patches_computed
    assert [step.index for step in report.steps if step.dense] == [0, 1, 2, 3, 12, 22]
    computed = sum(step.active for step in report.steps) / (30 * report.tokens)
    assert report.flop_ratio == pytest.approx(computed)
    assert report.expected_speedup == pytest.approx(1 / computed)
    stages = {"text_encoder", "condition", "allocate", "denoise", "host", "decode"}
    assert set(report.seconds) == stages | {"total"}
    assert report.seconds["total"] == pytest.approx(sum(report.seconds[stage] for stage in stages))
    assert report.seconds["denoise"] + report.seconds["host"] == pytest.approx(sum(s.seconds for s in report.steps))


def test_no_region_is_older_than_promised(pipeline: Pipeline) -> None:
    ages = []
    run = pipeline.start(Request([PROMPT], [0], 30, None, 4.0, 1.0, RasConfig(ratio=0.125, starvation=0.5, max_age=7)))
    for _ in run:
        ages.append(run.state["age"].max())
    assert run.plan.max_age == 7 == max(ages)


def test_an_unfinished_run_has_no_result(pipeline: Pipeline) -> None:
    run: Run = pipeline.start(Request([PROMPT], [0], 5, None, 4.0, 1.0, DENSE))
    next(iter(run))
    with pytest.raises(RequestError, match="stopped after 1 of 5 steps"):
        run.result()
