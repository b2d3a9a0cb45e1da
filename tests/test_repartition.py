"""SlotBuffers.swap: bytes of any array, in place, its own inverse but for what is recomputed."""

import numpy as np
import pytest
from backends import CPU, DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import SlotBuffers

DTYPES = ["uint8", "int16", "float16", "int32", "float32", "float64"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Buffers of odd and even widths, and disjoint swaps for every sample."""
    slots, samples = draw(st.integers(1, 24)), draw(st.integers(1, 3))
    arrays = []
    for _ in range(draw(st.integers(1, 5))):
        rest = draw(st.lists(st.integers(1, 5), max_size=2)) + draw(st.sampled_from([[], [8], [32]]))
        shape = (slots, samples * draw(st.integers(1, 3)), *rest)
        values = np.random.default_rng(len(arrays)).integers(0, 256, shape)
        arrays.append(values.astype(draw(st.sampled_from(DTYPES))))
    swaps, counts = np.full((samples, slots, 2), -1, np.int32), np.zeros(samples, np.int32)
    for b in range(samples):
        order = draw(st.permutations(range(slots)))
        counts[b] = draw(st.integers(0, slots // 2))
        swaps[b, : counts[b]] = np.reshape(order[: 2 * counts[b]], (-1, 2))
    return arrays, swaps, counts


@pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_swap_is_a_permutation_and_its_own_inverse(
    backend: Backend, case: tuple[list[np.ndarray], np.ndarray, np.ndarray]
) -> None:
    arrays, swaps, counts = case
    put = [backend.put(array) for array in arrays]
    buffers = SlotBuffers(put, samples=len(counts))
    buffers.swap(backend.put(swaps), backend.put(counts))
    for array, swapped in zip(arrays, put, strict=True):
        expected = array.copy()
        for row in range(array.shape[1]):
            b = row % len(counts)
            for i, j in swaps[b, : counts[b]]:
                expected[[i, j], row] = expected[[j, i], row]
        np.testing.assert_array_equal(backend.get(swapped), expected)
    buffers.swap(backend.put(swaps), backend.put(counts))
    for array, restored in zip(arrays, put, strict=True):
        np.testing.assert_array_equal(backend.get(restored), array)


@pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_what_is_recomputed_moves_one_way(
    backend: Backend, case: tuple[list[np.ndarray], np.ndarray, np.ndarray]
) -> None:
    """The tail's slot gets what the head's had; the head's keeps what is about to be written over."""
    arrays, swaps, counts = case
    put, cached = ([backend.put(array) for array in arrays] for _ in range(2))
    buffers = SlotBuffers(put, len(counts), recomputed=cached)
    buffers.swap(backend.put(swaps), backend.put(counts))
    for array, swapped, moved in zip(arrays, put, cached, strict=True):
        expected = array.copy()
        for row in range(array.shape[1]):
            b = row % len(counts)
            heads, tails = swaps[b, : counts[b]].T
            expected[tails, row] = array[heads, row]
        got = backend.get(moved)
        np.testing.assert_array_equal(got, expected)
        for row in range(array.shape[1]):
            tails = swaps[row % len(counts), : counts[row % len(counts)], 1]
            np.testing.assert_array_equal(got[tails, row], backend.get(swapped)[tails, row])


def test_arrays_that_share_memory_are_refused() -> None:
    """Their tokens would be swapped twice."""
    memory = np.zeros((9, 2, 3), np.float32)
    for first, second in ((memory, memory), (memory[:6], memory[3:]), (memory, memory.view(np.uint8))):
        with pytest.raises(ValueError, match="SlotBuffers: arrays: got arrays that share memory"):
            SlotBuffers([first], 1, [second])
    SlotBuffers([memory[:3], memory[3:6]], 1, [memory[6:]])


def test_keeps_its_arrays_alive() -> None:
    swaps, counts = np.array([[[0, 1], [0, 0]]], np.int32), np.ones(1, np.int32)
    for _ in range(8):
        SlotBuffers([np.zeros((2, 1, 4096), np.float32)], samples=1).swap(swaps, counts)


def test_refuses_arrays() -> None:
    def refused(arrays: list[np.ndarray], samples: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SlotBuffers(arrays, samples)

    zeros = np.zeros((4, 2, 8), np.float32)
    refused([], 1, "arrays: got none, allowed 1 or more")
    refused([zeros, zeros[:3]], 2, "array 1: got 3 slots on cpu, allowed 4 on cpu, as array 0")
    refused([zeros], 4, "rows of array 0: got 2, allowed a multiple of the 4 samples")
    refused([zeros], 0, r"samples: got 0, allowed 1\.\.")
    refused([zeros[..., ::2]], 2, "array 0: got stride 2 on axis 2, allowed 1")
    refused([zeros[:, 0, 0]], 1, "array 0: got 1 dimensions, allowed 2 or more")


def test_refuses_swaps_before_anything_moves() -> None:
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    buffers = SlotBuffers([array], samples=2)
    swaps, counts = np.zeros((2, 4, 2), np.int32), np.array([1, 1], np.int32)
    swaps[0, 0] = 0, 1
    swaps[1, 0] = 0, 4
    with pytest.raises(ValueError, match=r"slot of sample 1: got 4, allowed 0\.\.3"):
        buffers.swap(swaps, counts)
    with pytest.raises(ValueError, match=r"counts of sample 1: got 5, allowed 0\.\.4"):
        buffers.swap(swaps, np.array([1, 5], np.int32))
    with pytest.raises(ValueError, match=r"swaps: got int32 \(1, 4, 2\) on cpu, allowed int32 \(2, 4, 2\)"):
        buffers.swap(swaps[:1], counts)
    np.testing.assert_array_equal(array.ravel(), np.arange(8))


def test_moves_bytes_of_any_dtype() -> None:
    array = CPU.put(np.array([[1 + 2j], [3 + 4j]]))
    SlotBuffers([array], 1).swap(np.array([[[0, 1], [0, 0]]], np.int32), np.ones(1, np.int32))
    assert array[0, 0] == 3 + 4j
