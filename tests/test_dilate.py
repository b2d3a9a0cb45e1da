"""dilate: high scores reach over to neighbouring patches; against the oracle."""

import numpy as np
import oracle
import pytest
from backends import DEVICES, Backend
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import dilate

on_devices = pytest.mark.parametrize("backend", DEVICES, ids=lambda backend: backend.device)


def dilated(backend: Backend, score: np.ndarray, token: np.ndarray, line: int, pinned: int, share: float) -> np.ndarray:
    put = backend.put(score)
    grid = backend.put(np.full(score.T.shape, np.nan, np.float32))  # scratch: what it held before has no part
    dilate(put, backend.put(token), grid, line, pinned, share)
    return backend.get(put)


def in_order(slots: int) -> np.ndarray:
    return np.arange(slots, dtype=np.int32)[:, None]


@on_devices
@given(
    lines=st.integers(1, 6),
    columns=st.integers(1, 7),
    samples=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(max_examples=120, deadline=None)
def test_matches_the_oracle_in_any_slots(
    backend: Backend, lines: int, columns: int, samples: int, share: float, seed: int, data: st.DataObject
) -> None:
    """Tokens in any slots, other ones in every sample; the first are pinned, wherever in the picture they are."""
    slots, rng = lines * columns, np.random.default_rng(seed)
    pinned = data.draw(st.integers(0, slots))
    token = np.stack([rng.permutation(slots) for _ in range(samples)], 1).astype(np.int32)
    score = rng.choice(np.array([0, 0.25, 1, 3], np.float32), token.shape) * rng.random(token.shape, np.float32)
    new = dilated(backend, score, token, columns, pinned, share)
    np.testing.assert_array_equal(new[:pinned], score[:pinned])
    for b in range(samples):
        slot_of = np.argsort(token[:, b])
        expected = oracle.dilated(score[slot_of, b], slot_of >= pinned, columns, share)
        np.testing.assert_array_equal(new[slot_of, b], expected)


@on_devices
@pytest.mark.parametrize(("share", "around"), [(0.0, 1.0), (0.25, 2.0), (1.0, 8.0)])
def test_a_peak(backend: Backend, share: float, around: float) -> None:
    """It reaches the eight patches around it, and not from one end of a line to the next."""
    score = np.ones((4, 5), np.float32)
    score[1, 4] = 8
    expected = score.copy()
    expected[:3, 3:] = around
    expected[1, 4] = 8
    new = dilated(backend, score.reshape(-1, 1), in_order(20), 5, 0, share)
    np.testing.assert_array_equal(new.reshape(4, 5), expected)


@on_devices
def test_a_pinned_token_neither_lends_nor_receives(backend: Backend) -> None:
    score = np.array([[9], [1], [2]], np.float32)
    np.testing.assert_array_equal(dilated(backend, score, in_order(3), 3, 1, 1.0), [[9], [2], [2]])
    np.testing.assert_array_equal(dilated(backend, score, in_order(3), 3, 3, 1.0), score)


@on_devices
def test_tokens_that_fill_up(backend: Backend) -> None:
    """They are behind the last line, which they make a shorter one, and lend nothing."""
    score = np.array([[9], [9], [1], [2], [3], [4]], np.float32)
    token = np.array([[4], [5], [0], [1], [2], [3]], np.int32)
    grid = backend.put(np.zeros((1, 6), np.float32))
    put = backend.put(score)
    dilate(put, backend.put(token), grid, 4, 2, 1.0)
    np.testing.assert_array_equal(backend.get(put), [[9], [9], [2], [3], [4], [4]])


@on_devices
@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1, -(2**31)])
def test_a_token_outside_the_picture(backend: Backend, wrong: int) -> None:
    """Refused before a score changes. A kernel skips it: it keeps its score, and lends none."""
    score, token = backend.put(np.array([[8], [1], [2]], np.float32)), in_order(3)
    token[0] = wrong
    grid = backend.put(np.zeros((1, 3), np.float32))
    if backend.device == "cpu":
        with pytest.raises(ValueError, match=rf"dilate: token in slot 0 of sample 0: got {wrong}, allowed 0\.\.2"):
            dilate(score, token, grid, 3, 0, 1.0)
        np.testing.assert_array_equal(score, [[8], [1], [2]])
    else:
        dilate(score, backend.put(token), grid, 3, 0, 1.0)
        np.testing.assert_array_equal(backend.get(score), [[8], [2], [2]])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score", np.zeros(8, np.float32), "score: got float32 (8,) on cpu, allowed 2 dimensions"),
        ("token", np.zeros((8, 2), np.int64), "token: got int64 (8, 2) on cpu, allowed int32 (8, 2) on cpu"),
        ("grid", np.zeros((8, 2), np.float32), "grid: got float32 (8, 2) on cpu, allowed float32 (2, 8) on cpu"),
        ("line", 9, "line: got 9, allowed 1..8"),
        ("line", 0, "line: got 0, allowed 1..8"),
        ("pinned", 9, "pinned: got 9, allowed 0..8"),
        ("share", 1.5, "share: got 1.500000, allowed 0 to 1"),
        ("share", float("nan"), "share: got nan, allowed 0 to 1"),
    ],
)
def test_refuses(name: str, value: object, message: str) -> None:
    good = {"score": np.zeros((8, 2), np.float32), "token": np.zeros((8, 2), np.int32), "share": 0.5}
    good |= {"grid": np.zeros((2, 8), np.float32), "line": 4, "pinned": 2}
    with pytest.raises(ValueError, match="dilate: ") as error:
        dilate(**{**good, name: value})
    assert message in str(error.value)
