"""Attention to a cache, as the graphs of flagdit.export have it: what it reads, and what becomes of it.

Letters: A tokens that ask, M cached tokens, N keys, R rows, T text tokens, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagdit.engine.bundle.ports import letter
from flagdit.engine.compiler.patterns import attention_of, made_by, only_use, order_of, other
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

TOKENS_FIRST, ROWS_FIRST = (2, 0, 1, 3), (1, 2, 0, 3)
"""Orders of axes: (R, H, A, d) to (A, R, H, d), and back."""


@dataclass(frozen=True)
class Text:
    """Attention of the same queries to key and value (R, G, T, d), with bias (R, 1, 1, T), times gate (H * d,)."""

    key: ir.Value
    value: ir.Value
    bias: ir.Value
    gate: ir.Value
    scale: float


@dataclass(frozen=True)
class Seen:
    """asked: the node whose first input are the queries (A, R, H, d). scale: of scores, a number or a value (1,).

    keys, values: what joins parts of the head, (A, R, G, d) in all, and then the tail (M, R, G, d). bias (R, 1, 1, N).
    out (A, R, H * d), the text in it.
    """

    asked: ir.Node
    scale: ir.Value | float
    keys: ir.Node
    values: ir.Node
    bias: ir.Value | None
    out: ir.Value
    text: Text | None

    @classmethod
    def of(cls, node: ir.Node) -> Seen | None:
        """What an attention is, None if it is not to a cache. Raises BuildError if it is otherwise made."""
        query, *turned = (_turned(value, ROWS_FIRST) for value in node.inputs[:3])
        joined = [made_by(each.inputs[0], "Concat") for each in turned if each is not None]
        concats = [each for each in joined if each is not None and each.attributes["axis"].as_int() == 0]
        if not concats or not any(_is_tail(each.inputs[-1]) for each in concats):
            return None
        after = only_use(node.outputs[0], "Transpose")
        flat = only_use(after.outputs[0], "Reshape") if after is not None else None
        plain = not node.attributes.get_int("is_causal", 0) and not node.attributes.get_float("softcap", 0.0)
        if query is None or flat is None or len(concats) < 2 or not plain or len(node.outputs) > 1:
            raise unknown_attention(node)
        asked, scale = _scaled(query, node)
        bias = _bias(node)
        out, text = (flat.outputs[0], None) if bias is not None else text_of(flat.outputs[0], asked.inputs[0])
        return cls(asked, scale, concats[0], concats[1], bias, out, text)

    def heads(self) -> list[tuple[ir.Value, ir.Value, ir.Value]]:
        """Query, key and value of each part of the head; none if they are not made part by part."""
        query, joined = self.asked.inputs[0], made_by(self.asked.inputs[0], "Concat")
        queries = joined.inputs if joined is not None else (query,)
        parts = queries, self.keys.inputs[:-1], self.values.inputs[:-1]
        if len({len(part) for part in parts}) > 1:
            return []
        found = list(zip(*parts, strict=True))
        return [(q, k, v) for q, k, v in found if q is not None and k is not None and v is not None]


def _is_tail(value: ir.Value | None) -> bool:
    """Whether it is the tail of a cache: an input whose first axis says so."""
    return value is not None and value.is_graph_input() and letter((value.shape or ("",))[0]) == "M"


def _turned(value: ir.Value | None, order: tuple[int, ...]) -> ir.Node | None:
    node = made_by(value, "Transpose")
    return node if node is not None and order_of(node) == order else None


def _scaled(query: ir.Node, node: ir.Node) -> tuple[ir.Node, ir.Value | float]:
    """Where the queries are, and the scale of their scores: one that is multiplied into them may change a run."""
    value = query.inputs[0]
    assert value is not None and value.shape is not None
    scale = _scale_of(node, value)
    factor = made_by(value, "Mul")
    if factor is not None and factor.inputs[1] is not None and scale == 1:
        shape = factor.inputs[1].shape
        if shape is not None and tuple(shape) == (1,):
            return factor, factor.inputs[1]
    return query, scale


def _scale_of(node: ir.Node, query: ir.Value) -> float:
    """Of scores of queries (..., d): 1 / sqrt(d) where a graph leaves it out. Raises BuildError if d is unknown."""
    size = query.shape[-1] if query.shape is not None else None
    scale = node.attributes.get_float("scale", size**-0.5 if isinstance(size, int) else None)
    if scale is None:
        raise unknown_attention(node)
    return scale


def _unexpanded(bias: ir.Value | None) -> ir.Value | None:
    """A bias before it is repeated for all queries."""
    expand = made_by(bias, "Expand")
    return expand.inputs[0] if expand is not None else bias


def _bias(node: ir.Node) -> ir.Value | None:
    """(R, 1, 1, N), the same for all queries. Raises BuildError if it is not."""
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return None
    bias = _unexpanded(node.inputs[3])
    if bias is None or bias.shape is None or tuple(bias.shape[1:3]) != (1, 1) or len(node.inputs) > 4:
        raise unknown_attention(node)
    return bias


def text_of(flat: ir.Value, query: ir.Value | None) -> tuple[ir.Value, Text | None]:
    """What is `flat` + gate * attention of `query` to a text, and that text; `flat` itself if there is none."""
    total = only_use(flat, "Add")
    product = made_by(other(total, flat), "Mul") if total is not None else None
    for part in product.inputs if product is not None else ():
        node = attention_of(part)
        turned = made_by(node.inputs[0], "Transpose") if node is not None else None
        if total is None or product is None or part is None or node is None or turned is None:
            continue
        if len(node.inputs) == 4 and turned.inputs[0] is query:
            bias = _unexpanded(node.inputs[3])
            key, value, gate = (*node.inputs[1:3], other(product, part))
            assert key is not None and value is not None and bias is not None and gate is not None
            assert query is not None
            return total.outputs[0], Text(key, value, bias, gate, _scale_of(node, query))
    return flat, None


def unknown_attention(node: ir.Node) -> BuildError:
    """What is raised for an attention that is made otherwise."""
    return BuildError(f"{node.name}: attention of another kind; export the model again with this flagdit")
