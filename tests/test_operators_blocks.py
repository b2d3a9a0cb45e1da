"""Attention a block of queries at a time: against NumPy, and against ONNX Runtime's own to the bit.

Letters: A queries, N keys, R rows, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from operator_session import Array, near, random

from flagdit.cpp_ext import BLOCKS, OPERATORS

CASES = {  # A, N, R, H, G, d, rows and heads of the mask (0: none)
    "whole": (20, 30, 2, 4, 4, 16, 0, 0),
    "blocks": (500, 900, 2, 4, 4, 16, 0, 0),  # of 4 MiB scores are whole; here 14 are in blocks of 250
    "blocks of other sizes": (401, 1500, 1, 6, 2, 8, 0, 0),
    "many heads": (90, 90, 8, 32, 32, 8, 0, 0),  # 8 MiB, each of which is one block
    "the fewest queries": (130, 9000, 1, 3, 1, 8, 0, 0),
    "a mask of each row": (500, 900, 2, 4, 4, 16, 2, 1),
    "a mask of each head": (500, 900, 2, 4, 4, 16, 1, 4),
    "a mask of both": (500, 900, 2, 4, 4, 16, 2, 4),
    "a mask of all": (500, 900, 2, 4, 2, 16, 1, 1),
    "a small mask": (9, 7, 2, 4, 2, 16, 2, 1),
}
NAMES = ("Q", "K", "V", "attn_mask")


def session(inputs: int, blocks: bool, threads: int = 1, **attributes: float) -> ort.InferenceSession:
    """One node of ONNX's Attention with a scale of .3."""
    node = helper.make_node("Attention", NAMES[:inputs], ["Y"], **{"scale": 0.3, **attributes})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*NAMES[:inputs], "Y")]
    graph = helper.make_graph([node], "one", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    if blocks:
        options.add_session_config_entry(BLOCKS, "1")
    options.register_custom_ops_library(OPERATORS)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def operands(case: str) -> dict[str, Array]:
    a, n, r, h, g, d, rows, heads = CASES[case]
    inputs = {"Q": random((r, h, a, d)), "K": random((r, g, n, d), 1), "V": random((r, g, n, d), 2)}
    return inputs | ({"attn_mask": random((rows, heads, a, n), 3)} if rows else {})


def attention(q: Array, k: Array, v: Array, mask: Array | None) -> np.ndarray:
    groups = q.shape[1] // k.shape[1]
    scores = 0.3 * q.astype(np.float64) @ k.repeat(groups, 1).swapaxes(2, 3)
    scores = scores if mask is None else scores + mask
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True) @ v.repeat(groups, 1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_attention_in_blocks(case: str, threads: int) -> None:
    inputs = operands(case)
    (got,) = session(len(inputs), True, threads).run(None, inputs)
    near(got, attention(inputs["Q"], inputs["K"], inputs["V"], inputs.get("attn_mask")), 1e-5)
    (native,) = session(len(inputs), False).run(None, inputs)
    np.testing.assert_array_equal(got, native)


def test_no_queries() -> None:
    inputs = {"Q": random((2, 4, 0, 8)), "K": random((2, 4, 5, 8)), "V": random((2, 4, 5, 8))}
    (got,) = session(3, True).run(None, inputs)
    assert got.shape == (2, 4, 0, 8)


BAD = {
    "rank": ({"Q": (4, 20, 16)}, "Q: got shape (4, 20, 16), allowed (R, H, A, d)"),
    "heads": ({"Q": (2, 3, 20, 16)}, "Q: got shape (2, 3, 20, 16), allowed heads (axis 1) that are a multiple"),
    "rows": ({"K": (1, 4, 30, 16)}, "K: got shape (1, 4, 30, 16), allowed (R, G, tokens, d), here (2, 4, 30, 16)"),
    "values": ({"V": (2, 4, 29, 16)}, "V: got shape (2, 4, 29, 16), allowed (R, G, tokens, d), here (2, 4, 30, 16)"),
    "no keys": ({"K": (2, 4, 0, 16), "V": (2, 4, 0, 16)}, "K: got shape (2, 4, 0, 16), allowed 1 or more on axis 2"),
    "mask": ({"attn_mask": (2, 2, 20, 30)}, "attn_mask: got shape (2, 2, 20, 30), allowed (R or 1, H or 1, A, tokens)"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_shapes(case: str) -> None:
    changed, message = BAD[case]
    shapes = {"Q": (2, 4, 20, 16), "K": (2, 4, 30, 16), "V": (2, 4, 30, 16), **changed}
    with pytest.raises(Exception, match=r"flagdit\.Attention") as error:
        session(len(shapes), True).run(None, {name: random(shape) for name, shape in shapes.items()})
    assert message in str(error.value)


@pytest.mark.parametrize(("attribute", "value"), [("is_causal", 1), ("softcap", 2.0)])
def test_refuses_what_it_would_compute_otherwise(attribute: str, value: float) -> None:
    with pytest.raises(Exception, match=f"flagdit.Attention: {attribute}: got .*, allowed 0, or none"):
        session(3, True, **{attribute: value})
