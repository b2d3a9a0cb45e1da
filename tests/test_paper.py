"""Paper mode against a simulation of the published loop, and what both modes do where that loop is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Literal

import fake
import numpy as np
import plans
import published
import pytest
import torch
from published import Settings

from flagdit.engine.errors import RequestError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.ras import RasConfig, Solver

MODES = pytest.mark.parametrize("mode", ["corrected", "paper"])


def plan_of(layout: TokenLayout, ras: RasConfig, steps: int = 30, shift: float = 1.0) -> Plan:
    return make_plan(ras, steps, layout.tokens, pinned=layout.pinned, shift=shift)


def noise_and_velocities(layout: TokenLayout, steps: int, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(B, C, H, W) and (S, B, C, H, W)."""
    rng = np.random.default_rng(0)
    shape = (samples, layout.channels, layout.height, layout.width)
    return rng.standard_normal(shape, np.float32), rng.standard_normal((steps, *shape), np.float32)


PUBLISHED = {
    "half": (32, Settings()),
    "quarter": (32, Settings(ratio=0.25)),
    "eighth of both sides": (32, Settings(ratio=0.125, high_ratio=0.3)),
    "low side only": (32, Settings(ratio=0.3, high_ratio=1e-9)),
    "truncated": (24, Settings(ratio=0.55, high_ratio=0.7)),
    "rounded by rows": (80, Settings(ratio=0.55)),  # 40 x 40 patches, the 640 px of an eightfold latent
    "norm": (32, Settings(metric="l2", high_ratio=0.5)),
    "no starvation": (32, Settings(starvation=0.0)),
    "strong starvation": (32, Settings(starvation=1.0, high_ratio=0.3)),
    "28 steps": (16, Settings(steps=28, resets=(12, 20))),
    "short": (16, Settings(steps=7, warmup=1, resets=(4,), ratio=0.25)),
    "no resets": (16, Settings(steps=12, resets=())),
    "schedule": (64, Settings(skip_step=64, skip_every=4)),
    "falling schedule": (64, Settings(skip_step=-100, skip_every=7, high_ratio=0.3)),
}


@pytest.mark.parametrize("shift", [1.0, 4.0])
@pytest.mark.parametrize("case", PUBLISHED)
def test_is_the_published_loop(case: str, shift: float) -> None:
    """The same patches in every step, and the same latents, from the same velocities."""
    size, settings = PUBLISHED[case]
    layout = TokenLayout(size, size, patch=2, channels=4)
    options = asdict(settings)
    ras = RasConfig(mode="paper", **{name: value for name, value in options.items() if name != "steps"})
    plan = plan_of(layout, ras, settings.steps, shift)
    noise, velocities = noise_and_velocities(layout, settings.steps)
    times = [plan.steps[0].t, *(step.t_next for step in plan.steps)]
    images = torch.from_numpy(noise[0]).double(), torch.from_numpy(velocities[:, 0]).double()
    expected = published.run(settings, *images, times)
    for ([active], state), (patches, latent) in zip(fake.run(layout, plan, noise, velocities), expected, strict=True):
        assert active == patches
        np.testing.assert_allclose(state.images()[0], latent.numpy(), atol=1e-5)


# Pixels of width and height, the ratio, what int((1 - ratio) rows columns) is, and one product for both.
ROUNDED = [(640, 640, 0.55, 720, 719), (640, 320, 0.55, 360, 359), (1024, 1024, 0.5, 2048, 2048)]


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize(("width", "height", "ratio", "cached", "at_once"), ROUNDED)
def test_paper_mode_rounds_as_published(
    width: int, height: int, ratio: float, cached: int, at_once: int, pinned: bool
) -> None:
    """Patches of 16 pixels. The rows are known by their [nextline] tokens; without any, a square is."""
    rows, columns = height // 16, width // 16
    assert (int((1 - ratio) * rows * columns), int((1 - ratio) * (rows * columns))) == (cached, at_once)
    ends = rows if pinned else 0
    plan = make_plan(RasConfig(ratio, mode="paper"), 30, rows * columns + ends, pinned=ends)
    known = pinned or rows == columns
    counts = Counter(plan.tokens - step.active for step in plan.steps)
    assert counts == {0: 6, (cached if known else at_once): 24}


def test_paper_mode_has_the_published_ratio() -> None:
    """If none is said: .5, and .25 in the mode that is ours. One that is said stays."""
    for steps in (30, 12):
        assert RasConfig(mode="paper").ratios(steps) == Settings().ratio == 0.5
        assert RasConfig().ratios(steps) == 0.25
        assert RasConfig(0.125, mode="paper").ratios(steps) == RasConfig(0.125).ratios(steps) == 0.125
    plan = make_plan(RasConfig(mode="paper"), 30, 4096)
    assert {step.active for step in plan.steps} == {4096, 2048}


