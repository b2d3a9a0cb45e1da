"""The layers of a graph of flagdit.export, found whole: what a backend writes anew in its own order of axes.

A layer is attention, to head and tail of a cache and to the text, and a feed-forward, each modulated before and gated
after. Where the graph is made otherwise it is refused, and the error names the value.

Letters: A active tokens, M cached tokens, R rows, T text tokens, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from flagdit.engine.compiler.patterns import Heads, Modulated, made_by, only_use, other, vector_of
from flagdit.engine.compiler.seen import Text, text_of
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Vector:
    """One vector (D,) of each row of `vectors` (R, ..., D): the `number`-th."""

    vectors: ir.Value
    number: int


@dataclass(frozen=True)
class Residual:
    """x + gate * made: `x` and `total` are (A, R, D)."""

    x: ir.Value
    gate: Vector
    total: ir.Value

    @classmethod
    def of(cls, made: ir.Value) -> Residual:
        """What becomes of `made` (A, R, D). Raises BuildError if it is something else."""
        product = only_use(made, "Mul")
        total = only_use(product.outputs[0], "Add") if product is not None else None
        if product is None or total is None:
            raise refused(made, "is not gated and added to a residual stream")
        gate, x = other(product, made), other(total, product.outputs[0])
        assert gate is not None and x is not None
        return cls(x, Vector(*vector_of(gate)), total.outputs[0])


@dataclass(frozen=True)
class FeedForward:
    """(silu(x w1) * (x w3)) w2 of a modulated x; w1, w3 (D, F) and w2 (F, D)."""

    x: Modulated
    w1: ir.Value
    w3: ir.Value
    w2: ir.Value
    residual: Residual

    @classmethod
    def of(cls, node: ir.Node) -> FeedForward | None:
        """The one whose last product `node` is, if it is such a one. Raises BuildError if its ends are other ones."""
        product = made_by(node.inputs[0], "Mul") if node.op_type == "MatMul" else None
        silu = made_by(product.inputs[0], "Mul") if product is not None else None
        if product is None or silu is None:
            return None
        gate, value = made_by(silu.inputs[0], "MatMul"), made_by(product.inputs[1], "MatMul")
        sigmoid = made_by(silu.inputs[1], "Sigmoid")
        if gate is None or value is None or sigmoid is None or sigmoid.inputs[0] is not gate.outputs[0]:
            return None
        if gate.inputs[0] is not value.inputs[0]:
            return None
        w1, w3, w2 = (product.inputs[1] for product in (gate, value, node))
        assert w1 is not None and w3 is not None and w2 is not None
        return cls(shifted(gate.inputs[0]), w1, w3, w2, Residual.of(node.outputs[0]))


@dataclass(frozen=True)
class Block:
    """A layer. keys, values: head (A, R, G, d), as it is made, and tail (M, R, G, d).

    attention_scale: a value (1,) that scores of self-attention are multiplied with, besides `scale`.
    """

    x: Modulated
    query: Heads
    key: Heads
    value: Heads
    keys: tuple[ir.Value, ir.Value]
    values: tuple[ir.Value, ir.Value]
    attention_scale: ir.Value
    scale: float
    text: Text | None
    projection: ir.Value
    residual: Residual
    feed_forward: FeedForward

    @property
    def heads(self) -> tuple[int, int, int]:
        """H, G and d."""
        query, key = self.query.product.outputs[0].shape, self.key.product.outputs[0].shape
        assert query is not None and key is not None
        widths = [width for width in (query[-1], key[-1]) if isinstance(width, int)]
        if len(widths) < 2:
            raise refused(self.keys[0], "has no known number of heads")
        return widths[0] // self.query.size, widths[1] // self.query.size, self.query.size


def find_blocks(graph: ir.Graph) -> list[Block]:
    """All layers of `graph`, first to last. Raises BuildError if it has none, or others."""
    nodes = tuple(graph)
    forwards = {found.residual.x: found for node in nodes if (found := FeedForward.of(node)) is not None}
    blocks = [_block(node, forwards) for node in nodes if node.op_type == "Attention" and len(node.inputs) == 3]
    if not blocks:
        raise BuildError(f"{graph.name or 'the graph'}: no layer with attention to a cache in it")
    for block, following in pairwise(blocks):
        if following.x.x is not block.feed_forward.residual.total:
            raise refused(following.x.x, "does not come from the layer before")
    texts = sum(block.text is not None for block in blocks)
    if len(blocks) + texts != sum(node.op_type == "Attention" for node in nodes):
        raise refused(blocks[0].keys[0], "is not the only kind of thing that is attended to")
    return blocks


def _block(node: ir.Node, forwards: dict[ir.Value, FeedForward]) -> Block:
    """The layer of an attention without a mask."""
    query, *cached = (made_by(value, "Transpose") for value in node.inputs)
    scaled = made_by(query.inputs[0], "Mul") if query is not None else None
    joined = [made_by(t.inputs[0], "Concat") for t in cached if t is not None]
    pairs = [concat.inputs for concat in joined if concat is not None and len(concat.inputs) == 2]
    turned = only_use(node.outputs[0], "Transpose")
    flat = only_use(turned.outputs[0], "Reshape") if turned is not None else None
    if scaled is None or flat is None or len(pairs) != 2:
        raise refused(node.outputs[0], "is no attention over a head and a tail")
    (key, key_tail), (value, value_tail) = pairs
    asked, factor = scaled.inputs[:2]
    assert asked is not None and factor is not None and key is not None and key_tail is not None
    assert value is not None and value_tail is not None
    parts = [Heads.of(x) for x in (asked, key, value)]
    if any(part.bias is not None or part.each for part in parts):
        raise refused(key, "has a bias, or a norm of each head")
    modulated = {part.product.inputs[0] for part in parts}
    if len(modulated) > 1 or parts[2].norm or parts[2].rotary or not (parts[0].rotary and parts[1].rotary):
        raise refused(key, "is projected otherwise than query and value")
    out, text = text_of(flat.outputs[0], asked)
    projection = only_use(out, "MatMul")
    if projection is None or projection.inputs[1] is None:
        raise refused(out, "is not projected")
    residual, x = Residual.of(projection.outputs[0]), shifted(modulated.pop())
    if residual.x is not x.x or residual.total not in forwards:
        raise refused(residual.total, "is not what a feed-forward takes")
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else parts[0].size ** -0.5
    return Block(
        x=x,
        query=parts[0],
        key=parts[1],
        value=parts[2],
        keys=(key, key_tail),
        values=(value, value_tail),
        attention_scale=factor,
        scale=scale,
        text=text,
        projection=projection.inputs[1],
        residual=residual,
        feed_forward=forwards[residual.total],
    )


def shifted(value: ir.Value | None) -> Modulated:
    """How `value` is modulated: by RMSNorm, a scale and a shift. Raises BuildError if it is not."""
    made = Modulated.of(value)
    if made.attributes["shift"] < 0 or "centred" in made.attributes:
        raise refused(made.x, "is modulated without a shift, or by LayerNorm")
    return made


def refused(value: ir.Value, what: str) -> BuildError:
    return BuildError(f"{value.name} {what}: a graph of another kind; export the model again with this flagdit")
