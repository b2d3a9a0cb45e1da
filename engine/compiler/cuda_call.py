"""What the layers of a graph for the CUDA provider share: made once a call, in a few launches for all of them.

Letters: A active tokens, R rows, T text tokens, L layers, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flagdit.engine.compiler.blocks import Block, Vector, refused
from flagdit.engine.compiler.graph_writer import MOST, Writer
from flagdit.engine.compiler.precision import constant
from flagdit.engine.compiler.seen import Text

if TYPE_CHECKING:
    import onnx_ir as ir

Rope = tuple["ir.Value", "ir.Value"]

VISIBLE = -5000.0
"""A bias above it is of a text's token, one below of what fills up (MASKED of flagdit.export is -10000)."""


class PerCall:
    """Vectors, rotations and texts of `blocks`, in the order and type that layers take them."""

    def __init__(self, write: Writer, blocks: Sequence[Block]) -> None:
        self.write = write
        self.vectors = self._vectors(blocks)
        self.query_rope, self.key_rope = self._ropes(blocks)
        self.texts = self._texts(blocks)
        self.lengths = self._lengths([block.text for block in blocks if block.text is not None])

    def vector(self, vector: Vector) -> ir.Value:
        """(R, 1, D); of a scale, (1 + scale) * weight of its norm."""
        return self.vectors[vector.number]

    def _vectors(self, blocks: Sequence[Block]) -> list[ir.Value]:
        """All vectors of a row, (R, 1, D) each, in the order that they lie in."""
        write, vectors = self.write, blocks[0].x.vectors
        shape, weights = vectors.shape, _weights(blocks)
        sizes = [size for size in tuple(shape or ())[1:] if isinstance(size, int)]
        if shape is None or len(sizes) < len(shape) - 1:
            raise refused(vectors, "has no known number of modulations")
        count, width = math.prod(sizes[:-1]), sizes[-1]
        ones = constant(write.graph, "cuda.ones", np.ones((1, width), np.float32))
        rows = [write.shaped(weights[n], 1, width) if n in weights else ones for n in range(count)]
        more = np.array([[float(n in weights)] for n in range(count)], np.float32)
        factor = write.joined(rows, 0)  # of constants, so ONNX Runtime folds it when it loads the graph
        flat = write.shaped(vectors, 0, count, width)
        flat = write.add("Mul", write.add("Add", flat, constant(write.graph, "cuda.more", more)), factor)
        return write.parts(write.cast(flat, write.half), count, 1)

    def _ropes(self, blocks: Sequence[Block]) -> tuple[Rope, Rope]:
        """cos and sin (R, A, d/2), of queries and of keys: those of queries have the scale of self-attention in them.

        What is folded in is the quotient to 1 / sqrt(d), which the attention multiplies with; keys of texts are divided
        by it. So what is cached is what the graph that was exported caches.
        """
        write, first = self.write, blocks[0]
        size = first.query.size
        tables = {part.rotary.inputs[1:3] for b in blocks for part in (b.query, b.key) if part.rotary is not None}
        scales = {(block.attention_scale, block.scale) for block in blocks}
        if len(tables) > 1 or len(scales) > 1:
            raise refused(first.keys[0], "is rotated or scaled otherwise in other layers")
        turned = [write.turned(table, 1, 0, 2) for table in tables.pop() if table is not None]
        number = constant(write.graph, "cuda.scale", np.array([first.scale * size**0.5], np.float32))
        self.factor = write.cast(write.add("Mul", first.attention_scale, number), write.half)
        key = [write.cast(table, write.half) for table in turned]
        query = [write.add("Mul", table, self.factor) for table in key]
        return (query[0], query[1]), (key[0], key[1])

    def _texts(self, blocks: Sequence[Block]) -> dict[ir.Value, tuple[ir.Value, ir.Value]]:
        """By a layer's text key: keys (R, T, H * d) over the factor of queries, and values times the layer's gate."""
        made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        heads = blocks[0].heads
        texts = [block.text for block in blocks if block.text is not None]
        for start in range(0, len(texts), MOST):
            some = texts[start : start + MOST]
            keys = self._flat([text.key for text in some], heads)
            values = self._flat([text.value for text in some], heads, [text.gate for text in some])
            made |= {text.key: pair for text, pair in zip(some, zip(keys, values, strict=True), strict=True)}
        return made

    def _flat(
        self, texts: Sequence[ir.Value], heads: tuple[int, int, int], gates: Sequence[ir.Value] = ()
    ) -> list[ir.Value]:
        """Of each of (R, G, T, d): (R, T, H * d), times its gate (H * d,).

        Text has few tokens, so its kv heads are repeated to H: then a gate of a query head is one of a value's head.
        """
        write, (all_heads, kv_heads, size), count = self.write, heads, len(texts)
        lies = write.turned(write.joined(texts, 1), 0, 2, 1, 3)  # (R, T, L * G, d)
        if all_heads != kv_heads:
            share = write.numbers(1, 1, 1, all_heads // kv_heads, 1)
            lies = write.add("Expand", write.add("Unsqueeze", lies, write.numbers(3)), share)
        flat = write.shaped(lies, 0, 0, count * all_heads * size)
        if gates:
            factor = write.joined([write.shaped(gate, -1) for gate in gates], 0)
            flat = write.add("Mul", flat, write.cast(factor, write.half))
        else:
            flat = write.add("Div", flat, self.factor)
        return write.parts(flat, count, 2)

    def _lengths(self, texts: Sequence[Text]) -> ir.Value | None:
        """Tokens of each row's text (R,), from the bias (R, 1, 1, T): what fills up comes last (docs/contract.md)."""
        biases = {text.bias for text in texts}
        if not biases:
            return None
        if len(biases) > 1:
            raise refused(texts[0].bias, "is not the bias of all layers")
        write, bias = self.write, texts[0].bias
        visible = write.add("Greater", bias, constant(write.graph, "cuda.visible", np.array(VISIBLE, np.float32)))
        ones = write.add("Cast", visible, to=write.ir.DataType.FLOAT.value)
        counted = write.add("ReduceSum", ones, write.numbers(1, 2, 3), keepdims=0)
        return write.add("Cast", counted, to=write.ir.DataType.INT64.value)


def _weights(blocks: Sequence[Block]) -> dict[int, ir.Value]:
    """By the number of a scale: the weight (D,) of the norm that it modulates. Raises BuildError if they are shared."""
    weights: dict[int, ir.Value] = {}
    others: set[int] = set()
    for block in blocks:
        for x, residual in ((block.x, block.residual), (block.feed_forward.x, block.feed_forward.residual)):
            if not x.vectors is blocks[0].x.vectors is residual.gate.vectors:
                raise refused(x.vectors, "is not where all layers have their modulations")
            others |= {int(x.attributes["shift"]), residual.gate.number}
            if weights.setdefault(int(x.attributes["scale"]), x.weight) is not x.weight:
                raise refused(x.weight, "shares its scale with another norm")
    if others & weights.keys():
        raise refused(blocks[0].x.vectors, "has a scale that is a shift or a gate, too")
    return weights
