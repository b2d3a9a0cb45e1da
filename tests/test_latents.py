"""Models that end in latents: what is measured of them, counted, and said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_pictures import GUIDANCE, PROMPT, painter, request, text  # noqa: F401

from flagdit import cpp_ext
from flagdit.cpp_ext import job_of
from flagdit.engine import RequestError
from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import measure, paint, psnr
from flagdit.engine.bench.settings import Setting, dense
from flagdit.engine.calibrate.painter import Painter
from flagdit.engine.commands.again import command
from flagdit.engine.model import model_of
from flagdit.engine.request import Given


def test_tiles_are_said_again(painter: Any) -> None:  # noqa: F811
    """A picture that is decoded in tiles is another one than that which is not."""
    pipeline = painter[2]
    about = pipeline(PROMPT, tile=32, size=(64, 48), steps=2).report.alone(0)
    line = command(about, "again.png")
    assert line[line.index("--tile") + 1] == "32"
    whole = about.model_copy(update={"tile": 0})
    assert "--tile" not in command(whole, "again.png")
    line = command(whole.model_copy(update={"size": (1024, 64)}), "again.png")
    assert line[line.index("--tile") + 1] == "off"


def test_memory_counts_what_encodes(painter: Any) -> None:  # noqa: F811
    """A picture to begin with is encoded whole, also where the end is decoded in tiles."""
    pipeline = painter[2]
    model, given = model_of(pipeline.spec), Given(image=np.zeros((2048, 1024, 3), np.uint8), strength=1.0)
    room = 8 * 10**9
    job_of(request(pipeline, (1024, 2048)), model).admit(model, "float32", room)
    begun = replace(request(pipeline, (1024, 2048)), **{**given.parts(), "tile": 64})
    with pytest.raises(RequestError, match=r"about .* GB of memory are needed"):
        job_of(begun, model).admit(model, "float32", room)


def test_without_decode_there_is_nothing_to_count(painter: Any) -> None:  # noqa: F811
    spec = painter[2].spec
    bare = spec.model_copy(update={"graphs": spec.graphs.model_copy(update={"decode": None})})
    job = job_of(request(painter[2], (2048, 1024)), model_of(bare))
    assert job.tile == 0
    job.admit(model_of(bare), "float32", 3 * 10**9)


def test_measures_are_of_pictures(painter: Any) -> None:  # noqa: F811
    """Latents have no bounds that they could be compared in."""
    pipeline = painter[2]
    chosen = [Setting("dense", "dense", how) for how in (dense(30, "euler"), dense(2, "euler"))]
    (entries,) = measure(pipeline, chosen, [PROMPT], batch=1)
    exact = ExactPictures(pipeline, None, pipeline.spec.guidance.scale)([PROMPT], 0)
    for setting, entry in zip(chosen, entries, strict=True):
        made = paint(pipeline, setting.how, [PROMPT], first=0)
        shown, wanted = (cpp_ext.decode(pipeline.stages.decode, x, 4) for x in (made.latents, exact))
        assert entry.psnr == pytest.approx(psnr(shown, wanted)[0])


def test_plans_are_fitted_to_latents_within_bounds(painter: Any) -> None:  # noqa: F811
    pipeline = painter[2]
    exactly = ExactPictures(pipeline, None, GUIDANCE)
    judge, exact = Painter.of(exactly, pipeline, [PROMPT], seed=3), exactly([PROMPT], 3)
    assert np.abs(exact).max() > 1 and np.abs(judge.exact).max() == pytest.approx(1)
    np.testing.assert_allclose(judge.exact * judge.scale, exact, rtol=1e-6)
    made = paint(pipeline, dense(3, "ab2"), [PROMPT], first=3, guidance=GUIDANCE).latents
    np.testing.assert_allclose(judge(dense(3, "ab2")) * judge.scale, made, rtol=1e-5, atol=1e-6)
