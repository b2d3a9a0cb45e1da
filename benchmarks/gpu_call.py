"""Part of gpu_denoise.py: engine calls over arrays of all slots. What each is, its first axis says."""

from __future__ import annotations

from collections.abc import Mapping

from flagdit.engine.bundle.ports import twin
from gpu_device import Axes, Bound, Buffer, Device, Graph, Place


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Axes where their letters have these sizes."""
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes)


def empty_caches(device: Device, graph: Graph, tokens: int, rows: int) -> dict[str, Buffer]:
    """What is cached of all slots, zeros, by the names of the inputs that read the tails."""
    sizes = {"M": tokens, "R": rows}
    ports = graph.inputs.items()
    return {name: device.empty(shape_of(axes, sizes), dtype) for name, (dtype, axes) in ports if axes[:1] == ("M",)}


def bind(graph: Graph, buffers: Mapping[str, Buffer], active: int) -> Bound:
    """A call that computes the first `active` slots: a cache exists once, its tail is bound behind its head.

    buffers: all inputs and outputs, of all slots, by name; the caches by the names of their tails.
    """

    def part(name: str, axes: Axes) -> Place:
        buffer = buffers[name]
        if axes[:1] == ("M",):
            return buffer.rows(active, buffer.shape[0])
        return buffer.rows(0, active) if axes[:1] == ("A",) else buffer.all

    read = {name: part(name, axes) for name, (_, axes) in graph.inputs.items()}
    tails = {twin(name): name for name in graph.inputs}
    written = {name: buffers[tails.get(name, name)].rows(0, active) for name in graph.outputs}
    return graph.bind(read, written)
