"""Tails begin at multiples of 256 bytes: a plan's active tokens are rounded for it, the same for every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import fake
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Port, Sampler, decide_active, decide_scratch, head_multiple
from flagdit.engine import RasConfig, make_plan
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.cost import head_multiple_of
from flagdit.engine.layout import TokenLayout

rows = st.lists(st.integers(1, 3000), min_size=1, max_size=4)  # values of a row of each cache


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of RasConfig."""
    paper = draw(st.booleans())
    ratio = draw(st.sampled_from([0.1, 0.25, 0.5, 0.77, 1.0]))
    out: dict[str, Any] = {"mode": "paper" if paper else "corrected", "ratio": ratio, "warmup": draw(st.integers(1, 4))}
    if paper:
        out |= {"resets": [], "high_ratio": draw(st.sampled_from([1.0, 0.5]))}
    else:
        out |= {"bucket": draw(st.integers(1, 40)), "ratio_end": draw(st.sampled_from([None, ratio / 2]))}
    return out


@given(rows=rows, fields=options(), lines=st.integers(1, 20), columns=st.integers(1, 20), pinned=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_tail_begins_at_a_multiple_of_256_bytes(
    rows: list[int], fields: dict[str, Any], lines: int, columns: int, pinned: bool
) -> None:
    """In any precision and batch; with no more tokens than there are, and less than a multiple more than planned."""
    multiple, count = head_multiple(rows), lines if pinned else 0
    tokens, ras = lines * columns + count, RasConfig(**fields)
    plan = make_plan(ras, 8, tokens, pinned=count, head_multiple=multiple)
    plain = make_plan(ras, 8, tokens, pinned=count)
    for step, before in zip(plan.steps, plain.steps, strict=True):
        assert before.active <= step.active <= min(before.active + multiple - 1, tokens)
        assert step.dense == (step.active == tokens) and step.high <= min(tokens - step.active, before.high)
        if step.active == tokens:
            continue
        for row in rows:
            for size in (2, 4):  # bytes of a value
                for samples in (1, 2, 3):
                    assert step.active * samples * row * size % 256 == 0
    assert plan.budget.head_multiple == multiple


class Cached(fake.FakeEngine):
    """An engine with caches, which notes where what it is given lies."""

    def __init__(self, layout: TokenLayout, velocities: np.ndarray, heads: list[int], dtype: str) -> None:
        super().__init__(layout, velocities)
        self.addresses: list[tuple[str, int]] = []
        for n, width in enumerate(heads):
            self.ports.append(Port(f"key_tail.{n}", dtype, ["M", "R", 1, width]))
            self.ports.append(Port(f"key_head.{n}", dtype, ["A", "R", 1, width], output=True))

    def bind(self, tensors: Mapping[str, Any]) -> fake.FakeBinding:
        self.addresses += [(name, tensors[name].ctypes.data) for name in tensors if name != "step"]
        return super().bind(tensors)


@given(
    heads=st.lists(st.sampled_from([1, 6, 48, 72, 576, 96]), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float16"]),
    samples=st.integers(1, 3),
    branches=st.integers(1, 2),
    ratio=st.sampled_from([0.1, 0.3, 0.6]),
    every=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_what_is_bound_lies_there(
    heads: list[int], dtype: str, samples: int, branches: int, ratio: float, every: int
) -> None:
    """In runs: one call a step, or one a branch; with an error budget that makes steps larger."""
    layout = TokenLayout(20, 16, patch=2, channels=3)
    apart = {"guidance_every": every, "guidance_warmup": 3} if every > 1 and branches > 1 else {}
    ras = RasConfig(ratio=ratio, warmup=2, resets=(), error_budget=0.2, **apart)
    plan = make_plan(ras, 7, layout.tokens, pinned=layout.pinned, head_multiple=head_multiple(heads))
    rng, shape = np.random.default_rng(0), (samples, layout.channels, layout.height, layout.width)
    velocities = rng.standard_normal((7, branches * samples, *shape[1:])).astype(np.float32)
    engine = Cached(layout, np.stack([layout.patchify(v) for v in velocities]), heads, dtype)
    places = np.stack(np.meshgrid(*map(np.arange, velocities.shape[:2]), indexing="ij"), axis=-1)
    ids, ones = np.arange(layout.tokens, dtype=np.int32)[:, None], np.ones(layout.patch_values, np.float32)
    noise = rng.standard_normal(shape).astype(np.float32)
    taken: dict[str, Any] = {"constant": {}, "timed": {"step": places}, "placed": {"id": ids}, "start": noise}
    sampler = Sampler(engine, layout, plan, **taken, guidance=2 * ones)
    while not sampler.done:
        sampler.step()
    assert {address % 256 for _, address in engine.addresses} == {0}
    assert len(engine.addresses) > len(heads) * 2


@given(rows=rows)
def test_is_the_least_that_does(rows: list[int]) -> None:
    multiple = head_multiple(rows)
    assert multiple == min(m for m in range(1, 257) if all(m * row * 2 % 256 == 0 for row in rows))


@pytest.mark.parametrize(
    ("heads", "size", "multiple"),
    [(8, 72, 2), (4, 12, 8), (16, 96, 1), (32, 64, 1), (6, 64, 1), (2, 16, 4)],
)
def test_of_known_shapes(heads: int, size: int, multiple: int) -> None:
    assert head_multiple([heads * size]) == multiple


@given(score=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=90), multiple=st.integers(1, 40), data=st.data())
@settings(max_examples=100, deadline=None)
def test_decided_steps_keep_it(score: list[float], multiple: int, data: st.DataObject) -> None:
    """More tokens, for an error budget, are rounded as those of a plan."""
    slots = len(score)
    pinned = data.draw(st.integers(0, slots - 1))
    arrays = (np.array(score, np.float32)[:, None], np.ones((slots, 1, 2), np.float32), np.zeros((slots, 1), np.int32))
    active, scratch = np.zeros(1, np.int32), np.zeros(decide_scratch(slots - pinned, 1), np.int32)
    rule = {"pinned": pinned, "planned": pinned, "bucket": 1, "max_age": -1, "error_budget": 0.01, "gate": 0.0}
    decide_active(*arrays, None, scratch, active, **rule, head_multiple=multiple)
    decided = int(active[0])
    decide_active(*arrays, None, scratch, active, **rule)
    assert decided == min(math.ceil(active[0] / multiple) * multiple, slots) or decided == pinned == active[0]


def test_the_demo_computes_what_it_did() -> None:
    """Its rows are multiples already, so its calibrated presets hold."""
    assert head_multiple_of(Bundle.open("demo").manifest.model) == 1


@pytest.mark.parametrize("multiple", [0, -1, 2**31])
def test_refuses(multiple: int) -> None:
    with pytest.raises(ValueError, match=r"head_multiple is|head_multiple: got"):
        make_plan(RasConfig(), 8, 64, head_multiple=multiple)
