"""What the graphs of flagdit.export are made of, found again: by the nodes before and after a value.

Letters: A active tokens, R rows, H heads, d head size, K inputs of a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

Inputs = tuple["ir.Value | None", ...]


def made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that makes `value`, if it is such a one."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in ops and not node.domain else None


def only_use(value: ir.Value, op: str) -> ir.Node | None:
    """The one node that `value` goes to, if it is such a one."""
    users = {use.node for use in value.uses()}
    return next((node for node in users if node.op_type == op), None) if len(users) == 1 else None


def attention_of(flat: ir.Value | None) -> ir.Node | None:
    """The attention whose output (A, R, H * d) is."""
    reshaped = made_by(flat, "Reshape")
    turned = made_by(reshaped.inputs[0], "Transpose") if reshaped is not None else None
    return made_by(turned.inputs[0], "Attention") if turned is not None else None


def other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other one of two operands."""
    return next(operand for operand in node.inputs if operand is not value)


def integer(value: ir.Value | None) -> int | None:
    """What a constant of one number is."""
    constant = import_ir().convenience.get_const_tensor(value) if value is not None else None
    return int(constant.numpy().reshape(())) if constant is not None and constant.size == 1 else None


def vector_of(value: ir.Value) -> tuple[ir.Value, int]:
    """(R, ..., K) and the number of the vector (K) of each row that `value` is, one after another cut out of it."""
    number, stride = 0, 1
    while True:
        squeezed = made_by(value, "Squeeze")
        cut = made_by(squeezed.inputs[0] if squeezed is not None else value, "Slice")
        if cut is None or cut.inputs[0] is None or cut.inputs[0].shape is None:
            return value, number
        start, end, axis = (integer(bound) for bound in cut.inputs[1:4])
        whole, size = cut.inputs[0], cut.inputs[0].shape[1]
        if start is None or start < 0 or end != start + 1 or axis != 1 or not isinstance(size, int):
            return value, number
        value, number, stride = whole, number + start * stride, stride * size


@dataclass(frozen=True)
class Modulated:
    """x / rms(x) * weight * (1 + scale) + shift, of vectors `scale` and `shift` of every row of `vectors`."""

    x: ir.Value
    weight: ir.Value
    vectors: ir.Value
    attributes: dict[str, float]

    @classmethod
    def of(cls, value: ir.Value | None) -> Modulated:
        """How `value` is made. Raises BuildError if it is not made so."""
        total = made_by(value, "Add")
        product = made_by(total.inputs[0], "Mul") if total is not None else None
        norm = made_by(product.inputs[0], "RMSNormalization") if product is not None else None
        more = made_by(product.inputs[1], "Add") if product is not None else None
        if total is None or norm is None or more is None or integer(more.inputs[1]) != 1:
            raise BuildError(f"{value}: not modulated as expected; export the model again with this flagdit")
        x, weight, scale, shift = (*norm.inputs[:2], more.inputs[0], total.inputs[1])
        assert x is not None and weight is not None and scale is not None and shift is not None
        (vectors, scale_number), (same, shift_number) = vector_of(scale), vector_of(shift)
        if vectors is not same:
            raise BuildError(f"{value}: scale and shift of two tensors; export the model again with this flagdit")
        epsilon = norm.attributes["epsilon"].as_float()
        return cls(x, weight, vectors, {"epsilon": epsilon, "scale": scale_number, "shift": shift_number})

    @property
    def inputs(self) -> Inputs:
        return self.x, self.weight, self.vectors


@dataclass(frozen=True)
class Heads:
    """x W^T, with a norm over all heads and a rotation or without, as heads of `size` values."""

    product: ir.Node
    norm: ir.Node | None
    rotary: ir.Node | None
    size: int

    @classmethod
    def of(cls, value: ir.Value | None) -> Heads:
        """How `value` (A, R, heads, size) is made. Raises BuildError if it is not made so."""
        heads = made_by(value, "Reshape")
        size = value.shape[3] if value is not None and value.shape is not None and len(value.shape) == 4 else None
        last = heads.inputs[0] if heads is not None else None
        rotary = made_by(last, "RotaryEmbedding")
        last = rotary.inputs[0] if rotary is not None else last
        norm = made_by(last, "LayerNormalization")
        product = made_by(norm.inputs[0] if norm is not None else last, "MatMul")
        if product is None or not isinstance(size, int):
            raise BuildError(f"{value}: heads of another kind; export the model again with this flagdit")
        return cls(product, norm, rotary, size)
