"""Graphs that a run of tests traces more than once: the first that needs one traces it, others read what it wrote.

Tracing is most of what a tiny export costs, and tests of two processes, of several types of weights or of a whole
pipeline trace the same modules. A graph is known by all that a trace is made of: the module (of its tensors the shapes,
or the numbers where it has some; its code is the same within a run), what it is called with, names, axes, and what the
optimiser could see in the weights that it looked at.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_map

from flagdit.export.onnx_graph import PREFIX, WeightsFile, _refer

UNKNOWN = (pickle.PicklingError, TypeError, AttributeError)
"""What pickle raises of modules that hold a function without a name: they are traced each time."""


class Written(pickle.Pickler):
    """Objects as bytes that depend on what is in them, and not on where they lie in memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.tensors: dict[int, int] = {}  # those that a module holds twice are told from two that are equal

    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, Dim):
            return item.__name__, item.min, item.max
        if not isinstance(item, torch.Tensor):
            return None
        numbers = None if item.is_meta else digest_of(item.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        return self.tensors.setdefault(id(item), len(self.tensors)), str(item.dtype), tuple(item.shape), numbers


def digest_of(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def key_of(*items: Any) -> str:
    """What tells them from others. Raises one of UNKNOWN if nothing does."""
    out = io.BytesIO()
    Written(out).dump(items)
    return digest_of(out.getbuffer())


@dataclass(frozen=True)
class Watched(WeightsFile):
    """A file of weights that notes which of them are looked at, and what there is to see."""

    seen: dict[str, tuple[int, list[int], str]] = field(default_factory=dict)

    def wide(self, name: str, value: ir.Value) -> ir.LazyTensor:
        tensor = super().wide(name, value)

        def read() -> ir.TensorProtocol:
            self.seen[name] = tensor.dtype.value, list(tensor.shape.numpy()), sight(tensor)
            return ir.tensor(tensor.numpy(), name=value.name)

        return ir.LazyTensor(read, tensor.dtype, tensor.shape, name=value.name)


def sight(tensor: ir.TensorProtocol) -> str:
    """What rules look for in numbers: that all are one, and which; that one is not finite."""
    numbers = tensor.numpy().astype(np.float64)
    if not np.isfinite(numbers).all():
        return "not finite"
    return str(numbers.flat[0]) if numbers.size and numbers.min() == numbers.max() else "many"


@dataclass(frozen=True)
class Traced:
    """A folder of graphs, in the place of the exporter's own `trace`."""

    trace: Callable[..., ir.Model]
    folder: Path

    def __call__(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        dynamic_shapes: tuple[Any, ...],
        *,
        weights: WeightsFile | None = None,
        **named: Any,
    ) -> ir.Model:
        shapes = tree_map(lambda item: item.to("meta"), args)
        try:
            key = key_of(module.eval(), shapes, dynamic_shapes, sorted(named.items()), weights is None)
        except UNKNOWN:
            return self.trace(module, args, dynamic_shapes, weights=weights, **named)
        with self._alone(key):
            for path in (self.folder / f"{key}-{number}.onnx" for number in itertools.count()):
                if not path.exists():
                    watched = weights and Watched(weights.path, weights.tensors, weights.aliases, weights.blocks)
                    _write(path, self.trace(module, args, dynamic_shapes, weights=watched, **named), watched)
                if _goes_with(path, weights):
                    break
        model = ir.load(path)
        if weights is not None:
            _refer(model.graph, weights)
        return model

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """One process at a time has a graph; the lock of one that ends is free."""
        with (self.folder / f"{key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _write(path: Path, model: ir.Model, watched: Watched | None) -> None:
    """Without the weights, whole or not at all; beside it, what was looked at of them."""
    path.with_suffix(".json").write_text(json.dumps(watched.seen if watched else {}))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.LazyTensor):
            place = {"location": "weights", "offset": 0, "length": tensor.nbytes}
            shape = ir.Shape(tensor.shape)
            value.const_value = ir.ExternalTensor(**place, dtype=tensor.dtype, shape=shape, name=tensor.name or "")
    part = path.with_suffix(".part")
    ir.save(model, part)
    part.rename(path)


def _goes_with(path: Path, weights: WeightsFile | None) -> bool:
    """Whether all that was looked at is the same in these weights."""
    seen = json.loads(path.with_suffix(".json").read_text())
    for name, (dtype, shape, saw) in seen.items() if weights is not None else ():
        value = ir.Value(name=PREFIX + name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType(dtype)))
        if sight(weights.wide(name, value)) != saw:
            return False
    return True
