"""Scales, shifts and gates of all layers of a graph for the CUDA provider, made of the modulations once a call.

Letters: R rows, D width, K vectors of a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.parts import Added, Part, Vector, modulated, refused
from flagdit.engine.compiler.patterns import is_vector, made_by
from flagdit.engine.compiler.precision import constant

if TYPE_CHECKING:
    import onnx_ir as ir


class Role(NamedTuple):
    """What layers take of a vector v: (v + more) * weight, or tanh(v) * weight if it is `bent`; 1 for no weight."""

    more: int = 0
    weight: ir.Value | None = None
    bent: bool = False


def written_vectors(write: Writer, parts: Sequence[Part]) -> list[ir.Value]:
    """All vectors of a row, (R, 1, D) each in half, in the order that they lie in.

    Of a scale: (1 + scale) times the weight of the norm in front of it; of a gate behind a norm: the gate times the
    norm's weight. Raises BuildError if they lie in several tensors, or one vector is taken for two things.
    """
    vectors, roles = _roles(parts)
    shape = vectors.shape
    sizes = [size for size in tuple(shape or ())[1:] if isinstance(size, int)]
    if shape is None or len(sizes) < max(1, len(shape) - 1):
        raise refused(vectors, "has no known number of modulations")
    count, width = math.prod(sizes[:-1]), sizes[-1]
    told = [roles.get(number, Role()) for number in range(count)]
    flat = write.shaped(vectors, 0, count, width)
    if any(role.bent for role in told):
        bent = constant(write.graph, "cuda.bent", np.array([[role.bent] for role in told]))
        flat = write.add("Where", bent, write.add("Tanh", flat), flat)
    more = constant(write.graph, "cuda.more", np.array([[role.more] for role in told], np.float32))
    ones = constant(write.graph, "cuda.ones", np.ones((1, width), np.float32))
    rows = [ones if role.weight is None else write.shaped(role.weight, 1, width) for role in told]
    factor = write.joined(rows, 0)  # of constants, so ONNX Runtime folds it when it loads the graph
    flat = write.add("Mul", write.add("Add", flat, more), factor)
    return write.parts(write.cast(flat, write.half), count, 1)


def _roles(parts: Sequence[Part]) -> tuple[ir.Value, dict[int, Role]]:
    """The tensor that all vectors lie in, and what is taken of it by number."""
    found = list(_taken(parts))
    roles: dict[int, Role] = {}
    for vector, role in found:
        if vector.vectors is not found[0][0].vectors or roles.setdefault(vector.number, role) != role:
            raise refused(vector.vectors, "has a vector that is taken for two things, or there are others")
    return found[0][0].vectors, roles


def _taken(parts: Sequence[Part]) -> Iterator[tuple[Vector, Role]]:
    for x in modulated(parts):
        yield Vector(x.vectors, int(x.attributes["scale"])), Role(1, _weight(x.weight))
        if x.attributes["shift"] >= 0:
            yield Vector(x.vectors, int(x.attributes["shift"])), Role()
    for part in parts:
        if isinstance(part, Added):
            norm = part.ending.norm
            yield part.gate, Role(0, _weight(norm.inputs[1]) if norm is not None else None, part.gate.bent)


def _weight(value: ir.Value | None) -> ir.Value | None:
    """The weight (D,) of a norm; None where it is ones in a size that a run decides. Raises BuildError otherwise."""
    ones = made_by(value, "ConstantOfShape")
    filled = ones.attributes.get("value") if ones is not None else None
    if filled is not None and (filled.as_tensor().numpy() == 1).all():
        return None
    assert value is not None
    if not is_vector(value):
        raise refused(value, "is no weight of a norm")
    return value
