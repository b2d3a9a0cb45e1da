"""The layers of a graph of flagdit.export, found part by part: what a backend writes anew in its own order of axes.

A layer is attention and a feed-forward, each of a modulated stream of tokens, and what they make is added to one. There
may be one stream or two, text may be in a stream or beside it, and norms may be in more places: no part has to be there
for another to be found. But all attention has to be found, and all that is between: else the graph is refused, and the
error names the value.

Letters: A tokens at hand, M cached tokens, R rows, T text tokens, D width, F hidden width, H heads, G kv heads, d head
size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagdit.engine.compiler.patterns import Ending, Heads, Modulated, integer, is_vector, made_by, vector_of
from flagdit.engine.compiler.seen import Seen
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Projected:
    """Query, key and value of a modulated x. made: key and value (A, R, G, d), which may be what a cache keeps."""

    x: Modulated
    query: Heads
    key: Heads
    value: Heads
    made: tuple[ir.Value, ir.Value]

    @classmethod
    def of(cls, query: ir.Value, key: ir.Value, value: ir.Value) -> Projected:
        """Raises BuildError if they are made otherwise."""
        parts = [Heads.of(made) for made in (query, key, value)]
        if len({part.product.inputs[0] for part in parts}) > 1 or parts[2].norm or parts[2].rotary:
            raise refused(key, "is projected otherwise than query and value")
        if len({part.bias is None for part in parts}) > 1 or (parts[0].rotary is None) != (parts[1].rotary is None):
            raise refused(key, "has a bias or a rotation, and query or value has not")
        return cls(Modulated.of(parts[0].product.inputs[0]), parts[0], parts[1], parts[2], (key, value))

    @property
    def heads(self) -> tuple[int, int, int]:
        """H, G and d."""
        query, key = self.query.product.outputs[0].shape, self.key.product.outputs[0].shape
        assert query is not None and key is not None
        widths = [width for width in (query[-1], key[-1]) if isinstance(width, int)]
        if len(widths) < 2:
            raise refused(self.made[0], "has no known number of heads")
        return widths[0] // self.query.size, widths[1] // self.query.size, self.query.size


@dataclass(frozen=True)
class Attended:
    """Attention of the tokens of one stream, or of several behind each other, to themselves and to cached ones."""

    seen: Seen
    parts: tuple[Projected, ...]

    @classmethod
    def of(cls, node: ir.Node) -> Attended | None:
        """None if it is not to a cache. Raises BuildError if it is made otherwise."""
        seen = Seen.of(node)
        if seen is None:
            return None
        parts = tuple(Projected.of(*heads) for heads in seen.heads())
        if not parts or len({part.heads for part in parts}) > 1:
            raise refused(seen.out, "is of queries, keys and values that are not made together")
        found = cls(seen, parts)
        if not all(tail.is_graph_input() for tail in found.tails):
            raise refused(seen.out, "is not of cached keys and cached values")
        return found

    @property
    def heads(self) -> tuple[int, int, int]:
        """H, G and d."""
        return self.parts[0].heads

    @property
    def tails(self) -> tuple[ir.Value, ir.Value]:
        """Cached keys and values, (M, R, G, d)."""
        keys, values = self.seen.keys.inputs[-1], self.seen.values.inputs[-1]
        assert keys is not None and values is not None
        return keys, values


@dataclass(frozen=True)
class Hidden:
    """silu(x w1) * (x w3), or where there is no w3 gelu(x w1 + bias) by tanh; of a modulated x, w1 and w3 (D, F)."""

    x: Modulated
    w1: ir.Value
    w3: ir.Value | None = None
    bias: ir.Value | None = None

    @classmethod
    def of(cls, value: ir.Value | None) -> Hidden | None:
        """What `value` is, None if it is something else. Raises BuildError if its x is not modulated."""
        gelu, product = made_by(value, "Gelu"), made_by(value, "Mul")
        if gelu is not None and gelu.attributes.get_string("approximate", "none") == "tanh":
            total = made_by(gelu.inputs[0], "Add")
            first, bias = (made_by(total.inputs[0], "MatMul"), total.inputs[1]) if total is not None else (None, None)
            if first is not None and bias is not None and is_vector(bias):
                return cls(Modulated.of(first.inputs[0]), _matrix(first), bias=bias)
            return None
        silu = made_by(product.inputs[0], "Mul") if product is not None else None
        if product is None or silu is None:
            return None
        gate, linear = made_by(silu.inputs[0], "MatMul"), made_by(product.inputs[1], "MatMul")
        sigmoid = made_by(silu.inputs[1], "Sigmoid")
        if gate is None or linear is None or sigmoid is None or sigmoid.inputs[0] is not gate.outputs[0]:
            return None
        if gate.inputs[0] is not linear.inputs[0]:
            return None
        return cls(Modulated.of(gate.inputs[0]), _matrix(gate), _matrix(linear))


@dataclass(frozen=True)
class Vector:
    """One vector (D,) of each row of `vectors` (R, ..., D): the `number`-th; tanh of it if it is `bent`."""

    vectors: ir.Value
    number: int
    bent: bool = False


@dataclass(frozen=True)
class Added:
    """A stream after a product of `of` was added to it: attention (A, R, H * d), or some of its tokens, or a hidden
    layer.
    """

    of: ir.Value | Hidden
    product: ir.Node
    ending: Ending

    @classmethod
    def to(cls, of: ir.Value | Hidden, product: ir.Node) -> Added:
        """Raises BuildError if it is not added to a stream."""
        ending = Ending.of(product.outputs[0])
        if ending.residual is None or ending.gates is None:
            raise refused(product.outputs[0], "is not gated and added to a residual stream")
        return cls(of, product, ending)

    @property
    def gate(self) -> Vector:
        """What the sum is multiplied with; in front of it may be a norm."""
        gates, number = self.ending.gates, self.ending.gate
        assert gates is not None
        bent = made_by(gates, "Tanh")
        if bent is None or bent.inputs[0] is None or number:
            return Vector(gates, number)
        return Vector(*vector_of(bent.inputs[0]), bent=True)


@dataclass(frozen=True)
class Joined:
    """Tokens of several streams behind each other: they go on as one."""

    streams: tuple[ir.Value, ...]
    out: ir.Value


Part = Attended | Added | Joined


def find_parts(graph: ir.Graph) -> list[Part]:
    """All parts of all layers of `graph`, in the order of its nodes. Raises BuildError if there are others, or none."""
    found: list[Part] = []
    ends: set[ir.Value] = set()
    seen: dict[ir.Value, Attended] = {}
    for node in graph:
        attended = Attended.of(node) if node.op_type == "Attention" and not node.domain else None
        of = node.inputs[0] if node.op_type == "MatMul" else None
        hidden = Hidden.of(of)
        if attended is not None:
            found.append(attended)
            seen[attended.seen.out] = attended
        elif of is not None and (of in seen or ((cut := cut_of_tokens(of)) is not None and cut.inputs[0] in seen)):
            found.append(Added.to(of, node))
        elif hidden is not None:
            found.append(Added.to(hidden, node))
        elif node.op_type == "Concat" and ends.intersection(node.inputs) and node.attributes["axis"].as_int() == 0:
            found.append(Joined(tuple(value for value in node.inputs if value is not None), node.outputs[0]))
        else:
            continue
        ends |= set(_made(found[-1]))
    if not seen:
        raise BuildError(f"{graph.name or 'the graph'}: no layer with attention to a cache in it")
    texts = sum(attended.seen.text is not None for attended in seen.values())
    if len(seen) + texts != sum(node.op_type == "Attention" for node in graph):
        raise refused(next(iter(seen)), "is not the only kind of thing that is attended to")
    _check_between(graph, found)
    return found


def products(part: Part) -> Iterator[ir.Node]:
    """The nodes of a part that must be gone when it is written anew."""
    if isinstance(part, Attended):
        yield from (heads.product for each in part.parts for heads in (each.query, each.key, each.value))
    elif isinstance(part, Added):
        yield part.product


def modulated(parts: Iterable[Part]) -> Iterator[Modulated]:
    """Everything that is modulated before a product."""
    for part in parts:
        if isinstance(part, Attended):
            yield from (each.x for each in part.parts)
        elif isinstance(part, Added) and isinstance(part.of, Hidden):
            yield part.of.x


def streams(parts: Iterable[Part]) -> Iterator[ir.Value]:
    """The streams (A, R, D) that parts take."""
    for part in parts:
        yield from (x.x for x in modulated([part]))
        if isinstance(part, Added) and part.ending.residual is not None:
            yield part.ending.residual
        elif isinstance(part, Joined):
            yield from part.streams


def end_of(parts: list[Part]) -> ir.Value:
    """The stream that goes to the model's end. Raises BuildError if there is not one."""
    taken = set(streams(parts))
    first, *others = [value for part in parts for value in _made(part) if value not in taken]
    if others:
        raise refused(first, "is not the only value that goes to the model's end")
    return first


