"""The CPU operators in NumPy: which inputs and attributes they take, and what they give. Python's integers do not wrap.

Letters: A active tokens, M cached ones, R rows, K inputs and N outputs of a matrix, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from operator_session import Array, wide

Inputs = Mapping[str, npt.NDArray[np.generic] | None]
Attributes = Mapping[str, float]
NAMES = {
    "Linear": "x weights scales residual gates bias out_weight",
    "FeedForward": "x norm_weight modulation w1 scales1 w2 scales2 w3 scales3 residual gates bias1 bias2 out_weight",
    "Project": "x norm_weight modulation wq scales_q wk scales_k wv scales_v cos sin q_weight q_bias k_weight k_bias "
    "bias_q bias_k bias_v",
    "Attention": "query scale keys values key_tail value_tail text_keys text_values text_bias text_gate bias",
}
"""The inputs of every operator, in order."""
OPTIONAL = (
    {"residual", "gates"},
    {"norm_weight", "modulation"},
    {"cos", "sin"},
    {"q_weight", "q_bias"},
    {"k_weight", "k_bias"},
    {"key_tail", "value_tail"},
    {"text_keys", "text_values", "text_bias", "text_gate"},
    {"w3", "scales3"},
    *({name} for name in ("bias", "out_weight", "bias1", "bias2", "bias_q", "bias_k", "bias_v")),
)
"""What is left out together or not at all."""


class RefusedError(Exception):
    """The operator must not take this."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise RefusedError(what)


def int8_product(x: Array, w: tuple[npt.NDArray[np.int8], Array]) -> Array:
    """x (..., K) in 127 levels to each side, one scale a token; exact sums."""
    largest = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-30))
    levels = np.rint(x * (np.float32(127) / largest)).astype(np.int32)
    sums = levels.reshape(math.prod(x.shape[:-1]), x.shape[-1]) @ w[0].T.astype(np.int32)  # NumPy loops over other axes
    unit = largest / np.float32(127)
    return sums.reshape(*x.shape[:-1], len(w[0])).astype(np.float32) * (unit * w[1].reshape(-1))


def modulated(
    x: Array, norm: Array, scale: Array, shift: Array | float, epsilon: float = 1e-5, centred: float = 0
) -> Array:
    """RMSNorm, or LayerNorm if x is centred first, modulated."""
    x = x - x.mean(-1, keepdims=True) if centred else x
    rms = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(epsilon))
    out: Array = x / rms * norm * (1 + scale) + shift
    return out


def gelu(x: Array) -> Array:
    """By tanh."""
    out: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return out


def attend(q: Array, scale: float, k: Array, v: Array, bias: Array | None) -> npt.NDArray[np.float64]:
    """q (A, R, H, d), k and v (N, R, G, d), bias (R, N): (A, R, H * d)."""
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat(groups, 2), v.repeat(groups, 2)
    scores = np.einsum("arhd,nrhd->rhan", q.astype(np.float64), k) * scale
    scores = scores if bias is None else scores + bias[:, None, None]
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    out: npt.NDArray[np.float64] = np.einsum("rhan,nrhd->arhd", weight, v)
    return out.reshape(*q.shape[:2], -1)


def vectors(x: Array, which: int, rows: int, width: int) -> Array:
    """Vector `which` of every row of x (R, ..., N), or of x (N): (R or 1, N)."""
    need(x.ndim > 0 and x.shape[-1] == width and (x.ndim == 1 or x.shape[0] == rows), "vectors")
    need(0 <= which < math.prod(x.shape[1:-1]), "which")
    return x.reshape(-1, math.prod(x.shape[1:-1]), width)[:, which] if x.size else x.reshape(-1, width)


def matrix(inputs: Inputs, weights: str, scales: str) -> tuple[npt.NDArray[np.int8], Array]:
    w, s = inputs[weights], inputs[scales]
    need(w.ndim == 2 and 1 <= w.shape[1] <= 132104 and w.shape[0] >= 1 and s.size == w.shape[0], weights)
    return w, s


