"""fp32 graph -> half-precision graph: the types are in the graph, so every runtime computes what it says.

What profits from tensor cores or is moved in bulk is half: matrices, matrix products, attention, and every key
and value, whether cached or of the text. The rest stays fp32, and TensorRT fuses it into the kernels of its
neighbours: norms, rotary embedding, modulation, and the residual stream, which in fp16 would overflow first.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.errors import BackendError

if TYPE_CHECKING:
    import onnx_ir as ir

Half = Literal["float16", "bfloat16"]

HALF_OPS = frozenset({"MatMul", "Gemm", "Attention"})
LAYOUT_OPS = frozenset(
    {"Concat", "Expand", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""They move values and so keep their type."""
UNTYPED_OPS = frozenset({"Shape", "DequantizeLinear"})
"""Of any type: a shape has none, and what is dequantised has that of its scale."""


def to_half(model: ir.Model, dtype: Half) -> None:
    """Turn `model`, which computes in fp32, into one that computes in `dtype`, in place.

    The contract of the graph keeps its names and shapes. Keys and values, of the caches and of the text, become
    `dtype` at its border; all other inputs and outputs stay fp32: they are small, and the sampler works in fp32.
    Raises BackendError if onnx_ir is not installed.
    """
    _Half(model.graph, import_ir().DataType[dtype.upper()]).convert()


def settle(graph: ir.Graph, half: ir.DataType) -> None:
    """Cast between nodes, some of which give `half`: those of ONNX compute in fp32, but for those that move values.

    Nodes of other domains have the types of their inputs already; outputs of the graph get those of its border.
    """
    _Half(graph, half, frozenset()).settle()


class _Half:
    """One conversion. Values are fp32 or half by their `dtype`, which is kept true node by node."""

    def __init__(self, graph: ir.Graph, half: ir.DataType, half_ops: frozenset[str] = HALF_OPS) -> None:
        self.ir, self.half_ops = import_ir(), half_ops
        self.graph, self.half, self.single = graph, half, self.ir.DataType.FLOAT
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def convert(self) -> None:
        for value in self.graph.inputs:
            value.dtype = self.border(value)
        for node in tuple(self.graph):
            if not self.is_weight_cast(node):
                self.retype(node)
            elif node.inputs[0].dtype == self.half:  # type: ignore[union-attr]
                self.ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
                self.graph.remove(node, safe=True)
            else:
                node.attributes["to"] = self.ir.AttrInt64("to", self.half.value)
                node.outputs[0].dtype = self.half
        self.recast_outputs()

    def settle(self) -> None:
        for node in tuple(self.graph):
            if not node.domain and not self.is_weight_cast(node):
                self.retype(node)
        self.recast_outputs()

    def recast_outputs(self) -> None:
        for index, value in enumerate(self.graph.outputs):
            if self.is_float(value) and value.dtype != self.border(value):
                self.graph.outputs[index] = self.recast_output(value)

    def retype(self, node: ir.Node) -> None:
        """Give a node inputs of one type, half or fp32, and its outputs the same."""
        if node.op_type in UNTYPED_OPS:
            return
        floats = [(i, v) for i, v in enumerate(node.inputs) if v is not None and self.is_float(v)]
        follows_half = node.op_type in LAYOUT_OPS and any(v.dtype == self.half for _, v in floats)
        wanted = self.half if node.op_type in self.half_ops or follows_half else self.single
        for index, value in floats:
            if value.dtype != wanted:
                node.replace_input_with(index, self.cast(value, wanted))
        for value in node.outputs:
            if self.is_float(value):
                value.dtype = wanted

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`value` as `dtype`, cast once, right after it is made."""
        if (value, dtype) not in self.casts:
            node = self.ir.Node("", "Cast", [value], [self.ir.AttrInt64("to", dtype.value)], num_outputs=1)
            out = node.outputs[0]
            out.name, out.dtype, out.shape = f"{value.name}.{dtype.short_name()}", dtype, value.shape
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], node)
            else:
                self.graph.insert_after(producer, node)
            self.casts[value, dtype] = out
        return self.casts[value, dtype]

    def recast_output(self, value: ir.Value) -> ir.Value:
        """`value` in the type that its name has at the border; the cast takes over the name."""
        name = value.name
        out = self.cast(value, self.border(value))
        value.name = f"{name}.{value.dtype.short_name()}"  # type: ignore[union-attr]
        out.name = name
        return out

    def border(self, value: ir.Value) -> ir.DataType:
        """The type that an input or output of the graph has by its axes."""
        if not self.is_float(value):
            assert value.dtype is not None  # inputs and outputs always have one
            return value.dtype
        return self.half if keys_or_values(value.name or "", tuple(value.shape or ())) else self.single

    def is_float(self, value: ir.Value) -> bool:
        return value.dtype in (self.single, self.half)

    def is_weight_cast(self, node: ir.Node) -> bool:
        """Whether this widens a matrix that is stored narrow."""
        value = node.inputs[0] if node.op_type == "Cast" else None
        return value is not None and value.is_initializer()


def import_ir() -> ModuleType:
    """The onnx_ir module, imported only where a graph is rewritten. Raises BackendError."""
    try:
        import onnx_ir
    except ImportError:
        raise BackendError(
            "onnx-ir is not installed; building engines needs: pip install 'flagdit[rtx]' "
            "(or 'flagdit[tensorrt]'; for int8 'flagdit[export]' has it, too)"
        ) from None
    return onnx_ir


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """An initializer of `graph`, made if there is none of that name."""
    made = import_ir()
    if name not in graph.initializers:
        tensor = made.tensor(array, name=name)
        kind = made.TensorType(tensor.dtype)
        graph.initializers[name] = made.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor)
    return graph.initializers[name]
