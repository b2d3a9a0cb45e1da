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
BF16, FLOAT = TensorProto.BFLOAT16, TensorProto.FLOAT
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
        **attributes: float,
    ) -> None:
        """halves: which inputs are bf16."""
        kinds = {"Project": (FLOAT, BF16, BF16)}.get(op, (FLOAT,))
        self.outputs = {f"out{i}": kind for i, kind in enumerate(kinds)}
        node = helper.make_node(op, [name or "" for name in inputs], list(self.outputs), domain="flagdit", **attributes)
        given = dict.fromkeys(name for name in inputs if name is not None and name not in constants)
        borders = [helper.make_tensor_value_info(name, BF16 if name in halves else FLOAT, None) for name in given]
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        made = [helper.make_tensor_value_info(name, kind, None) for name, kind in self.outputs.items()]
        graph = helper.make_graph([node], "one", borders, made, tensors)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("flagdit", 1)]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(OPERATORS)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.halves = halves

    def all(self, *shapes: tuple[int, ...], **inputs: npt.NDArray[np.generic]) -> list[Array]:
        """The outputs, which are of these shapes."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            kind = BF16 if name in self.halves else array.dtype.type
            binding.bind_input(name, "cpu", 0, kind, array.shape, array.ctypes.data)
        outs = []
        for (name, kind), shape in zip(self.outputs.items(), shapes, strict=True):
            outs.append(np.full(shape, 7, np.uint16 if kind == BF16 else np.float32))
            dtype = BF16 if kind == BF16 else np.float32
            binding.bind_output(name, "cpu", 0, dtype, shape, outs[-1].ctypes.data)
        self.session.run_with_iobinding(binding)
        return [wide(out) if out.dtype == np.uint16 else out for out in outs]

    def __call__(self, shape: tuple[int, ...], **inputs: npt.NDArray[np.generic]) -> Array:
        """The only output."""
        (out,) = self.all(shape, **inputs)
        return out


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
    near(got, attend(q, 0.3, k, v, None), TOLERANCE["attention"])


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
    near(got, attend(q, 0.3, k, v, None) + gate * attend(q, 0.2, x, y, bias), TOLERANCE["attention"])


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


# --- products

SHAPES = {"small": (7, 2, 100, 50), "tiles": (64, 1, 128, 64), "many": (150, 2, 256, 96), "one": (1, 1, 64, 32)}
PLAIN = {"epsilon": 0.0, "scale": 0, "shift": 0}  # without a modulation


def modulated(x: Array, norm: Array, scale: Array, shift: Array) -> Array:
    """RMSNorm with an epsilon of 1e-5, modulated."""
    rms = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(1e-5))
    out: Array = x / rms * norm * (1 + scale) + shift
    return out


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_sums_exactly(shape: str, threads: int) -> None:
    a, r, k, n = SHAPES[shape]
    x, w = random((a, r, k)), weights(n, k, 1)
    x[a // 2] = 0 if a > 1 else x[0]
    operator = Operator("Linear", ["x", "w", "s"], dict(zip("ws", w, strict=True)), threads=threads, gate=0)
    near(operator((a, r, n), x=x), int8_product(x, w), TOLERANCE["product"])


@pytest.mark.parametrize("gates", [(80,), (1, 80), (2, 80), (2, 3, 4, 80)], ids=str)
def test_linear_with_a_residual(gates: tuple[int, ...]) -> None:
    """One gate for all, one a row, or some of many."""
    a, r, k, n = 40, gates[0] if len(gates) > 1 else 2, 96, 80
    x, w, y, gate = random((a, r, k)), weights(n, k, 1), random((a, r, n), 2), random(gates, 3)
    number = 7 if len(gates) > 2 else 0
    operator = Operator("Linear", ["x", "w", "s", "y", "g"], dict(zip("ws", w, strict=True)), gate=number)
    used = gate.reshape(-1, 12, n)[:, number] if number else gate
    near(operator((a, r, n), x=x, y=y, g=gate), y + used * int8_product(x, w), TOLERANCE["product"])


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
    for out, w, tolerance in zip(got, ws, (TOLERANCE["product"], 3e-3, 3e-3), strict=True):
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
    with pytest.raises(Exception, match=r"flagdit\.Linear: x must be \(A, R, the weights' inputs\)"):
        linear((4, 1, 32), x=random((4, 1, 60)))
    x, y = random((4, 2, 64)), random((4, 2, 32))
    gated = Operator("Linear", ["x", "w", "s", "y", "g"], w, gate=2)
    for gates, message in (((2, 2, 32), "there are fewer vectors"), ((3, 3, 32), r"\(R, ..., N\) or \(N\)")):
        with pytest.raises(Exception, match=message):
            gated((4, 2, 32), x=x, y=y, g=random(gates))
    three = {f"{name}{i}": part for i in range(3) for name, part in w.items()}
    with pytest.raises(Exception, match="an even head size must divide the outputs"):
        Operator("Project", ["x", None, None, *three], three, **PLAIN, size=5, norm_epsilon=0.0)
    with pytest.raises(Exception, match="weights must be initializers"):
        Operator("Linear", ["x", "w", "s"], {"w": w["w"]}, gate=0)
    ones, attention = np.ones(1, np.float32), Operator("Attention", ["q", "s", "k", "v"], halves="kv", **NO_TEXT)
    none = bf16(random((0, 2, 1, 8)))
    with pytest.raises(Exception, match=r"keys and values must be \(tokens, R, G, d\)"):
        attention((4, 1, 8), q=random((4, 1, 1, 8)), s=ones, k=none, v=none)
    with pytest.raises(Exception, match="there must be a key"):
        attention((4, 2, 8), q=random((4, 2, 1, 8)), s=ones, k=none, v=none)
    with pytest.raises(Exception, match="there must be one scale and a key head"):
        k = bf16(random((4, 1, 0, 8)))
        attention((4, 1, 16), q=random((4, 1, 2, 8)), s=ones, k=k, v=k)
    with_text = Operator("Attention", ["q", "s", "k", "v", None, None, "x", "y", "b", "g"], halves="kvxy", **NO_TEXT)
    q, k, text = random((4, 1, 2, 8)), bf16(random((4, 1, 2, 8))), bf16(random((1, 2, 5, 8)))
    fits = {"q": q, "s": ones, "k": k, "v": k, "x": text, "y": text, "b": random((1, 5)), "g": random((16,))}
    for name, wrong, message in (
        ("x", bf16(random((1, 2, 5, 6))), r"the text's keys must be \(R, G, T, d\)"),
        ("b", random((1, 4)), r"the text's bias must be \(R, T\)"),
        ("g", random((8,)), r"the text's gate must be \(H \* d\)"),
    ):
        with pytest.raises(Exception, match=message):
            with_text((4, 1, 16), **{**fits, name: wrong})


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    """The same tests for the kernels of any other CPU."""
    environment = {**os.environ, "FLAGDIT_NO_AMX": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout  # this one