def into(inputs: Inputs, attributes: Attributes, width: int) -> Array:
    """x, modulated."""
    x = inputs["x"]
    need(x.ndim == 3 and x.shape[2] == width, "x")
    norm, rows = inputs.get("norm_weight"), x.shape[1]
    if norm is None:
        return x
    need(norm.size == width, "norm_weight")
    scale, shift = (
        0.0
        if name == "shift" and attributes[name] == -1
        else vectors(inputs["modulation"], attributes[name], rows, width)
        for name in ("scale", "shift")
    )
    return modulated(x, norm.reshape(-1), scale, shift, attributes["epsilon"], attributes.get("centred", 0))


def biased(y: Array, bias: Array | None) -> Array:
    need(bias is None or bias.size == y.shape[-1], "bias")
    return y if bias is None else y + bias.reshape(-1)


def gated(inputs: Inputs, attributes: Attributes, y: Array, bias: str) -> Array:
    y, norm = biased(y, inputs.get(bias)), inputs.get("out_weight")
    if norm is not None:
        need(norm.size == y.shape[-1], "out_weight")
        rms = np.sqrt(np.square(y).mean(-1, keepdims=True) + np.float32(attributes.get("out_epsilon", 0)))
        y = y / rms * norm.reshape(-1)
    residual = inputs.get("residual")
    if residual is None:
        return y
    need(residual.shape == y.shape, "residual")
    return residual + vectors(inputs["gates"], attributes["gate"], y.shape[1], y.shape[2]) * y


def linear(inputs: Inputs, attributes: Attributes) -> list[Array]:
    w = matrix(inputs, "weights", "scales")
    return [gated(inputs, attributes, int8_product(into(inputs, attributes, w[0].shape[1]), w), "bias")]


def feed_forward(inputs: Inputs, attributes: Attributes) -> list[Array]:
    w1, w2 = (matrix(inputs, f"w{i}", f"scales{i}") for i in (1, 2))
    need(w2[0].shape[1] == w1[0].shape[0], "w1 and w2")
    x = into(inputs, attributes, w1[0].shape[1])
    gate, bias = int8_product(x, w1), inputs.get("bias1")
    if inputs["w3"] is None:
        hidden = gelu(biased(gate, bias))
    else:
        w3 = matrix(inputs, "w3", "scales3")
        need(w1[0].shape == w3[0].shape and bias is None, "w3")
        hidden = gate / (1 + np.exp(-gate)) * int8_product(x, w3)
    return [gated(inputs, attributes, int8_product(hidden.astype(np.float32), w2), "bias2")]


