"""The CPU operators in ONNX Runtime, against NumPy: with the CPU's tiles, and without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from flagdit.cpp_ext import OPERATORS, has_amx

Array = npt.NDArray[np.float32]
BF16 = TensorProto.BFLOAT16
TOLERANCE = {"attention": 8e-3 if has_amx() else 1e-5, "product": 1e-6}
"""Relative, rms: attention's weights are bf16 in tiles, with 8 bits; all other sums are exact, or f32."""


def bf16(x: Array) -> npt.NDArray[np.uint16]:
    """Rounded to the nearest even, as bits."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def wide(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Operator:
    """One node in a session of its own; inputs named None are left out."""

    def __init__(
        self,
        op: str,
        inputs: Sequence[str | None],
        constants: Mapping[str, npt.NDArray[np.generic]] = {},
        halves: Sequence[str] = (),
        threads: int = 1,
        output: int = TensorProto.FLOAT,
        **attributes: float,
    ) -> None:
        node = helper.make_node(op, [name or "" for name in inputs], ["out"], domain="flagdit", **attributes)
        given = [name for name in inputs if name is not None and name not in constants]
        borders = [
            helper.make_tensor_value_info(name, BF16 if name in halves else TensorProto.FLOAT, None) for name in given
        ]
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        made = helper.make_tensor_value_info("out", output, None)
        graph = helper.make_graph([node], "one", borders, [made], tensors)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("flagdit", 1)]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(OPERATORS)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.halves, self.half = halves, output == BF16

    def __call__(self, shape: tuple[int, ...], **inputs: npt.NDArray[np.generic]) -> Array:
        """The output, which is of this shape."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            kind = BF16 if name in self.halves else array.dtype.type
            binding.bind_input(name, "cpu", 0, kind, array.shape, array.ctypes.data)
        out = np.full(shape, 7, np.uint16 if self.half else np.float32)
        kind = BF16 if self.half else np.float32
        binding.bind_output("out", "cpu", 0, kind, shape, out.ctypes.data)
        self.session.run_with_iobinding(binding)
        return wide(out) if self.half else out


def near(got: Array, expected: npt.NDArray[np.floating], tolerance: float) -> None:
    """Every value is there, and the root mean square of what they are off is small."""
    assert np.isfinite(got).all()
    error = np.sqrt(np.square(got - expected).mean() / np.square(expected).mean())
    assert error < tolerance, error


def random(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def weights(outputs: int, inputs: int, seed: int) -> tuple[npt.NDArray[np.int8], Array]:
    rng = np.random.default_rng(seed)
    levels = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    return levels, rng.uniform(1e-3, 1e-2, (outputs, 1)).astype(np.float32)


def int8_product(x: Array, w: tuple[npt.NDArray[np.int8], Array]) -> Array:
    """x (..., K) in 127 levels to each side, one scale a token; exact sums."""
    largest = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-30))
    levels = np.rint(x * (np.float32(127) / largest)).astype(np.int32)
    return (levels @ w[0].T.astype(np.int32)).astype(np.float32) * (largest / np.float32(127) * w[1][:, 0])


# --- attention

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


