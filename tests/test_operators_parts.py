"""What some blocks have and others do not, in the CPU operators, against NumPy: biases, norms of each head and at the
end, LayerNorm before a modulation, GELU, a bias of keys. With the CPU's tiles, and without.

Letters: A active tokens, R rows, K inputs and N outputs of a matrix, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import operator_numpy
import pytest
from operator_session import Array, Operator, bf16, near, passes_without_tiles, random
from test_operators_attention import NO_TEXT, TOLERANCE
from test_operators_products import weights

from flagdit.cpp_ext import has_amx

A, R, K = 70, 2, 48
MODULATED = {"epsilon": 1e-5, "scale": 2, "shift": 0}
CLOSE = 3e-3
"""Relative, rms: a value between two levels may fall to either side."""


def compared(op: str, shapes: list[tuple[int, ...]], inputs: dict[str, Array], **attributes: float) -> None:
    """All outputs of an operator, near NumPy's."""
    every = dict.fromkeys(operator_numpy.NAMES[op].split()) | inputs
    constants = {name: x for name, x in inputs.items() if name.startswith(("w", "scales"))}
    operator = Operator(op, [n if n in inputs else None for n in every], constants, **attributes)
    got = operator.all(*shapes, **{name: x for name, x in inputs.items() if name not in constants})
    expected = operator_numpy.outputs(op, every, attributes, set(attributes))
    without = operator_numpy.outputs(op, every | dict.fromkeys(IGNORED & inputs.keys()), attributes, set())
    for found, wanted, plain in zip(got, expected, without, strict=True):
        near(found, wanted, CLOSE)
        if IGNORED & inputs.keys():
            with pytest.raises(AssertionError):
                near(found, plain, CLOSE)


IGNORED = {"bias", "out_weight", "bias1", "bias2", "bias_q", "bias_k", "bias_v"}
"""What a result without them must not be taken for."""


@pytest.mark.parametrize("ending", [("bias",), ("out_weight",), ("bias", "out_weight")], ids=str)
@pytest.mark.parametrize("gated", [True, False])
def test_linear_ends(ending: tuple[str, ...], gated: bool) -> None:
    """A norm is of the product with its bias; the gate is of what the norm makes."""
    n = 80
    w = weights(n, K, 1)
    inputs = {"x": random((A, R, K)), "weights": w[0], "scales": w[1], **{name: random((n,), 3) for name in ending}}
    if gated:
        inputs |= {"residual": random((A, R, n), 4), "gates": random((R, 3, n), 5)}
    compared("Linear", [(A, R, n)], inputs, gate=1, out_epsilon=1e-5)


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("d", [16, 72, 10])
def test_projection_to_heads_that_are_normalised_each(d: int, centred: int) -> None:
    ws = [weights(heads * d, K, i) for i, heads in enumerate((4, 2, 2))]
    inputs = {"x": random((A, R, K)) + 1, "norm_weight": random((K,), 1), "modulation": random((R, 5, K), 2)}
    for name, w in zip("qkv", ws, strict=True):
        inputs |= {f"w{name}": w[0], f"scales_{name}": w[1], f"bias_{name}": random((len(w[0]),), 6)}
    inputs |= {"q_weight": random((d,), 7), "k_weight": random((d,), 8)}
    attributes = {**MODULATED, "shift": -1, "centred": centred, "each_head": 1, "size": d, "norm_epsilon": 1e-6}
    compared("Project", [(A, R, len(w[0]) // d, d) for w in ws], inputs, **attributes)


@pytest.mark.parametrize("kind", ["swiglu", "gelu", "gelu with biases"])
def test_feed_forward_of_a_centred_input(kind: str) -> None:
    n, f = 64, 96
    inputs = {"x": random((A, R, K)) + 1, "norm_weight": random((K,), 1), "modulation": random((R, 5, K), 2)}
    for name, shape in (("1", (f, K)), ("2", (n, f)), *([("3", (f, K))] if kind == "swiglu" else [])):
        w = weights(*shape, int(name))
        inputs |= {f"w{name}": w[0], f"scales{name}": w[1]}
    if kind == "gelu with biases":
        inputs |= {"bias1": random((f,), 6), "bias2": random((n,), 7)}
    else:
        inputs |= {"out_weight": random((n,), 8)}
    inputs |= {"residual": random((A, R, n), 4), "gates": random((R, n), 5)}
    compared("FeedForward", [(A, R, n)], inputs, **MODULATED, centred=1, gate=0, out_epsilon=1e-5)


@pytest.mark.parametrize("m", [0, 45])
def test_attention_with_a_bias_of_every_key(m: int) -> None:
    a, h, g, d = 33, 4, 2, 24
    slots = {"keys": (a, R, g, d), "values": (a, R, g, d), "key_tail": (m, R, g, d), "value_tail": (m, R, g, d)}
    inputs = {name: bf16(random(shape, i)) for i, (name, shape) in enumerate(slots.items())}
    inputs |= {"query": random((a, R, h, d)), "scale": random((1,)), "bias": 3 * random((R, 1, 1, a + m), 9)}
    names = operator_numpy.NAMES["Attention"].split()
    operator = Operator("Attention", [n if n in inputs else None for n in names], halves=[*slots], **NO_TEXT)
    got = operator((a, R, h * d), **inputs)
    every = dict.fromkeys(names) | inputs
    near(got, operator_numpy.outputs("Attention", every, NO_TEXT, set())[0], TOLERANCE)
    with pytest.raises(AssertionError):
        near(got, operator_numpy.outputs("Attention", every | {"bias": None}, NO_TEXT, set())[0], TOLERANCE)


@pytest.mark.skipif(not has_amx(), reason="that is what all the other tests do here")
def test_without_tiles() -> None:
    passes_without_tiles(__file__)
