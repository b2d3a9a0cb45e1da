"""One prompt and seed give one picture, bit for bit: alone, in a batch, on any number of threads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from flagdit.cpp_ext import has_amx
from flagdit.engine import Pipeline, RasConfig
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.cpu import Precision, here

PROMPTS = [
    "a red apple on a blue background",
    "pizza",
    "a yellow lemon on the left of a blue heart on a red and green background",
]
SEEDS = [4, 0, 2**64 - 1]
RAS = RasConfig(0.25, warmup=1, resets=())
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {"ras": RAS},
    "one branch": {"ras": RAS, "guidance": 1.0},
    "branches apart": {"ras": RasConfig(0.25, warmup=1, resets=(), guidance_every=2, guidance_warmup=1, forecast=2)},
}

tiles = pytest.mark.skipif(not has_amx(), reason="this CPU has no tiles of int8 and bf16")
fast_int8 = pytest.mark.skipif(not here().int8, reason="this CPU has no int8 dot products")
in_every_precision = pytest.mark.parametrize(
    "precision", ["float32", pytest.param("int8", marks=fast_int8), pytest.param("int8-bf16", marks=tiles)]
)


@cache
def demo() -> Bundle:
    return Bundle.load("demo")


def painted(pipeline: Pipeline, *which: int, **options: Any) -> np.ndarray:
    """Latents of some of the prompts, in one batch."""
    prompts, seeds = [PROMPTS[i] for i in which], [SEEDS[i] for i in which]
    return pipeline(prompts=prompts, seeds=seeds, steps=3, size=(32, 32), **{**OPTIONS["usual"], **options}).latents


@in_every_precision
def test_threads_and_batch_change_no_bit(precision: Precision) -> None:
    """More threads than this machine has cores, and than a graph has rows, split the work in another way."""
    bundle = demo()
    expected = [painted(Pipeline(bundle, 1, precision), i)[0] for i in range(3)]
    assert len({picture.tobytes() for picture in expected}) == 3
    for threads in range(1, 9):
        pipeline = Pipeline(bundle, threads, precision)
        batch = [(0,), (2, 1), (0, 1, 2)][threads % 3]
        for i, picture in zip(batch, painted(pipeline, *batch), strict=True):
            np.testing.assert_array_equal(picture, expected[i], f"{threads} threads, batch {batch}")


@in_every_precision
@pytest.mark.parametrize("options", list(OPTIONS.values())[1:], ids=list(OPTIONS)[1:])
def test_no_bit_depends_on_the_batch(precision: Precision, options: dict[str, Any]) -> None:
    """With one row where a batch has three, and with texts that are filled up in a batch."""
    one, two = (Pipeline(demo(), threads, precision) for threads in (1, 3))
    batch = painted(one, 0, 1, 2, **options)
    for i in range(3):
        np.testing.assert_array_equal(painted(two, i, **options)[0], batch[i])


def test_texts_are_filled_up_as_the_graph_would() -> None:
    """The bias of tokens that are not there is the graph's own, so that they have no part in attention."""
    stages = Pipeline(demo(), 1).stages
    text, mask = stages.text.encode(["pizza", PROMPTS[2]])
    made = stages.condition.run({"t": np.zeros(1, np.float32), "text": text, "text_mask": mask})
    np.testing.assert_array_equal(
        made["text_bias"][:, 0, 0], np.where(mask, 0, np.float32(stages.spec.pads["text_bias"]))
    )
