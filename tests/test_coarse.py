"""Runs that begin with a smaller picture: against torch and Pillow, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from noise import noise_of
from PIL import Image
from reference import sample
from tiny import TINY, assert_refused

from flagdit.cpp_ext import Session, coarse_noise, flow_times, upsample
from flagdit.engine import DENSE, Coarse, Pipeline, RasConfig, RequestError
from flagdit.engine.media import animation
from flagdit.engine.request import Request
from flagdit.engine.times import times_of
from flagdit.export import FlagDiT

PROMPT = "a red apple on a blue background"
SMALL = Coarse(2, 5, None, 0.5)


def pillows(images: np.ndarray, factor: int) -> np.ndarray:
    """Images (B, C, H, W) enlarged by Pillow, a channel at a time."""
    size = images.shape[3] * factor, images.shape[2] * factor
    flat = [Image.fromarray(x).resize(size, Image.Resampling.BICUBIC) for x in images.reshape(-1, *images.shape[2:])]
    return np.stack([np.asarray(x) for x in flat]).reshape(*images.shape[:2], size[1], size[0])


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(7, 9), (1, 3), (2, 1), (4, 4)])
def test_enlarges_as_pillow_does(factor: int, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32)
    np.testing.assert_allclose(upsample(images, factor), pillows(images, factor), rtol=0, atol=3e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_noise_of_both_sizes_is_one_picture(factor: int) -> None:
    """What a smaller picture begins with is normal, and the block means of what the full one does."""
    noise = np.stack([noise_of(seed, (3, 256, 128)) for seed in range(4)])
    small = coarse_noise(noise, factor)
    blocks = noise.astype(np.float64).reshape(4, 3, 256 // factor, factor, 128 // factor, factor).mean((3, 5))
    np.testing.assert_allclose(small, factor * blocks, rtol=0, atol=1e-5)
    error = small.size**-0.5
    assert abs(small.mean()) < 5 * error and abs(small.var() - 1) < 5 * 2**0.5 * error
    assert abs((small[..., 1:] * small[..., :-1]).mean()) < 5 * error


def test_a_part_of_the_grid_is_cut_out() -> None:
    np.testing.assert_allclose(times_of(4, 1.0, (0.6, 1.0)), [0.6, 0.7, 0.8, 0.9, 1.0], rtol=0, atol=1e-12)
    whole = flow_times(10, 3.0)
    for first, last in ((4, 10), (0, 7), (3, 5)):
        cut = times_of(last - first, 3.0, (whole[first], whole[last]))
        np.testing.assert_allclose(cut, whole[first : last + 1], rtol=0, atol=1e-12)
        assert (cut[0], cut[-1]) == (whole[first], whole[last])


def start_of_torch(flag_dit: FlagDiT, text: Any, coarse: Coarse, noise: np.ndarray) -> np.ndarray:
    """What the full size starts from: the smaller run by torch, its estimate, Pillow's enlargement, noise."""
    b, c, h, w = noise.shape
    f, state = coarse.factor, flag_dit.state_dict()
    means = noise.astype(np.float64).reshape(b, c, h // f, f, w // f, f).mean((3, 5))
    assert coarse.shift is not None and isinstance(coarse.steps, int)
    times = times_of(coarse.steps, coarse.shift, (0.0, coarse.end))
    small = torch.from_numpy((f * means).astype(np.float32))
    end = sample(state, small, *text, 4, times, 4.0, "ab2")
    if coarse.end < 1:  # these steps are even, so that fewer of them are the same
        before = sample(state, small, *text, 4, times[:-1], 4.0, "ab2")
        velocity = (sample(state, before, *text, 4, times[-2:], 4.0, "euler") - before) / (times[-1] - times[-2])
        end = end + (1 - coarse.end) * velocity
    picture = pillows(end.numpy(), f)
    return coarse.until * picture + (1 - coarse.until) * noise


@pytest.mark.parametrize("coarse", [Coarse(2, 6, 2.0, 0.55), Coarse(2, 4, 1.0, 0.7, 0.8), Coarse(4, 3, 1.5, 0.3)])
@pytest.mark.parametrize("solver", ["ab2", "heun"])
def test_dense_run_is_torchs(pipeline: Pipeline, flag_dit: FlagDiT, coarse: Coarse, solver: Any) -> None:
    """Both sizes against the independent implementation, with noise of its own and Pillow's enlargement."""
    size, times = (48, 32), (coarse.until, 0.8, 0.9, 1.0)
    result = pipeline(PROMPT, seed=7, size=size, steps=times, solver=solver, ras=DENSE, coarse=coarse)
    noise = noise_of(7, (1, 3, 32, 48))
    text = [torch.from_numpy(x) for x in pipeline.stages.text.encode([PROMPT, ""])]
    with torch.no_grad():
        start = torch.from_numpy(start_of_torch(flag_dit, text, coarse, noise).astype(np.float32))
        expected = sample(flag_dit.state_dict(), start, *text, 4, times, 4.0, solver).numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(result.latents, expected, rtol=0, atol=2e-4)
    plain = pipeline(PROMPT, seed=7, size=size, steps=3, solver=solver, ras=DENSE)
    assert np.abs(plain.latents - expected).max() > 0.1


def test_a_batch_is_its_pictures(pipeline: Pipeline) -> None:
    options: dict[str, Any] = {"coarse": SMALL, "steps": 8, "ras": RasConfig(0.4, warmup=2)}
    prompts, seeds = [PROMPT, "green star", "a book"], [4, 0, 2**63]
    batch = pipeline(prompts=prompts, seeds=seeds, **options)
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = pipeline(prompt, seed=seed, **options)
        np.testing.assert_array_equal(batch.latents[i], alone.latents[0])
        np.testing.assert_array_equal(batch.ages[:, i], alone.ages[:, 0])


def flops(active: int, tokens: int, text: int) -> float:
    """Of one evaluation of the tiny model, 3 layers of 48 with a feed-forward of 128, two rows, by hand."""
    matrices = 4 * 48 * 48 + 3 * 48 * 128
    return 2 * 2 * active * (3 * (matrices + 2 * (tokens + text) * 48) + 2 * 48 * 48)


def test_costs_add_up(pipeline: Pipeline) -> None:
    """5 steps over 4 x 5 tokens of 16x16, then 7 over 8 x 9 of 32x32; the caches are those of the larger."""
    assert pipeline.spec.sizes.hidden == 128 and TINY.dim == 48
    ras = RasConfig(0.5, warmup=2, resets=())
    result = pipeline(PROMPT, coarse=SMALL, steps=7, solver="ab2", ras=ras)
    report, text = result.report, pipeline.stages.text.encode([PROMPT])[0].shape[1]
    assert [(step.tokens, step.active, step.size) for step in report.steps] == (
        [(20, 20, (16, 16))] * 5 + [(72, 72, (32, 32))] * 2 + [(72, 8 + 32, (32, 32))] * 5
    )
    work = 5 * flops(20, 20, text) + 2 * flops(72, 72, text) + 5 * flops(40, 72, text)
    assert report.flop_ratio == pytest.approx(work / (12 * flops(72, 72, text)))
    assert report.expected_speedup == pytest.approx(1 / report.flop_ratio)
    assert report.evaluations == 12 and report.tokens == 72 and report.pinned == 8
    assert report.coarse == {"factor": 2, "steps": 5, "shift": None, "until": 0.5, "end": 1.0}
    plain = pipeline(PROMPT, steps=7, solver="ab2", ras=ras).report
    assert report.cache_bytes == plain.cache_bytes and plain.coarse is None
    assert [step.t for step in report.steps[5:]] == pytest.approx(np.linspace(0.5, 1, 8)[:-1].tolist())


def test_ages_and_previews_are_of_the_full_size(pipeline: Pipeline) -> None:
    seen = []
    options: dict[str, Any] = {"size": (48, 32), "steps": 6, "ras": RasConfig(0.25, warmup=1, resets=())}
    result = pipeline(PROMPT, coarse=SMALL, on_step=lambda p: seen.append((p.index, p.total, p.images[0])), **options)
    assert [(index, total) for index, total, _ in seen] == [(i, 11) for i in range(11)]
    assert {image.size for _, _, image in seen} == {(48, 32)}
    assert seen[-1][2].tobytes() == result.image.tobytes()
    assert result.ages.shape == (11, 1, 8, 12)
    assert not result.ages[:6].any() and all(age.any() for age in result.ages[6:])
    assert [step.index for step in result.report.steps] == list(range(11))
    assert result.map().width > 800
    assert (
        len(animation.frames([image for *_, image in seen], result.ages[:, 0], result.report.steps, tokens=104)) == 11
    )


class Watched:
    """A session that writes down the times that it is given."""

    def __init__(self, session: Session) -> None:
        self.session, self.times = session, list[np.ndarray]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.times.append(inputs["t"].copy())
        return self.session.run(inputs)


def test_the_text_is_read_once(pipeline: Pipeline) -> None:
    watched, own = Watched(pipeline.stages.condition), copy(pipeline)
    own.stages = replace(pipeline.stages, condition=cast(Session, watched))
    own(PROMPT, coarse=SMALL, steps=2, ras=DENSE)
    assert len(watched.times) == 2  # the prompt, and none
    np.testing.assert_allclose(watched.times[0], [0, 0.2, 0.4, 0.6, 0.8, 0.5, 0.75], rtol=0, atol=1e-6)


def test_each_size_has_its_own_attention_and_positions(pipeline: Pipeline) -> None:
    """At 64x64 the theta of RoPE and the softmax change; over 2 that is the training size, where neither does."""
    request = {"size": (64, 64), "steps": 3, "ras": DENSE, "coarse": SMALL}
    seen: list[np.ndarray] = []
    for options in ({}, {"ntk": "auto", "proportional": True}):
        previews: list[np.ndarray] = []
        pipeline(PROMPT, on_step=lambda p, seen=previews: seen.append(np.asarray(p.images[0])), **request, **options)
        seen.append(np.stack(previews))
    np.testing.assert_array_equal(seen[0][:5], seen[1][:5])
    assert (seen[0][5:] != seen[1][5:]).any(axis=(1, 2, 3)).all()


def request() -> Request:
    return Request([PROMPT], [3], 3, None, 4.0, 1.0, DENSE, "ab2", coarse=SMALL)


def test_a_leg_has_a_state_of_its_own(pipeline: Pipeline) -> None:
    """That of the coarse one is freed, unless somebody still looks at it: then it stays as it was."""
    run = pipeline.start(request())
    steps = iter(run)
    next(steps)
    latent = run.state["latent"]
    assert latent.shape[0] == run.legs[0].layout.tokens
    for _ in range(4):
        next(steps)
    kept = latent.copy()
    next(steps)
    assert run.state["latent"].shape[0] == run.legs[1].layout.tokens
    np.testing.assert_array_equal(latent, kept)


def test_an_unfinished_run_has_no_result(pipeline: Pipeline) -> None:
    run = pipeline.start(request())
    steps = iter(run)
    for _ in range(6):
        next(steps)
    with pytest.raises(RequestError, match="stopped after 6 of 8 steps"):
        run.result()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "does not tile": (
        {"size": (48, 36), "coarse": Coarse(2)},
        "size 48x36 over 2 is not made of 4x4 patches; allowed for this size: 3; the nearest size is 48x32",
    ),
    "below a patch": ({"coarse": Coarse(16)}, "over 16 is not made of 4x4 patches; allowed for this size: 2, 4, 8"),
    "nothing tiles": ({"size": (4, 28), "coarse": Coarse(2)}, "no factor divides this size; the nearest size is 8x32"),
    "paper": ({"ras": RasConfig(mode="paper"), "coarse": SMALL}, "paper mode and coarse contradict each other"),
    "steps": ({"coarse": Coarse(2, 0)}, "steps is 0; allowed are 1 to 1000"),
    "shift": ({"coarse": Coarse(2, 4, 0.0)}, "shift is 0.0; allowed are 0.1 to 100"),
    "coarse times": (
        {"coarse": Coarse(2, (0.0, 0.5))},
        "the times run from 0 to 0.5; allowed is 0 (noise) to 1 (data)",
    ),
    "full times": (
        {"coarse": SMALL, "steps": [0.0, 0.5, 1.0]},
        "the times run from 0 to 1; allowed is 0.5 (where the coarse picture is noised to) to 1 (data)",
    ),
    "plain times": ({"steps": [0.5, 1.0]}, "the times run from 0.5 to 1; allowed is 0 (noise) to 1 (data)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused(pipeline: Pipeline, case: str) -> None:
    arguments, message = BAD[case]
    assert_refused(pipeline, {"prompt": "a", **arguments}, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 0}, "the factor of coarse is 0; allowed are 2 to 16, and 1 for none"),
        ({"factor": 1.5}, "the factor of coarse is 1.5"),
        ({"factor": 2.0}, "the factor of coarse is 2.0"),
        ({"factor": True}, "the factor of coarse is True"),
        ({"until": 0.0}, "coarse is until 0.0; allowed are times above 0 (noise) and below 1 (data)"),
        ({"until": 1.0}, "coarse is until 1.0"),
        ({"until": float("nan")}, "coarse is until nan"),
        ({"end": 0.0}, "the end of coarse is 0.0; allowed are times above 0 (noise) to 1 (data)"),
        ({"end": 1.1}, "the end of coarse is 1.1"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        Coarse(**arguments)
    assert message in str(error.value)
