"""guide, Picks, count_broken: what a run does between calls besides advance and select; against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, CPU, DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Picks, count_broken, guide

every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)
every_device = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@every_backend
@given(
    slots=st.integers(1, 40),
    samples=st.integers(1, 3),
    values=st.integers(1, 40),
    both=st.booleans(),
    skips=st.booleans(),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_guides_the_head(
    backend: Backend, slots: int, samples: int, values: int, both: bool, skips: bool, data: st.DataObject
) -> None:
    """To the bit, in fp32: each operation is rounded. The tail's difference stays."""
    active = data.draw(st.integers(0, slots))
    put = [backend.put(normal(seed, active, samples, values), backend.dtype) for seed in (0, 1, 4)]
    scale = np.where(np.arange(values) % 3 == 0, 1.0, 4.7).astype(np.float32)
    difference, guided = normal(2, slots, samples, values), normal(3, slots, samples, values)
    kept, out = backend.put(difference), backend.put(guided, backend.dtype)
    before = backend.get(out)
    skip = backend.put(scale[::-1].copy())
    more = {"skipping": put[2], "skip_guidance": skip} if skips else {}
    guide(put[0], put[1] if both else None, backend.put(scale), kept, out, **more)
    conditional, unconditional, skipping = map(backend.get, put)
    if both:
        difference[:active] = conditional - unconditional
    np.testing.assert_array_equal(backend.get(kept), difference)
    head = difference[:active] * (scale - 1) + conditional
    if skips:
        head = head + (conditional - skipping) * scale[::-1]
    before[:active] = backend.get(backend.put(head, backend.dtype))
    np.testing.assert_array_equal(backend.get(out), before)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("conditional", np.zeros((9, 2, 8), np.float32), "slots of the conditional output: got 9, allowed 0..8"),
        ("conditional", np.zeros((4, 2, 8), np.float16), "allowed float32; on cuda also float16, bfloat16"),
        ("unconditional", np.zeros((3, 2, 8), np.float32), "got float32 (3, 2, 8) on cpu, allowed float32 (4, 2, 8)"),
        ("guidance", np.zeros(7, np.float32), "guidance: got float32 (7,) on cpu, allowed float32 (8,)"),
        ("difference", np.zeros((8, 1, 8), np.float32), "difference: got float32 (8, 1, 8) on cpu, allowed"),
        ("guided", np.zeros((7, 2, 8), np.float32), "guided: got float32 (7, 2, 8) on cpu, allowed float32 (8, 2, 8)"),
        ("skipping", np.zeros((4, 1, 8), np.float32), "got float32 (4, 1, 8) on cpu, allowed float32 (4, 2, 8)"),
        ("skip_guidance", np.zeros(9, np.float32), "skip_guidance: got float32 (9,) on cpu, allowed float32 (8,)"),
        ("skipping", None, "skipping, skip_guidance: got one of them, allowed both or none"),
    ],
)
def test_guide_refuses(name: str, array: Any, message: str) -> None:
    shapes = {"conditional": (4, 2, 8), "unconditional": (4, 2, 8), "guidance": (8,)}
    shapes |= {"difference": (8, 2, 8), "guided": (8, 2, 8)}
    if name.startswith("skip"):
        shapes |= {"skipping": (4, 2, 8), "skip_guidance": (8,)}
    with pytest.raises(ValueError, match="guide: ") as error:
        guide(**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | {name: array})
    assert message in str(error.value)


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[np.ndarray, int, int]]:
    """Tables (E, rows, ...) of any widths, with the first row and the rows that are wanted of each."""
    entries, out = draw(st.integers(1, 6)), []
    for n in range(draw(st.integers(1, 4))):
        rows, dtype = draw(st.integers(1, 4)), draw(st.sampled_from(["uint8", "int16", "float32", "int64"]))
        rest = draw(st.sampled_from([(), (1,), (3,), (16,), (2, 8), (300,)]))
        values = np.random.default_rng(n).integers(0, 256, (entries, rows, *rest)).astype(dtype)
        first = draw(st.integers(0, rows))
        out.append((values, first, draw(st.integers(0, rows - first))))
    return out


@every_device
@given(case=tables(), entry=st.integers(-2, 8))
@settings(max_examples=60, deadline=None)
def test_picks_the_entry_of_every_table(backend: Backend, case: list[tuple[np.ndarray, int, int]], entry: int) -> None:
    outs = [backend.put(np.full((1, taken, *table.shape[2:]), 7, table.dtype)) for table, _, taken in case]
    picks = Picks([backend.put(table) for table, _, _ in case], outs, [first for _, first, _ in case])
    number = backend.put(np.array([entry], np.int32))
    picks.copy(number)
    for (table, first, taken), out in zip(case, outs, strict=True):
        nearest = min(max(entry, 0), len(table) - 1)
        np.testing.assert_array_equal(backend.get(out), table[nearest : nearest + 1, first : first + taken])


def test_picks_refuse() -> None:
    def refused(message: str, table: Any, out: Any, first: int) -> None:
        with pytest.raises(ValueError, match=message):
            Picks([table], [out], [first])

    table = np.zeros((3, 2, 4), np.float32)
    refused(r"bytes of table 0: got 32, allowed 0\.\.16", table, np.zeros((1, 2, 4), np.float32), 1)
    refused(r"first byte of table 0: got -16, allowed 0\.\.32", table, np.zeros((1, 1, 4), np.float32), -1)
    refused("out 0: got 2 entries of rows of 16 bytes, allowed 1 of 16", table, np.zeros((2, 1, 4), np.float32), 0)
    refused("out 0: got 1 entries of rows of 32 bytes, allowed 1 of 16", table, np.zeros((1, 1, 4)), 0)
    refused(r"entries: got 0, allowed 1\.\.", table[:0], np.zeros((1, 1, 4), np.float32), 0)
    out = np.zeros((1, 1, 4), np.float32)
    with pytest.raises(ValueError, match="Picks: outs: got arrays that share memory"):
        Picks([table, table], [out, out], [0, 0])
    with pytest.raises(ValueError, match="table 1: got other entries or another device"):
        Picks([table, table[:2]], [out, out.copy()], [0, 0])
    with pytest.raises(ValueError, match="entry: got int64"):
        Picks([table], [out], [0]).copy(np.zeros(1, np.int64))


@every_backend
@given(count=st.integers(0, 5000), broken=st.integers(0, 9), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_counts_what_is_no_number(backend: Backend, count: int, broken: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = normal(seed, count)
    values[:3] = (0.0, -0.0, 65504.0)[: len(values[:3])]
    at = rng.choice(count, min(broken, count), replace=False)
    values[at] = rng.choice(np.array([np.inf, -np.inf, np.nan], np.float32), len(at))
    total = backend.put(np.array([5], np.int32))
    for times in (1, 2):
        count_broken(backend.put(values.reshape(1, -1), backend.dtype), total)
        assert backend.get(total)[0] == 5 + times * len(at)


def test_a_count_stays_within_its_type_and_refuses_others() -> None:
    most = np.array([2**31 - 2], np.int32)
    count_broken(np.full(7, np.nan, np.float32), most)
    assert most[0] == 2**31 - 1
    halves = np.zeros(1, np.int32)
    count_broken(np.array([1, np.inf, np.nan, 65504, 6e-8], np.float16), halves)
    assert halves[0] == 2
    with pytest.raises(ValueError, match="values: got float64"):
        count_broken(np.zeros(3), CPU.put(halves))
    with pytest.raises(ValueError, match="count: got int64"):
        count_broken(np.zeros(3, np.float32), np.zeros(1, np.int64))