@MODES
@pytest.mark.parametrize(
    ("width", "height", "patch", "samples"),
    [(32, 16, 2, 1), (16, 32, 2, 1), (16, 16, 2, 3), (8, 8, 1, 1), (32, 32, 4, 2), (24, 8, 8, 1)],
)
def test_every_patch_moves_along_its_last_velocity(
    mode: str, width: int, height: int, patch: int, samples: int
) -> None:
    """Whatever the picture's shape, its patches and the batch; and the engine's output is left as it was."""
    layout = TokenLayout(height, width, patch, channels=3)
    ras = RasConfig(ratio=0.3, high_ratio=0.7, mode=mode)  # type: ignore[arg-type]
    plan = plan_of(layout, ras, steps=16)
    noise, velocities = noise_and_velocities(layout, 16, samples)
    latent, last = layout.patchify(noise), np.zeros((layout.patches, samples, layout.patch_values), np.float32)
    for step, (active, state) in zip(plan.steps, fake.run(layout, plan, noise, velocities), strict=True):
        fresh = layout.patchify(velocities[step.index])
        for b, patches in enumerate(active):
            last[list(patches), b] = fresh[list(patches), b]
            head = layout.patch_index(state.token[layout.pinned : step.active, b])
            np.testing.assert_array_equal(state.output[layout.pinned : step.active, b], fresh[head, b])
        latent = latent + np.float32(step.t_next - step.t) * last
        np.testing.assert_allclose(state.images(), layout.unpatchify(latent), atol=1e-5)


def test_samples_choose_for_themselves() -> None:
    layout = TokenLayout(16, 16, patch=2, channels=3)
    ras = RasConfig(mode="paper")
    batch = fake.run(layout, plan_of(layout, ras), *noise_and_velocities(layout, 30, samples=2))
    assert sum(first != second for (first, second), _ in batch) == 24


@MODES
def test_the_end_step_chooses_for_itself(mode: str) -> None:
    """Up to `end`, a run with an end is the one without; after it, it is dense."""
    layout = TokenLayout(16, 16, patch=2, channels=3)
    runs = []
    for end in (None, 17):
        ras = RasConfig(end=end, mode=mode)  # type: ignore[arg-type]
        steps = fake.run(layout, plan_of(layout, ras), *noise_and_velocities(layout, 30))
        runs.append([active for [active], _ in steps])
    assert runs[1][:18] == runs[0][:18]
    assert runs[1][17] != runs[1][16]
    assert all(len(active) == layout.patches for active in runs[1][18:])


@MODES
def test_starvation_reaches_the_selection(mode: str) -> None:
    layout = TokenLayout(16, 16, patch=2, channels=3)
    runs = []
    for starvation in (0.1, 1.0):
        ras = RasConfig(starvation=starvation, mode=mode)  # type: ignore[arg-type]
        plan = plans.changed(plan_of(layout, ras), max_age=-1)
        runs.append([active for active, _ in fake.run(layout, plan, *noise_and_velocities(layout, 30))])
    assert runs[0] != runs[1]


def never_updated(ras: RasConfig, max_age: int | None = None) -> float:
    """Share of 32x32 patches that no RAS step computes, where the velocity's deviation is a smooth field."""
    layout = TokenLayout(64, 64, patch=2, channels=4)
    plan = plan_of(layout, ras)
    if max_age is not None:
        plan = plans.changed(plan, max_age=max_age)
    noise, velocities = noise_and_velocities(layout, 30)
    y, x = np.mgrid[0:64, 0:64] / 64
    field = 1 + 0.25 * np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y)
    computed = [active for active, _ in fake.run(layout, plan, noise, velocities * field.astype(np.float32))]
    sparse = [active for step, [active] in zip(plan.steps, computed, strict=True) if not step.dense]
    return 1 - len(set.union(*sparse)) / layout.patches


@pytest.mark.parametrize(("high_ratio", "published_share"), [(1.0, 0.347), (0.3, 0.082)])
def test_corrected_starvation_forgets_no_region(high_ratio: float, published_share: float) -> None:
    """Its signs alone, without the bound on the age, recompute what the published sign leaves out for good.

    The published shares are of another smooth field.
    """
    paper = never_updated(RasConfig(0.5, mode="paper", high_ratio=high_ratio))
    assert paper == pytest.approx(published_share, rel=0.25)
    assert never_updated(RasConfig(0.5, mode="paper", high_ratio=high_ratio, starvation=0)) < paper / 5
    assert never_updated(RasConfig(0.5, metric="std", high_ratio=high_ratio), max_age=-1) == 0


@pytest.mark.parametrize(("forecast", "solver"), [(1, "euler"), (0, "ab2"), (0, "heun")])
def test_paper_mode_is_euler(forecast: Literal[0, 1], solver: Solver) -> None:
    with pytest.raises(RequestError, match=f"paper mode is Euler without forecast; got {solver}, forecast {forecast}"):
        make_plan(RasConfig(mode="paper", forecast=forecast), 30, 64, solver=solver)
