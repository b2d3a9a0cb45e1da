"""The CPU operators with int8 weights in ONNX Runtime, against NumPy: with the CPU's tiles, and without.

Letters: A active tokens, R rows, K inputs and N outputs of a matrix, d head size.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pytest
from operator_numpy import int8_product, modulated
from operator_session import Array, Operator, near, passes_without_tiles, random

from flagdit.cpp_ext import has_amx

EXACT = 1e-6
"""Relative, rms: sums are of integers."""


def weights(outputs: int, inputs: int, seed: int) -> tuple[npt.NDArray[np.int8], Array]:
    rng = np.random.default_rng(seed)
    levels = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    return levels, rng.uniform(1e-3, 1e-2, (outputs, 1)).astype(np.float32)


SHAPES = {"small": (7, 2, 100, 50), "tiles": (64, 1, 128, 64), "many": (150, 2, 256, 96), "one": (1, 1, 64, 32)}
PLAIN = {"epsilon": 0.0, "scale": 0, "shift": 0}  # without a modulation


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_sums_exactly(shape: str, threads: int) -> None:
    a, r, k, n = SHAPES[shape]
    x, w = random((a, r, k)), weights(n, k, 1)
    x[a // 2] = 0 if a > 1 else x[0]
    operator = Operator("Linear", ["x", "w", "s"], dict(zip("ws", w, strict=True)), threads=threads, gate=0)
    near(operator((a, r, n), x=x), int8_product(x, w), EXACT)


@pytest.mark.parametrize("gates", [(80,), (1, 80), (2, 80), (2, 3, 4, 80)], ids=str)
def test_linear_with_a_residual(gates: tuple[int, ...]) -> None:
    """One gate for all, one a row, or some of many."""
    a, r, k, n = 40, gates[0] if len(gates) > 1 else 2, 96, 80
    x, w, y, gate = random((a, r, k)), weights(n, k, 1), random((a, r, n), 2), random(gates, 3)
    number = 7 if len(gates) > 2 else 0
    operator = Operator("Linear", ["x", "w", "s", "y", "g"], dict(zip("ws", w, strict=True)), gate=number)
    used = gate.reshape(-1, 12, n)[:, number] if number else gate
    near(operator((a, r, n), x=x, y=y, g=gate), y + used * int8_product(x, w), EXACT)


@pytest.mark.parametrize("kv_heads", [1, 2], ids="{} kv heads".format)
@pytest.mark.parametrize(("heads", "d"), [(4, 32), (2, 72), (4, 10)])
def test_projection_to_heads(heads: int, kv_heads: int, d: int) -> None:
    a, r, k = 70, 2, 48
    widths = (heads * d, kv_heads * d, kv_heads * d)
    x, norm, vectors, angles = random((a, r, k)), random((k,), 1), random((r, 5, k), 2), random((a, r, d // 2), 3)
    ws = [weights(n, k, i) for i, n in enumerate(widths)]
    norms = {name: random((n,), i) for i, (name, n) in enumerate(zip("abcd", np.repeat(widths[:2], 2), strict=True))}
    constants = {f"{name}{i}": part for i, w in enumerate(ws) for name, part in zip("ws", w, strict=True)}
    operator = Operator(
        "Project",
        ["x", "n", "m", *constants, "cos", "sin", *norms],
        constants,
        epsilon=1e-5,
        scale=3,
        shift=1,
        size=d,
        norm_epsilon=1e-5,
    )
    shapes = [(a, r, n // d, d) for n in widths]
    got = operator.all(*shapes, x=x, n=norm, m=vectors, cos=np.cos(angles), sin=np.sin(angles), **norms)
    into = modulated(x, norm, vectors[:, 3], vectors[:, 1])
    for i, name in enumerate(("query", "key", "value")):
        y = int8_product(into, ws[i]).astype(np.float64)
        if name != "value":
            weight, bias = (norms[n] for n in ("ab", "cd")[i])
            y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5) * weight + bias
            pairs = y.reshape(*shapes[i][:3], d // 2, 2)
            turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)[:, :, None]
            y = np.stack([turned.real, turned.imag], -1)
        # a modulated value between two levels may fall to either side
        near(got[i], y.reshape(shapes[i]), 1e-3 if name == "query" else 3e-3)


def test_projection_of_what_is_there() -> None:
    """Without modulation, norms and rotation it is three products."""
    a, r, k, heads, d = 20, 2, 64, 2, 32
    x, ws = random((a, r, k)), [weights(heads * d, k, i) for i in range(3)]
    constants = {f"{name}{i}": part for i, w in enumerate(ws) for name, part in zip("ws", w, strict=True)}
    operator = Operator("Project", ["x", None, None, *constants], constants, **PLAIN, size=d, norm_epsilon=0.0)
    got = operator.all(*[(a, r, heads, d)] * 3, x=x)
    for out, w, tolerance in zip(got, ws, (EXACT, 3e-3, 3e-3), strict=True):
        near(out, int8_product(x, w).reshape(a, r, heads, d), tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_feed_forward(shape: str) -> None:
    a, r, k, n = SHAPES[shape]
    x, y, norm, vectors = random((a, r, k)), random((a, r, k), 5), random((k,), 6), random((r, 3, k), 7)
    w1, w2, w3 = weights(n, k, 1), weights(k, n, 2), weights(n, k, 3)
    constants = dict(zip(("w1", "s1", "w2", "s2", "w3", "s3"), (*w1, *w2, *w3), strict=True))
    attributes = {"epsilon": 1e-5, "scale": 0, "shift": 1, "gate": 2}
    operator = Operator("FeedForward", ["x", "n", "m", *constants, "y", "m"], constants, **attributes)
    into = modulated(x, norm, vectors[:, 0], vectors[:, 1])
    gate = int8_product(into, w1)
    hidden = gate / (1 + np.exp(-gate)) * int8_product(into, w3)
    # a value between two levels may fall to either side
    near(operator((a, r, k), x=x, n=norm, m=vectors, y=y), y + vectors[:, 2] * int8_product(hidden, w2), 2e-3)


def test_large_matrices() -> None:
    """Of more than a megabyte: tasks have more tokens, and inputs come in three chunks; results stay the same."""
    a, k, n = 130 * min(os.cpu_count() or 1, 4) + 5, 1100, 1024
    x, some = random((a, 1, k)), [0, 63, 64, 127, 128, 200, a - 1]
    w1, w2, w3 = weights(n, k, 1), weights(k, n, 2), weights(n, k, 3)
    constants = dict(zip(("w1", "s1", "w2", "s2", "w3", "s3"), (*w1, *w2, *w3), strict=True))
    linear = Operator("Linear", ["x", "w1", "s1"], {name: constants[name] for name in ("w1", "s1")}, threads=2, gate=0)
    hidden = Operator("FeedForward", ["x", None, None, *constants], constants, **PLAIN, gate=0, threads=2)
    for operator, width in ((linear, n), (hidden, k)):
        alone = operator((len(some), 1, width), x=x[some])
        assert (operator((a, 1, width), x=x)[some] == alone).all()
        if operator is linear:
            near(alone, int8_product(x[some], w1), EXACT)


def test_large_gates_of_a_feed_forward_do_not_overflow() -> None:
    a, r, k, n = 40, 1, 64, 32
    w1, w2, w3 = weights(n, k, 1), weights(k, n, 2), weights(n, k, 3)
    constants = dict(zip(("w1", "s1", "w2", "s2", "w3", "s3"), (*w1, *w2, *w3), strict=True))
    x = 100 * random((a, r, k))
    gate = int8_product(x, w1)
    assert np.abs(gate).max() > 1000
    operator = Operator("FeedForward", ["x", None, None, *constants], constants, **PLAIN, gate=0)
    near(operator((a, r, k), x=x), int8_product(np.maximum(gate, 0) * int8_product(x, w3), w2), 2e-2)


def test_what_does_not_fit_is_refused() -> None:
    w = dict(zip("ws", weights(32, 64, 1), strict=True))
    linear = Operator("Linear", ["x", "w", "s"], w, gate=0)
    with pytest.raises(Exception, match=r"flagdit\.Linear: x: got shape \(4, 1, 60\), allowed \(A, R, .*, 64\)"):
        linear((4, 1, 32), x=random((4, 1, 60)))
    x, y = random((4, 2, 64)), random((4, 2, 32))
    gated = Operator("Linear", ["x", "w", "s", "y", "g"], w, gate=2)
    for gates, message in (
        ((2, 2, 32), r"gate: got 2, allowed 0\.\.1"),
        ((3, 3, 32), r"gates: got shape \(3, 3, 32\), allowed \(R, ..., N\) or \(N\), here R = 2 and N = 32"),
        ((2, 0, 32), r"gates: got shape .*, allowed a vector or more"),
        ((), r"gates: got shape \(\), allowed .* or \(N\)"),
    ):
        with pytest.raises(Exception, match=message):
            gated((4, 2, 32), x=x, y=y, g=random(gates))
    three = {f"{name}{i}": part for i in range(3) for name, part in w.items()}
    with pytest.raises(Exception, match="size: got 5, allowed an even divisor of the outputs of wq, 32"):
        Operator("Project", ["x", None, None, *three], three, **PLAIN, size=5, norm_epsilon=0.0)
    with pytest.raises(Exception, match="scales: got what the graph computes, allowed an initializer"):
        Operator("Linear", ["x", "w", "s"], {"w": w["w"]}, gate=0)


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    passes_without_tiles(__file__)
