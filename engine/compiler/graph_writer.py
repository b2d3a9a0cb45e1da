"""Nodes that are put into a graph, one after another, in front of one that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flagdit.engine.compiler.precision import constant, import_ir

if TYPE_CHECKING:
    import onnx_ir as ir

MOST = 32
"""Outputs of a Split, and inputs of a Concat: of more, ONNX Runtime copies a list to the GPU each time."""


class Writer:
    """Writes into `graph`, in front of the node `before`. Layers compute in `half`, which may be fp32."""

    def __init__(self, graph: ir.Graph, before: ir.Node, half: ir.DataType) -> None:
        self.ir, self.graph, self.before, self.half = import_ir(), graph, before, half

    def add(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """The output of a new node."""
        return self.add_many(op, *inputs, outputs=1, **attributes)[0]

    def add_many(self, op: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> tuple[ir.Value, ...]:
        """The outputs of a new node."""
        node = self.ir.node(op, inputs, attributes, num_outputs=outputs)
        self.graph.insert_before(self.before, node)
        return tuple(node.outputs)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`value` as `dtype`; as it is where layers compute in fp32, too."""
        if dtype == self.ir.DataType.FLOAT == self.half:
            return value
        return self.add("Cast", value, to=dtype.value)

    def numbers(self, *values: int) -> ir.Value:
        """A constant (n,) of int64: axes, sizes and shapes."""
        return constant(self.graph, f"cuda.ints.{'.'.join(map(str, values))}", np.array(values, np.int64))

    def shaped(self, value: ir.Value, *sizes: int) -> ir.Value:
        """`value` in other axes: 0 keeps the one at its place, -1 is what is left. Costs no launch."""
        return self.add("Reshape", value, self.numbers(*sizes))

    def turned(self, value: ir.Value, *order: int) -> ir.Value:
        """`value` with its axes in this order."""
        return self.add("Transpose", value, perm=list(order))

    def joined(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """Values behind each other; if they are constants, ONNX Runtime folds it when it loads the graph."""
        return values[0] if len(values) == 1 else self.add("Concat", *values, axis=axis)

    def parts(self, value: ir.Value, count: int, axis: int) -> list[ir.Value]:
        """`value` in `count` equal parts, in as many launches as it takes with at most MOST outputs each.

        Where no number up to MOST divides them evenly, they are cut apart MOST at a time. The last of these cuts
        overlaps the one before: of cuts that do not, ONNX Runtime makes one Split into unequal parts again.
        """
        if count == 1:
            return [value]
        few = next((n for n in range(1, MOST + 1) if count % n == 0 and count // n <= MOST), 0)
        if few == 1:
            return list(self.add_many("Split", value, outputs=count, axis=axis, num_outputs=count))
        if few:
            pieces = self.add_many("Split", value, outputs=few, axis=axis, num_outputs=few)
            return [part for piece in pieces for part in self.parts(piece, count // few, axis)]
        made: list[ir.Value] = []
        for end in (*range(MOST, count, MOST), count):
            cut = self.add("Slice", value, *(self.numbers(number) for number in (end - MOST, end, axis)))
            made += self.parts(cut, MOST, axis)[len(made) - end :]
        return made
