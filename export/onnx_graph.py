"""torch graph -> ONNX file whose weights stay in one safetensors file, under their official names."""

from __future__ import annotations

import json
import logging
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.export import Dim

from flagdit.export.blocks import Blocks
from flagdit.export.simplify import simplify
from flagdit.export.tensors import SCALE

OPSET = 23  # the first with Attention, RMSNormalization and RotaryEmbedding
PREFIX = "model."  # the graphs hold the model under this name

IR_DTYPES = {
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "I8": ir.DataType.INT8,
    "U8": ir.DataType.UINT8,
    "I64": ir.DataType.INT64,
}

Axes = Sequence[str | None]
MAY_REST = "T_now"
"""Text tokens that a step computes: none of a text that rests. T in `model.json`."""


@dataclass(frozen=True)
class WeightsFile:
    """Where each tensor of a safetensors file lies: ONNX external data points straight into it.

    aliases: other names of tensors that a module holds twice. blocks: those that are stored so.
    """

    path: Path
    tensors: Mapping[str, tuple[ir.DataType, tuple[int, ...], int, int]]  # dtype, shape, offset, bytes
    aliases: Mapping[str, str] = field(default_factory=dict)
    blocks: Mapping[str, Blocks] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> WeightsFile:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = IR_DTYPES[entry["dtype"]]
            tensors[name] = (dtype, tuple(entry["shape"]), 8 + size + begin, end - begin)
        return cls(path, tensors)

    def calling(self, aliases: Mapping[str, str]) -> WeightsFile:
        """The same with other names besides."""
        return replace(self, aliases=aliases)

    def in_blocks(self, blocks: Mapping[str, Blocks]) -> WeightsFile:
        """The same, of which these are stored in blocks."""
        return replace(self, blocks=blocks)

    def tensor(self, name: str) -> ir.ExternalTensor:
        dtype, shape, offset, length = self.tensors[self.aliases.get(name, name)]
        return ir.ExternalTensor(
            self.path.name, offset, length, dtype, name=name, shape=ir.Shape(shape), base_dir=self.path.parent
        )

    def wide(self, name: str, value: ir.Value) -> ir.LazyTensor:
        """The same in the type that the graph computes in, read when it is looked at, and not kept."""
        assert value.dtype is not None and value.shape is not None
        dtype = value.dtype

        def read() -> ir.TensorProtocol:
            array = self.tensor(name).numpy()
            own = self.aliases.get(name, name)
            if own in self.blocks:
                parts = (array, self.tensor(own + SCALE).numpy())
                array = self.blocks[own].widen(*(torch.from_numpy(np.array(part)) for part in parts)).numpy()
            elif name + SCALE in self.tensors:
                array = array * self.tensor(name + SCALE).numpy()
            return ir.tensor(array.astype(dtype.numpy()), name=value.name)

        return ir.LazyTensor(read, dtype, value.shape, name=value.name)


def dynamic_axes(axes: Axes) -> dict[int, Any]:
    """torch.export's form of symbolic axes. Only the tail, M, and a text that may rest may be empty."""
    return {i: Dim(a, min=0 if a[0] == "M" or a == MAY_REST else 1, max=1 << 20) for i, a in enumerate(axes) if a}


def trace(
    module: nn.Module,
    args: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int = OPSET,
    weights: WeightsFile | None = None,
) -> ir.Model:
    """Export with torch, then fold what holds no weights: those keep their names and their orientation.

    weights: where the numbers are of a module that has shapes alone (torch's meta device). The folding reads a few.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it would say that torchvision, which nothing here uses, is not installed
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch's own exporter, about itself
            program = torch.onnx.export(
                module.eval(),
                args,
                dynamo=True,
                optimize=False,
                opset_version=opset,
                dynamic_shapes=dynamic_shapes,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
            assert program is not None  # with dynamo=True it always is one
            if weights is not None:
                _refer(program.model.graph, weights)
            simplify(program.model, _holds_no_weight)
    finally:
        log.setLevel(level)
    _strip(program.model)
    return program.model


def _refer(graph: ir.Graph, weights: WeightsFile) -> None:
    """Let initialisers be read from the file when somebody looks at them: a bias that is no number would be folded."""
    for name, value in graph.initializers.items():
        if name.startswith(PREFIX):
            value.const_value = weights.wide(name.removeprefix(PREFIX), value)


def _strip(model: ir.Model) -> None:
    """Drop the Python stack traces that torch attaches to every node: paths of the exporting machine."""
    model.graph.metadata_props.clear()
    for item in (*model.graph, *model.graph.inputs, *model.graph.outputs):
        item.metadata_props.clear()
        item.doc_string = None
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()


def _holds_no_weight(node: ir.Node) -> bool | None:
    held = any(i is not None and (i.name or "").startswith(PREFIX) for i in node.inputs)
    return False if held else None


def save(model: ir.Model, path: Path, weights: WeightsFile) -> None:
    """Write `model` beside `weights`, which it refers to; narrow weights are cast to fp32 as they are read."""
    graph = model.graph
    for name in [n for n in graph.initializers if n.startswith(PREFIX)]:
        value = graph.initializers.pop(name)
        value.name = name.removeprefix(PREFIX)
        tensor = weights.tensor(value.name)
        if tensor.dtype == value.dtype:
            value.const_value = tensor
            graph.initializers[value.name] = value
        else:
            _insert_widening(graph, value, tensor, weights=weights)
    ir.save(model, path)


def _insert_widening(graph: ir.Graph, wide: ir.Value, tensor: ir.ExternalTensor, *, weights: WeightsFile) -> None:
    """Replace the initializer `wide` by the narrower `tensor` made wide; runtimes fold that when they load."""
    assert wide.name is not None and wide.dtype is not None
    narrow = _initializer(graph, wide.name, tensor)
    nodes = [ir.Node("", "Cast", [narrow], [ir.AttrInt64("to", wide.dtype.value)], num_outputs=1)]
    if tensor.dtype == ir.DataType.INT8:
        # No DequantizeLinear: ONNX Runtime would keep it for a kernel of its own, which is slower than fp32.
        scale = _initializer(graph, wide.name + SCALE, weights.tensor(wide.name + SCALE))
        nodes.append(ir.Node("", "Mul", [nodes[0].outputs[0], scale], num_outputs=1))
    for node, suffix in zip(nodes, (".cast", ".wide")[-len(nodes) :], strict=True):
        out = node.outputs[0]
        out.name, out.dtype, out.shape = wide.name + suffix, wide.dtype, wide.shape
    graph.insert_before(graph[0], nodes)
    ir.convenience.replace_all_uses_with(wide, nodes[-1].outputs[0])


def _initializer(graph: ir.Graph, name: str, tensor: ir.ExternalTensor) -> ir.Value:
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[name] = value
    return value
