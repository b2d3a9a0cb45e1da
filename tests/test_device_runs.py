"""Whole runs where the state, and all that happens between calls, is on a device: against the same runs on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from backends import EMULATED
from device_engine import DeviceEngine
from layered import with_layers

from flagdit.cpp_ext import Session
from flagdit.engine import DENSE, Pipeline, RasConfig, SkipLayerGuidance
from flagdit.engine.request import Request
from flagdit.engine.run import Run, Stages

pytestmark = pytest.mark.skipif(not EMULATED, reason="needs the emulator: make emulator")

PROMPTS = ["a red apple", "a green star on a blue background"]
RUNS: dict[str, dict[str, Any]] = {
    "dense": {"ras": DENSE},
    "paper": {"ras": RasConfig(ratio=0.5, mode="paper")},
    "falling": {"ras": RasConfig(ratio=0.6, ratio_end=0.2, warmup=2)},
    "second order": {"ras": RasConfig(ratio=0.3, warmup=2, forecast=2), "solver": "ab2"},
    "two evaluations": {"ras": RasConfig(ratio=0.4, warmup=2, forecast_kv=0.5), "solver": "heun"},
    "midpoint": {"ras": RasConfig(ratio=0.4, warmup=2), "solver": "midpoint"},
    "keys": {"ras": RasConfig(ratio=0.6, ratio_end=0.3, warmup=3, forecast_kv=0.5), "solver": "ab2"},
    "dilated": {"ras": RasConfig(ratio=0.3, warmup=2, dilation=0.5)},
    "branches apart": {"ras": RasConfig(ratio=0.4, warmup=2, guidance_every=3, guidance_warmup=2)},
    "branches and keys": {"ras": RasConfig(ratio=0.4, warmup=3, guidance_every=2, guidance_warmup=3, forecast_kv=0.5)},
    "budget": {"ras": RasConfig(ratio=0.2, warmup=3, error_budget=0.02)},
    "gate": {"ras": RasConfig(ratio=0.2, warmup=3, gate=0.05)},
    "gate and keys": {"ras": RasConfig(ratio=0.2, warmup=3, gate=0.05, error_budget=0.03, forecast_kv=0.5)},
    "masked": {"ras": RasConfig(ratio=0.4, warmup=2), "solver": "ab2", "masked": True},
    "layers skipped": {"ras": RasConfig(ratio=0.4, warmup=1, resets=()), "skips": (0.15, 0.6), "solver": "ab2"},
    "layers skipped, keys": {"ras": RasConfig(ratio=0.4, warmup=2, forecast_kv=0.5, gate=0.01), "skips": (0.01, 0.6)},
    "norm of a picture": {"ras": RasConfig(ratio=0.4, warmup=2), "renormalise": "picture"},
    "norms of lines": {"ras": RasConfig(ratio=0.4, warmup=2), "renormalise": "line"},
    "norm, branches apart": {
        "ras": RasConfig(ratio=0.4, warmup=2, guidance_every=2, guidance_warmup=2),
        "renormalise": "picture",
    },
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load("demo", device="cpu", precision="float32", threads=1)


def made(pipeline: Pipeline, run: dict[str, Any], samples: int) -> Request:
    asked = {"solver": "euler", **run}
    request = Request(PROMPTS[:samples], list(range(samples)), 10, (32, 32), 4.0, 2.0, asked["ras"], asked["solver"])
    if "skips" in run:
        return replace(request, skip_layer_guidance=SkipLayerGuidance(2.0, *run["skips"], [1]))
    if not run.get("masked"):
        return request
    image, mask = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    mask[:, 10:] = 255
    return replace(request, image=image, mask=mask)


def stages_of(pipeline: Pipeline, run: dict[str, Any]) -> Stages:
    """Those of a model that brings norms back, or that skips layers, if the run says so."""
    if "skips" in run:
        return with_layers(pipeline.stages)
    spec = pipeline.spec
    guidance = spec.guidance.model_copy(update={"renormalise": run.get("renormalise", "none")})
    return replace(pipeline.stages, spec=spec.model_copy(update={"guidance": guidance}))


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_cuda_is_that_of_the_cpu(pipeline: Pipeline, name: str, samples: int) -> None:
    request, stages = made(pipeline, RUNS[name], samples), stages_of(pipeline, RUNS[name])
    device = Run(replace(stages, denoise=cast(Session, DeviceEngine(stages.denoise))), request)
    result, expected = device.finish(), Run(stages, request).finish()
    steps, wanted = result.report.steps, expected.report.steps
    assert [(s.active, s.evaluations, s.branches) for s in steps] == [
        (s.active, s.evaluations, s.branches) for s in wanted
    ]
    np.testing.assert_array_equal(result.ages, expected.ages)
    np.testing.assert_allclose(result.latents, expected.latents, 2e-4, 2e-4)
    assert expected.report.gpu is None
    assert result.report.gpu is not None
    assert result.report.gpu["captured_steps"] > 0, "no step was captured"


def test_runs_on_cuda_go_without_graphs(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is asked for; the picture is the same."""
    request = made(pipeline, RUNS["keys"], 1)
    stages = replace(pipeline.stages, denoise=cast(Session, DeviceEngine(pipeline.stages.denoise)))
    captured = Run(stages, request).finish()
    monkeypatch.setenv("FLAGDIT_NO_GRAPHS", "1")
    stages = replace(pipeline.stages, denoise=cast(Session, DeviceEngine(pipeline.stages.denoise)))
    plain = Run(stages, request).finish()
    np.testing.assert_array_equal(plain.latents, captured.latents)
    assert plain.report.gpu is not None
    assert plain.report.gpu["captured_steps"] == 0
    assert plain.report.gpu["plain"] == "FLAGDIT_NO_GRAPHS is set"


def test_previews_of_cuda_are_those_of_the_cpu(pipeline: Pipeline) -> None:
    """They stay what they were, whenever they are looked at."""
    request = made(pipeline, RUNS["falling"], 1)
    stages = replace(pipeline.stages, denoise=cast(Session, DeviceEngine(pipeline.stages.denoise)))
    seen = [preview._look.latents() for preview in list(Run(stages, request))]
    expected = [preview._look.latents() for preview in Run(pipeline.stages, request)]
    for got, wanted in zip(seen, expected, strict=True):
        np.testing.assert_allclose(got, wanted, 2e-4, 2e-4)
    assert len({preview.tobytes() for preview in seen}) == len(seen)


@pytest.mark.parametrize("name", ["falling", "keys", "branches and keys", "gate and keys", "masked", "layers skipped"])
def test_a_second_run_on_cuda_has_the_memory_of_the_first(pipeline: Pipeline, name: str) -> None:
    """And is captured whole, but for what a run of another picture is: the same as if it were the first."""
    own = stages_of(pipeline, RUNS[name])
    stages = replace(own, denoise=cast(Session, DeviceEngine(own.denoise)))
    first, second = (
        made(pipeline, RUNS[name], 1),
        replace(made(pipeline, RUNS[name], 1), seeds=[5], prompts=PROMPTS[1:]),
    )
    before = Run(stages, first).finish()
    again, expected = Run(stages, second).finish(), Run(own, second).finish()
    np.testing.assert_array_equal(again.ages, expected.ages)
    np.testing.assert_allclose(again.latents, expected.latents, 2e-4, 2e-4)
    assert before.report.gpu is not None and again.report.gpu is not None
    steps = len(again.report.steps)
    assert before.report.gpu["captured_steps"] < again.report.gpu["captured_steps"] <= steps
    if "gate" not in name:
        assert again.report.gpu["captured_steps"] == steps