def each_normed(y: npt.NDArray[np.float64], weight: Array, size: int, epsilon: float) -> npt.NDArray[np.float64]:
    """RMSNorm of each head."""
    need(weight.size == size, "norm")
    heads = y.reshape(*y.shape[:-1], y.shape[-1] // size, size)
    return (heads / np.sqrt(np.square(heads).mean(-1, keepdims=True) + epsilon) * weight.reshape(-1)).reshape(y.shape)


def normed(y: npt.NDArray[np.float64], weight: Array, bias: Array, epsilon: float) -> npt.NDArray[np.float64]:
    need(weight.size == y.shape[-1] and bias.size == y.shape[-1], "norm")
    spread = np.sqrt(y.var(-1, keepdims=True) + epsilon)
    return (y - y.mean(-1, keepdims=True)) / spread * weight.reshape(-1) + bias.reshape(-1)


def project(inputs: Inputs, attributes: Attributes) -> list[Array]:
    ws, size = [matrix(inputs, f"w{x}", f"scales_{x}") for x in "qkv"], attributes["size"]
    need(size > 0 and size % 2 == 0, "size")
    need(all(w.shape[0] % size == 0 and w.shape[1] == ws[0][0].shape[1] for w, _ in ws), "weights")
    x, outs = into(inputs, attributes, ws[0][0].shape[1]), []
    for name, w in zip("qkv", ws, strict=True):
        y = biased(int8_product(x, w), inputs.get(f"bias_{name}")).astype(np.float64)
        if name != "v":
            norm, cos, sin = (inputs.get(part) for part in (f"{name}_weight", "cos", "sin"))
            epsilon, each = attributes["norm_epsilon"], attributes.get("each_head", 0)
            need(not each or inputs[f"{name}_bias"] is None, "each_head")
            if norm is not None:
                y = (
                    each_normed(y, norm, int(size), epsilon)
                    if each
                    else normed(y, norm, inputs[f"{name}_bias"], epsilon)
                )
            if cos is not None:
                need(cos.size == sin.size == x.shape[0] * x.shape[1] * size // 2, "cos and sin")
                turn = (cos + 1j * sin.reshape(cos.shape)).reshape(*x.shape[:2], 1, size // 2)
                pairs = y.reshape(*x.shape[:2], w[0].shape[0] // size, size // 2, 2)
                turned = (pairs[..., 0] + 1j * pairs[..., 1]) * turn
                y = np.stack([turned.real, turned.imag], -1)
        outs.append(y.reshape(*x.shape[:2], w[0].shape[0] // size, size).astype(np.float32))
    return outs


def attention(inputs: Inputs, attributes: Attributes) -> list[Array]:
    q, scale, *cached = (inputs.get(name) for name in NAMES["Attention"].split())
    k, v, k_tail, v_tail, text_k, text_v, text_bias, gate, bias = cached
    need(q.ndim == 4 and k.ndim == 4 and scale.size == 1, "ranks")
    a, r, h, d = q.shape
    g = k.shape[2]
    need(min(h, d, g) > 0 and h % max(g, 1) == 0, "heads")
    for key, value in ((k, v), (k_tail, v_tail)):
        need(key is None or (key.shape == value.shape and key.ndim == 4 and key.shape[1:] == (r, g, d)), "slots")
    keys, values = k, v
    if k_tail is not None:
        keys, values = np.concatenate([k, k_tail]), np.concatenate([v, v_tail])
    if text_k is not None:
        need(text_k.shape == text_v.shape and text_k.ndim == 4 and text_k.shape[::3] == (r, d), "text")
        need(text_k.shape[1] == g and text_bias.size == r * text_k.shape[2] and gate.size == h * d, "text")
    need(bias is None or bias.size == r * len(keys), "bias")
    if a * r == 0:
        return [np.zeros((a, r, h * d), np.float32)]
    need(len(keys) > 0, "a key")
    out = attend(
        q, float(scale.reshape(-1)[0]), wide(keys), wide(values), None if bias is None else bias.reshape(r, -1)
    )
    if text_k is not None and text_k.shape[2] > 0:
        words = [np.moveaxis(wide(x), 2, 0) for x in (text_k, text_v)]
        out += gate.reshape(-1) * attend(q, attributes["text_scale"], *words, text_bias.reshape(r, -1))
    return [out.astype(np.float32)]


OPERATORS = {"Linear": linear, "FeedForward": feed_forward, "Project": project, "Attention": attention}


def outputs(op: str, inputs: Inputs, attributes: Attributes, names: set[str]) -> list[Array]:
    """What an operator gives; raises RefusedError for what it must not take. names: of its attributes."""
    need(names <= set(attributes), "attributes")
    each = {"q_bias", "k_bias"} if attributes.get("each_head", 0) else set()
    for group in OPTIONAL:
        there = {name for name in group if inputs.get(name) is not None}
        need(not there or there == (group & set(inputs)) - each, "optional inputs")
    for name, value in attributes.items():
        need(math.isfinite(value) and (value >= (-1 if name == "shift" else 0) or name == "text_scale"), name)
        need(not isinstance(value, float) or abs(value) < 3.5e38, name)
        need(name not in ("centred", "each_head") or value <= 1, name)
    with np.errstate(all="ignore"):
        return OPERATORS[op](inputs, attributes)
