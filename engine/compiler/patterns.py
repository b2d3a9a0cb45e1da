"""What the graphs of flagdit.export are made of, found again: by the nodes before and after a value.

Letters: A active tokens, R rows, H heads, d head size, K inputs of a matrix.
"""

from __future__ import annotations

import math
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


def epsilon_of(norm: ir.Node) -> float:
    """Of RMSNormalization or LayerNormalization: 1e-5 where a graph leaves it out."""
    return norm.attributes.get_float("epsilon", 1e-5)


def order_of(transpose: ir.Node) -> tuple[int, ...]:
    """Of axes, () where a graph leaves it out, which turns all of them around."""
    return tuple(transpose.attributes.get_ints("perm", ()))


def integer(value: ir.Value | None) -> int | None:
    """What a constant of one number is, if that is a whole one."""
    constant = import_ir().convenience.get_const_tensor(value) if value is not None else None
    number = float(constant.numpy().reshape(())) if constant is not None and constant.size == 1 else math.nan
    return int(number) if number.is_integer() else None


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """What a constant (n,) holds."""
    constant = import_ir().convenience.get_const_tensor(value) if value is not None else None
    return tuple(int(number) for number in constant.numpy().reshape(-1)) if constant is not None else None


def cut_of(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """What `value` (R, n, ...) is a part of, one after another on its second axis, and where that begins."""
    cut, split = made_by(value, "Slice"), made_by(value, "Split")
    if cut is not None and cut.inputs[0] is not None and len(cut.inputs) in (4, 5):
        start, axis, step = integer(cut.inputs[1]), integer(cut.inputs[3]), cut.inputs[4:] or (None,)
        if start is not None and start >= 0 and axis == 1 and (step[0] is None or integer(step[0]) == 1):
            return cut.inputs[0], start
    if split is not None and split.inputs[0] is not None and split.attributes.get_int("axis", 0) == 1:
        sizes = integers(split.inputs[1]) if len(split.inputs) > 1 else None
        if sizes is not None:
            return split.inputs[0], sum(sizes[: split.outputs.index(value)])
    return None


def vector_of(value: ir.Value) -> tuple[ir.Value, int]:
    """(R, ..., K) and the number of the vector (K) of each row that `value` is, one after another cut out of it."""
    number = 0
    while True:
        squeezed = made_by(value, "Squeeze")
        cut = cut_of(squeezed.inputs[0] if squeezed is not None else value)
        sizes = tuple(cut[0].shape or ())[2:-1] if cut is not None else ()
        if cut is None or cut[0].shape is None or any(not isinstance(size, int) for size in sizes):
            return value, number
        value, number = cut[0], number + cut[1] * math.prod(int(str(size)) for size in sizes)


@dataclass(frozen=True)
class Modulated:
    """x / rms(x) * weight * (1 + scale) + shift, of vectors `scale` and `shift` of every row of `vectors`.

    In `attributes` a shift of -1 is none, and `centred` says that the mean goes off x before.
    """

    x: ir.Value
    weight: ir.Value
    vectors: ir.Value
    attributes: dict[str, float]

    @classmethod
    def of(cls, value: ir.Value | None) -> Modulated:
        """How `value` is made. Raises BuildError if it is not made so."""
        total = made_by(value, "Add")
        product = made_by(total.inputs[0] if total is not None else value, "Mul")
        norm = made_by(product.inputs[0], "RMSNormalization", "LayerNormalization") if product is not None else None
        more = made_by(product.inputs[1], "Add") if product is not None else None
        if norm is None or more is None or integer(more.inputs[1]) != 1 or len(norm.inputs) > 2:
            raise BuildError(f"{value}: not modulated as expected; export the model again with this flagdit")
        x, weight, scale = (*norm.inputs[:2], more.inputs[0])
        assert x is not None and weight is not None and scale is not None
        vectors, number = vector_of(scale)
        attributes = {"epsilon": epsilon_of(norm), "scale": number, "shift": -1}
        if norm.op_type == "LayerNormalization":
            attributes["centred"] = 1
        if total is not None and total.inputs[1] is not None:
            same, attributes["shift"] = vector_of(total.inputs[1])
            if vectors is not same:
                raise BuildError(f"{value}: scale and shift of two tensors; export the model again with this flagdit")
        return cls(x, weight, vectors, attributes)

    @property
    def inputs(self) -> Inputs:
        return self.x, self.weight, self.vectors


@dataclass(frozen=True)
class Heads:
    """x W^T, with a bias, a norm over all heads (or RMSNorm of each head) and a rotation or without, as heads of
    `size` values.
    """

    product: ir.Node
    bias: ir.Value | None
    norm: ir.Node | None
    rotary: ir.Node | None
    size: int

    @classmethod
    def of(cls, value: ir.Value | None) -> Heads:
        """How `value` (A, R, heads, size) is made. Raises BuildError if it is not made so."""
        size = value.shape[3] if value is not None and value.shape is not None and len(value.shape) == 4 else None
        last = _flat(value)
        rotary = made_by(last, "RotaryEmbedding")
        last = _flat(rotary.inputs[0]) if rotary is not None else last
        norm = made_by(last, "LayerNormalization", "RMSNormalization")
        last = _flat(norm.inputs[0]) if norm is not None else last
        biased = made_by(last, "Add")
        bias = biased.inputs[1] if biased is not None else None
        product = made_by(biased.inputs[0] if biased is not None else last, "MatMul")
        whole = norm is None or (norm.op_type == "LayerNormalization") == (len(norm.outputs[0].shape or ()) == 3)
        if product is None or not isinstance(size, int) or not whole or (bias is not None and not is_vector(bias)):
            raise BuildError(f"{value}: heads of another kind; export the model again with this flagdit")
        return cls(product, bias, norm, rotary, size)

    @property
    def each(self) -> bool:
        """Whether each head is normalised by itself."""
        return self.norm is not None and self.norm.op_type == "RMSNormalization"


def _flat(value: ir.Value | None) -> ir.Value | None:
    """What a value is made of that is only seen as heads, or as all of them together."""
    heads = made_by(value, "Reshape")
    return heads.inputs[0] if heads is not None else value


def is_vector(value: ir.Value) -> bool:
    """Whether it is a stored (n,)."""
    return value.is_initializer() and value.shape is not None and len(value.shape) == 1


@dataclass(frozen=True)
class Ending:
    """residual + gate * norm(made + bias), as far as it is there, and the value that it is.

    gate: the vector of that number of every row of `gates`.
    """

    out: ir.Value
    bias: ir.Value | None = None
    norm: ir.Node | None = None
    residual: ir.Value | None = None
    gates: ir.Value | None = None
    gate: int = 0

    @classmethod
    def of(cls, made: ir.Value) -> Ending:
        """What becomes of `made` (A, R, D), which nothing else takes."""
        biased, bias = only_use(made, "Add"), None
        if biased is not None:
            operand = other(biased, made)
            bias = operand if operand is not None and is_vector(operand) else None
        out = biased.outputs[0] if biased is not None and bias is not None else made
        norm = only_use(out, "RMSNormalization")
        last = norm.outputs[0] if norm is not None else out
        product = only_use(last, "Mul")
        total = only_use(product.outputs[0], "Add") if product is not None else None
        gate = other(product, last) if product is not None else None
        if product is None or total is None or gate is None or len(gate.shape or (1,) * 3) > 2:
            return cls(last, bias, norm)
        return cls(total.outputs[0], bias, norm, other(total, product.outputs[0]), *vector_of(gate))
