"""The CPU operator of attention in ONNX Runtime, against NumPy: with the CPU's tiles, and without.

Letters: A active tokens, M cached ones, R rows, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import numpy as np
import pytest
from operator_numpy import attend
from operator_session import Operator, bf16, near, passes_without_tiles, random, wide

from flagdit.cpp_ext import has_amx

TOLERANCE = 8e-3 if has_amx() else 1e-5
"""Relative, rms: in tiles weights are bf16, with 8 bits; all sums are f32."""

CASES = {  # A, M, R, H, G, d
    "one key": (1, 0, 1, 1, 1, 64),
    "head alone": (40, 0, 2, 4, 4, 64),
    "head and tail": (33, 70, 2, 4, 4, 64),
    "groups of heads": (20, 30, 2, 6, 2, 32),
    "a head of 72": (50, 15, 1, 2, 2, 72),
    "a head of 6": (17, 3, 2, 2, 1, 6),
    "several blocks of keys": (300, 600, 1, 2, 1, 64),
    "exactly a block": (32, 96, 1, 1, 1, 64),
}


NO_TEXT = {"text_scale": 1.0}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_attention(case: str, threads: int) -> None:
    a, m, r, h, g, d = CASES[case]
    q, scale = random((a, r, h, d)), np.array([0.3], np.float32)
    cached = {name: bf16(random((n, r, g, d), i)) for i, (name, n) in enumerate(zip("kvlw", (a, a, m, m), strict=True))}
    operator = Operator("Attention", ["q", "s", "k", "v", "l", "w"], halves="kvlw", threads=threads, **NO_TEXT)
    got = operator((a, r, h * d), q=q, s=scale, **cached)
    k, v = (np.concatenate([wide(cached[x]), wide(cached[y])]) for x, y in ("kl", "vw"))
    near(got, attend(q, 0.3, k, v, None), TOLERANCE)


@pytest.mark.parametrize("text", [1, 9, 32, 70])
@pytest.mark.parametrize("d", [64, 24])
def test_attention_to_a_text_that_is_masked_and_gated(text: int, d: int) -> None:
    a, m, r, h, g = 37, 12, 3, 4, 2
    q, gate, scale = random((a, r, h, d)), random((h * d,), 4), np.array([0.3], np.float32)
    slots = {name: bf16(random((n, r, g, d), i)) for i, (name, n) in enumerate(zip("kvlw", (a, a, m, m), strict=True))}
    words = {name: bf16(random((r, g, text, d), i)) for i, name in enumerate("xy")}
    present = np.array([[text], [-(-text // 2)], [1]])
    bias = np.where(np.arange(text) < present, 0, np.finfo(np.float32).min).astype(np.float32)
    inputs = ["q", "s", *slots, *words, "bias", "gate"]
    operator = Operator("Attention", inputs, halves="kvlwxy", text_scale=0.2)
    got = operator((a, r, h * d), q=q, s=scale, **slots, **words, bias=bias.reshape(r, 1, 1, text), gate=gate)
    k, v = (np.concatenate([wide(slots[x]), wide(slots[y])]) for x, y in ("kl", "vw"))
    x, y = (wide(words[name]).transpose(2, 0, 1, 3) for name in "xy")
    near(got, attend(q, 0.3, k, v, None) + gate * attend(q, 0.2, x, y, bias), TOLERANCE)


def test_large_scores_do_not_overflow() -> None:
    a, r, h, d = 40, 1, 1, 64
    q, k, v = 40 * random((a, r, h, d)), bf16(40 * random((a, r, h, d), 1)), bf16(random((a, r, h, d), 2))
    got = Operator("Attention", ["q", "s", "k", "v"], halves="kv", **NO_TEXT)(
        (a, r, d), q=q, s=np.array([1], np.float32), k=k, v=v
    )
    rounded = wide(bf16(q)) if has_amx() else q  # one key wins, and rounding may choose it
    near(got, attend(rounded, 1.0, wide(k), wide(v), None), 0.3)


def test_a_row_of_attention_does_not_depend_on_the_others() -> None:
    a, r, h, d = 30, 2, 2, 64
    q, k, v = random((a, r, h, d)), bf16(random((a, r, h, d), 1)), bf16(random((a, r, h, d), 2))
    operator = Operator("Attention", ["q", "s", "k", "v"], halves="kv", **NO_TEXT)
    scale = np.array([0.2], np.float32)
    both = operator((a, r, h * d), q=q, s=scale, k=k, v=v)
    one = (np.ascontiguousarray(x[:, 1:]) for x in (q, k, v))
    alone = operator((a, 1, h * d), **dict(zip("qkv", one, strict=True)), s=scale)
    np.testing.assert_array_equal(alone[:, 0], both[:, 1])


def test_what_does_not_fit_is_refused() -> None:
    ones, attention = np.ones(1, np.float32), Operator("Attention", ["q", "s", "k", "v"], halves="kv", **NO_TEXT)
    none = bf16(random((0, 2, 1, 8)))
    wrong = r"keys: got shape \(0, 2, 1, 8\), allowed \(tokens, R, G, d\), here \(any, 1, 1, 8\)"
    with pytest.raises(Exception, match=wrong):
        attention((4, 1, 8), q=random((4, 1, 1, 8)), s=ones, k=none, v=none)
    with pytest.raises(Exception, match=r"keys: got shape .*, allowed a key or more"):
        attention((4, 2, 8), q=random((4, 2, 1, 8)), s=ones, k=none, v=none)
    with pytest.raises(Exception, match=r"keys: got shape \(4, 1, 0, 8\), allowed 1 or more on axis 2"):
        k = bf16(random((4, 1, 0, 8)))
        attention((4, 1, 16), q=random((4, 1, 2, 8)), s=ones, k=k, v=k)
    with_text = Operator("Attention", ["q", "s", "k", "v", None, None, "x", "y", "b", "g"], halves="kvxy", **NO_TEXT)
    q, k, text = random((4, 1, 2, 8)), bf16(random((4, 1, 2, 8))), bf16(random((1, 2, 5, 8)))
    fits = {"q": q, "s": ones, "k": k, "v": k, "x": text, "y": text, "b": random((1, 5)), "g": random((16,))}
    for name, wrong, message in (
        ("x", bf16(random((1, 2, 5, 6))), r"text_keys: got .*, allowed \(R, G, T, d\), here \(1, 2, any, 8\)"),
        ("b", random((1, 4)), r"text_bias: got .*, allowed \(R, T\), here 5 values"),
        ("g", random((8,)), r"text_gate: got .*, allowed \(H \* d\), here 16 values"),
    ):
        with pytest.raises(Exception, match=message):
            with_text((4, 1, 16), **{**fits, name: wrong})


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    passes_without_tiles(__file__)
