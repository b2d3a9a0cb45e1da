"""A graph before it is traced: its module, and names, types and symbolic axes of what it takes.

Letters: A active tokens, M cached, N all, R rows, S evaluations, T text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch
from torch import Tensor, nn

from flagdit.export import onnx_graph

EXAMPLE = {"A": 6, "M": 4, "N": 7, "R": 4, "T": 5, "S": 3, "B": 9, "H": 8, "W": 12, "Y": 64, "X": 96}
"""Sizes to trace with: all differ from 0 and 1, which specialise. Not one value is: shapes alone are traced."""


LONGER = "T_made"
"""The length of a text that a graph makes longer: T in `model.json`, which has what is before the line. In the graph it
has another name, since ONNX Runtime takes axes of one name for ones of one size when it plans memory."""


@dataclass(frozen=True)
class Port:
    """An input: its name, its axes (letters, or sizes that the model fixes), its type."""

    name: str
    axes: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32

    def example(self) -> Tensor:
        """Shape without numbers, made anew each time: torch takes two inputs that are one object for one."""
        shape = [axis if isinstance(axis, int) else EXAMPLE.get(axis, 5) for axis in self.axes]
        return torch.empty(shape, dtype=self.dtype, device="meta")


@dataclass(frozen=True)
class GraphSource:
    """A module, its ports in the order of its arguments (several together are one argument, a list), its outputs.

    lengthened: outputs whose axis of that number is a length of text, but not that of the inputs.
    """

    module: nn.Module
    inputs: tuple[Port | tuple[Port, ...], ...]
    outputs: tuple[str, ...]
    opset: int = onnx_graph.OPSET
    lengthened: Mapping[str, int] = field(default_factory=dict)

    def trace(self, weights: onnx_graph.WeightsFile | None = None) -> ir.Model:
        """The graph. Its weights are those of the file, of which next to none is read."""
        ports = [port for item in self.inputs for port in ([item] if isinstance(item, Port) else item)]
        args = tuple(i.example() if isinstance(i, Port) else [p.example() for p in i] for i in self.inputs)
        axes = tuple(_axes(i) if isinstance(i, Port) else [_axes(p) for p in i] for i in self.inputs)
        names = [port.name for port in ports]
        model = onnx_graph.trace(
            self.module, args, axes, inputs=names, outputs=self.outputs, opset=self.opset, weights=weights
        )
        for output in model.graph.outputs:
            if output.name is not None and output.name in self.lengthened:
                assert output.shape is not None
                output.shape = output.shape.copy()
                output.shape[self.lengthened[output.name]] = ir.SymbolicDim(LONGER)
        return model


def _axes(port: Port) -> dict[int, object]:
    return onnx_graph.dynamic_axes([axis if isinstance(axis, str) else None for axis in port.axes])
