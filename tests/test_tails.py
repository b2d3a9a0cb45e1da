"""Tails that the operators find by token, against the same runs with tails that are made in passes of their own.

A session behind one of Python finds no tails, so the core makes them (test_forecast_runs.py holds what it makes).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from layered import with_layers
from test_forecast_runs import CASES

from flagdit.cpp_ext import Binding, Session, has_amx
from flagdit.engine import Coarse, Pipeline, RasConfig, SkipLayerGuidance
from flagdit.engine.result import Preview
from flagdit.engine.session import Array

pytestmark = pytest.mark.skipif(not has_amx(), reason="this CPU has no tiles of int8 and bf16")

SEEDS = {"a red apple on a blue background": 7, "pizza": 2}


@dataclass
class Plain:
    """A session that finds no tails: what it reads behind its head is counted."""

    session: Session
    tails: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def bind(self, tensors: Mapping[str, Array]) -> PlainBinding:
        return PlainBinding(self, self.session.bind(tensors), tensors)


@dataclass
class PlainBinding:
    plain: Plain
    binding: Binding
    tensors: Mapping[str, Array]

    def run(self) -> None:
        self.plain.tails += len(self.tensors["key_tail.0"])
        self.binding.run()


@cache
def painters(threads: int) -> tuple[Pipeline, Pipeline, Plain]:
    """The demo as it is, and with a session that finds no tails."""
    pipeline = Pipeline.load("demo", threads=threads, precision="int8-bf16")
    assert pipeline.stages.denoise.finds_tails
    plain = Plain(pipeline.stages.denoise)
    other = Pipeline.load("demo", threads=threads, precision="int8-bf16")
    other.stages = replace(other.stages, denoise=cast(Session, plain))
    return pipeline, other, plain


@cache
def skipping() -> tuple[Pipeline, Pipeline]:
    """Both, of a demo that knows layers to skip."""
    out = []
    for pipeline in painters(2)[:2]:
        one = pipeline.with_denoise(pipeline.stages.denoise)
        one.stages = with_layers(pipeline.stages)
        one.spec = one.stages.spec
        out.append(one)
    return out[0], out[1]


def both(threads: int = 1, prompts: int = 1, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Latents of a run that finds its tails, and of one that has them made."""
    asked: dict[str, Any] = {"prompts": list(SEEDS)[:prompts], "seeds": list(SEEDS.values())[:prompts], **options}
    pipeline, other, plain = painters(threads)
    before = plain.tails
    found, made = (p(**{"size": (32, 32), "steps": 12, **asked}).latents for p in (pipeline, other))
    assert plain.tails > before
    return found, made


@pytest.mark.parametrize("case", CASES)
def test_what_is_found_is_what_would_be_made(case: str) -> None:
    options, solver = CASES[case]
    ras = RasConfig(**{"ratio": 0.4, "ratio_end": 0.2, "forecast_kv": 0.5, **options})
    found, made = both(prompts=2, ras=ras, solver=solver)
    np.testing.assert_array_equal(found, made)
    assert np.abs(found - both(prompts=2, ras=replace(ras, forecast_kv=0.0), solver=solver)[0]).max() > 1e-3


@pytest.mark.parametrize("threads", [2, 5])
def test_on_any_number_of_threads(threads: int) -> None:
    options = {"ras": RasConfig(0.3, forecast_kv=0.5, warmup=2), "solver": "ab2"}
    found, made = both(threads, **options)
    np.testing.assert_array_equal(found, made)
    np.testing.assert_array_equal(found, both(1, **options)[0])


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_presets_at_the_trained_size(preset: str) -> None:
    found, made = both(preset=preset, size=None, steps=None)
    np.testing.assert_array_equal(found, made)


def test_memory_that_is_used_again() -> None:
    """A second run of the same kind takes the arrays of the first, with rows of its tokens in them."""
    options: dict[str, Any] = {"ras": RasConfig(0.3, forecast_kv=0.5, warmup=1), "solver": "euler"}
    first = both(**options)[0]
    both(prompts=1, **{**options, "seeds": [9]})
    np.testing.assert_array_equal(both(**options)[0], first)


@pytest.mark.parametrize(
    "options",
    [
        {"ras": {"guidance_every": 2, "guidance_warmup": 1, "gate": 0.05}, "solver": "heun"},
        {"ras": {"error_budget": 0.05}, "coarse": Coarse(2, 4)},
    ],
)
def test_a_third_branch_has_rows_of_its_own(options: dict[str, Any]) -> None:
    """One that skips layers, which begins in mid-run: not square, and two texts of unequal length."""
    ras = RasConfig(**{"ratio": 0.3, "warmup": 1, "forecast_kv": 0.5, **options["ras"]})
    asked: dict[str, Any] = {"prompts": list(SEEDS), "seeds": list(SEEDS.values()), "size": (64, 32), "steps": 8}
    skips = SkipLayerGuidance(1.5, 0.2, 0.9, [1, 3])
    found, made = (p(**{**asked, **options, "ras": ras}, skip_layer_guidance=skips) for p in skipping())
    np.testing.assert_array_equal(found.latents, made.latents)
    assert any(step.branches == 3 and not step.dense for step in found.report.steps)


class StoppedError(Exception):
    """Of somebody who has seen enough."""


def test_runs_at_once_and_after_one_that_stopped() -> None:
    """Threads that share a pipeline, each with regions of its own."""
    found, made, _ = painters(2)
    kinds = [RasConfig(0.3, warmup=2, forecast_kv=0.5), RasConfig(0.5, warmup=1, forecast_kv=1.0, guidance_every=2)]
    asked: dict[str, Any] = {"prompt": "pizza", "size": (32, 32), "steps": 8}

    def stop(preview: Preview) -> None:
        if preview.timed.step.index == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        found(**asked, ras=kinds[0], on_step=stop)
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda ras: found(**asked, ras=ras).latents, kinds))
    for ras, latents in zip(kinds, at_once, strict=True):
        np.testing.assert_array_equal(latents, made(**asked, ras=ras).latents)
