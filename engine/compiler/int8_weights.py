"""Weights that are stored as int8: where a graph multiplies with them, and how to make them wide again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

MAX_PROTO = 2_000_000_000
"""Bytes of weights that a graph can carry itself."""


class Int8Weight(NamedTuple):
    """A matrix (N, K) that is stored as int8, its scales (N, 1), and the nodes that make it an operand, last first."""

    matrix: ir.Value
    scale: ir.Value
    widening: tuple[ir.Node, ...]


def int8_weight(node: ir.Node) -> Int8Weight | None:
    """What a MatMul multiplies with, if that is stored as int8: Transpose(Cast(matrix) * scale)."""
    if node.op_type != "MatMul":
        return None
    chain, value = [], node.inputs[1]
    for op in ("Transpose", "Mul", "Cast"):
        producer = value.producer() if value is not None else None
        if producer is None or producer.op_type != op:
            return None
        chain.append(producer)
        value = producer.inputs[0]
    scale = chain[1].inputs[1]
    if value is None or scale is None or not value.is_initializer() or value.dtype != import_ir().DataType.INT8:
        return None
    return Int8Weight(value, scale, tuple(chain))


def fold_int8(model: ir.Model) -> None:
    """Make int8 weights of `model` fp32 constants, in place: TensorRT takes int8 only in a scheme of its own.

    Raises BuildError if they are too large for that.
    """
    ir = import_ir()
    weights = [weight for node in model.graph if (weight := int8_weight(node)) is not None]
    if 4 * sum(_tensor(weight.matrix).size for weight in weights) > MAX_PROTO:
        raise BuildError("weights stored as int8 are for CPUs, and these are too large to widen: export with float16")
    for matrix, scale, (_, product, cast) in weights:
        wide = product.outputs[0]
        values = _tensor(matrix).numpy() * _tensor(scale).numpy()
        constant = ir.Value(name=wide.name, const_value=ir.tensor(values, name=wide.name))
        constant.dtype, constant.shape = ir.DataType.FLOAT, ir.Shape(values.shape)
        ir.convenience.replace_all_uses_with(wide, constant)
        model.graph.remove([product, cast], safe=True)
        for value in (matrix, scale):
            model.graph.initializers.pop(value.name or "")
        model.graph.initializers[constant.name] = constant


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    tensor = value.const_value
    assert tensor is not None  # it is an initializer
    return tensor
