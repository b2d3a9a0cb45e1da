"""Graph with weights in int8 -> graph that multiplies in int8, too, for ONNX Runtime on a CPU.

A token's vector is quantised by itself, by its own largest magnitude: what becomes of a token depends neither on the
others of the head nor on the other pictures of a batch. Attention, norms and the residual stream stay fp32, and so do
the matrices at the model's ends, which are not stored as int8.

Letters: A active tokens, R rows, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flagdit.engine.compiler.int8_weights import Int8Weight, int8_weight
from flagdit.engine.compiler.precision import constant, import_ir

if TYPE_CHECKING:
    import onnx_ir as ir

ZERO = 128
"""What 0 becomes as uint8: int8 processors multiply unsigned by signed."""
LEVELS = 127.0
SMALLEST = 1e-30  # magnitude that a vector of zeros is taken for

CONTRIB = "com.microsoft"


class Quantised(NamedTuple):
    """A tensor (A, R, K) as uint8, and what a token's values were divided by: (A, R, 1)."""

    values: ir.Value
    scale: ir.Value


def to_int8(model: ir.Model) -> int:
    """Turn the products with int8 weights of `model` into int8 products, in place. Returns how many there are.

    Raises BackendError if onnx_ir is not installed.
    """
    rewrite = _Int8(model.graph)
    count = rewrite.convert()
    model.opset_imports[CONTRIB] = 1
    return count


class _Int8:
    """One conversion."""

    def __init__(self, graph: ir.Graph) -> None:
        self.ir, self.graph = import_ir(), graph
        self.quantised: dict[ir.Value, Quantised] = {}
        self.zero = constant(graph, "int8.zero", np.array(ZERO, np.uint8))
        self.one = constant(graph, "int8.one", np.array(1, np.float32))
        self.levels = constant(graph, "int8.levels", np.array(LEVELS, np.float32))
        self.unit = constant(graph, "int8.unit", np.array(1 / LEVELS, np.float32))
        self.smallest = constant(graph, "int8.smallest", np.array(SMALLEST, np.float32))
        self.last = constant(graph, "int8.last", np.array([-1], np.int64))

    def convert(self) -> int:
        found = [(node, weight) for node in self.graph if (weight := int8_weight(node)) is not None]
        for node, weight in found:
            self.replace(node, weight)
        return len(found)

    def replace(self, node: ir.Node, weight: Int8Weight) -> None:
        """x (A, R, K) @ W.T, by way of uint8 x int8, with W (N, K)."""
        x, name = node.inputs[0], weight.matrix.name
        assert x is not None
        values, scale = self.quantise(x, node)
        matrix = self.add(node, "Transpose", weight.matrix, perm=[1, 0], name=f"{name}.int8")
        scales = self.add(node, "Reshape", weight.scale, self.last, name=f"{name}.scales")  # (N,)
        inputs = (values, matrix, self.unit, scales, self.zero)
        product = self.add(node, "MatMulIntegerToFloat", *inputs, domain=CONTRIB)
        out = self.add(node, "Mul", product, scale)
        out.type, out.shape = node.outputs[0].type, node.outputs[0].shape
        self.ir.convenience.replace_all_uses_with(node.outputs[0], out)
        for old in (node, *weight.widening):
            self.graph.remove(old, safe=True)

    def quantise(self, x: ir.Value, before: ir.Node) -> Quantised:
        """x (A, R, K), once for all matrices that it is multiplied with."""
        if x not in self.quantised:
            largest = self.add(before, "ReduceMax", self.add(before, "Abs", x), self.last, keepdims=1)
            scale = self.add(before, "Max", largest, self.smallest)
            levels = self.add(before, "Mul", x, self.add(before, "Div", self.levels, scale))
            self.quantised[x] = Quantised(self.add(before, "QuantizeLinear", levels, self.one, self.zero), scale)
        return self.quantised[x]

    def add(
        self, before: ir.Node, op: str, *inputs: ir.Value, domain: str = "", name: str | None = None, **attributes: Any
    ) -> ir.Value:
        """The output of a new node."""
        made = self.ir.node(op, inputs, attributes, domain=domain)
        made.outputs[0].name = name
        self.graph.insert_before(before, made)
        out: ir.Value = made.outputs[0]
        return out
