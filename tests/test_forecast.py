"""CacheForecast.move: against the formula, slot by slot; and many passes against lists of what was computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import CacheForecast

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
EPS = {"float32": 2.0**-22, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # more than a rounding or two


def to_bits(x: np.ndarray, dtype: str) -> np.ndarray:
    """As arrays hold values of the dtype: NumPy has no bfloat16."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)  # to the nearest, ties to even


def to_floats(x: np.ndarray, dtype: str) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else x.astype(np.float32)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    return to_floats(to_bits(x, dtype), dtype)


def draw_swaps(rng: np.random.Generator, slots: int, samples: int, active: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the first `active` slots and others, as `select` writes them: other entries are not to be read."""
    swaps, counts = np.full((samples, slots, 2), -9, np.int32), np.zeros(samples, np.int32)
    for b in range(samples):
        counts[b] = n = rng.integers(0, min(active, slots - active) + 1)
        swaps[b, :n, 0] = rng.permutation(active)[:n]
        swaps[b, :n, 1] = active + rng.permutation(slots - active)[:n]
    return swaps, counts


class Caches:
    """Arrays of one call on a device, and the passes over them."""

    def __init__(self, backend: Backend, dtype: str, arrays: dict[str, list[np.ndarray]], anchored: np.ndarray) -> None:
        """arrays: values, anchors and slopes, in f32."""
        self.backend, self.dtype, self.samples = backend, dtype, anchored.shape[1]
        kinds = {"values": dtype, "anchors": dtype, "slopes": "bfloat16"}
        self.arrays = {n: [backend.put(to_bits(x, kinds[n])) for x in xs] for n, xs in arrays.items()}
        self.anchored = backend.put(anchored.astype(np.float32))
        self.core = CacheForecast(**self.arrays, anchored=self.anchored, samples=self.samples, dtype=dtype)

    def move(self, swaps: tuple[np.ndarray, np.ndarray] | None, **step: Any) -> None:
        put = (None, None) if swaps is None else (self.backend.put(swaps[0]), self.backend.put(swaps[1]))
        self.core.move(*put, **step)

    def get(self, name: str, i: int) -> np.ndarray:
        array = self.backend.get(self.arrays[name][i])
        return to_floats(array, "bfloat16" if name == "slopes" else self.dtype)


def dtypes(backend: Backend) -> list[str]:
    return ["float32", "bfloat16", *(["float16"] if backend.device == "cuda" else [])]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    slots, samples = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    row = draw(st.sampled_from([(1,), (3, 5), (2, 8), (4, 16), (5, 120)]))
    return {
        "shape": (slots, samples * draw(st.integers(1, 2)), *row),
        "samples": samples,
        "count": draw(st.integers(1, 3)),
        "fresh": draw(st.integers(0, slots)),
        "active": draw(st.integers(0, slots)),
        "border": draw(st.integers(0, slots)),  # of the pairs; with select it is that of the active ones
        "tail": draw(st.booleans()),
        "swapped": draw(st.booleans()),
        "damping": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "seed": draw(st.integers(0, 999)),
    }


@on_devices
@given(case=cases(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_pass_is_the_formula(backend: Backend, case: dict[str, Any], data: st.DataObject) -> None:
    """In f64, by slot; of a token that is not fresh, slope and anchor go with it to the bit."""
    dtype, rng = data.draw(st.sampled_from(dtypes(backend))), np.random.default_rng(case["seed"])
    slots, rows = case["shape"][:2]
    samples, fresh, active, w = case["samples"], case["fresh"], case["active"], case["damping"]
    kinds = {"values": dtype, "anchors": dtype, "slopes": "bfloat16"}
    old = {
        name: [rounded(rng.standard_normal(case["shape"]), kind) for _ in range(case["count"])]
        for name, kind in kinds.items()
    }
    time, target = 0.5, 0.625
    anchored = rng.choice([-np.inf, 0.125, 0.25, 0.5, 0.75], (slots, samples))
    for name in ("anchors", "slopes"):  # what is not known yet may hold anything
        for x in old[name]:
            x[np.isinf(anchored)[:, np.arange(rows) % samples] & (np.arange(slots) < fresh)[:, None]] = np.nan
    caches = Caches(backend, dtype, old, anchored)
    swaps = draw_swaps(rng, slots, samples, case["border"]) if case["swapped"] else None
    caches.move(swaps, fresh=fresh, time=time, active=active, target=target, damping=w, tail=case["tail"])

    source = np.repeat(np.arange(slots)[:, None], samples, 1)
    for b in range(samples):
        for i, j in swaps[0][b, : swaps[1][b]] if swaps else ():
            source[[i, j], b] = j, i
    for i in range(case["count"]):
        values, anchors, slopes = (caches.get(name, i) for name in kinds)
        for slot, row in np.ndindex(slots, rows):
            k, b = source[slot, row % samples], row % samples
            new, before, slope, at = (
                old["values"][i][k, row],
                *(old[n][i][k, row] for n in list(kinds)[1:]),
                anchored[k, b],
            )
            latest = new if k < fresh else before
            if k < fresh:
                known = np.isfinite(at) and at < time
                slope = (new.astype(float) - before) / (time - at) if known else np.zeros_like(new)
                at = time
            assert caches.backend.get(caches.anchored)[slot, b] == at
            np.testing.assert_array_equal(anchors[slot, row], latest)
            if slot >= active:
                np.testing.assert_allclose(slopes[slot, row], slope, 0 if k >= fresh else 2**-7, 1e-30)
            if not case["tail"]:
                np.testing.assert_array_equal(values[slot, row], old["values"][i][slot, row])
            elif slot >= active:
                way = w * (target - at) * slope if np.isfinite(at) else np.zeros_like(new)
                most = EPS[dtype] * (np.abs(latest) + np.abs(way)) + 2**-7 * np.abs(way)
                assert (np.abs(values[slot, row] - (latest + way)) <= most).all()


@on_devices
@pytest.mark.parametrize("branches", [1, 2])
@given(seed=st.integers(0, 9999), samples=st.integers(1, 2), data=st.data())
@settings(max_examples=40, deadline=None)
def test_passes_in_a_row_are_the_line_through_the_last_two(
    backend: Backend, branches: int, seed: int, samples: int, data: st.DataObject
) -> None:
    """A run's passes, of a call that is not made in every step; expected from what was computed, by token."""
    dtype, rng = data.draw(st.sampled_from(dtypes(backend))), np.random.default_rng(seed)
    slots, width = int(rng.integers(2, 16)), 11
    rows = samples * branches
    shape, zeros = (slots, rows, width), np.zeros((slots, rows, width))
    caches = Caches(
        backend, dtype, {n: [zeros] for n in ("values", "anchors", "slopes")}, np.full((slots, samples), -np.inf)
    )
    seen: list[list[list[tuple[float, np.ndarray]]]] = [[[] for _ in range(rows)] for _ in range(slots)]
    token = np.repeat(np.arange(slots)[:, None], samples, 1)
    fresh, time, damping = 0, 0.0, 0.5
    for t in np.cumsum(rng.uniform(0.01, 0.1, 12)):
        active = slots if not seen[0][0] else int(rng.integers(1, slots + 1))
        made, swaps = rng.random() < 0.7 or not seen[0][0], draw_swaps(rng, slots, samples, active)
        for b in range(samples):
            i, j = swaps[0][b, : swaps[1][b]].T
            token[i, b], token[j, b] = token[j, b], token[i, b].copy()
        step = {"active": active, "target": t, "damping": damping} if made else {"active": 0, "target": 0, "damping": 0}
        caches.move(swaps, fresh=fresh, time=time, tail=made, **step)
        fresh = 0
        if not made:
            continue
        if rng.random() < 0.3:  # another evaluation of the step
            t += 0.005
            caches.move(None, fresh=0, time=0.0, active=active, target=t, damping=damping)
        got = caches.get("values", 0)
        for slot, row in np.ndindex(slots - active, rows):
            last = seen[token[slot + active, row % samples]][row]
            (t1, v1), (t0, v0) = last[-1], last[-2] if len(last) > 1 else last[-1]
            way = damping * (t - t1) * (v1 - v0) / (t1 - t0) if len(last) > 1 else np.zeros(width)
            most = EPS[dtype] * (np.abs(v1) + np.abs(way)) + 2**-7 * np.abs(way) + 1e-6
            assert (np.abs(got[slot + active, row] - (v1 + way)) <= most).all()
        new = rounded(rng.standard_normal(shape), dtype)
        whole = got.copy()
        whole[:active] = new[:active]  # the engine
        held = caches.arrays["values"][0]
        held[:] = backend.put(to_bits(whole, dtype))
        for slot, row in np.ndindex(active, rows):
            seen[token[slot, row % samples]][row].append((t, new[slot, row].astype(float)))
        fresh, time = active, t


def test_refuses() -> None:
    good = {"values": [np.zeros((4, 2, 3), np.float32)], "anchors": [np.zeros((4, 2, 3), np.float32)]}
    good |= {
        "slopes": [np.zeros((4, 2, 3), np.uint16)],
        "anchored": np.zeros((4, 1), np.float32),
        "samples": 1,
        "dtype": "float32",
    }  # type: ignore[dict-item]

    def refused(message: str, **other: Any) -> None:
        with pytest.raises(ValueError, match=message):
            CacheForecast(**{**good, **other})

    refused("dtype: got 'uint16', allowed 'float32', 'bfloat16'", dtype="uint16")
    refused(
        "slopes 0: got 4 slots of 2 rows of 12 bytes on cpu, allowed 4 slots of 2 rows of 6", slopes=good["anchors"]
    )
    refused("anchors 0: got 3 slots", anchors=[np.zeros((3, 2, 3), np.float32)])
    refused("got 1, 0, 1, allowed as many", anchors=[])
    refused("got 0, 0, 0, allowed as many, 1 or more", values=[], anchors=[], slopes=[])
    refused("rows: got 2, allowed a multiple of the 3 samples", samples=3)
    refused(r"anchored: got float32 \(4, 2\) on cpu, allowed float32 \(4, 1\)", anchored=np.zeros((4, 2), np.float32))
    halves = [np.zeros((4, 2, 3), np.float16)]
    refused("dtype: got float16 on cpu", values=halves, anchors=halves, dtype="float16")


def test_refuses_a_pass_before_anything_moves() -> None:
    values, anchors = (np.arange(8, dtype=np.float32).reshape(4, 2) for _ in range(2))
    anchored = np.zeros((4, 1), np.float32)
    core = CacheForecast([values], [anchors], [np.zeros((4, 2), np.uint16)], anchored, 1, "float32")
    swaps, counts = np.zeros((1, 4, 2), np.int32), np.array([2], np.int32)

    def refused(message: str, pairs: list[list[int]] | None = None, **other: Any) -> None:
        if pairs is not None:
            swaps[0, :2] = pairs
        step = {"fresh": 4, "time": 0.5, "active": 2, "target": 1.0, "damping": 0.5} | other
        with pytest.raises(ValueError, match=message):
            core.move(swaps, counts, **step)

    refused("slot 0 of sample 0: got two swaps, allowed one at most", [[0, 2], [0, 3]])
    refused(r"slot of sample 0: got 4, allowed 0\.\.3", [[0, 2], [1, 4]])
    refused(r"fresh: got 5, allowed 0\.\.4", [[0, 2], [1, 3]], fresh=5)
    refused(r"active: got -1, allowed 0\.\.4", active=-1)
    refused("time: got inf, allowed a finite number", time=np.inf)
    refused("target: got nan, allowed a finite number", target=np.nan)
    refused(r"damping: got 1\.5.*, allowed 0\.\.1", damping=1.5)
    with pytest.raises(ValueError, match="swaps, counts: got one of them"):
        core.move(swaps, None, 0, 0.0, 0, 0.0, 0.0)
    for array in (values, anchors):
        np.testing.assert_array_equal(array.ravel(), np.arange(8))
    assert not anchored.any()


def test_arrays_that_share_memory_or_lie_between_places_are_refused() -> None:
    values, anchored, slopes = (
        np.zeros((4, 1, 2), np.float32),
        np.zeros((4, 1), np.float32),
        np.zeros((4, 1, 2), np.uint16),
    )
    with pytest.raises(ValueError, match="CacheForecast: arrays: got arrays that share memory"):
        CacheForecast([values], [values], [slopes], anchored, 1, "float32")
    between = np.zeros(33, np.uint8)[1:].view(np.float32).reshape(4, 1, 2)
    with pytest.raises(ValueError, match=r"CacheForecast: address: got \d+, allowed a multiple of the 4 bytes"):
        CacheForecast([between], [values], [slopes], anchored, 1, "float32")
