"""Operators of opset 23, written out in those of opset 20: for TensorRT before 10.15, JetPack 6's among them.

What is left unchanged has the same meaning in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.precision import constant, import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 20


def to_plain(model: ir.Model) -> int:
    """Write Attention, RMSNormalization, RotaryEmbedding and Gelu out, in place. Returns how many there were.

    A step has more kernels then, and whether attention is fused is up to the compiler. Raises BackendError if onnx_ir
    is not installed, BuildError for one that is made otherwise than flagdit.export does.
    """
    ir, count = import_ir(), 0
    for node in list(model.graph):
        if node.op_type not in WAYS or node.domain not in ("", "ai.onnx"):
            continue
        write = Writer(model.graph, node, ir.DataType.FLOAT)
        old, made = node.outputs[0], WAYS[node.op_type](write, node)
        made.type, made.shape, name = old.type, old.shape, old.name
        output = old in model.graph.outputs
        old.replace_all_uses_with(made, replace_graph_outputs=output)
        model.graph.remove(node, safe=True)
        if output:
            made.name = name
        count += 1
    model.opset_imports[""] = OPSET
    return count


def _attention(write: Writer, node: ir.Node) -> ir.Value:
    """softmax(q k^T scale + mask) v of q (R, H, A, d), k and v (R, G, M, d): H / G heads of q share one of k and v."""
    attributes, (q, k, v, *rest) = node.attributes, _inputs(node)
    off = ("is_causal", "softcap", "qk_matmul_output_mode", "softmax_precision")
    if len(node.outputs) > 1 or len(rest) > 1 or any(_number(node, name) for name in off) or "scale" not in attributes:
        raise _refused(node)
    heads, shared, width = _axis(q, 1, node), _axis(k, 1, node), _axis(q, 3, node)
    values = _axis(v, 3, node)
    mask = rest[0] if rest else None
    scale, own = attributes["scale"].as_float(), q.dtype or write.ir.DataType.FLOAT
    q = q if scale == 1 else write.add("Mul", q, _typed(write, scale, own))
    if heads != shared:
        q = write.shaped(q, 0, shared, heads // shared, -1, width)
        k, v = (write.add("Unsqueeze", value, write.numbers(2)) for value in (k, v))
        mask = None if mask is None else write.add("Unsqueeze", mask, write.numbers(1))
    order = [0, 1, 3, 2] if heads == shared else [0, 1, 2, 4, 3]
    scores = write.add("MatMul", q, write.turned(k, *order))
    if mask is not None:
        scores = write.add("Add", scores, mask)
    out = write.add("MatMul", write.add("Softmax", scores, axis=-1), v)
    return out if heads == shared else write.shaped(out, 0, heads, -1, values)


def _rms_norm(write: Writer, node: ir.Node) -> ir.Value:
    """x / sqrt(mean(x^2) + epsilon) in fp32, then the weight."""
    x, weight = _inputs(node)
    if _number(node, "axis", -1) != -1:
        raise _refused(node)
    ir, own = write.ir, x.dtype or write.ir.DataType.FLOAT
    wide = x if own == ir.DataType.FLOAT else write.add("Cast", x, to=ir.DataType.FLOAT.value)
    mean = write.add("ReduceMean", write.add("Mul", wide, wide), write.numbers(-1), keepdims=1)
    epsilon = _typed(write, _number(node, "epsilon", 1e-5), ir.DataType.FLOAT)
    normed = write.add("Div", wide, write.add("Sqrt", write.add("Add", mean, epsilon)))
    narrow = normed if own == ir.DataType.FLOAT else write.add("Cast", normed, to=own.value)
    return write.add("Mul", narrow, weight)


def _rotary(write: Writer, node: ir.Node) -> ir.Value:
    """Pairs of the numbers of a head, turned: x (A, R, H d), cos and sin (A, R, d / 2)."""
    x, cos, sin, *rest = _inputs(node)
    heads = int(_number(node, "num_heads"))
    if rest or _number(node, "interleaved") != 1 or not heads or _number(node, "rotary_embedding_dim"):
        raise _refused(node)
    width = _axis(x, 2, node)
    pairs = write.shaped(x, 0, 0, heads, width // heads // 2, 2)
    first, second = write.add_many("Split", pairs, outputs=2, axis=-1, num_outputs=2)
    cos, sin = (write.add("Unsqueeze", value, write.numbers(2, 4)) for value in (cos, sin))
    real = write.add("Sub", write.add("Mul", first, cos), write.add("Mul", second, sin))
    turned = write.add("Add", write.add("Mul", first, sin), write.add("Mul", second, cos))
    return write.shaped(write.joined([real, turned], -1), 0, 0, width)


def _gelu(write: Writer, node: ir.Node) -> ir.Value:
    """x / 2 (1 + erf(x / sqrt(2))), or the tanh of that which models ask for."""
    (x,) = _inputs(node)
    how = node.attributes.get("approximate")
    own = x.dtype or write.ir.DataType.FLOAT

    def number(value: float) -> ir.Value:
        return _typed(write, value, own)

    if how is None or how.as_string() == "none":
        bent = write.add("Erf", write.add("Mul", x, number(0.5**0.5)))
    else:
        cube = write.add("Mul", write.add("Mul", x, x), x)
        whole = write.add("Add", x, write.add("Mul", cube, number(0.044715)))
        bent = write.add("Tanh", write.add("Mul", whole, number((2 / np.pi) ** 0.5)))
    return write.add("Mul", write.add("Mul", x, number(0.5)), write.add("Add", bent, number(1.0)))


WAYS: dict[str, Callable[[Writer, ir.Node], ir.Value]] = {
    "Attention": _attention,
    "RMSNormalization": _rms_norm,
    "RotaryEmbedding": _rotary,
    "Gelu": _gelu,
}


def _typed(write: Writer, value: float, dtype: ir.DataType) -> ir.Value:
    """A constant in the type of what it is calculated with."""
    made = constant(write.graph, f"plain.{value!r}", np.array(value, np.float32))
    return made if dtype == write.ir.DataType.FLOAT else write.add("Cast", made, to=dtype.value)


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _number(node: ir.Node, name: str, default: float = 0) -> float:
    found = node.attributes.get(name)
    return default if found is None else float(found.value)


def _axis(value: ir.Value | None, axis: int, node: ir.Node) -> int:
    """A size that is a number."""
    size = None if value is None or value.shape is None else value.shape[axis]
    if not isinstance(size, int):
        raise _refused(node)
    return size


def _refused(node: ir.Node) -> BuildError:
    return BuildError(f"{node.op_type} {node.name}: is not made as flagdit.export makes it; export the model again")
