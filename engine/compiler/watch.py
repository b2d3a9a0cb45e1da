"""What the inputs of a graph's products are in runs: reductions that are computed beside it, and gathered call by call.

Letters: A tokens, R rows, K inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Binding, Port, Session
from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.session import Array

if TYPE_CHECKING:
    import onnx_ir as ir

Floats = npt.NDArray[np.float32]
Gather = Callable[[Mapping[str, Floats]], None]
"""Called after every call with what was watched, by the name of the output."""


def watch_largest(model: ir.Model, x: ir.Value) -> str:
    """Add an output (K,), the largest magnitudes of x (A, R, K); its name."""
    write = _at_the_end(model.graph)
    largest = write.add("ReduceMax", write.add("Abs", x), write.numbers(0, 1), keepdims=0)
    return _output(model.graph, largest, f"{x.name}.largest", x.shape[-1:] if x.shape is not None else ())


def watch_typical(model: ir.Model, x: ir.Value) -> str:
    """Add an output (1,), the mean over tokens of the largest magnitude of each in x (A, R, K); its name."""
    write = _at_the_end(model.graph)
    each = write.add("ReduceMax", write.add("Abs", x), write.numbers(-1), keepdims=0)
    typical = write.shaped(write.add("ReduceMean", each, write.numbers(0, 1), keepdims=0), 1)
    return _output(model.graph, typical, f"{x.name}.typical", (1,))


class _AtTheEnd(Writer):
    """Writes behind all nodes."""

    def add_many(self, op: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> tuple[ir.Value, ...]:
        node = self.ir.node(op, inputs, attributes, num_outputs=outputs)
        self.graph.append(node)
        return tuple(node.outputs)


def _at_the_end(graph: ir.Graph) -> Writer:
    return _AtTheEnd(graph, graph[-1], import_ir().DataType.FLOAT)


def _output(graph: ir.Graph, value: ir.Value, name: str, shape: Any) -> str:
    ir = import_ir()
    value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, ir.Shape(shape)
    graph.outputs.append(value)
    return name


class Watched:
    """A session of a watched graph, in place of the graph's own: it has the same ports."""

    def __init__(self, session: Session, names: list[str], gather: Gather) -> None:
        watched = set(names)
        self._session, self._gather = session, gather
        self.ports: list[Port] = [port for port in session.ports if port.name not in watched]
        self._outputs = [port for port in session.ports if port.name in watched]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def bind(self, tensors: Mapping[str, Array]) -> WatchedBinding:
        made: dict[str, Floats] = {p.name: np.zeros([int(n) for n in p.axes], np.float32) for p in self._outputs}
        return WatchedBinding(self._session.bind({**tensors, **made}), made, self._gather)


class WatchedBinding:
    """A binding of a watched session."""

    def __init__(self, binding: Binding, made: Mapping[str, Floats], gather: Gather) -> None:
        self._binding, self._made, self._gather = binding, made, gather

    def run(self) -> None:
        self._binding.run()
        self._gather(self._made)
