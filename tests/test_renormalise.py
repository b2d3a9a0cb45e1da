"""Guided velocities brought back to the conditional norm, against NumPy; heads whose tail was kept."""

from __future__ import annotations

import numpy as np
import pytest
from backends import BACKENDS, Backend

from flagdit.cpp_ext import renormalise

every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)
LINES, COLUMNS, SAMPLES, VALUES, PINNED = 3, 4, 2, 12, 2
SLOTS = LINES * COLUMNS + PINNED


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slots(seed: int) -> np.ndarray:
    """Tokens (N, B) in any order; those without a latent, whose ids are the last, first."""
    rng = np.random.default_rng(seed)
    pinned, patches = np.arange(LINES * COLUMNS, SLOTS), np.arange(LINES * COLUMNS)
    return np.stack([np.concatenate([pinned, rng.permutation(patches)]) for _ in range(SAMPLES)], 1).astype(np.int32)


def expected(cond: np.ndarray, guided: np.ndarray, token: np.ndarray, groups: int, at_most: bool) -> np.ndarray:
    """All velocities (N, B, P), each with the factor of its line and group of values, or of the picture."""
    out = guided.copy()
    squares = [(array.reshape(SLOTS, SAMPLES, groups, -1).astype(np.float64) ** 2).sum(-1) for array in (cond, guided)]
    lines = token // (SLOTS if at_most else COLUMNS)
    for sample in range(SAMPLES):
        for line in range(1 if at_most else LINES):
            of = lines[:, sample] == line
            of[:PINNED] = False
            c, g = (part[of, sample].sum(0) for part in squares)
            factor = np.sqrt(c / g)
            factor = np.minimum(factor, 1) if at_most else factor
            out[of, sample] *= np.repeat(factor, VALUES // groups)
    return out


@every_backend
@pytest.mark.parametrize("at_most", [True, False], ids=["picture", "line"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "together"])
@pytest.mark.parametrize("scale", [4.0, 0.5])
def test_the_head_has_the_norm_of_all(backend: Backend, at_most: bool, apart: bool, scale: float) -> None:
    """First all slots, then a head whose tail has the norms of that step."""
    groups, token = (1, slots(0)) if at_most else (6, slots(0))
    guidance = np.where(np.arange(VALUES) % 4 == 0, 1.0, scale).astype(np.float32)
    cond, other = normal(1, SLOTS, SAMPLES, VALUES), normal(2, SLOTS, SAMPLES, VALUES)
    lines = 1 if at_most else LINES
    norms = backend.put(np.zeros((SLOTS, SAMPLES, groups, 2), np.float32))
    factors = backend.put(np.zeros((SAMPLES, lines, groups), np.float32))
    ids, scales = backend.put(token), backend.put(guidance)
    for active in (SLOTS, 7):
        cond[:active] += normal(active, active, SAMPLES, VALUES)
        put = [backend.get(backend.put(array, backend.dtype)) for array in (cond, other)]
        guided = put[0] + (guidance - 1) * (put[0] - put[1])
        both = backend.put(np.concatenate([put[0], put[1]], 1)[:active], backend.dtype)
        alone, out = (backend.put(array[:active], backend.dtype) for array in (put[0], guided))
        if apart:
            guided[:active] = backend.get(out)
        stride = SLOTS if at_most else COLUMNS
        renormalise(
            alone if apart else both, out if apart else None, scales, ids, norms, factors, stride, at_most, PINNED
        )
        found = backend.get(out if apart else both)
        wanted = expected(put[0], guided, token, groups, at_most)[PINNED:active]
        np.testing.assert_allclose(found[PINNED:, :SAMPLES], wanted, backend.rtol, backend.rtol)
        if not apart:
            np.testing.assert_array_equal(found[PINNED:, :SAMPLES], found[PINNED:, SAMPLES:])
            np.testing.assert_array_equal(found[:PINNED], np.concatenate(put, 1)[:PINNED])
    if at_most:
        assert (backend.get(factors) <= 1).all()


def test_nothing_is_left_of_nothing() -> None:
    """A guided velocity of 0 has no norm to be brought back to."""
    norms, factors = np.zeros((4, 1, 1, 2), np.float32), np.zeros((1, 1, 1), np.float32)
    output, token = np.zeros((4, 2, 3), np.float32), np.arange(4, dtype=np.int32)[:, None]
    renormalise(output, None, np.ones(3, np.float32), token, norms, factors, 4, True)
    assert factors == 1 and not output.any()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("output", np.zeros((9, 4, 6), np.float32), "slots of the output: got 9, allowed 0..8"),
        ("output", np.zeros((4, 2, 6), np.float32), "rows of the output: got 2 for 2 samples, allowed those of both"),
        ("output", np.zeros((4, 4, 6), np.float16), "allowed float32; on cuda also float16, bfloat16"),
        ("guidance", np.zeros(5, np.float32), "guidance: got float32 (5,) on cpu, allowed float32 (6,)"),
        ("norms", np.zeros((8, 2, 3), np.float32), "norms: got float32 (8, 2, 3) on cpu, allowed float32 (8, 2, 3, 2)"),
        ("factors", np.zeros((2, 2, 4), np.float32), "groups: got 4, allowed a divisor of the 6 values"),
    ],
)
def test_refuses(name: str, array: np.ndarray, message: str) -> None:
    shapes = {"output": (4, 4, 6), "guidance": (6,), "norms": (8, 2, 3, 2), "factors": (2, 2, 3)}
    good: dict[str, object] = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    good |= {"guided": None, "token": np.zeros((8, 2), np.int32), "stride": 4, "at_most": False}
    with pytest.raises(ValueError, match="renormalise: ") as error:
        renormalise(**{**good, name: array})  # type: ignore[arg-type]
    assert message in str(error.value)