def attend(q: Array, scale: float, k: Array, v: Array, bias: Array | None) -> npt.NDArray[np.float64]:
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat(groups, 2), v.repeat(groups, 2)
    scores = np.einsum("arhd,nrhd->rhan", q.astype(np.float64), k) * scale
    scores = scores if bias is None else scores + bias[:, None, None]
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    out: npt.NDArray[np.float64] = np.einsum("rhan,nrhd->arhd", weight, v)
    return out.reshape(*q.shape[:2], -1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_attention(case: str, threads: int) -> None:
    a, m, r, h, g, d = CASES[case]
    q, scale = random((a, r, h, d)), np.array([0.3], np.float32)
    cached = {name: bf16(random((n, r, g, d), i)) for i, (name, n) in enumerate(zip("kvlw", (a, a, m, m), strict=True))}
    got = Operator("Attention", ["q", "s", "k", "v", "l", "w"], halves="kvlw", threads=threads)(
        (a, r, h * d), q=q, s=scale, **cached
    )
    k, v = (np.concatenate([wide(cached[x]), wide(cached[y])]) for x, y in ("kl", "vw"))
    near(got, attend(q, 0.3, k, v, None), TOLERANCE["attention"])


def test_attention_to_a_text_that_is_masked_and_gated() -> None:
    a, n, r, h, d = 21, 9, 3, 2, 64
    q, text_k, text_v = random((a, r, h, d)), random((r, h, n, d), 1), random((r, h, n, d), 2)
    k, v = (bf16(np.ascontiguousarray(x.transpose(2, 0, 1, 3))) for x in (text_k, text_v))
    bias = np.where(np.arange(n) < np.array([[9], [4], [1]]), 0, -1e4).astype(np.float32)
    x, gate = random((a, r, h * d), 3), random((h * d,), 4)
    operator = Operator("TextAttention", ["q", "s", "k", "v", "b", "x", "g"])
    scale = np.array([0.125], np.float32)
    got = operator((a, r, h * d), q=q, s=scale, k=text_k, v=text_v, b=bias.reshape(r, 1, 1, n), x=x, g=gate)
    near(got, x + gate * attend(q, 0.125, wide(k), wide(v), bias), TOLERANCE["attention"])
    alone = attend(q[:, 2:], 1.0, wide(k[:1, 2:]), wide(v[:1, 2:]), None)  # one key: its value, whatever the score
    near(got[:, 2:], x[:, 2:] + gate * alone, TOLERANCE["attention"])


def test_large_scores_do_not_overflow() -> None:
    a, r, h, d = 40, 1, 1, 64
    q, k, v = 40 * random((a, r, h, d)), bf16(40 * random((a, r, h, d), 1)), bf16(random((a, r, h, d), 2))
    got = Operator("Attention", ["q", "s", "k", "v"], halves="kv")(
        (a, r, d), q=q, s=np.array([1], np.float32), k=k, v=v
    )
    rounded = wide(bf16(q)) if has_amx() else q  # one key wins, and rounding may choose it
    near(got, attend(rounded, 1.0, wide(k), wide(v), None), 0.3)


def test_a_row_of_attention_does_not_depend_on_the_others() -> None:
    a, r, h, d = 30, 2, 2, 64
    q, k, v = random((a, r, h, d)), bf16(random((a, r, h, d), 1)), bf16(random((a, r, h, d), 2))
    operator, scale = Operator("Attention", ["q", "s", "k", "v"], halves="kv"), np.array([0.2], np.float32)
    both = operator((a, r, h * d), q=q, s=scale, k=k, v=v)
    one = (np.ascontiguousarray(x[:, 1:]) for x in (q, k, v))
    alone = operator((a, 1, h * d), **dict(zip("qkv", one, strict=True)), s=scale)
    np.testing.assert_array_equal(alone[:, 0], both[:, 1])


# --- products

SHAPES = {"small": (7, 2, 100, 50), "tiles": (64, 1, 128, 64), "many": (150, 2, 256, 96), "one": (1, 1, 64, 32)}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_sums_exactly(shape: str, threads: int) -> None:
    a, r, k, n = SHAPES[shape]
    x, w = random((a, r, k)), weights(n, k, 1)
    x[a // 2] = 0 if a > 1 else x[0]
    operator = Operator("Linear", ["x", "w", "s"], dict(zip("ws", w, strict=True)), threads=threads)
    near(operator((a, r, n), x=x), int8_product(x, w), TOLERANCE["product"])


@pytest.mark.parametrize("rows", [1, 2], ids="gate of {} rows".format)
def test_linear_with_a_residual(rows: int) -> None:
    a, r, k, n = 40, 2, 96, 80
    x, w, y, gate = random((a, r, k)), weights(n, k, 1), random((a, r, n), 2), random((rows, n), 3)
    operator = Operator("Linear", ["x", "w", "s", "y", "g"], dict(zip("ws", w, strict=True)))
    near(operator((a, r, n), x=x, y=y, g=gate), y + gate * int8_product(x, w), TOLERANCE["product"])


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("heads", "d"), [(4, 32), (2, 72), (3, 10)])
def test_projection_to_heads(heads: int, d: int, half: bool) -> None:
    a, r, k, n = 70, 2, 64, heads * d
    x, w, weight, bias = random((a, r, k)), weights(n, k, 1), random((n,), 2), random((n,), 3)
    angles = random((a, r, d // 2), 4)
    op, output = ("ProjectHalf", BF16) if half else ("Project", TensorProto.FLOAT)
    operator = Operator(
        op,
        ["x", "w", "s", "n", "b", "cos", "sin"],
        dict(zip("ws", w, strict=True)),
        output=output,
        heads=heads,
        epsilon=1e-5,
    )
    got = operator((a, r, heads, d), x=x, n=weight, b=bias, cos=np.cos(angles), sin=np.sin(angles))
    y = int8_product(x, w).astype(np.float64)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5) * weight + bias
    pairs = y.reshape(a, r, heads, d // 2, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)[:, :, None]
    expected = np.stack([turned.real, turned.imag], -1).reshape(a, r, heads, d)
    near(got, expected, 3e-3 if half else 1e-5)


def test_projection_without_norm_and_rotation() -> None:
    a, r, k, heads, d = 20, 2, 64, 2, 32
    x, w = random((a, r, k)), weights(heads * d, k, 1)
    operator = Operator("Project", ["x", "w", "s"], dict(zip("ws", w, strict=True)), heads=heads, epsilon=0.0)
    near(operator((a, r, heads, d), x=x), int8_product(x, w).reshape(a, r, heads, d), TOLERANCE["product"])


@pytest.mark.parametrize("shape", SHAPES)
def test_feed_forward(shape: str) -> None:
    a, r, k, n = SHAPES[shape]
    x, y, gate = random((a, r, k)), random((a, r, k), 5), random((r, k), 6)
    w1, w2, w3 = weights(n, k, 1), weights(k, n, 2), weights(n, k, 3)
    constants = dict(zip(("w1", "s1", "w2", "s2", "w3", "s3"), (*w1, *w2, *w3), strict=True))
    operator = Operator("FeedForward", ["x", *constants, "y", "g"], constants)
    hidden = int8_product(x, w1)
    hidden = hidden / (1 + np.exp(-hidden)) * int8_product(x, w3)
    # a value between two levels may fall to either side
    near(operator((a, r, k), x=x, y=y, g=gate), y + gate * int8_product(hidden, w2), 2e-3)


def test_modulation() -> None:
    a, r, k = 70, 2, 40
    x, weight, scale, shift = random((a, r, k)), random((k,), 1), random((r, k), 2), random((r, k), 3)
    got = Operator("Modulate", ["x", "w", "a", "b"], epsilon=1e-5)((a, r, k), x=x, w=weight, a=scale, b=shift)
    rms = np.sqrt(np.square(x.astype(np.float64)).mean(-1, keepdims=True) + 1e-5)
    near(got, x / rms * weight * (1 + scale) + shift, 1e-6)


def test_what_does_not_fit_is_refused() -> None:
    w = dict(zip("ws", weights(32, 64, 1), strict=True))
    with pytest.raises(Exception, match=r"flagdit\.Linear: x must be \(A, R, the weights' inputs\)"):
        Operator("Linear", ["x", "w", "s"], w)((4, 1, 32), x=random((4, 1, 60)))
    with pytest.raises(Exception, match="heads must divide the outputs, in pairs"):
        Operator("Project", ["x", "w", "s"], w, heads=5, epsilon=0.0)
    with pytest.raises(Exception, match="weights must be initializers"):
        Operator("Linear", ["x", "w", "s"], {"w": w["w"]})
    none, ones = random((2, 1, 0, 8)), np.ones(1, np.float32)
    with pytest.raises(Exception, match="there must be a key"):
        Operator("TextAttention", ["q", "s", "k", "v", "b"])(
            (4, 2, 8), q=random((4, 2, 1, 8)), s=ones, k=none, v=none, b=random((2, 0))
        )
    with pytest.raises(Exception, match="there must be one scale and a key head"):
        Operator("Attention", ["q", "s", "k", "v"], halves="kv")(
            (4, 1, 16), q=random((4, 1, 2, 8)), s=ones, k=bf16(random((4, 1, 0, 8))), v=bf16(random((4, 1, 0, 8)))
        )
    q, k = random((4, 1, 2, 8)), bf16(random((4, 1, 2, 6)))
    with pytest.raises(Exception, match=r"keys and values must be \(tokens, R, G, d\)"):
        Operator("Attention", ["q", "s", "k", "v"], halves="kv")((4, 1, 16), q=q, s=np.ones(1, np.float32), k=k, v=k)


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    """The same tests for the kernels of any other CPU."""
    environment = {**os.environ, "FLAGDIT_NO_AMX": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout  # this one