def cut_of_tokens(value: ir.Value | None) -> ir.Node | None:
    """The Slice that takes `value` out of tokens (A, R, ...), from one on to another."""
    cut = made_by(value, "Slice")
    if cut is None or len(cut.inputs) < 4 or integer(cut.inputs[3]) != 0:
        return None
    return cut if len(cut.inputs) == 4 or integer(cut.inputs[4]) == 1 else None


def _check_between(graph: ir.Graph, parts: list[Part]) -> None:
    """Raises BuildError if a stream is made by something between the parts, which would stay as it is."""
    made = {value for part in parts for value in _made(part)}
    after = made.union(out for part in parts for node in products(part) for out in node.outputs)
    for node in graph:
        if not after.isdisjoint(node.inputs):
            after.update(node.outputs)
    for value in streams(parts):
        if value in after - made:
            raise refused(value, "is made of a layer, and by no part of one")


def _made(part: Part) -> tuple[ir.Value, ...]:
    """The stream that a part makes."""
    if isinstance(part, Attended):
        return ()
    return (part.out,) if isinstance(part, Joined) else (part.ending.out,)


def _matrix(product: ir.Node) -> ir.Value:
    value = product.inputs[1]
    assert value is not None
    return value


def refused(value: ir.Value, what: str) -> BuildError:
    """What is raised for a graph that is made otherwise."""
    return BuildError(f"{value.name} {what}: a graph of another kind; export the model again with this flagdit")
