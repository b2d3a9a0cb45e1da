"""Ages of regions, and the pictures and animations that show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flagdit.engine import DENSE, Pipeline, RasConfig
from flagdit.engine.media import animation, maps
from flagdit.engine.media.picture import colours
from flagdit.engine.report import StepReport

PROMPT = "a red apple on a blue background"

FACTS = {"size": (40, 40), "tokens": 100, "evaluations": 1, "branches": 2}


def steps_of(count: int) -> list[StepReport]:
    """A run of dense steps and, after the fourth, steps that compute a quarter of 100 tokens."""
    return [
        StepReport(**FACTS, index=i, t=i / count, active=100 if i < 4 else 25, dense=i < 4, seconds=0)
        for i in range(count)
    ]


def made_up(count: int, lines: int, columns: int) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A picture, refreshes and ages of a run that never was."""
    generator = np.random.default_rng(0)
    ages = generator.integers(0, 9, (count, lines, columns)).astype(np.int16)
    pixels = generator.integers(0, 255, (4 * lines, 4 * columns, 3)).astype(np.uint8)
    return Image.fromarray(pixels), (ages == 0).sum(0).astype(np.int32), ages


@pytest.mark.parametrize("options", [{}, {"size": (48, 16)}, {"solver": "midpoint", "steps": 9}, {"steps": 1}])
def test_ages_are_the_steps_since_a_patch_was_computed(pipeline: Pipeline, options: dict) -> None:
    result = pipeline(prompts=[PROMPT, "a green star"], ras=RasConfig(ratio=0.25), **options)
    ages, report = result.ages, result.report
    assert ages.shape == (len(report.steps), *result.refreshes.shape) and ages.dtype == np.int16
    for step, age in zip(report.steps, ages, strict=True):
        assert ((age == 0).sum(axis=(1, 2)) == step.active - report.pinned).all()
    older = ages[1:] == ages[:-1] + 1
    assert (older | (ages[1:] == 0)).all()
    np.testing.assert_array_equal((ages == 0).sum(axis=0), result.refreshes)
    assert ages.max() <= report.max_age


def test_paper_mode_has_ages_without_a_bound(pipeline: Pipeline) -> None:
    result = pipeline(PROMPT, ras=RasConfig(ratio=0.125, mode="paper"))
    assert result.report.max_age == -1 and result.ages.max() > 7


@pytest.mark.parametrize("options", [{"steps": 30}, {"steps": 5, "size": (64, 8)}, {"steps": 12, "ras": DENSE}])
def test_a_result_has_a_map(pipeline: Pipeline, options: dict) -> None:
    sheet = pipeline(PROMPT, **options).map()
    assert sheet.width == 2 * maps.PANEL + maps.GAP + 2 * maps.MARGIN


@pytest.mark.parametrize("count", [1, 4, 30, 41, 200])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (2, 16), (16, 2)])
def test_nothing_is_drawn_into_the_margins(count: int, shape: tuple[int, int]) -> None:
    """No text and no map of the strip is cut, for any number of steps and shape."""
    image, refreshes, ages = made_up(count, *shape)
    sheet = np.asarray(maps.still(image, refreshes, ages, steps=steps_of(count)))
    inner = sheet[maps.MARGIN : -maps.MARGIN, maps.MARGIN : -maps.MARGIN]
    assert (sheet != 255).sum() == (inner != 255).sum()
    assert sheet.shape[0] < 5000


def test_a_dense_step_is_framed() -> None:
    image, refreshes, ages = made_up(8, 16, 16)
    orange = np.array([0xE8, 0x59, 0x0C])
    marked, plain = (
        int((np.asarray(maps.still(image, refreshes, ages, steps=steps)) == orange).all(axis=2).sum())
        for steps in (steps_of(8), [step.model_copy(update={"dense": False}) for step in steps_of(8)])
    )
    assert marked > plain + 4 * 4 * 50  # four frames of four sides


def test_fresh_is_bright_in_every_frame() -> None:
    values = maps.freshness(np.array([0, 3, 6], np.int16), oldest=6)
    assert values.tolist() == [1, 0.5, 0]


def test_a_dense_run_is_bright() -> None:
    """Everywhere computed as often, and never old: no map of it is dark."""
    image, _, ages = made_up(5, 4, 4)
    sheet = np.asarray(maps.still(image, np.full((4, 4), 5, np.int32), ages * 0, steps=steps_of(5)))
    x, y = maps.MARGIN + maps.PANEL + maps.GAP, maps.MARGIN + 26
    assert (sheet[y : y + maps.PANEL, x : x + maps.PANEL] == colours(np.array(1.0))).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_has_a_frame_a_step(tmp_path: Path, kind: str) -> None:
    image, _, ages = made_up(9, 4, 8)
    frames = animation.frames([animation.thumbnail(image)] * 9, ages, steps_of(9), tokens=100)
    assert len({frame.size for frame in frames}) == 1
    path = tmp_path / f"moving.{kind.lower()}"
    animation.save(frames, path)
    with Image.open(path) as moving:
        assert (moving.format, moving.n_frames) == (kind, 9)
        durations = []
        for index in range(9):
            moving.seek(index)
            moving.load()
            durations.append(moving.info["duration"])
            corner = np.asarray(moving.convert("RGB"))[: maps.MARGIN // 2]
            assert (corner == 255).all()
    assert durations == animation.durations(9)
    assert durations[-1] > 2 * durations[0] > 0


def test_durations_suit_every_number_of_steps() -> None:
    for count in (1, 2, 30, 1000):
        *each, last = animation.durations(count)
        assert len(each) == count - 1 and all(40 <= d <= 400 and d % 10 == 0 for d in each) and last == 2500
