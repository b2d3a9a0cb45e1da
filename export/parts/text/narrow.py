"""A graph whose matrices are in blocks: products by MatMulNBits, tables looked up narrow and widened row by row."""

from __future__ import annotations

import onnx_ir as ir

from flagdit.export.blocks import BLOCK, Blocks
from flagdit.export.errors import ExportError

DOMAIN = "com.microsoft"
EXACT = 1
"""MatMulNBits' accuracy level of activations in fp32. From 4 on they are rounded to 8 bits."""


def put_blocks(
    model: ir.Model, value: ir.Value, how: Blocks, codes: ir.TensorProtocol, scale: ir.TensorProtocol
) -> None:
    """Let all that reads the initialiser `value` read these in its place; it is removed.

    value: (N, K), or (K, N) where MatMul reads it as it is. codes, scale: as Blocks has them; both have names.
    """
    graph = model.graph
    parts = [_initializer(graph, tensor) for tensor in (codes, scale)]
    uses = list(value.uses())
    for node, _ in uses:
        if node.op_type == "Transpose":
            for product, _ in list(node.outputs[0].uses()):
                _multiply(model, product, how, *parts)
            graph.remove(node, safe=True)
        elif node.op_type == "Gather" and how.table:
            _look_up(graph, node, *parts)
        else:
            _multiply(model, node, how, *parts)
    graph.initializers.pop(value.name or "")


def _multiply(model: ir.Model, node: ir.Node, how: Blocks, codes: ir.Value, scale: ir.Value) -> None:
    """Make a MatMul, or the Gemm of a layer, one of blocks."""
    if node.op_type not in ("MatMul", "Gemm") or how.table:
        raise ExportError(f"{codes.name}: {node.op_type} reads it, which cannot be in blocks; export it as float16")
    bias = node.inputs[2:] if node.op_type == "Gemm" else ()
    given = node.inputs[0]
    assert given is not None and codes.shape is not None
    if how.copies > 1:
        given = _twice(model.graph, given)
    outputs, blocks, _ = codes.shape.numpy()
    sizes = {"K": blocks * BLOCK, "N": outputs, "bits": 4, "block_size": BLOCK, "accuracy_level": EXACT}
    attributes = [ir.AttrInt64(name, size) for name, size in sizes.items()]
    old = node.outputs[0]
    inputs = [given, codes, scale, *((None, None, *bias) if bias else ())]
    new = ir.Node(DOMAIN, "MatMulNBits", inputs, attributes, num_outputs=1)
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], [new], [old], [new.outputs[0]])
    model.graph.opset_imports[DOMAIN] = 1


def _twice(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A value beside itself along its last axis, made once."""
    for user, _ in value.uses():
        if user.op_type == "Concat" and len(user.inputs) == 2 and user.inputs[0] is user.inputs[1] is value:
            return user.outputs[0]
    node = ir.Node("", "Concat", [value, value], [ir.AttrInt64("axis", -1)], num_outputs=1)
    node.outputs[0].name = f"{value.name}.twice"
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return node.outputs[0]


def _look_up(graph: ir.Graph, lookup: ir.Node, codes: ir.Value, scale: ir.Value) -> None:
    """Rows and their scales, and only those widened: not the whole table in every run."""
    found, factors = (ir.Node("", "Gather", [part, lookup.inputs[1]], num_outputs=1) for part in (codes, scale))
    attributes = [ir.AttrInt64("axis", -1), ir.AttrInt64("block_size", BLOCK)]
    wide = ir.Node("", "DequantizeLinear", [found.outputs[0], factors.outputs[0]], attributes, num_outputs=1)
    graph.insert_before(lookup, [found, factors, wide])
    ir.convenience.replace_all_uses_with(lookup.outputs[0], wide.outputs[0])
    graph.remove(lookup, safe=True)


def _initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    value = ir.Value(
        name=tensor.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
