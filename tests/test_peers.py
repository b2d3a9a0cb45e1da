"""The comparison with torch: what it samples is what flagdit does, and its rows compare the right things."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from noise import noise_of

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import peers
from peer_times import Peer, Picture, row
from torch_painter import TorchPainter, dense, precisions, seconds_of_a_step
from torch_sampling import Published, Task, sample_regions

from flagdit.engine import BackendError, Pipeline, RasConfig
from flagdit.engine.layout import TokenLayout
from flagdit.export import FlagDiT

AUTOCAST = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
PROMPT = "a red apple on a blue background"


def task_of(pipeline: Pipeline, size: tuple[int, int], seed: int, steps: int) -> Task:
    text, mask = (torch.from_numpy(x) for x in pipeline.stages.text.encode([PROMPT, ""]))
    noise = torch.from_numpy(noise_of(seed, (1, 3, size[1], size[0])))
    return Task(noise, text, mask, np.linspace(0, 1, steps + 1).tolist(), torch.full((3, 1, 1), 4.0))


@pytest.mark.parametrize(
    ("ratio", "steps", "size"),
    [(0.25, 30, (32, 32)), (0.5, 30, (32, 32)), (0.375, 12, (32, 32)), (0.25, 30, (48, 16)), (1.0, 6, (16, 32))],
)
def test_regions_are_flagdits_paper_mode(
    pipeline: Pipeline, flag_dit: FlagDiT, ratio: float, steps: int, size: tuple[int, int]
) -> None:
    """The same patches in every step, and the same latents."""
    ras = RasConfig(ratio=ratio, mode="paper")
    result = pipeline(PROMPT, seed=steps, steps=steps, size=size, ras=ras)
    options = Published(ratio, resets=tuple(ras.resets_of(steps)))
    with torch.no_grad():
        run = list(sample_regions(flag_dit, task_of(pipeline, size, steps, steps), options))
    for ages, (active, _) in zip(result.ages[:, 0], run, strict=True):
        assert set(active.tolist()) == set(np.flatnonzero(ages == 0))
    np.testing.assert_allclose(run[-1][1].numpy(), result.latents, atol=1e-4, rtol=0)


def test_caches_must_be_filled_first() -> None:
    with pytest.raises(ValueError, match="warmup is 0"):
        Published(warmup=0)


@AUTOCAST
def test_the_benchmark_measures_all(pipeline: Pipeline) -> None:
    """Without the compiler, which takes minutes: fp32 paints flagdit's pictures, bf16 almost."""
    rows, before = peers.benchmark(pipeline, None, [PROMPT, "a green star"], 8, with_compiler=False)
    by_name = {one.name: one for one in rows}
    assert len(by_name) == 7 and before["tokens"] == 72 and before["compiler_seconds"] is None
    assert by_name[peers.FP32].ratio == 1
    assert by_name[peers.FP32].psnr_twin > 90 and by_name[peers.FP32_RAS].psnr_twin > 90
    assert 20 < by_name[peers.BF16].psnr_twin < 90
    assert [one.name for one in rows if one.regions is None] == [peers.FP32, peers.BF16, peers.OURS]
    for regions in (one.regions for one in rows if one.regions):
        assert 0.25 < regions.step_work < 0.6
    peers.show(rows)


@AUTOCAST
def test_text_may_be_longer_than_it_is(pipeline: Pipeline) -> None:
    """Padding for the compiler changes nothing; autocast runs, and is timed."""
    fp32, _, autocast = precisions(pipeline.bundle.directory)
    plain, padded, cast = (
        TorchPainter(pipeline, (32, 32), 4.0, precision, dense(precision.model), length)
        for precision, length in ((fp32, 0), (fp32, 30), (autocast, 0))
    )
    latents = [paint(PROMPT, 0, 3, lambda: None) for paint in (plain, padded, cast)]
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-5)
    assert 1e-3 < np.abs(latents[0] - latents[2]).max() < 1
    assert all(second > 0 for second in seconds_of_a_step([plain, cast], PROMPT, 1))


def picture(seconds: float, steps: list[float], value: float = 0.0) -> Picture:
    return Picture(np.full((1, 3, 32, 32), value, np.float32), seconds, 2 * seconds, steps)


def test_rows_are_ratios_to_the_right_ones(pipeline: Pipeline) -> None:
    """Of 8 steps, 4 dense ones at the start and a reset, the 3 others compute 24 of 72 tokens."""

    def paint(*_: object) -> np.ndarray:
        raise AssertionError

    ras = Peer("ras", "own", "twin", paint, RasConfig(ratio=0.25, mode="paper"))
    pictures = {
        "first": [picture(8.0, [1.0] * 8)] * 3,
        "own": [picture(s, [s / 8] * 8) for s in (3.0, 4.0, 50.0)],
        "ras": [picture(2.0, [0.4] * 4 + [0.2, 0.2, 0.4, 0.2])] * 3,
        "twin": [picture(1.0, [1.0] * 8, value=0.02)] * 3,
    }
    got = row(pipeline.spec, TokenLayout.of(pipeline.spec, None), ras, pictures, "own")
    assert got.regions is not None
    assert (got.seconds, got.wall, got.ratio, got.step) == (2.0, 4.0, 0.25, 0.4)
    assert (got.psnr_dense, got.psnr_twin) == (100, pytest.approx(40, abs=1e-3))
    assert (got.regions.speedup, got.regions.step) == (2.0, pytest.approx(0.2))
    assert got.regions.bound == pytest.approx(8 / (5 + 3 * 24 / 72))
    assert got.regions.step_work == pytest.approx(24 / 72) and got.regions.step_time == pytest.approx(0.2 / 0.5)


def test_other_pictures_are_refused() -> None:
    pictures = {peers.FP32: [picture(1, [1])], peers.OURS: [picture(1, [1], value=0.5)]}
    with pytest.raises(BackendError, match="lower precision"):
        peers.check_same(pictures)
