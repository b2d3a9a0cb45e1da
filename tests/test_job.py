"""Jobs: a request means the same to Python and to a program that has options and a manifest, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from presets import SPEC

from flagdit.cpp_ext import Job, Model, Price, Sizes, job_of, resolved_job
from flagdit.engine import Coarse, RasConfig, RequestError
from flagdit.engine.presets import Preset
from flagdit.engine.request import Request
from flagdit.engine.resolve import Options, resolve

LINE = (64, 256, 0.5, 1.15)


def model(**other: Any) -> Model:
    sizes = Sizes(price=Price(token=1e6), parameters=10**6, width=64, heads=4, cached=128, patch=48)
    about: dict[str, Any] = {"channels": 3, "patch": (1, 4, 4), "size": (32, 32), "sizes": sizes, "closes_lines": True}
    return Model(**about | {"shift": 2.0, "presets": [SPEC], "takes_ntk": True} | other)


def request(options: Options, of: Model, **other: Any) -> Request:
    size = other.get("size")
    presets = {name: Preset.of(parts) for name, parts in of.presets(size).items()}
    how = resolve(options, presets, of.shift(size))
    return Request.of(how, ["a", "b"], [1, 2], options=options, **other)


def same(a: Job, b: Job) -> None:
    assert len(a.legs) == len(b.legs)
    for (layout, plan, ntk), (other, planned, factor) in zip(a.legs, b.legs, strict=True):
        assert (layout, ntk) == (other, factor)
        assert (plan.steps, plan.evaluations, plan.damping) == (planned.steps, planned.evaluations, planned.damping)
        np.testing.assert_array_equal(plan.capacity, planned.capacity)


@pytest.mark.parametrize(
    ("options", "other"),
    [
        (Options(), {}),
        (Options("sharp"), {}),
        (Options("sharp", changes={"forecast_kv": 0.25}), {"size": (64, 32), "ntk": "auto"}),
        (Options("quality", steps=7, shift=3.0, solver="heun"), {"guidance": 1.0}),
        (Options(steps=[0, 0.5, 1], dense=True), {"size": (4, 400)}),
        (Options(mode="paper", ratio=(0.5, None), schedule=(4, 3)), {}),
        (Options(ras=RasConfig(ratio=0.5, gate=0.1)), {"ntk": 2}),
        (Options(coarse=Coarse(2, 4)), {"size": (64, 64)}),
    ],
)
@pytest.mark.parametrize("shift", [2.0, LINE])
def test_options_mean_the_same_in_both_languages(options: Options, other: dict[str, Any], shift: Any) -> None:
    of = model(shift=shift)
    asked = request(options, of, **other)
    same(resolved_job(asked, of), job_of(asked, of))


def test_a_shift_on_a_line_of_patches() -> None:
    """exp(mu), mu on the line through both points, as diffusers has it."""
    of = model(shift=LINE)
    assert of.shift((32, 32)) == pytest.approx(np.exp(0.5)) and of.shift((64, 64)) == pytest.approx(np.exp(1.15))
    assert of.shift((48, 48)) == pytest.approx(np.exp(0.5 + 0.65 * (144 - 64) / 192))
    assert of.shift((1024, 1024)) == 100.0


def test_what_a_model_does_not_know_is_refused() -> None:
    of = model(takes_ntk=False)
    with pytest.raises(RequestError, match="ntk is nothing that this model knows; leave it out"):
        job_of(request(Options(), of, ntk=2.0), of)
    with pytest.raises(RequestError, match="proportional is nothing that this model knows"):
        job_of(request(Options(), of, proportional=True), of)


def test_latents_that_are_smaller_than_the_picture() -> None:
    """Sizes are in pixels, and so are messages."""
    of = model(downscale=8, size=(256, 256))
    assert (of.layout().width, of.layout((512, 256)).width) == (32, 64)
    with pytest.raises(RequestError, match="size 100x256 is not made of 32x32 patches; the nearest is 96x256"):
        of.layout((100, 256))
    with pytest.raises(RequestError, match=r"size 256x96 over 2 is not made of 32x32 patches; .* size is 256x128"):
        job_of(request(Options(coarse=Coarse(2, 4)), of, size=(256, 96)), of)


def test_a_job_that_does_not_fit_is_refused() -> None:
    of = model()
    job = job_of(request(Options(), of), of)
    job.admit(of, "float32", None)
    job.admit(of, "float32", 10**12)
    with pytest.raises(RequestError, match=r"2 pictures of 32x32 with float32: about .* GB .* without forecast_kv$"):
        job.admit(of, "float32", 10**6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("starvation", "a", "starvation is 'a'; allowed are numbers"),
        ("starvation", 11, "starvation is 11; allowed are 0 to 10"),
        ("starvation", 1e22, "starvation is 1e+22; allowed"),
        ("warmup", None, "warmup is None; allowed are whole numbers, 1000 at most"),
        pytest.param("warmup", 10**400, f"warmup is {10**400}; allowed are whole numbers", id="wide"),
        ("resets", (1, 2.5), "a reset is 2.5; allowed are whole numbers, 1000 at most"),
        ("resets", 3, "resets is 3; allowed are a list of steps"),
        ("ratio", {"a": 1}, "ratio is {'a': 1}; allowed are a number, or numbers, one for each step"),
        ("forecast", "1", "forecast is '1'; allowed are 0, 1 and 2"),
        ("forecast_norm", 2, "forecast_norm is 2; allowed are True and False"),
        ("forecast_kv", [0.5, None], "forecast_kv is [0.5, None]; allowed are a number, or numbers"),
        ("metric", 3, "metric is 3; allowed are std, l2, change"),
        ("guidance_every", 1.5, "guidance_every is 1.5; allowed are 1 to 1000, whole numbers"),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, value: Any, message: str) -> None:
    of = model()
    with pytest.raises(RequestError) as error:
        job_of(request(Options(ras=RasConfig(**{field: value})), of), of)
    assert str(error.value).startswith(message)
