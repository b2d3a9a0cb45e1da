"""Whole runs with every solver, times of one's own, and forecasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noise import noise_of
from reference import sample
from test_pipeline import PROMPT, difference, features
from tiny import assert_refused

from flagdit.cpp_ext import flow_times
from flagdit.engine import DENSE, Pipeline, RasConfig, Solver
from flagdit.export import FlagDiT


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "ab2"])
def test_every_solver_is_torchs(pipeline: Pipeline, flag_dit: FlagDiT, solver: Solver) -> None:
    """20 steps of unequal length, dense, against the textbook formulas in torch."""
    line = np.linspace(0, 1, 21)
    times = (line / (line + 3 - 3 * line)).tolist()
    result = pipeline(PROMPT, seed=7, steps=20, shift=3.0, solver=solver, ras=DENSE)
    noise = torch.from_numpy(noise_of(7, (1, 3, 32, 32)))
    with torch.no_grad():
        expected = sample(flag_dit.state_dict(), noise, *features(pipeline, [PROMPT, ""]), 4, times, 4.0, solver)
    assert difference(result.latents, expected.numpy()) < 1e-4
    given = pipeline(PROMPT, seed=7, steps=times, solver=solver, ras=DENSE)
    assert difference(result.latents, given.latents) < 1e-5


@pytest.mark.parametrize("solver", ["midpoint", "heun", "ab2"])
def test_ras_with_every_solver(pipeline: Pipeline, solver: Solver) -> None:
    """A step counts once, however often it calls the engine; caching nothing is the dense run."""
    result = pipeline(PROMPT, steps=10, solver=solver, ras=RasConfig(ratio=0.25))
    report = result.report
    calls = 1 if solver == "ab2" else 2
    assert (len(report.steps), report.evaluations, report.solver) == (10, 10 * calls, solver)
    assert {step.evaluations for step in report.steps} == {calls}
    assert result.refreshes.sum() == sum(step.active - report.pinned for step in report.steps)
    assert report.flop_ratio == pytest.approx(pipeline(PROMPT, steps=10, ras=RasConfig(ratio=0.25)).report.flop_ratio)
    dense, full = (pipeline(PROMPT, steps=10, solver=solver, ras=ras) for ras in (DENSE, RasConfig(1.0, forecast=1)))
    np.testing.assert_array_equal(dense.latents, full.latents)
    assert not np.array_equal(result.latents, dense.latents)


def test_a_forecast_that_may_change_nothing_changes_nothing(pipeline: Pipeline) -> None:
    held, still, forecast = (
        pipeline(PROMPT, ras=ras).latents
        for ras in (RasConfig(), RasConfig(forecast=1, forecast_clamp=1e-30), RasConfig(forecast=1))
    )
    np.testing.assert_array_equal(held, still)
    assert difference(held, forecast) > 1e-3


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_run_that_decides_reports_what_it_did(pipeline: Pipeline, solver: Solver) -> None:
    """A step that the gate passes over has no evaluations, no FLOPs, and computes no region."""
    ras = RasConfig(0.1, error_budget=0.1, gate=0.05)
    result = pipeline(PROMPT, steps=20, solver=solver, ras=ras)
    report, calls = result.report, 1 if solver == "euler" else 2
    assert [step.evaluations for step in report.steps] == [calls * (step.active > 0) for step in report.steps]
    assert report.evaluations == sum(step.evaluations for step in report.steps) < 20 * calls
    assert report.flop_ratio == pytest.approx(sum(step.active for step in report.steps) / (20 * report.tokens))
    assert report.expected_speedup == pytest.approx(1 / report.flop_ratio)
    assert result.refreshes.sum() == sum(max(step.active - report.pinned, 0) for step in report.steps)
    for step, ages in zip(report.steps, result.ages, strict=True):
        assert (ages == 0).sum() == max(step.active - report.pinned, 0)
    assert result.map().size[0] > 0


@pytest.mark.parametrize("points", [2, 30, 60])
def test_published_times(points: int) -> None:
    """Lumina's grid of n points (n - 1 steps, shifted by 4) is that of diffusers with these sigmas and shift 4."""
    line, sigmas = np.linspace(0, 1, points), np.linspace(1, 1 / (points - 1), points - 1)
    np.testing.assert_allclose(flow_times(points - 1, 4.0), line / (line + 4 - 4 * line), rtol=1e-12)
    shifted = 4 * sigmas / (1 + 3 * sigmas)
    np.testing.assert_allclose(flow_times(points - 1, 4.0), [*(1 - shifted), 1], atol=1e-12)


def test_times_of_ones_own(pipeline: Pipeline) -> None:
    """The default grid of diffusers, whose last step is a thousandth long."""
    times = [*(1 - np.linspace(1, 0.001, 10)), 1.0]
    report = pipeline(PROMPT, steps=times).report
    assert [step.t for step in report.steps] == pytest.approx(times[:-1])
    assert report.steps[-1].t == pytest.approx(0.999)


BAD = {
    "times": ({"prompt": "a", "steps": [0.0, 0.5]}, "the times run from 0 to 0.5; allowed is 0 (noise) to 1 (data)"),
    "no times": ({"prompt": "a", "steps": []}, "steps is 0; allowed are 1 to 1000"),
    "back in time": ({"prompt": "a", "steps": [0, 0.5, 0.4, 1]}, "allowed strictly increasing times"),
    "solver": ({"prompt": "a", "solver": "rk4"}, "solver: got 'rk4', allowed 'euler', 'midpoint', 'heun', 'ab2'"),
    "forecast": ({"prompt": "a", "ras": RasConfig(forecast=3)}, "forecast is 3, forecast_clamp 0.5; allowed: 0 to 2"),  # type: ignore[arg-type]
    "clamp": ({"prompt": "a", "ras": RasConfig(forecast_clamp=0)}, "and above 0 to 100"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused(pipeline: Pipeline, case: str) -> None:
    assert_refused(pipeline, *BAD[case])
